//! The Invoke API, in HTTP.

use std::future::ready;
use std::time::Duration;

use crate::support::{
    Gate, call, closed, function, http, invoke, line, request, response, start, within, workers,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use emulator::{Emulator, InvokeError};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use uuid::Uuid;

const PATH: &str = "/2015-03-31/functions/function/invocations";

#[tokio::test]
async fn replies_in_the_shape_of_aws() {
    let emulator = start(function()).await;
    let response = invoke(&emulator, "", br#"{"echo": 1}"#).await;
    assert_eq!((response.status, &*response.text()), (200, "1"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(
        response.header("x-amz-executed-version"),
        Some("$LATEST.PUBLISHED")
    );
    let _: Uuid = response
        .header("x-amzn-requestid")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(response.header("x-amz-function-error"), None);
}

#[tokio::test]
async fn marks_a_function_error() {
    let emulator = start(function()).await;
    let response = invoke(&emulator, "", br#"{"fail": "no"}"#).await;
    assert_eq!(
        (response.status, &response.json()["errorMessage"]),
        (200, &json!("no"))
    );
    assert_eq!(response.header("x-amz-function-error"), Some("Unhandled"));
}

#[tokio::test]
async fn accepts_an_asynchronous_event_while_all_workers_are_busy() {
    let emulator = start(workers(1)).await;
    let gate = Gate::new().await;
    let event = gate.event();
    let (held, ()) = tokio::join!(invoke(&emulator, "", event.as_bytes()), async {
        let inside = gate.entered().await;
        let headers = "x-amz-invocation-type: Event";
        let response = invoke(&emulator, headers, br#"{"log": "later"}"#).await;
        assert_eq!((response.status, &*response.text()), (202, ""));
        let throttled = invoke(&emulator, "", b"{}").await;
        assert_eq!(throttled.status, 429);
        drop(inside);
    });
    assert_eq!(held.status, 200);
    line(&emulator, "later").await;
}

/// Whether the queue takes nobody else now.
async fn is_full(emulator: &Emulator) -> bool {
    tokio::select! {
        biased;
        refused = emulator.invoke("{}") => matches!(refused, Err(InvokeError::TooManyRequests)),
        () = ready(()) => false,
    }
}

#[tokio::test]
async fn forgets_a_caller_that_hangs_up() {
    let mut settings = workers(1);
    settings.queue = 1;
    let emulator = start(settings).await;
    let gate = Gate::new().await;
    let (held, ()) = tokio::join!(call(&emulator, gate.event()), async {
        let inside = gate.entered().await;
        let head = format!("POST {PATH} HTTP/1.1");
        let hung_up = request(emulator.invoke_address(), &head, br#"{"log": "first"}"#).await;
        within("the event to wait", async {
            while !is_full(&emulator).await {
                yield_now().await;
            }
        })
        .await;
        drop(hung_up);
        within("the event to be forgotten", async {
            while is_full(&emulator).await {
                yield_now().await;
            }
        })
        .await;
        drop(inside);
    });
    assert!(!held.function_error);
    assert!(!call(&emulator, "{}").await.function_error);
    assert!(!emulator.lines().iter().any(|line| line.contains("first")));
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
        let response = invoke(&emulator, headers, (payload + " ").as_bytes()).await;
        assert_eq!(response.status, 413);
        assert_eq!(
            response.header("x-amzn-errortype"),
            Some("RequestTooLargeException")
        );
    }
}

#[tokio::test]
async fn reads_the_whole_body_of_a_request_that_it_refuses() {
    let emulator = start(function()).await;
    let body = vec![b'1'; 5_000_000];
    for (line, status) in [
        ("POST /2015-03-31/functions/other/invocations", 404),
        ("POST /", 405),
        (
            "POST /2021-11-15/functions/function/response-streaming-invocations",
            404,
        ),
        ("POST /elsewhere", 404),
    ] {
        let mut caller = TcpStream::connect(emulator.invoke_address()).await.unwrap();
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        let sent = async {
            caller.write_all(head.as_bytes()).await.unwrap();
            caller.write_all(&body).await.unwrap();
        };
        within("the body to be read", sent).await;
        assert_eq!(response(&mut caller).await.status, status, "{line}");
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
    let sent = async {
        for _ in 0..7 {
            connection.write_all(megabyte.as_bytes()).await.unwrap();
        }
        connection.write_all(b"0\r\n\r\n").await.unwrap();
    };
    within("the body to be read", sent).await;
    assert_eq!(response(&mut connection).await.status, 413);
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
        assert_eq!(response(&mut connection).await.status, 400, "{rest}");
    }
}

#[tokio::test]
async fn throttles_in_the_shape_of_aws() {
    let emulator = start(workers(1)).await;
    let gate = Gate::new().await;
    let (_held, throttled) = tokio::join!(call(&emulator, gate.event()), async {
        let _inside = gate.entered().await;
        invoke(&emulator, "", b"{}").await
    });
    assert_eq!(throttled.status, 429);
    let error_type = throttled.header("x-amzn-errortype");
    assert_eq!(error_type, Some("TooManyRequestsException"));
    let body = json!({
        "Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded.",
    });
    assert_eq!(throttled.json(), body);
}

#[tokio::test]
async fn a_caller_that_stalls_holds_up_nobody() {
    let mut settings = workers(1);
    settings.read_timeout = Duration::from_secs(1);
    let emulator = start(settings).await;
    let mut stalled = Vec::new();
    for length in [10, 7_000_000].repeat(8) {
        let mut caller = TcpStream::connect(emulator.invoke_address()).await.unwrap();
        let start = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n1"
        );
        caller.write_all(start.as_bytes()).await.unwrap();
        stalled.push(caller);
    }
    let sound = invoke(&emulator, "", br#"{"echo": 1}"#).await;
    assert_eq!(sound.text(), "1");
    for caller in &mut stalled {
        let response = response(caller).await;
        let error_type = response.header("x-amzn-errortype");
        assert_eq!(
            (response.status, error_type),
            (408, Some("RequestTimeoutException"))
        );
    }
}

#[tokio::test]
async fn closes_a_connection_whose_request_does_not_begin() {
    let mut settings = workers(1);
    settings.read_timeout = Duration::from_millis(200);
    let emulator = start(settings).await;
    for address in [emulator.invoke_address(), emulator.function_url_address()] {
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"POST / HTTP/1.1\r\nhost: x").await.unwrap();
        closed(half).await;
    }
}

#[tokio::test]
async fn a_dry_run_invokes_nothing_and_reports_no_version() {
    let emulator = start(function()).await;
    let headers = "x-amz-invocation-type: DryRun";
    let response = invoke(&emulator, headers, br#"{"exit": 1}"#).await;
    assert_eq!((response.status, &*response.text()), (204, ""));
    assert_eq!(response.header("x-amz-executed-version"), None);
    assert!(response.header("x-amzn-requestid").is_some());
    assert!(!call(&emulator, "{}").await.function_error);
}

#[tokio::test]
async fn finds_the_function_by_each_of_its_names() {
    let mut settings = function();
    settings.function_name = "Generator_2-b".to_owned();
    let emulator = start(settings).await;
    let unqualified = "arn:aws:lambda:us-east-1:123456789012:function:Generator_2-b";
    let qualified = format!("{unqualified}:$LATEST.PUBLISHED");
    for (name, arn) in [
        ("Generator_2-b", unqualified),
        ("123456789012:function:Generator_2-b", unqualified),
        (unqualified, unqualified),
        ("Generator_2-b?Qualifier=", unqualified),
        ("Generator_2-b:$LATEST.PUBLISHED", &qualified),
        ("Generator_2-b%3A%24LATEST.PUBLISHED", &qualified),
        ("Generator_2-b?Qualifier=%24LATEST.PUBLISHED", &qualified),
        (
            "123456789012:function:Generator_2-b:$LATEST.PUBLISHED",
            &qualified,
        ),
        (&qualified, &qualified),
        (
            "Generator_2-b:$LATEST.PUBLISHED?Qualifier=$LATEST.PUBLISHED",
            &qualified,
        ),
    ] {
        let (path, query) = name.split_once('?').unwrap_or((name, ""));
        let head = format!("POST /2015-03-31/functions/{path}/invocations?{query} HTTP/1.1");
        let response = http(emulator.invoke_address(), &head, br#"{"context": {}}"#).await;
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        assert_eq!(response.json()["invoked_function_arn"], arn, "{name}");
    }
}

const NAME_PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?";

#[tokio::test]
async fn refuses_the_names_that_aws_refuses() {
    let emulator = start(function()).await;
    // Its own name is a keyword of ARNs.
    let head = "POST /2015-03-31/functions/function:$LATEST.PUBLISHED/invocations HTTP/1.1";
    assert_eq!(
        http(emulator.invoke_address(), head, b"{}").await.status,
        200
    );
    let mismatch = |value: &str, member: &str, pattern: &str| {
        format!(
            "Value '{value}' at '{member}' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: {pattern}"
        )
    };
    let name_mismatch = |name: &str| {
        let mismatch = mismatch(name, "functionName", NAME_PATTERN);
        (
            400,
            "ValidationException",
            format!("1 validation error detected: {mismatch}"),
        )
    };
    let not_found = |message: &str| (404, "ResourceNotFoundException", message.to_owned());
    let long = "x".repeat(257);
    let too_long = format!(
        "1 validation error detected: Value '{long}' at 'functionName' failed to satisfy \
         constraint: Member must have length less than or equal to 256"
    );
    let both = format!(
        "2 validation errors detected: {}; {}",
        mismatch("a b", "functionName", NAME_PATTERN),
        mismatch(
            "c d",
            "qualifier",
            r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
        ),
    );
    let elsewhere = "arn:aws:lambda:eu-west-1:123456789012:function:function";
    let another = "arn:aws:lambda:us-east-1:210987654321:function:function";
    for (name, (status, error_type, message)) in [
        ("a%20b", name_mismatch("a b")),
        ("a%2Fb", name_mismatch("a/b")),
        ("function:", name_mismatch("function:")),
        ("function:a:b:c", name_mismatch("function:a:b:c")),
        ("%ff", name_mismatch("")),
        ("arn:aws:s3:::bucket", name_mismatch("arn:aws:s3:::bucket")),
        ("12345:function:function", name_mismatch("12345:function:function")),
        (&long, (400, "ValidationException", too_long)),
        ("a%20b?Qualifier=c%20d", (400, "ValidationException", both)),
        (
            "other",
            not_found("Function not found: arn:aws:lambda:us-east-1:123456789012:function:other:$LATEST"),
        ),
        (
            "function?Qualifier=7",
            not_found("Function not found: arn:aws:lambda:us-east-1:123456789012:function:function:7"),
        ),
        (
            elsewhere,
            not_found("Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"),
        ),
        (
            another,
            (
                403,
                "AccessDeniedException",
                format!(
                    "User: arn:aws:iam::123456789012:user/local is not authorized to perform: \
                     lambda:InvokeFunction on resource: {another} because no resource-based policy \
                     allows the lambda:InvokeFunction action"
                ),
            ),
        ),
        (
            "function?Qualifier=%24LATEST",
            (
                400,
                "InvalidParameterValueException",
                "Managed Instances run published versions: invoke $LATEST.PUBLISHED.".to_owned(),
            ),
        ),
        (
            "other:1?Qualifier=2",
            (
                400,
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified qualifier."
                    .to_owned(),
            ),
        ),
    ] {
        let (path, query) = name.split_once('?').unwrap_or((name, ""));
        let head = format!("POST /2015-03-31/functions/{path}/invocations?{query} HTTP/1.1");
        let response = http(emulator.invoke_address(), &head, b"{}").await;
        let body = response.json();
        let words = (body.get("message").or(body.get("Message"))).and_then(|it| it.as_str());
        assert_eq!(
            (response.status, response.header("x-amzn-errortype"), words),
            (status, Some(error_type), Some(&*message)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn refuses_what_aws_refuses() {
    let emulator = start(function()).await;
    let post = |headers: &str| format!("POST {PATH} HTTP/1.1\n{headers}");
    for (head, body, status, error_type, message) in [
        (
            post(""),
            "{",
            400,
            "InvalidRequestContentException",
            "Could not parse request body into json: Could not parse payload into json: \
             EOF while parsing an object at line 1 column 1",
        ),
        (
            post("x-amz-invocation-type: Later"),
            "{}",
            400,
            "ValidationException",
            "1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy \
             constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]",
        ),
        (
            post("x-amz-log-type: tail"),
            "{}",
            400,
            "ValidationException",
            "1 validation error detected: Value 'tail' at 'logType' failed to satisfy constraint: \
             Member must satisfy enum value set: [None, Tail]",
        ),
        (
            post("x-amz-log-type: Tail"),
            "{}",
            400,
            "InvalidParameterValueException",
            "Tail logs are not supported for functions configured with capacity provider",
        ),
        (
            post("x-amz-tenant-id: me"),
            "{}",
            400,
            "InvalidParameterValueException",
            "cargo local does not support tenant isolation.",
        ),
        (
            post("x-amz-durable-execution-name: mine"),
            "{}",
            400,
            "InvalidParameterValueException",
            "cargo local does not support durable executions.",
        ),
        (
            post(&format!("x-amzn-trace-id: {}", "x".repeat(300_000))),
            "{}",
            400,
            "InvalidParameterValueException",
            "X-Amzn-Trace-Id must be at most 4096 bytes.",
        ),
        (
            "POST /2015-03-31/elsewhere HTTP/1.1".to_owned(),
            "{}",
            404,
            "UnknownOperationException",
            "No such operation: POST /2015-03-31/elsewhere",
        ),
        (
            "POST /2021-11-15/functions/function/response-streaming-invocations HTTP/1.1"
                .to_owned(),
            "{}",
            404,
            "UnknownOperationException",
            "cargo local does not stream responses: use Invoke",
        ),
        (
            format!("GET {PATH} HTTP/1.1"),
            "",
            405,
            "UnknownOperationException",
            "No such operation: GET /2015-03-31/functions/function/invocations; to invoke the \
             function, use POST",
        ),
        (
            "POST / HTTP/1.1".to_owned(),
            "{}",
            405,
            "UnknownOperationException",
            "No such operation: POST /",
        ),
    ] {
        let response = http(emulator.invoke_address(), &head, body.as_bytes()).await;
        assert_eq!(
            (response.status, response.header("x-amzn-errortype")),
            (status, Some(error_type))
        );
        assert_eq!(response.json()["message"], message);
        assert!(response.header("x-amzn-requestid").is_some());
    }
}

#[tokio::test]
async fn refuses_a_client_context_that_is_not_a_json_object() {
    let emulator = start(function()).await;
    let encode = |json| BASE64_STANDARD.encode(json);
    for value in [
        "{}".to_owned(),
        encode("not JSON"),
        encode("[]"),
        encode("{} {}"),
        encode("{\"custom\":\"\0\"}"),
    ] {
        let response = invoke(&emulator, &format!("x-amz-client-context: {value}"), b"{}").await;
        let error_type = response.header("x-amzn-errortype");
        assert_eq!(
            error_type,
            Some("InvalidRequestContentException"),
            "{value}"
        );
        assert_eq!(
            response.json()["message"],
            "Client context must be a valid Base64-encoded JSON object."
        );
    }
}

#[tokio::test]
async fn takes_an_empty_header_for_none() {
    let emulator = start(function()).await;
    let headers = "x-amz-client-context:\nx-amzn-trace-id:";
    let response = invoke(&emulator, headers, br#"{"context":{}}"#).await;
    let context = response.json();
    assert_eq!(context["client_context"], Value::Null, "{context}");
    let trace_id = context["xray_trace_id"].as_str().unwrap();
    assert!(trace_id.starts_with("Root=1-"), "{trace_id}");
}

#[tokio::test]
async fn invokes_for_no_page_of_another_origin() {
    let emulator = start(function()).await;
    let own = format!("origin: http://{}", emulator.invoke_address());
    assert_eq!(invoke(&emulator, &own, b"{}").await.status, 200);
    for foreign in ["http://example.com", "null", "http://127.0.0.1:1"] {
        let response = invoke(&emulator, &format!("origin: {foreign}"), b"{}").await;
        assert_eq!(response.status, 403, "{foreign}");
    }
    // A container may call it by another name.
    let response = invoke(&emulator, "host: emulator:9000", b"{}").await;
    assert_eq!(response.status, 200);
}
