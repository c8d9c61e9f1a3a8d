//! The Runtime API, spoken by the test itself in place of a function.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::worker::{Connection, Function, NEXT, kept_alive};
use crate::support::{
    PATIENCE, Response, all_poll, http, invoke, payload, request, response, within, workers,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

fn refusal(error_type: &str, message: &str) -> String {
    json!({ "errorMessage": message, "errorType": error_type }).to_string()
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis()
}

#[tokio::test]
async fn gives_an_event_with_its_headers_and_accepts_the_reply() {
    let mut function = Function::start(workers(1)).await;
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
    assert_eq!(
        header("lambda-runtime-invoked-function-arn"),
        "arn:aws:lambda:us-east-1:123456789012:function:function"
    );
    assert!(header("lambda-runtime-trace-id").starts_with("Root=1-"));
    assert!(event.header("lambda-runtime-client-context").is_none());

    let posted = function.post("response", &event, b"[1]").await;
    assert_eq!(posted, (202, r#"{"status":"OK"}"#.to_owned()));
    let reply = call.await.unwrap();
    assert_eq!(
        (reply.request_id, &reply.payload[..]),
        (request_id, &b"[1]"[..])
    );
}

#[tokio::test]
async fn passes_an_error_on_as_it_is() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    let body = br#"{"errorType":"Oh","errorMessage":"no","stackTrace":[]}"#;
    assert_eq!(function.post("error", &event, body).await.0, 202);
    let reply = call.await.unwrap();
    assert_eq!(
        (reply.function_error, &reply.payload[..]),
        (true, &body[..])
    );
}

#[tokio::test]
async fn refuses_a_second_reply() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    let refused = (400, refusal("InvalidRequestID", "Invalid request ID"));
    assert_eq!(function.post("response", &event, b"2").await, refused);
    assert_eq!(function.post("error", &event, b"2").await, refused);
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn refuses_a_reply_to_an_unknown_invocation() {
    let function = Function::start(workers(1)).await;
    for id in ["nonsense", "156cb537-e2d4-11e8-9b34-d36013741fb9", "%ff"] {
        let head = format!("POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1");
        assert_eq!(
            http(function.runtime_api, &head, b"{}").await.status,
            400,
            "{id}"
        );
    }
}

#[tokio::test]
async fn refuses_a_reply_of_another_attempt() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    let stale = (410, refusal("InvokeTimeout", "Invoke timeout"));
    for id in ["nonsense", "156cb537-e2d4-11e8-9b34-d36013741fb9"] {
        let refused = function.post_attempt("response", &event, id, b"1").await;
        assert_eq!(refused, stale, "{id}");
    }
    assert_eq!(function.post("response", &event, b"2").await.0, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"2");
}

#[tokio::test]
async fn tells_a_late_reply_from_an_unknown_one() {
    let mut settings = workers(1);
    settings.timeout = Duration::from_millis(200);
    let mut function = Function::start(settings).await;
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(
        payload(&call.await.unwrap())["errorType"],
        "Sandbox.Timedout"
    );
    let late = (410, refusal("InvokeTimeout", "Invoke timeout"));
    assert_eq!(function.post("response", &event, b"1").await, late);
    assert_eq!(function.post("response", &event, b"1").await.0, 400);
}

#[tokio::test]
async fn refuses_a_reply_that_is_too_large() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    let body = vec![b'1'; 6 * 1024 * 1024 + 101];
    let message = "Exceeded maximum allowed payload size (6291556 bytes).";
    let refused = (413, refusal("RequestEntityTooLarge", message));
    assert_eq!(function.post("response", &event, &body).await, refused);
    assert_eq!(
        payload(&call.await.unwrap())["errorType"],
        "Function.ResponseSizeTooLarge"
    );
}

#[tokio::test]
async fn refuses_an_error_that_is_too_large() {
    let mut function = Function::start(workers(1)).await;
    for (size, expected) in [(1024 * 1024, 202), (1024 * 1024 + 1, 413)] {
        let call = function.call("{}");
        let event = function.next().await;
        let (status, _) = function.post("error", &event, &vec![b'1'; size]).await;
        assert_eq!(status, expected, "{size}");
        let reply = call.await.unwrap();
        assert!(reply.function_error);
        if status == 413 {
            let error_type = payload(&reply)["errorType"].take();
            assert_eq!(error_type, "Function.ResponseSizeTooLarge");
        }
    }
}

