//! Endpoints, Region and credentials come from the usual places, and every request is signed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use aws_smithy_types::date_time::{DateTime, Format};
use axum::Router;
use axum::http::{HeaderMap, Uri};
use axum::routing::get;
use serde_json::json;

use crate::support::{
    BOUND, InvokeApi, NOWHERE, file, loadtest, refused, right, run, serve, signal, start, wait,
};

#[test]
fn takes_the_endpoint_from_variables_the_profile_or_a_flag() {
    let api = InvokeApi::start(right);
    let (right_url, wrong_url) = (api.url(), NOWHERE.to_owned());
    let right_profile = format!("[default]\nendpoint_url = {right_url}\n");
    let wrong_profile = format!("[default]\nendpoint_url = {wrong_url}\n");
    let services =
        format!("services = mine\n\n[services mine]\nlambda =\n  endpoint_url = {right_url}\n");
    let in_profile = file("endpoint", &right_profile);
    let in_services = file("services", &(wrong_profile.clone() + &services));
    let elsewhere = file("elsewhere", &wrong_profile);

    let (all, lambda, profile) = (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_LAMBDA",
        "AWS_CONFIG_FILE",
    );
    for (flag, variables) in [
        (None, &[(all, &right_url)][..]),
        (None, &[(lambda, &right_url), (all, &wrong_url)]),
        (None, &[(profile, &in_profile)]),
        (None, &[(profile, &in_services)]),
        (None, &[(profile, &elsewhere), (all, &right_url)]),
        (Some(&right_url), &[(lambda, &wrong_url)]),
    ] {
        let before = api.invocations();
        let mut command = loadtest("-n 3");
        command.args(flag.map(|url| format!("--endpoint-url={url}")));
        command.envs(variables.iter().map(|(name, value)| (name, value.as_str())));
        let said = run(&mut command).passed().stderr;
        let invoking = format!("invoking fibonacci-generator at {right_url}/\n");
        assert_eq!(said, invoking, "{variables:?}");
        assert_eq!(api.invocations() - before, 3);
    }
}

#[test]
fn names_function_and_qualifier_in_every_request() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let router = Router::new().fallback({
        let requests = Arc::clone(&requests);
        async move |uri: Uri| {
            requests.lock().unwrap().push(uri.to_string());
            "{}"
        }
    });
    let (address, _runtime) = serve(router);

    let function = "arn:aws:lambda:us-east-1:123456789012:function:f";
    let flags = format!("-n 1 --endpoint-url http://{address} --function-name {function}");
    let ended = run(loadtest(&flags).args(["--qualifier", "a b"]));

    let function =
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af";
    let expected = ["configuration", "invocations"]
        .map(|operation| format!("{function}/{operation}?Qualifier=a%20b"));
    assert_eq!(*requests.lock().unwrap(), expected, "{ended:?}");
}

#[test]
fn refuses_to_start_without_an_endpoint_that_has_the_function_a_region_and_credentials() {
    let api = InvokeApi::start(right);
    // Not the API's path: it has no such operation.
    let prefix = format!("{}/prefix/", api.url());
    let keys = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let region = |name| [("AWS_REGION", name), keys[0], keys[1]];
    let (all, lambda) = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LAMBDA");
    for (variables, complaint) in [
        (&[(all, &*prefix)][..], "/prefix/: status 404"),
        (&[(all, NOWHERE)], "is the emulator running?"),
        (
            &[(lambda, "localhost:9000")],
            "the endpoint configured for Lambda: \"localhost:9000\" is not a URL such as",
        ),
        (
            &[(lambda, "")],
            "the endpoint configured for Lambda: \"\" is not a URL such as",
        ),
        (&[], "no AWS Region"),
        (&[("AWS_REGION", "eu-central-1")], "no AWS credentials"),
        // Regions that do not exist, so that no endpoint of AWS is reached.
        (
            &region("eu-nowhere-1"),
            "https://lambda.eu-nowhere-1.amazonaws.com",
        ),
        (
            &[
                ("AWS_USE_FIPS_ENDPOINT", "true"),
                keys[0],
                keys[1],
                ("AWS_REGION", "no-1"),
            ],
            "set AWS_ENDPOINT_URL_LAMBDA",
        ),
        (&region("no where"), "https://lambda.no where.amazonaws.com"),
    ] {
        refused(loadtest("").envs(variables.iter().copied()), complaint);
    }
}

/// A profile whose sign-in has expired must not keep anybody from using the emulator.
#[test]
fn needs_neither_region_nor_credentials_on_this_machine() {
    let api = InvokeApi::start(right);
    let config = file("broken-profile", "[default]\ncredential_process = false\n");
    let url = format!("http://LOCALHOST:{}", api.address.port());

    let mut command = loadtest(&format!("-n 3 --endpoint-url {url}"));
    command.env("AWS_CONFIG_FILE", config);
    let said = run(command.env("PATH", "/usr/bin:/bin")).passed().stderr;

    assert_eq!(api.invocations(), 3);
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn signed_with(headers: &HeaderMap) -> String {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (authorization, date) = (header("authorization"), header("x-amz-date"));
    let credential = authorization
        .strip_prefix("AWS4-HMAC-SHA256 Credential=")
        .and_then(|rest| rest.split_once('/'));
    let (key, rest) = credential.expect(&authorization);
    let scope = format!(
        "{}/eu-north-1/lambda/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=",
        &date[..8]
    );
    assert!(rest.starts_with(&scope), "{authorization}");
    assert_eq!(header("x-amz-security-token"), format!("token of {key}"));
    key.to_owned()
}

/// A container's credentials endpoint hands out credentials that expire within seconds.
#[test]
fn signs_every_request_and_renews_credentials_before_they_expire() {
    let (sender, keys) = mpsc::channel();
    let sender = Arc::new(Mutex::new(sender));
    let api = InvokeApi::start(move |invocation| {
        let key = signed_with(&invocation.headers);
        let _ = sender.lock().unwrap().send(key);
        right(invocation)
    });
    let asked = Arc::new(AtomicU64::new(0));
    let credentials = async move || {
        let key = format!("AKID{}", asked.fetch_add(1, Ordering::Relaxed));
        let expiration = SystemTime::now() + Duration::from_secs(4);
        json!({
            "AccessKeyId": key, "SecretAccessKey": "secret", "Token": format!("token of {key}"),
            "Expiration": DateTime::from(expiration).fmt(Format::DateTime).unwrap(),
        })
        .to_string()
    };
    let (address, _runtime) = serve(Router::new().route("/credentials", get(credentials)));
    let url = format!("http://127.0.0.1:{}/credentials", address.port());

    // Not a loopback address, with which the load tester would not ask.
    let mut command = api.on_aws("-d 1h -o json");
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    let child = start(&mut command);
    let started = Instant::now();
    while keys.recv_timeout(BOUND).expect("a request arrives") == "AKID0" {
        assert!(started.elapsed() < BOUND, "nothing is renewed");
    }
    signal("-INT", child.id());

    wait(child).passed();
}
