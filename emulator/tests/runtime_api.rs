//! The Runtime API, spoken by the test itself in place of a function.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::worker::{Connection, Function, NEXT, kept_alive};
use crate::support::{
    PATIENCE, Response, all_poll, http, invoke, payload, request, response, send, within,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
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

fn now_ms() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_millis()
}

#[tokio::test]
async fn gives_an_event_with_its_headers_and_accepts_the_reply() {
    let mut function = Function::start().await;
    let before = now_ms();
    let call = function.call(r#"{"n": 10}"#);
    let event = function.next().await;
    assert_eq!((event.status, &*event.text()), (200, r#"{"n": 10}"#));
    let header = |name| event.header(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(header("content-type"), "application/json");
    let request_id: Uuid = header("lambda-runtime-aws-request-id").parse().unwrap();
    let _: Uuid = header("lambda-runtime-invocation-id").parse().unwrap();
    let deadline: u128 = header("lambda-runtime-deadline-ms").parse().unwrap();
    let limit = PATIENCE.as_millis();
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
async fn passes_an_error_on_as_it_is() {
    let (function, call, event) = Function::start_invoked().await;
    let body = br#"{"errorType":"Oh","errorMessage":"no","stackTrace":[]}"#;
    assert_eq!(function.post("error", &event, body).await.0, 202);
    let reply = call.await.unwrap();
    assert!(reply.function_error);
    assert_eq!(&reply.payload[..], body);
}

#[tokio::test]
async fn refuses_replies_to_what_is_not_in_flight() {
    let (function, call, event) = Function::start_invoked().await;
    for id in ["nonsense", ANOTHER_ID, "%ff"] {
        let head = format!("POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1");
        let refused = http(function.runtime_api, &head, b"{}").await;
        assert_eq!(refused.status, 400, "{id}");
    }
    for attempt in ["nonsense", ANOTHER_ID] {
        let refused = function.post_attempt("response", &event, attempt, b"1");
        assert_eq!(refused.await, invoke_timeout(), "{attempt}");
    }
    function.reply(&event, b"2").await;
    for again in ["response", "error"] {
        assert_eq!(function.post(again, &event, b"3").await, invalid_id());
    }
    assert_eq!(&call.await.unwrap().payload[..], b"2");
}

#[tokio::test]
async fn tells_a_late_reply_from_an_unknown_one() {
    let (mut function, late) = Function::start_timed_out().await;
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
            let posted = function.post(what, &event, &vec![b'1'; size]).await;
            assert_eq!(posted, expected);
            let reply = call.await.unwrap();
            assert_eq!(reply.function_error, what == "error" || size > limit);
            if size > limit {
                let error_type = payload(&reply)["errorType"].take();
                assert_eq!(error_type, "Function.ResponseSizeTooLarge");
            }
        }
    }
}

#[tokio::test]
async fn accepts_a_reply_again_that_broke_off() {
    let (function, call, event) = Function::start_invoked().await;
    let id = event.header("lambda-runtime-aws-request-id").unwrap();
    let broken = format!(
        "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nhost: localhost\r\n\
         content-length: 100\r\n\r\nonly this"
    );
    let mut broken = send(function.runtime_api, broken.as_bytes()).await;
    broken.shutdown().await.unwrap();
    function.reply(&event, b"1").await;
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn hands_no_event_to_a_client_that_has_gone_away() {
    let two = |settings: &mut emulator::Settings| settings.max_concurrency = 2;
    let mut function = Function::start_with(two, async |_| {}).await;
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
        let emulator = Arc::clone(&function.emulator);
        let call = tokio::spawn(async move {
            let header = format!("x-amz-client-context: {encoded}");
            invoke(&emulator, &header, b"{}").await
        });
        let event = function.next().await;
        let decoded = event.header("lambda-runtime-client-context");
        assert_eq!(decoded, Some(expected));
        function.reply(&event, b"1").await;
        assert_eq!(call.await.unwrap().status, 200);
    }
}

/// Two `<img>` tags of any page could take two events away.
#[tokio::test]
async fn refuses_browsers() {
    let function = Function::start().await;
    for header in [
        "origin: http://example.com",
        "origin: http://localhost:9000",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: none",
        "host: rebound.example.com",
    ] {
        let head = format!("{NEXT}\n{header}");
        let refused = http(function.runtime_api, &head, b"").await;
        assert_eq!(refused.status, 403, "{header}");
    }
    for host in ["localhost:1", "127.0.0.1", "[::1]:80", "192.0.2.1"] {
        let head = format!("GET /2018-06-01/ping HTTP/1.1\nhost: {host}");
        let ping = http(function.runtime_api, &head, b"").await;
        assert_eq!(ping.status, 200, "{host}");
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
    let page = format!("data:text/html,<img src={url}?1><img src={url}?2><p>loaded");
    let mut chromium = tokio::process::Command::new("chromium");
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(page)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    // It ends when the images have been refused: a poll would stay open.
    let shown = within("Chromium to end", chromium.output()).await.unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("loaded"));
    function.serve().await;
}

#[tokio::test]
async fn knows_no_other_paths_and_methods() {
    let function = Function::start().await;
    for (head, status) in [
        ("GET / HTTP/1.1", 404),
        ("GET /2018-06-01/runtime/restore/next HTTP/1.1", 404),
        ("PUT /2020-08-15/logs HTTP/1.1", 404),
        ("POST /2018-06-01/runtime/invocation/next HTTP/1.1", 405),
        ("HEAD /2018-06-01/runtime/invocation/next HTTP/1.1", 405),
        ("GET /2020-01-01/extension/register HTTP/1.1", 405),
    ] {
        let refused = http(function.runtime_api, head, b"").await;
        assert_eq!(refused.status, status, "{head}");
    }
}

/// Posts with a response mode. The body is chunked, and its end does not come.
async fn begin_stream(function: &Function, event: &Response, what: &str, mode: &str) -> TcpStream {
    let id = event.header("lambda-runtime-aws-request-id").unwrap();
    let beginning = format!(
        "POST /2018-06-01/runtime/invocation/{id}/{what} HTTP/1.1\r\nhost: localhost\r\n\
         connection: close\r\nlambda-runtime-function-response-mode: {mode}\r\n\
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

#[tokio::test]
async fn serves_a_ping_and_a_registration_in_one_write() {
    let ping = kept_alive("GET /2018-06-01/ping HTTP/1.1", "");
    let register = kept_alive(
        "POST /2020-01-01/extension/register HTTP/1.1
         lambda-extension-name: helper",
        r#"{"events":[]}"#,
    );
    let before = async |runtime_api| {
        let mut connection = Connection::open(runtime_api).await;
        connection.send(&[register, ping]).await;
        let registered = connection.receive().await.unwrap();
        let pinged = connection.receive().await.unwrap();
        assert_eq!(registered.status, 200);
        assert_eq!((pinged.status, &*pinged.text()), (200, "pong"));
        let id = registered.header("lambda-extension-identifier").unwrap();
        let head = "GET /2020-01-01/extension/event/next HTTP/1.1";
        let next = format!("{head}\nlambda-extension-identifier: {id}");
        connection.send(&[kept_alive(&next, "")]).await;
        // Its request stays open.
        std::mem::forget(connection);
    };
    let function = Function::start_with(|_| {}, before).await;
    all_poll(&function.emulator, 1).await;
}