#[tokio::test]
async fn accepts_a_reply_again_that_broke_off() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    let id = event.header("lambda-runtime-aws-request-id").unwrap();
    let path = format!("/2018-06-01/runtime/invocation/{id}/response");
    let mut broken = TcpStream::connect(function.runtime_api).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nonly this");
    broken.write_all(head.as_bytes()).await.unwrap();
    broken.shutdown().await.unwrap();
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn hands_no_event_to_a_client_that_has_gone_away() {
    let mut function = Function::start(workers(2)).await;
    let mut second = request(function.runtime_api, NEXT, b"").await;
    all_poll(&function.emulator, 2).await;
    drop(function.poll.take());
    all_poll(&function.emulator, 1).await;
    let call = function.call("{}");
    let event = response(&mut second).await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn counts_a_worker_as_free_that_polls_instead_of_replying_late() {
    let mut settings = workers(1);
    // Enough for what must not time out below, and it has to pass once.
    settings.timeout = Duration::from_secs(3);
    let mut function = Function::start(settings).await;
    let call = function.call("{}");
    let _lost = function.next().await;
    assert_eq!(
        payload(&call.await.unwrap())["errorType"],
        "Sandbox.Timedout"
    );
    function.poll = Some(request(function.runtime_api, NEXT, b"").await);
    all_poll(&function.emulator, 1).await;
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert!(!call.await.unwrap().function_error);
    // Between its reply and its next poll, a worker counts as free.
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert!(!call.await.unwrap().function_error);
}

#[tokio::test]
async fn decodes_the_client_context_for_the_function() {
    let mut function = Function::start(workers(1)).await;
    for (json, expected) in [
        (r#"{"custom":{"a":1}}"#, r#"{"custom":{"a":1}}"#),
        ("{\r\n \"client\": {}}", "{   \"client\": {}}"),
        (r#"{"custom":"ü"}"#, r#"{"custom":"ü"}"#),
    ] {
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, json);
        let emulator = Arc::clone(&function.emulator);
        let call = tokio::spawn(async move {
            invoke(
                &emulator,
                &format!("x-amz-client-context: {encoded}"),
                b"{}",
            )
            .await
        });
        let event = function.next().await;
        assert_eq!(
            event.header("lambda-runtime-client-context"),
            Some(expected)
        );
        function.post("response", &event, b"1").await;
        assert_eq!(call.await.unwrap().status, 200);
    }
}

/// Two `<img>` tags of any page could take two events away.
#[tokio::test]
async fn refuses_browsers() {
    let function = Function::start(workers(1)).await;
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
        assert_eq!(
            http(function.runtime_api, &head, b"").await.status,
            200,
            "{host}"
        );
    }
}

/// A real browser opens a page with two images of the Runtime API.
#[tokio::test]
#[ignore = "needs Chromium"]
async fn gives_no_event_to_a_page() {
    let mut function = Function::start(workers(2)).await;
    let url = format!(
        "http://{}/2018-06-01/runtime/invocation/next",
        function.runtime_api
    );
    let page = format!("data:text/html,<img src={url}?1><img src={url}?2><p>loaded");
    let mut chromium = tokio::process::Command::new("chromium");
    chromium
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
            &page,
        ])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    // It ends when the images have been refused: a poll would stay open.
    let shown = within("Chromium to end", chromium.output()).await.unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("loaded"));
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn knows_no_other_paths_and_methods() {
    let function = Function::start(workers(1)).await;
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

const INVALID_MODE: &str = "Runtime.InvalidResponseModeHeader";

/// Posts with a response mode. The body is chunked, and its end does not come.
async fn begin_stream(function: &Function, event: &Response, what: &str, mode: &str) -> TcpStream {
    let id = event.header("lambda-runtime-aws-request-id").unwrap();
    let head = format!(
        "POST /2018-06-01/runtime/invocation/{id}/{what} HTTP/1.1\r\nhost: localhost\r\n\
         connection: close\r\nlambda-runtime-function-response-mode: {mode}\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    );
    let mut stream = TcpStream::connect(function.runtime_api).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The caller and the function learn it in one line each, the caller before the stream ends.
#[tokio::test]
async fn refuses_a_response_that_is_streamed_or_in_a_mode_that_does_not_exist() {
    let mut function = Function::start(workers(1)).await;
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
        assert_eq!(error["errorType"], INVALID_MODE);
        let told = error["errorMessage"].as_str().unwrap();
        assert!(told.starts_with(message), "{told}");
        // The stream does not end, but the worker gets its response all the same.
        let refused = response(&mut stream).await;
        assert_eq!(refused.status, 400);
        let expected = json!({ "errorType": "InvalidFunctionResponseMode", "errorMessage": told });
        assert_eq!(refused.json(), expected);
        function.poll = Some(request(function.runtime_api, NEXT, b"").await);
    }
}

#[tokio::test]
async fn accepts_the_error_of_a_function_that_streams() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
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
    let function = Function::start_after(workers(1), async |runtime_api| {
        let mut connection = Connection::open(runtime_api).await;
        connection.send(&[register, ping]).await;
        let registered = connection.receive().await.unwrap();
        let pinged = connection.receive().await.unwrap();
        assert_eq!(registered.status, 200);
        assert_eq!((pinged.status, &*pinged.text()), (200, "pong"));
        let id = registered.header("lambda-extension-identifier").unwrap();
        let next = kept_alive(
            &format!(
                "GET /2020-01-01/extension/event/next HTTP/1.1
                 lambda-extension-identifier: {id}"
            ),
            "",
        );
        connection.send(&[next]).await;
        // Its request stays open.
        std::mem::forget(connection);
    })
    .await;
    all_poll(&function.emulator, 1).await;
}
