//! `GetFunction`, `GetFunctionConfiguration` and `ListFunctions`, in HTTP.

use std::path::PathBuf;

use crate::support::{Response, cases, function, get, http, start, start_with};
use emulator::Emulator;
use serde_json::{Value, json};

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:function";

/// What there is below `/2015-03-31/functions`.
async fn get_function(emulator: &Emulator, path: &str) -> Response {
    get(emulator, &format!("/2015-03-31/functions{path}")).await
}

#[tokio::test]
async fn describes_the_function() {
    let table = ("TABLE".into(), "fibonacci".into());
    let emulator = start_with(8, |it| it.environment = vec![table]).await;
    let whole = get_function(&emulator, "/function").await;
    assert_eq!(whole.status, 200);
    let configuration = get_function(&emulator, "/function/configuration").await;
    assert_eq!(whole.json()["Configuration"], configuration.json());
    let mut configuration = configuration.json();
    let provider = "LambdaManagedInstancesCapacityProviderConfig";
    let provider = configuration["CapacityProviderConfig"][provider].take();
    assert_eq!(provider["PerExecutionEnvironmentMaxConcurrency"], 8);
    assert!(configuration["CodeSize"].as_u64().unwrap() > 10_000);
    let modified = configuration["LastModified"].take();
    let modified = modified.as_str().unwrap();
    let is_iso_8601 = modified.len() == 28 && modified.ends_with(".000+0000");
    assert!(is_iso_8601, "{modified}");
    let expected = json!({
        "FunctionName": "function",
        "FunctionArn": ARN,
        "Version": "$LATEST",
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "Runtime": "provided.al2023",
        "PackageType": "Zip",
        "MemorySize": 2048,
        "Timeout": 120,
        "Environment": { "Variables": { "TABLE": "fibonacci" } },
        "LoggingConfig": { "LogFormat": "JSON", "LogGroup": "/aws/lambda/function" },
    });
    for (member, expected) in expected.as_object().unwrap() {
        assert_eq!(configuration[member], *expected, "{member}");
    }
}

#[tokio::test]
async fn locates_the_code_by_an_absolute_path() {
    let mut settings = function();
    let directory = std::env::current_dir().unwrap();
    let root: PathBuf = directory.iter().skip(1).map(|_| "..").collect();
    settings.bootstrap = root.join(settings.bootstrap.strip_prefix("/").unwrap());
    assert!(settings.bootstrap.is_relative());
    let emulator = start(settings).await;
    let location = get_function(&emulator, "/function").await.json()["Code"]["Location"].take();
    let location = location.as_str().unwrap();
    assert!(location.starts_with("file:///"), "{location}");
}

#[tokio::test]
async fn describes_the_version_that_is_asked_for() {
    let emulator = start(function()).await;
    let table = "
/function => $LATEST {arn}
/function?Qualifier=%24LATEST => $LATEST {arn}:$LATEST
/function:$LATEST.PUBLISHED => $LATEST.PUBLISHED {arn}:$LATEST.PUBLISHED
";
    for (path, expected) in cases(&table.replace("{arn}", ARN)) {
        let response = get_function(&emulator, path).await;
        let configuration = response.json()["Configuration"].take();
        let member = |name: &str| configuration[name].as_str().unwrap();
        let described = format!("{} {}", member("Version"), member("FunctionArn"));
        assert_eq!(described, expected, "{path}");
    }
}

#[tokio::test]
async fn refuses_other_functions_and_versions() {
    let emulator = start(function()).await;
    let table = r"
/other => 404 ResourceNotFoundException Function not found: arn:aws:lambda:us-east-1:123456789012:function:other
/function/configuration?Qualifier=7 => 404 ResourceNotFoundException Function not found: arn:aws:lambda:us-east-1:123456789012:function:function:7
/arn:aws:lambda:us-east-1:210987654321:function:function => 403 AccessDeniedException User: arn:aws:iam::123456789012:user/local is not authorized to perform: lambda:GetFunction on resource: arn:aws:lambda:us-east-1:210987654321:function:function because no resource-based policy allows the lambda:GetFunction action
";
    for (path, expected) in cases(table) {
        assert_eq!(get_function(&emulator, path).await.refusal(), expected);
    }
    assert_eq!(get_function(&emulator, "/a%20b").await.status, 400);
}

#[tokio::test]
async fn describes_what_belongs_to_the_function() {
    let emulator = start(function()).await;
    let url = get(&emulator, "/2021-10-31/functions/function/url").await;
    let url = url.json();
    let address = format!("http://{}/", emulator.function_url_address());
    assert_eq!(url["FunctionUrl"], address);
    assert_eq!(url["FunctionArn"], ARN);
    assert_eq!(url["AuthType"], "NONE");
    let scaling = "/2025-11-30/functions/function/function-scaling-config?Qualifier=";
    let scaling = get(&emulator, &format!("{scaling}%24LATEST.PUBLISHED")).await;
    let scaling = scaling.json();
    assert_eq!(scaling["FunctionArn"], format!("{ARN}:$LATEST.PUBLISHED"));
    let applied = &scaling["AppliedFunctionScalingConfig"];
    assert_eq!(applied["MaxExecutionEnvironments"], 1);
    let arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:local";
    for (name, status) in [("local", 200), (arn, 200), ("other", 404)] {
        let path = format!("/2025-11-30/capacity-providers/{name}");
        let provider = get(&emulator, &path).await;
        assert_eq!(provider.status, status, "{name}");
        if status == 200 {
            assert_eq!(provider.json()["CapacityProvider"]["State"], "Active");
        }
    }
}

#[tokio::test]
async fn refuses_requests_for_other_services() {
    let emulator = start(function()).await;
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
    let emulator = start(function()).await;
    for (path, versions) in [
        ("", &["$LATEST"][..]),
        ("/?MaxItems=50", &["$LATEST"]),
        ("?FunctionVersion=ALL", &["$LATEST", "$LATEST.PUBLISHED"]),
    ] {
        let listed = get_function(&emulator, path).await.json();
        let functions = listed["Functions"].as_array().unwrap();
        let listed: Vec<_> = functions.iter().map(|one| &one["Version"]).collect();
        assert_eq!(listed, versions, "{path}");
        assert_eq!(functions[0]["FunctionName"], "function");
        // AWS leaves the state out of lists.
        assert_eq!(functions[0]["State"], Value::Null);
    }
}
