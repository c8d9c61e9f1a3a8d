//! The Invoke API, in HTTP and through the Rust SDK.

use std::future::ready;

use crate::support::{self, Gate, answer, function, http, invoke, request, start, workers};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{InvocationType, LogType, ThrottleReason};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use emulator::Emulator;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use uuid::Uuid;

const PATH: &str = "/2015-03-31/functions/function/invocations";

fn client(emulator: &Emulator) -> Client {
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(format!("http://{}", emulator.invoke_address()))
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

fn service_error(error: SdkError<InvokeError>) -> InvokeError {
    error.into_service_error()
}

#[tokio::test]
async fn replies_in_the_shape_of_aws() {
    let emulator = start(function()).await;
    let answer = invoke(&emulator, "", br#"{"echo": 1}"#).await;
    assert_eq!((answer.status, &*answer.text()), (200, "1"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.header("x-amz-executed-version"),
        Some("$LATEST.PUBLISHED")
    );
    let _: Uuid = answer.header("x-amzn-requestid").unwrap().parse().unwrap();
    assert_eq!(answer.header("x-amz-function-error"), None);
    assert_eq!(answer.header("x-amz-log-result"), None);
}

#[tokio::test]
async fn marks_a_function_error() {
    let emulator = start(function()).await;
    let answer = invoke(&emulator, "", br#"{"fail": "no"}"#).await;
    assert_eq!(
        (answer.status, &answer.json()["errorMessage"]),
        (200, &json!("no"))
    );
    assert_eq!(answer.header("x-amz-function-error"), Some("Unhandled"));
}

#[tokio::test]
async fn returns_the_tail_of_the_log_of_the_invocation_alone() {
    let emulator = start(workers(2)).await;
    let text = "x".repeat(5000);
    invoke(&emulator, "", br#"{"log": "another"}"#).await;
    let answer = invoke(&emulator, "x-amz-log-type: Tail", br#"{"log": "mine"}"#).await;
    let tail = |answer: &support::Answer| {
        let tail = BASE64_STANDARD
            .decode(answer.header("x-amz-log-result").unwrap())
            .unwrap();
        String::from_utf8(tail).unwrap()
    };
    let id = answer.header("x-amzn-requestid").unwrap();
    assert_eq!(
        tail(&answer),
        json!({ "requestId": id, "message": "mine" }).to_string() + "\n"
    );
    let event = json!({ "log": text }).to_string();
    let answer = invoke(&emulator, "x-amz-log-type: Tail", event.as_bytes()).await;
    assert_eq!(tail(&answer).len(), 4096);
}

#[tokio::test]
async fn accepts_an_asynchronous_event_while_all_workers_are_busy() {
    let emulator = start(workers(1)).await;
    let gate = Gate::new().await;
    let event = gate.event();
    let (held, ()) = tokio::join!(invoke(&emulator, "", event.as_bytes()), async {
        let inside = gate.entered().await;
        let headers = "x-amz-invocation-type: Event";
        let answer = invoke(&emulator, headers, br#"{"log": "later"}"#).await;
        assert_eq!((answer.status, &*answer.text()), (202, ""));
        let throttled = invoke(&emulator, "", b"{}").await;
        assert_eq!(throttled.status, 429);
        drop(inside);
    });
    assert_eq!(held.status, 200);
    emulator.wait_for_line(|line| line.contains("later")).await;
}

#[tokio::test]
async fn a_caller_that_stalls_holds_up_nobody() {
    let emulator = start(workers(1)).await;
    let mut stalled = Vec::new();
    for length in [10, 7_000_000].repeat(8) {
        let mut caller = TcpStream::connect(emulator.invoke_address()).await.unwrap();
        let start = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n1"
        );
        caller.write_all(start.as_bytes()).await.unwrap();
        stalled.push(caller);
    }
    assert_eq!(invoke(&emulator, "", br#"{"echo": 1}"#).await.text(), "1");
    for caller in &mut stalled {
        let answer = answer(caller).await;
        let error_type = answer.header("x-amzn-errortype");
        assert_eq!(
            (answer.status, error_type),
            (408, Some("RequestTimeoutException"))
        );
    }
}

/// Whether the queue takes nobody else now.
async fn is_full(emulator: &Emulator) -> bool {
    tokio::select! {
        biased;
        refused = emulator.invoke("{}") => matches!(refused, Err(emulator::InvokeError::TooManyRequests)),
        () = ready(()) => false,
    }
}

#[tokio::test]
async fn forgets_a_caller_that_hangs_up() {
    let mut settings = workers(1);
    settings.queue = 1;
    let emulator = start(settings).await;
    let gate = Gate::new().await;
    let (held, ()) = tokio::join!(emulator.invoke(gate.event()), async {
        let inside = gate.entered().await;
        let head = format!("POST {PATH} HTTP/1.1");
        let hung_up = request(emulator.invoke_address(), &head, br#"{"log": "first"}"#).await;
        while !is_full(&emulator).await {
            yield_now().await;
        }
        drop(hung_up);
        while is_full(&emulator).await {
            yield_now().await;
        }
        drop(inside);
    });
    assert!(!held.unwrap().function_error);
    assert!(!emulator.invoke("{}").await.unwrap().function_error);
    assert!(!emulator.lines().iter().any(|line| line.contains("first")));
}

#[tokio::test]
async fn a_dry_run_does_not_invoke() {
    let emulator = start(function()).await;
    let answer = invoke(
        &emulator,
        "x-amz-invocation-type: DryRun",
        br#"{"exit": 1}"#,
    )
    .await;
    assert_eq!((answer.status, &*answer.text()), (204, ""));
    assert!(!emulator.invoke("{}").await.unwrap().function_error);
}

#[tokio::test]
async fn finds_the_function_by_each_of_its_names() {
    let emulator = start(function()).await;
    for name in [
        "function",
        "function:$LATEST.PUBLISHED",
        "function%3A%24LATEST.PUBLISHED",
        "function?Qualifier=%24LATEST.PUBLISHED",
        "123456789012:function:function",
        "arn:aws:lambda:us-east-1:123456789012:function:function",
        "arn:aws:lambda:us-east-1:123456789012:function:function:$LATEST.PUBLISHED",
    ] {
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        let head = format!("POST /2015-03-31/functions/{name}/invocations?{query} HTTP/1.1");
        let answer = http(emulator.invoke_address(), &head, b"1").await;
        assert_eq!((answer.status, &*answer.text()), (200, "1"), "{name}");
    }
}

#[tokio::test]
async fn refuses_what_aws_refuses() {
    let emulator = start(function()).await;
    let post = |path: &str| format!("POST {path} HTTP/1.1");
    let arn = "arn:aws:lambda:us-east-1:123456789012:function";
    for (head, body, status, error_type, message) in [
        (
            post(PATH),
            "{",
            400,
            "InvalidRequestContentException",
            "Could not parse request body into json: Could not parse payload into json: \
             EOF while parsing an object at line 1 column 1"
                .to_owned(),
        ),
        (
            post("/2015-03-31/functions/other/invocations"),
            "{}",
            404,
            "ResourceNotFoundException",
            format!("Function not found: {arn}:other"),
        ),
        (
            post(&format!("{PATH}?Qualifier=7")),
            "{}",
            404,
            "ResourceNotFoundException",
            format!("Function not found: {arn}:function:7"),
        ),
        (
            post(&format!("{PATH}?Qualifier=%24LATEST")),
            "{}",
            400,
            "InvalidParameterValueException",
            "Managed Instances run published versions: invoke $LATEST.PUBLISHED.".to_owned(),
        ),
        (
            post("/2015-03-31/functions/function:1/invocations?Qualifier=2"),
            "{}",
            400,
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier."
                .to_owned(),
        ),
        (
            post(PATH) + "\nx-amz-invocation-type: Later",
            "{}",
            400,
            "InvalidParameterValueException",
            "X-Amz-Invocation-Type must be RequestResponse, Event or DryRun.".to_owned(),
        ),
        (
            post(PATH) + "\nx-amz-client-context: {}",
            "{}",
            400,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.".to_owned(),
        ),
        (
            post(PATH) + "\nx-amz-client-context: AAAA",
            "{}",
            400,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.".to_owned(),
        ),
        (
            post("/2015-03-31/functions"),
            "{}",
            404,
            "UnknownOperationException",
            "No such operation: POST /2015-03-31/functions".to_owned(),
        ),
        (
            format!("GET {PATH} HTTP/1.1"),
            "",
            405,
            "UnknownOperationException",
            format!("No such operation: GET {PATH}; events are POSTed"),
        ),
    ] {
        let answer = http(emulator.invoke_address(), &head, body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.header("x-amzn-errortype")),
            (status, Some(error_type))
        );
        let body = answer.json();
        let member = if status == 404 && error_type.starts_with('R') {
            "Message"
        } else {
            "message"
        };
        assert_eq!(
            (&body["Type"], &body[member]),
            (&json!("User"), &json!(message))
        );
        assert!(answer.header("x-amzn-requestid").is_some());
    }
}

#[tokio::test]
async fn refuses_payloads_over_the_limit_of_their_invocation_type() {
    let emulator = start(function()).await;
    for (headers, limit) in [
        ("", 6 * 1024 * 1024),
        ("x-amz-invocation-type: Event", 1024 * 1024),
    ] {
        let payload = format!("\"{}\"", "x".repeat(limit - 2));
        assert_ne!(
            invoke(&emulator, headers, payload.as_bytes()).await.status,
            413
        );
        let answer = invoke(&emulator, headers, (payload + " ").as_bytes()).await;
        assert_eq!(answer.status, 413);
        assert_eq!(
            answer.header("x-amzn-errortype"),
            Some("RequestTooLargeException")
        );
    }
}

#[tokio::test]
async fn answers_a_caller_that_writes_all_before_it_reads_that_it_is_wrong() {
    let emulator = start(function()).await;
    let body = vec![b'1'; 5_000_000];
    for (line, status) in [
        ("POST /2015-03-31/functions/other/invocations", 404),
        ("POST /", 405),
        ("POST /elsewhere", 404),
    ] {
        let mut caller = TcpStream::connect(emulator.invoke_address()).await.unwrap();
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        caller.write_all(head.as_bytes()).await.unwrap();
        caller.write_all(&body).await.unwrap();
        assert_eq!(answer(&mut caller).await.status, status, "{line}");
    }
}

#[tokio::test]
async fn refuses_a_chunked_payload_over_the_limit() {
    let emulator = start(function()).await;
    let address = emulator.invoke_address();
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let megabyte = format!("100000\r\n{}\r\n", "x".repeat(1024 * 1024));
    for _ in 0..7 {
        connection.write_all(megabyte.as_bytes()).await.unwrap();
    }
    connection.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(answer(&mut connection).await.status, 413);
}

#[tokio::test]
async fn refuses_a_payload_that_breaks_off() {
    let emulator = start(function()).await;
    let address = emulator.invoke_address();
    for rest in [
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
        "content-length: 70\r\n\r\n{}",
    ] {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let start = format!("POST {PATH} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{rest}");
        connection.write_all(start.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        assert_eq!(answer(&mut connection).await.status, 400, "{rest}");
    }
}

#[tokio::test]
async fn says_why_it_throttles() {
    let emulator = start(workers(1)).await;
    let gate = Gate::new().await;
    let event = gate.event();
    let ((), throttled) = tokio::join!(
        async {
            invoke(&emulator, "", event.as_bytes()).await;
        },
        async {
            let inside = gate.entered().await;
            let throttled = invoke(&emulator, "", b"{}").await;
            let error = client(&emulator)
                .invoke()
                .function_name("function")
                .send()
                .await
                .unwrap_err();
            let InvokeError::TooManyRequestsException(error) = service_error(error) else {
                panic!("another exception");
            };
            assert_eq!(
                error.reason(),
                Some(&ThrottleReason::ConcurrentInvocationLimitExceeded)
            );
            drop(inside);
            throttled
        }
    );
    assert_eq!(throttled.status, 429);
    let body = json!({
        "Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded.",
    });
    assert_eq!(throttled.json(), body);
}

#[tokio::test]
async fn the_rust_sdk_cannot_tell_the_difference() {
    let emulator = start(function()).await;
    let client = client(&emulator);
    let output = client
        .invoke()
        .function_name("function")
        .qualifier("$LATEST.PUBLISHED")
        .log_type(LogType::Tail)
        .client_context(BASE64_STANDARD.encode(r#"{"custom":{"a":"b"}}"#))
        .payload(Blob::new(r#"{"context": {}}"#))
        .send()
        .await
        .unwrap();
    assert_eq!((output.status_code(), output.function_error()), (200, None));
    assert_eq!(output.executed_version(), Some("$LATEST.PUBLISHED"));
    assert!(output.log_result().is_some());
    let context: Value = serde_json::from_slice(output.payload().unwrap().as_ref()).unwrap();
    assert_eq!(context["client_context"]["custom"]["a"], "b");
    assert_eq!(
        context["invoked_function_arn"],
        "arn:aws:lambda:us-east-1:123456789012:function:function:$LATEST.PUBLISHED"
    );

    let invoke = || client.invoke().function_name("function");
    let output = invoke()
        .payload(Blob::new(r#"{"fail": "no"}"#))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (output.status_code(), output.function_error()),
        (200, Some("Unhandled"))
    );
    let output = invoke()
        .invocation_type(InvocationType::Event)
        .send()
        .await
        .unwrap();
    assert_eq!(output.status_code(), 202);
    let output = invoke()
        .invocation_type(InvocationType::DryRun)
        .send()
        .await
        .unwrap();
    assert_eq!(output.status_code(), 204);

    let error = service_error(invoke().payload(Blob::new("{")).send().await.unwrap_err());
    assert!(error.is_invalid_request_content_exception(), "{error:?}");
    let error = service_error(invoke().qualifier("7").send().await.unwrap_err());
    assert!(error.is_resource_not_found_exception(), "{error:?}");
    let large = Blob::new(vec![b'1'; 6 * 1024 * 1024 + 1]);
    let error = service_error(invoke().payload(large).send().await.unwrap_err());
    assert!(error.is_request_too_large_exception(), "{error:?}");
}
