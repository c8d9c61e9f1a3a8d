//! The AWS SDK for Rust against the emulator.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::client::Waiters;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionVersion, InvocationType, LogType, State, ThrottleReason};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use emulator::{Emulator, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// How long a test waits for something that must happen, on however slow a machine.
const PATIENCE: Duration = Duration::from_mins(1);

async fn start(workers: u16) -> (Emulator, Client) {
    let mut settings = Settings::new(env!("CARGO_BIN_EXE_function"));
    settings.max_concurrency = workers;
    settings.timeout = PATIENCE;
    settings.return_limit = PATIENCE;
    let emulator = Emulator::start(settings).await.expect("it starts");
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(format!("http://{}", emulator.invoke_address()))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled());
    (emulator, Client::from_conf(config.build()))
}

fn text(blob: Option<&Blob>) -> &str {
    str::from_utf8(blob.expect("a payload").as_ref()).expect("text")
}

#[tokio::test]
async fn invokes_the_function() {
    let (_emulator, client) = start(8).await;
    let output = client
        .invoke()
        .function_name("function")
        .qualifier("$LATEST.PUBLISHED")
        .client_context(BASE64_STANDARD.encode(r#"{"custom":{"a":"b"}}"#))
        .payload(Blob::new(r#"{"context": {}}"#))
        .send()
        .await
        .unwrap();
    assert_eq!((output.status_code(), output.function_error()), (200, None));
    assert_eq!(output.executed_version(), Some("$LATEST.PUBLISHED"));
    let context: Value = serde_json::from_str(text(output.payload())).unwrap();
    assert_eq!(context["client_context"]["custom"]["a"], "b");
    assert_eq!(
        context["invoked_function_arn"],
        "arn:aws:lambda:us-east-1:123456789012:function:function:$LATEST.PUBLISHED"
    );
}

#[tokio::test]
async fn reports_each_outcome() {
    let (_emulator, client) = start(8).await;
    let (waits, published) = (InvocationType::RequestResponse, Some("$LATEST.PUBLISHED"));
    for (kind, status, error, version) in [
        (waits, 200, Some("Unhandled"), published),
        (InvocationType::Event, 202, None, None),
        (InvocationType::DryRun, 204, None, None),
    ] {
        let request = client.invoke().function_name("function");
        let request = request.invocation_type(kind);
        let request = request.payload(Blob::new(r#"{"fail": "no"}"#));
        let output = request.send().await.unwrap();
        assert_eq!(output.status_code(), status);
        assert_eq!(output.function_error(), error);
        assert_eq!(output.executed_version(), version);
    }
}

#[tokio::test]
async fn raises_the_exceptions_that_it_raises_for_aws() {
    let (_emulator, client) = start(8).await;
    let invoke = || client.invoke().function_name("function");
    let large = Blob::new(vec![b'1'; 6 * 1024 * 1024 + 1]);
    let foreign = "arn:aws:lambda:us-east-1:210987654321:function:function";
    for (request, code) in [
        (
            invoke().payload(Blob::new("{")),
            "InvalidRequestContentException",
        ),
        (invoke().qualifier("7"), "ResourceNotFoundException"),
        (
            invoke().qualifier("$LATEST"),
            "InvalidParameterValueException",
        ),
        (
            invoke().log_type(LogType::Tail),
            "InvalidParameterValueException",
        ),
        (invoke().payload(large), "RequestTooLargeException"),
        (invoke().function_name("a b"), "ValidationException"),
        (invoke().function_name(foreign), "AccessDeniedException"),
    ] {
        let error = request.send().await.unwrap_err().into_service_error();
        assert_eq!(error.code(), Some(code));
        // The SDK has no types for the last two.
        let has_type = !["ValidationException", "AccessDeniedException"].contains(&code);
        let variant = format!("{error:?}");
        assert_eq!(variant.starts_with(code), has_type, "{variant}");
    }
}

#[tokio::test]
async fn is_told_why_it_is_throttled() {
    let (_emulator, client) = start(1).await;
    let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let event = json!({ "gate": gate.local_addr().unwrap() }).to_string();
    let invoke = || client.invoke().function_name("function");
    let held = invoke().payload(Blob::new(event)).send();
    let (held, error) = tokio::join!(held, async {
        let _inside = timeout(PATIENCE, gate.accept()).await.unwrap().unwrap();
        invoke().send().await.unwrap_err().into_service_error()
    });
    held.unwrap();
    let InvokeError::TooManyRequestsException(error) = error else {
        panic!("another exception: {error:?}");
    };
    let reason = ThrottleReason::ConcurrentInvocationLimitExceeded;
    assert_eq!(error.reason(), Some(&reason));
}

#[tokio::test]
async fn waits_for_and_describes_the_function() {
    let (_emulator, client) = start(8).await;
    let ready = client.wait_until_function_active_v2();
    let ready = ready.function_name("function");
    ready.wait(PATIENCE).await.unwrap();
    let ready = client.wait_until_function_updated();
    let ready = ready.function_name("function");
    ready.wait(PATIENCE).await.unwrap();
    let ready = client.wait_until_published_version_active();
    let ready = ready.function_name("function");
    let ready = ready.qualifier("$LATEST.PUBLISHED");
    ready.wait(PATIENCE).await.unwrap();

    let configuration = client.get_function_configuration();
    let configuration = configuration.function_name("function");
    let configuration = configuration.send().await.unwrap();
    assert_eq!(configuration.state(), Some(&State::Active));
    assert_eq!(configuration.timeout(), Some(60));
    let managed = configuration.capacity_provider_config().unwrap();
    let managed = managed
        .lambda_managed_instances_capacity_provider_config()
        .unwrap();
    assert_eq!(managed.per_execution_environment_max_concurrency(), Some(8));

    let all = client
        .list_functions()
        .function_version(FunctionVersion::All);
    let all = all.send().await.unwrap();
    let versions: Vec<_> = all.functions().iter().map(|one| one.version()).collect();
    assert_eq!(versions, [Some("$LATEST"), Some("$LATEST.PUBLISHED")]);

    let other = client.get_function().function_name("other").send().await;
    let other = other.unwrap_err().into_service_error();
    assert!(other.is_resource_not_found_exception(), "{other:?}");
}
