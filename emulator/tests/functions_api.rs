//! `GetFunction`, `GetFunctionConfiguration` and `ListFunctions`, in HTTP.

use std::path::PathBuf;

use crate::support::{Response, function, http, start};
use emulator::Emulator;
use serde_json::{Value, json};

const FUNCTIONS: &str = "/2015-03-31/functions";

async fn get(emulator: &Emulator, path: &str) -> Response {
    let head = format!("GET {FUNCTIONS}{path} HTTP/1.1");
    http(emulator.invoke_address(), &head, b"").await
}

async fn start_generator() -> Emulator {
    let mut settings = function();
    "generator".clone_into(&mut settings.function_name);
    settings.environment = vec![("TABLE".into(), "fibonacci".into())];
    start(settings).await
}

#[tokio::test]
async fn describes_the_function() {
    let emulator = start_generator().await;
    let whole = get(&emulator, "/generator").await;
    assert_eq!(whole.status, 200);
    let configuration = get(&emulator, "/generator/configuration").await;
    assert_eq!(whole.json()["Configuration"], configuration.json());
    let mut configuration = configuration.json();
    for (member, expected) in [
        ("FunctionName", json!("generator")),
        (
            "FunctionArn",
            json!("arn:aws:lambda:us-east-1:123456789012:function:generator"),
        ),
        ("Version", json!("$LATEST")),
        ("State", json!("Active")),
        ("LastUpdateStatus", json!("Successful")),
        ("Runtime", json!("provided.al2023")),
        ("PackageType", json!("Zip")),
        ("MemorySize", json!(2048)),
        ("Timeout", json!(120)),
        (
            "Environment",
            json!({ "Variables": { "TABLE": "fibonacci" } }),
        ),
        (
            "LoggingConfig",
            json!({ "LogFormat": "JSON", "LogGroup": "/aws/lambda/generator" }),
        ),
    ] {
        assert_eq!(configuration[member], expected, "{member}");
    }
    let provider =
        configuration["CapacityProviderConfig"]["LambdaManagedInstancesCapacityProviderConfig"]
            .take();
    assert_eq!(provider["PerExecutionEnvironmentMaxConcurrency"], 8);
    assert!(configuration["CodeSize"].as_u64().unwrap() > 10_000);
    let modified = configuration["LastModified"].as_str().unwrap();
    assert!(
        modified.len() == 28 && modified.ends_with(".000+0000"),
        "{modified}"
    );
}

#[tokio::test]
async fn locates_the_code_by_an_absolute_path() {
    let mut settings = function();
    let directory = std::env::current_dir().unwrap();
    let root: PathBuf = directory.iter().skip(1).map(|_| "..").collect();
    settings.bootstrap = root.join(settings.bootstrap.strip_prefix("/").unwrap());
    assert!(settings.bootstrap.is_relative());
    let path = format!("/{}", settings.function_name);
    let emulator = start(settings).await;
    let location = get(&emulator, &path).await.json()["Code"]["Location"].take();
    let location = location.as_str().unwrap();
    assert!(location.starts_with("file:///"), "{location}");
}

#[tokio::test]
async fn describes_the_version_that_is_asked_for() {
    let emulator = start_generator().await;
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:generator";
    for (path, version, qualifier) in [
        ("/generator", "$LATEST", ""),
        ("/generator?Qualifier=%24LATEST", "$LATEST", ":$LATEST"),
        (
            "/generator:$LATEST.PUBLISHED",
            "$LATEST.PUBLISHED",
            ":$LATEST.PUBLISHED",
        ),
    ] {
        let response = get(&emulator, path).await;
        let configuration = response.json()["Configuration"].take();
        assert_eq!(
            (&configuration["Version"], &configuration["FunctionArn"]),
            (&json!(version), &json!(format!("{arn}{qualifier}"))),
            "{path}"
        );
    }
}

#[tokio::test]
async fn refuses_other_functions_and_versions() {
    let emulator = start_generator().await;
    let arn = "arn:aws:lambda:us-east-1:123456789012:function";
    for (path, status, message) in [
        ("/other", 404, format!("Function not found: {arn}:other")),
        (
            "/generator/configuration?Qualifier=7",
            404,
            format!("Function not found: {arn}:generator:7"),
        ),
        (
            "/arn:aws:lambda:us-east-1:210987654321:function:generator",
            403,
            "User: arn:aws:iam::123456789012:user/local is not authorized to perform: \
             lambda:GetFunction on resource: arn:aws:lambda:us-east-1:210987654321:function:generator \
             because no resource-based policy allows the lambda:GetFunction action"
                .to_owned(),
        ),
    ] {
        let response = get(&emulator, path).await;
        assert_eq!(
            (response.status, &response.json()["Message"]),
            (status, &json!(message))
        );
    }
    assert_eq!(get(&emulator, "/a%20b").await.status, 400);
}

#[tokio::test]
async fn describes_what_belongs_to_the_function() {
    let emulator = start_generator().await;
    let get = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1");
        http(emulator.invoke_address(), &head, b"").await
    };
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:generator";
    let url = get("/2021-10-31/functions/generator/url").await.json();
    assert_eq!(
        url["FunctionUrl"],
        format!("http://{}/", emulator.function_url_address())
    );
    assert_eq!(
        (&url["FunctionArn"], &url["AuthType"]),
        (&json!(arn), &json!("NONE"))
    );
    let scaling = "/2025-11-30/functions/generator/function-scaling-config?Qualifier=";
    let scaling = get(&format!("{scaling}%24LATEST.PUBLISHED")).await.json();
    assert_eq!(scaling["FunctionArn"], format!("{arn}:$LATEST.PUBLISHED"));
    assert_eq!(
        scaling["AppliedFunctionScalingConfig"]["MaxExecutionEnvironments"],
        1
    );
    let provider = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:local";
    for name in ["local", provider] {
        let provider = get(&format!("/2025-11-30/capacity-providers/{name}"))
            .await
            .json();
        assert_eq!(provider["CapacityProvider"]["State"], "Active");
    }
    assert_eq!(
        get("/2025-11-30/capacity-providers/other").await.status,
        404
    );
}

#[tokio::test]
async fn refuses_requests_for_other_services() {
    let emulator = start_generator().await;
    for (service, content_type, start) in [
        ("s3", "text/plain", "<Error><Code>NotImplemented</Code>"),
        ("dynamodb", "application/x-amz-json-1.0", "{"),
    ] {
        let head = format!(
            "GET / HTTP/1.1
             content-type: {content_type}
             authorization: AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/{service}/aws4_request"
        );
        let refused = http(emulator.invoke_address(), &head, b"").await;
        assert_eq!(refused.status, 501);
        assert!(refused.text().starts_with(start), "{}", refused.text());
        assert!(refused.text().contains(service), "{}", refused.text());
    }
}

#[tokio::test]
async fn lists_the_function() {
    let emulator = start_generator().await;
    for (path, versions) in [
        ("", &["$LATEST"][..]),
        ("/?MaxItems=50", &["$LATEST"]),
        ("?FunctionVersion=ALL", &["$LATEST", "$LATEST.PUBLISHED"]),
    ] {
        let listed = get(&emulator, path).await.json();
        let functions = listed["Functions"].as_array().unwrap();
        let listed: Vec<_> = functions.iter().map(|one| &one["Version"]).collect();
        assert_eq!(listed, versions, "{path}");
        assert_eq!(functions[0]["FunctionName"], "generator");
        // AWS leaves the state out of lists.
        assert_eq!(functions[0]["State"], Value::Null);
    }
}
