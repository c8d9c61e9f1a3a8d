//! The Invoke API, in HTTP.

use std::time::Duration;

use crate::support::{
    Connection, Response, call, cases, closed, function, hold, http, invoke, is_full, line,
    request, response, send, start, start_with, within, workers,
};
use emulator::Emulator;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;
use uuid::Uuid;

const PATH: &str = "/2015-03-31/functions/function/invocations";

/// Begins an invocation with these headers and this beginning of a body.
async fn begin(emulator: &Emulator, rest: &str) -> Connection {
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: here\r\n{rest}");
    send(emulator.invoke_address(), head.as_bytes()).await
}

/// Invokes the function by a name, which may be followed by a query.
async fn invoke_by(emulator: &Emulator, name: &str, payload: &[u8]) -> Response {
    let (name, query) = name.split_once('?').unwrap_or((name, ""));
    let head = format!("POST /2015-03-31/functions/{name}/invocations?{query} HTTP/1.1");
    http(emulator.invoke_address(), &head, payload).await
}

#[tokio::test]
async fn replies_in_the_shape_of_aws() {
    let emulator = start(function()).await;
    for (event, error, text) in [
        (r#"{"echo": 1}"#, None, "1"),
        (
            r#"{"fail": "no"}"#,
            Some("Unhandled"),
            r#""errorMessage":"no""#,
        ),
        (r#"{"panic": "oh"}"#, Some("Unhandled"), "oh"),
    ] {
        let response = invoke(&emulator, "", event.as_bytes()).await;
        assert_eq!(response.status, 200);
        let is_whole = error.is_some() || response.text() == text;
        assert!(is_whole && response.text().contains(text), "{response:?}");
        let header = |name| response.header(name);
        assert_eq!(header("x-amz-function-error"), error);
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(header("x-amz-executed-version"), Some("$LATEST.PUBLISHED"));
        assert!(Uuid::try_parse(response.request_id()).is_ok());
    }
}

#[tokio::test]
async fn accepts_an_asynchronous_event_while_all_workers_are_busy_and_throttles_others() {
    let emulator = start(workers(1)).await;
    let held = hold(&emulator).await;
    let headers = "x-amz-invocation-type: Event";
    let response = invoke(&emulator, headers, br#"{"log": "later"}"#).await;
    assert_eq!((response.status, &*response.text()), (202, ""));
    let throttled = invoke(&emulator, "", b"{}").await;
    let expected = "429 TooManyRequestsException Rate Exceeded.";
    assert_eq!(throttled.refusal(), expected);
    let body = throttled.json();
    assert_eq!(body["Reason"], "ConcurrentInvocationLimitExceeded");
    assert_eq!(body["Type"], "User");
    assert!(!held.release().await.function_error);
    line(&emulator, "later").await;
}

/// Waits until the queue takes nobody else, or does again.
async fn wait_until_full(emulator: &Emulator, wanted: bool) {
    within(&format!("the queue to be full: {wanted}"), async {
        while is_full(emulator).await != wanted {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn forgets_a_caller_that_hangs_up() {
    let emulator = start_with(1, |it| it.queue = 1).await;
    let held = hold(&emulator).await;
    let line = format!("POST {PATH} HTTP/1.1");
    let hung_up = request(emulator.invoke_address(), &line, br#"{"log": "first"}"#).await;
    wait_until_full(&emulator, true).await;
    drop(hung_up);
    wait_until_full(&emulator, false).await;
    assert!(!held.release().await.function_error);
    assert!(!call(&emulator, "{}").await.function_error);
    assert!(!emulator.lines().iter().any(|line| line.contains("first")));
}

#[tokio::test]
async fn takes_payloads_up_to_the_limit_of_their_invocation_type() {
    let emulator = start(function()).await;
    for (headers, limit, status) in [
        ("", 6 * 1024 * 1024, 200),
        ("x-amz-invocation-type: Event", 1024 * 1024, 202),
    ] {
        let payload = format!("\"{}\"", "x".repeat(limit - 2));
        let largest = invoke(&emulator, headers, payload.as_bytes()).await;
        assert_eq!(largest.status, status);
        assert_eq!(largest.text(), if status == 200 { &*payload } else { "" });
        let refused = invoke(&emulator, headers, (payload + " ").as_bytes()).await;
        let expected = format!(
            "413 RequestTooLargeException Request must be smaller than {limit} bytes for the \
             InvokeFunction operation"
        );
        assert_eq!(refused.refusal(), expected);
    }
}

#[tokio::test]
async fn reads_the_whole_body_of_a_request_that_it_refuses() {
    let emulator = start(function()).await;
    let body = "1".repeat(5_000_000);
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    let chunks = chunk.repeat(2) + "0\r\n\r\n";
    let sized = format!("content-length: {}", body.len());
    let chunked = "transfer-encoding: chunked";
    let streaming = "/2021-11-15/functions/function/response-streaming-invocations";
    let other = "/2015-03-31/functions/other/invocations";
    for (path, header, body, status) in [
        (other, &*sized, &body, 404),
        ("/", &sized, &body, 405),
        (streaming, &sized, &body, 404),
        ("/elsewhere", &sized, &body, 404),
        (PATH, chunked, &chunks, 413),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n");
        let mut caller = send(emulator.invoke_address(), head.as_bytes()).await;
        let sent = within("the body to be read", caller.write_all(body.as_bytes())).await;
        sent.unwrap();
        assert_eq!(response(&mut caller).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn refuses_a_payload_that_breaks_off() {
    let emulator = start(function()).await;
    for rest in [
        "transfer-encoding: chunked\r\n\r\nzz\r\n",
        "content-length: 70\r\n\r\n{}",
    ] {
        let mut caller = begin(&emulator, rest).await;
        caller.shutdown().await.unwrap();
        assert_eq!(response(&mut caller).await.status, 400, "{rest}");
    }
}

#[tokio::test]
async fn a_caller_that_stalls_holds_up_nobody() {
    let emulator = start_with(1, |it| it.read_timeout = Duration::from_secs(1)).await;
    let head = b"POST / HTTP/1.1\r\nhost: x";
    let heads = [
        send(emulator.invoke_address(), head).await,
        send(emulator.function_url_address(), head).await,
    ];
    let mut stalled = Vec::new();
    for length in [10, 7_000_000].repeat(8) {
        stalled.push(begin(&emulator, &format!("content-length: {length}\r\n\r\n1")).await);
    }
    assert_eq!(invoke(&emulator, "", br#"{"echo": 1}"#).await.text(), "1");
    for caller in &mut stalled {
        let error = response(caller).await.refusal();
        assert!(error.starts_with("408 RequestTimeoutException "), "{error}");
    }
    for caller in heads {
        closed(caller).await;
    }
}

#[tokio::test]
async fn a_dry_run_invokes_nothing_and_reports_no_version() {
    let emulator = start(function()).await;
    let headers = "x-amz-invocation-type: DryRun";
    let response = invoke(&emulator, headers, br#"{"exit": 1}"#).await;
    assert_eq!((response.status, &*response.text()), (204, ""));
    assert_eq!(response.header("x-amz-executed-version"), None);
    assert!(!response.request_id().is_empty());
    assert!(!call(&emulator, "{}").await.function_error);
}

#[tokio::test]
async fn finds_the_function_by_each_of_its_names() {
    let emulator = start_with(8, |it| it.function_name = "Generator_2-b".to_owned()).await;
    let table = "
Generator_2-b => {arn}
123456789012:function:Generator_2-b => {arn}
{arn} => {arn}
Generator_2-b?Qualifier= => {arn}
Generator_2-b:$LATEST.PUBLISHED => {arn}:$LATEST.PUBLISHED
Generator_2-b%3A%24LATEST.PUBLISHED => {arn}:$LATEST.PUBLISHED
Generator_2-b?Qualifier=%24LATEST.PUBLISHED => {arn}:$LATEST.PUBLISHED
123456789012:function:Generator_2-b:$LATEST.PUBLISHED => {arn}:$LATEST.PUBLISHED
{arn}:$LATEST.PUBLISHED => {arn}:$LATEST.PUBLISHED
Generator_2-b:$LATEST.PUBLISHED?Qualifier=$LATEST.PUBLISHED => {arn}:$LATEST.PUBLISHED
";
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:Generator_2-b";
    for (name, invoked) in cases(&table.replace("{arn}", arn)) {
        let response = invoke_by(&emulator, name, br#"{"context": {}}"#).await;
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        assert_eq!(response.json()["invoked_function_arn"], invoked, "{name}");
    }
}

const NAME_MISMATCH: &str = r"at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?";

#[tokio::test]
async fn refuses_the_names_that_aws_refuses() {
    let emulator = start(function()).await;
    // Its own name is a keyword of ARNs.
    let own = invoke_by(&emulator, "function:$LATEST.PUBLISHED", b"{}").await;
    assert_eq!(own.status, 200);
    let table = r"
a%20b => {invalid} Value 'a b' {pattern}
a%2Fb => {invalid} Value 'a/b' {pattern}
%ff => {invalid} Value '' {pattern}
function: => {invalid} Value 'function:' {pattern}
function:a:b:c => {invalid} Value 'function:a:b:c' {pattern}
arn:aws:s3:::bucket => {invalid} Value 'arn:aws:s3:::bucket' {pattern}
12345:function:function => {invalid} Value '12345:function:function' {pattern}
{long} => {invalid} Value '{long}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 256
a%20b?Qualifier=c%20d => 400 ValidationException 2 validation errors detected: Value 'a b' {pattern}; Value 'c d' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+
other => 404 ResourceNotFoundException Function not found: arn:aws:lambda:us-east-1:123456789012:function:other:$LATEST
function?Qualifier=7 => 404 ResourceNotFoundException Function not found: arn:aws:lambda:us-east-1:123456789012:function:function:7
arn:aws:lambda:eu-west-1:123456789012:function:function => 404 ResourceNotFoundException Functions from 'eu-west-1' are not reachable in this region ('us-east-1')
arn:aws:lambda:us-east-1:210987654321:function:function => 403 AccessDeniedException User: arn:aws:iam::123456789012:user/local is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:210987654321:function:function because no resource-based policy allows the lambda:InvokeFunction action
function?Qualifier=%24LATEST => 400 InvalidParameterValueException Managed Instances run published versions: invoke $LATEST.PUBLISHED.
other:1?Qualifier=2 => 400 InvalidParameterValueException The derived qualifier from the function name does not match the specified qualifier.
";
    let invalid = "400 ValidationException 1 validation error detected:";
    let table = table.replace("{invalid}", invalid);
    let table = table.replace("{pattern}", NAME_MISMATCH);
    for (name, expected) in cases(&table.replace("{long}", &"x".repeat(257))) {
        let refused = invoke_by(&emulator, name, b"{}").await;
        assert_eq!(refused.refusal(), expected, "{name}");
    }
}

#[tokio::test]
async fn refuses_what_aws_refuses() {
    let emulator = start(function()).await;
    // Of the client contexts, the first is no base64. The others are `not JSON`, `[]`, `{} {}`, and an
    // object with a NUL in a string.
    let table = r"
x-amz-invocation-type: Later => 400 ValidationException 1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]
x-amz-log-type: tail => 400 ValidationException 1 validation error detected: Value 'tail' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]
x-amz-log-type: Tail => 400 InvalidParameterValueException Tail logs are not supported for functions configured with capacity provider
x-amz-tenant-id: me => 400 InvalidParameterValueException cargo local does not support tenant isolation.
x-amz-durable-execution-name: mine => 400 InvalidParameterValueException cargo local does not support durable executions.
x-amzn-trace-id: {long} => 400 InvalidParameterValueException X-Amzn-Trace-Id must be at most 4096 bytes.
x-amz-client-context: {} => {context}
x-amz-client-context: bm90IEpTT04= => {context}
x-amz-client-context: W10= => {context}
x-amz-client-context: e30ge30= => {context}
x-amz-client-context: eyJjdXN0b20iOiIAIn0= => {context}
";
    let context = "400 InvalidRequestContentException Client context must be a valid Base64-encoded \
                   JSON object.";
    let table = table.replace("{context}", context);
    let table = table.replace("{long}", &"x".repeat(300_000));
    for (header, expected) in cases(&table) {
        let refused = invoke(&emulator, header, b"{}").await;
        assert_eq!(refused.refusal(), expected, "{header:.100}");
    }
    let table = r"
POST /2015-03-31/functions/function/invocations => 400 InvalidRequestContentException Could not parse request body into json: Could not parse payload into json: EOF while parsing an object at line 1 column 1
POST /2015-03-31/elsewhere => 404 UnknownOperationException No such operation: POST /2015-03-31/elsewhere
POST /2021-11-15/functions/function/response-streaming-invocations => 404 UnknownOperationException cargo local does not stream responses: use Invoke
GET /2015-03-31/functions/function/invocations => 405 UnknownOperationException No such operation: GET /2015-03-31/functions/function/invocations; to invoke the function, use POST
POST / => 405 UnknownOperationException No such operation: POST /
";
    for (line, expected) in cases(table) {
        let refused = http(emulator.invoke_address(), &format!("{line} HTTP/1.1"), b"{").await;
        assert_eq!(refused.refusal(), expected);
        assert!(!refused.request_id().is_empty());
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
    // A container may call it by another name.
    let table = "
origin: http://ITSELF => 200
origin: http://example.com => 403
origin: null => 403
origin: http://127.0.0.1:1 => 403
host: emulator:9000 => 200
";
    let table = table.replace("ITSELF", &emulator.invoke_address().to_string());
    for (header, status) in cases(&table) {
        let response = invoke(&emulator, header, b"{}").await;
        assert_eq!(response.status.to_string(), status, "{header}");
    }
}
