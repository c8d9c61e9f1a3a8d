//! The Runtime API, spoken by the test itself in place of a function.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::support::browser::Browser;
use crate::support::worker::{Function, NEXT, post_head, time_out};
use crate::support::{
    Connection, PATIENCE, Response, all_poll, cases, http, invoke, payload, request, response,
    send, within,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use uuid::Uuid;

const ANOTHER_ID: &str = "156cb537-e2d4-11e8-9b34-d36013741fb9";

fn refusal(status: u16, error_type: &str, message: &str) -> (u16, String) {
    let body = json!({ "errorMessage": message, "errorType": error_type });
    (status, body.to_string())
}

fn invalid_id() -> (u16, String) {
    refusal(400, "InvalidRequestID", "Invalid request ID")
}

/// The refusal of a reply to what has timed out, or to another attempt.
fn invoke_timeout() -> (u16, String) {
    refusal(410, "InvokeTimeout", "Invoke timeout")
}

#[tokio::test]
async fn gives_an_event_with_its_headers_and_accepts_the_reply() {
    let mut function = Function::start().await;
    let now_ms = || UNIX_EPOCH.elapsed().unwrap().as_millis();
    let before = now_ms();
    let call = function.call(r#"{"n": 10}"#);
    let event = function.next().await;
    assert_eq!((event.status, &*event.text()), (200, r#"{"n": 10}"#));
    let header = |name| event.header(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(header("content-type"), "application/json");
    let request_id: Uuid = header("lambda-runtime-aws-request-id").parse().unwrap();
    let _: Uuid = header("lambda-runtime-invocation-id").parse().unwrap();
    let deadline: u128 = header("lambda-runtime-deadline-ms").parse().unwrap();
    let limit = (PATIENCE / 2).as_millis();
    assert!((before + limit..=now_ms() + limit).contains(&deadline));
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:function";
    assert_eq!(header("lambda-runtime-invoked-function-arn"), arn);
    assert!(header("lambda-runtime-trace-id").starts_with("Root=1-"));
    assert!(event.header("lambda-runtime-client-context").is_none());

    let posted = function.post("response", &event, b"[1]").await;
    assert_eq!(posted, (202, r#"{"status":"OK"}"#.to_owned()));
    let reply = call.await.unwrap();
    assert_eq!(reply.request_id, request_id);
    assert_eq!(&reply.payload[..], b"[1]");
}

#[tokio::test]
async fn accepts_one_whole_reply_to_what_is_in_flight_and_no_other() {
    let (function, call, event) = Function::start_invoked().await;
    let whole = function.reply_bytes(&event, "12345");
    let broken = &whole[..whole.len() - 1];
    let mut broken = send(function.runtime_api, broken).await;
    broken.shutdown().await.unwrap();
    for id in ["nonsense", ANOTHER_ID, "%ff"] {
        let head = format!("POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1");
        let refused = http(function.runtime_api, &head, b"{}").await;
        assert_eq!(refused.status, 400, "{id}");
    }
    for attempt in ["nonsense", ANOTHER_ID] {
        let head = post_head("response", &event);
        let id = event.header("lambda-runtime-invocation-id").unwrap();
        let head = head.replace(id, attempt);
        let refused = http(function.runtime_api, &head, b"1").await;
        let refused = (refused.status, refused.text().trim().to_owned());
        assert_eq!(refused, invoke_timeout(), "{attempt}");
    }
    function.reply(&event, b"2").await;
    for again in ["response", "error"] {
        assert_eq!(function.post(again, &event, b"3").await, invalid_id());
    }
    assert_eq!(&call.await.unwrap().payload[..], b"2");
}

#[tokio::test]
async fn tells_a_late_reply_from_an_unknown_one() {
    let (mut function, call, late) = Function::start_invoked().await;
    time_out(call).await;
    for expected in [invoke_timeout(), invalid_id()] {
        assert_eq!(function.post("response", &late, b"1").await, expected);
    }
    function.serve().await;
}

#[tokio::test]
async fn refuses_replies_and_errors_that_are_too_large() {
    let mut function = Function::start().await;
    for (what, limit) in [("response", 6 * 1024 * 1024 + 100), ("error", 1024 * 1024)] {
        let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
        let refused = refusal(413, "RequestEntityTooLarge", &message);
        let accepted = (202, r#"{"status":"OK"}"#.to_owned());
        for (size, expected) in [(limit, accepted), (limit + 1, refused)] {
            let call = function.call("{}");
            let event = function.next().await;
            let body = vec![b'1'; size];
            assert_eq!(function.post(what, &event, &body).await, expected);
            let reply = call.await.unwrap();
            assert_eq!(reply.function_error, what == "error" || size > limit);
            if size > limit {
                let error_type = payload(&reply)["errorType"].take();
                assert_eq!(error_type, "Function.ResponseSizeTooLarge");
            } else {
                // As it is.
                assert!(reply.payload == body, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn hands_no_event_to_a_client_that_has_gone_away() {
    let mut function = Function::start_workers(2).await;
    let second = request(function.runtime_api, NEXT, b"").await;
    all_poll(&function.emulator, 2).await;
    drop(function.poll.replace(second));
    all_poll(&function.emulator, 1).await;
    function.serve().await;
}

#[tokio::test]
async fn decodes_the_client_context_for_the_function() {
    let mut function = Function::start().await;
    for (json, expected) in [
        (r#"{"custom":{"a":1}}"#, r#"{"custom":{"a":1}}"#),
        ("{\r\n \"client\": {}}", "{   \"client\": {}}"),
        (r#"{"custom":"ü"}"#, r#"{"custom":"ü"}"#),
    ] {
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, json);
        let header = format!("x-amz-client-context: {encoded}");
        let emulator = Arc::clone(&function.emulator);
        let (invoked, ()) = tokio::join!(invoke(&emulator, &header, b"{}"), async {
            let event = function.next().await;
            let decoded = event.header("lambda-runtime-client-context");
            assert_eq!(decoded, Some(expected));
            function.reply(&event, b"1").await;
        });
        assert_eq!(invoked.status, 200);
    }
}

/// Two `<img>` tags of any page could take two events away.
#[tokio::test]
async fn refuses_browsers() {
    let function = Function::start().await;
    let table = "
GET /2018-06-01/runtime/invocation/next HTTP/1.1, origin: http://example.com => 403
GET /2018-06-01/runtime/invocation/next HTTP/1.1, origin: http://localhost:9000 => 403
GET /2018-06-01/runtime/invocation/next HTTP/1.1, sec-fetch-site: cross-site => 403
GET /2018-06-01/runtime/invocation/next HTTP/1.1, sec-fetch-site: none => 403
GET /2018-06-01/runtime/invocation/next HTTP/1.1, host: rebound.example.com => 403
GET /2018-06-01/ping HTTP/1.1, host: localhost:1 => 200
GET /2018-06-01/ping HTTP/1.1, host: 127.0.0.1 => 200
GET /2018-06-01/ping HTTP/1.1, host: [::1]:80 => 200
GET /2018-06-01/ping HTTP/1.1, host: 192.0.2.1 => 200
";
    for (head, status) in cases(table) {
        let response = http(function.runtime_api, &head.replace(", ", "\n"), b"").await;
        assert_eq!(response.status.to_string(), status, "{head}");
    }
}

/// A real browser opens a page with two images of the Runtime API.
#[tokio::test]
#[ignore = "needs Chromium"]
async fn gives_no_event_to_a_page() {
    let mut function = Function::start().await;
    let url = format!(
        "http://{}/2018-06-01/runtime/invocation/next",
        function.runtime_api
    );
    // The page is loaded when the images have been refused: a poll would stay open.
    Browser::open(&format!(
        "data:text/html,<img src={url}?1><img src={url}?2>"
    ))
    .await;
    function.serve().await;
}

#[tokio::test]
async fn knows_no_other_paths_and_methods() {
    let function = Function::start().await;
    for (line, status) in [
        ("GET /", "404"),
        ("GET /2018-06-01/runtime/restore/next", "404"),
        ("PUT /2020-08-15/logs", "404"),
        ("POST /2018-06-01/runtime/invocation/next", "405"),
        ("HEAD /2018-06-01/runtime/invocation/next", "405"),
        ("GET /2020-01-01/extension/register", "405"),
    ] {
        let head = format!("{line} HTTP/1.1");
        let mut connection = request(function.runtime_api, &head, b"").await;
        // What follows a HEAD has no body.
        let mut refused = String::new();
        let read = connection.read_line(&mut refused);
        within("a response", read).await.unwrap();
        assert_eq!(refused.split(' ').nth(1), Some(status), "{line}");
    }
    let head = "POST /2018-06-01/runtime/init/error HTTP/1.1";
    let has_started = http(function.runtime_api, head, b"{}").await;
    let error_type = has_started.json()["errorType"].take();
    assert_eq!(
        (has_started.status, error_type),
        (403, "InvalidStateTransition".into())
    );
}

/// Posts with a response mode. The body is chunked, and its end does not come.
async fn begin_stream(function: &Function, event: &Response, what: &str, mode: &str) -> Connection {
    let head = post_head(what, event).replace('\n', "\r\n");
    let beginning = format!(
        "{head}\r\nhost: localhost\r\nlambda-runtime-function-response-mode: {mode}\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    );
    send(function.runtime_api, beginning.as_bytes()).await
}

/// The caller and the function learn it in one line each, the caller before the stream ends.
#[tokio::test]
async fn refuses_a_response_that_is_streamed_or_in_a_mode_that_does_not_exist() {
    let mut function = Function::start().await;
    for (mode, message) in [
        ("streaming", "The function streams its response"),
        ("buffered", "Invalid function response mode"),
        ("Streaming", "Invalid function response mode"),
    ] {
        all_poll(&function.emulator, 1).await;
        let call = function.call("{}");
        let event = function.next().await;
        let mut stream = begin_stream(&function, &event, "response", mode).await;
        let reply = call.await.unwrap();
        assert!(reply.function_error);
        let error = payload(&reply);
        assert_eq!(error["errorType"], "Runtime.InvalidResponseModeHeader");
        let told = error["errorMessage"].as_str().unwrap();
        assert!(told.starts_with(message), "{told}");
        // The stream does not end, but the worker gets its response all the same.
        let refused = response(&mut stream).await;
        let expected = refusal(400, "InvalidFunctionResponseMode", told);
        assert_eq!((refused.status, refused.text()), expected);
        function.poll().await;
    }
}

#[tokio::test]
async fn accepts_the_error_of_a_function_that_streams() {
    let (function, call, event) = Function::start_invoked().await;
    let mut stream = begin_stream(&function, &event, "error", "streaming").await;
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(response(&mut stream).await.status, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"hello");
}
