//! The function URL.

use crate::support::{Gate, function, http, start, workers};
use serde_json::json;

#[tokio::test]
async fn wraps_a_request_in_payload_format_2_0() {
    let emulator = start(function()).await;
    let address = emulator.function_url_address();
    let head = "GET /some/path%20here?n=10&n=11&q=a%20b%26c HTTP/1.1
                User-Agent: test
                X-Thing: one
                x-thing: two
                Cookie: a=1; b=2";
    let mut event = http(address, head, b"").await.json();
    let context = event["requestContext"].take();
    assert_eq!(context["http"]["method"], "GET");
    assert_eq!(context["http"]["path"], "/some/path%20here");
    assert_eq!(context["http"]["protocol"], "HTTP/1.1");
    assert_eq!(context["http"]["sourceIp"], "127.0.0.1");
    assert_eq!(context["http"]["userAgent"], "test");
    assert_eq!(context["accountId"], "anonymous");
    assert_eq!(context["stage"], "$default");
    let time = context["time"].as_str().unwrap();
    assert!(
        time.ends_with(" +0000") && time.split(['/', ':']).count() == 6,
        "{time}"
    );
    assert!(context["timeEpoch"].is_u64());
    let expected = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/some/path%20here",
        "rawQueryString": "n=10&n=11&q=a%20b%26c",
        "queryStringParameters": { "n": "10,11", "q": "a b&c" },
        "cookies": ["a=1", "b=2"],
        "headers": {
            "connection": "close",
            "content-length": "0",
            "host": address.to_string(),
            "user-agent": "test",
            "x-thing": "one,two",
        },
        "requestContext": null,
        "isBase64Encoded": false,
    });
    assert_eq!(event, expected);
}

#[tokio::test]
async fn encodes_a_body_that_is_no_text() {
    let emulator = start(function()).await;
    for (content_type, body, expected, encoded) in [
        ("application/json", &b"[1]"[..], "[1]", false),
        ("text/plain; charset=utf-8", "ü".as_bytes(), "ü", false),
        ("text/plain", b"\xff", "/w==", true),
        ("application/octet-stream", b"abc", "YWJj", true),
        ("application/x-www-form-urlencoded", b"n=1", "bj0x", true),
    ] {
        let head = format!("POST / HTTP/1.1\ncontent-type: {content_type}");
        let event = http(emulator.function_url_address(), &head, body)
            .await
            .json();
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!(expected), &json!(encoded))
        );
    }
}

#[tokio::test]
async fn unwraps_the_reply() {
    let emulator = start(function()).await;
    let reply = json!({ "echo": {
        "statusCode": 201,
        "headers": { "X-Thing": "one", "x-number": 2, "content-length": "1", "Content-Type": "text/plain" },
        "cookies": ["a=1; HttpOnly", "b=2"],
        "body": "aGVsbG8=",
        "isBase64Encoded": true,
    }});
    let head = "POST / HTTP/1.1\ncontent-type: application/json";
    let answer = http(
        emulator.function_url_address(),
        head,
        reply.to_string().as_bytes(),
    )
    .await;
    assert_eq!((answer.status, &*answer.text()), (201, "hello"));
    assert_eq!(answer.header("x-thing"), Some("one"));
    assert_eq!(answer.header("x-number"), Some("2"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let cookies: Vec<_> = answer
        .headers
        .iter()
        .filter(|header| header.0 == "set-cookie")
        .collect();
    assert_eq!(cookies.len(), 2);
}

#[tokio::test]
async fn takes_a_reply_without_status_code_as_the_body() {
    let emulator = start(function()).await;
    for reply in [
        json!([1]),
        json!("text"),
        json!(null),
        json!({ "body": "no" }),
    ] {
        let event = json!({ "echo": reply }).to_string();
        let head = "POST / HTTP/1.1\ncontent-type: application/json";
        let answer = http(emulator.function_url_address(), head, event.as_bytes()).await;
        assert_eq!((answer.status, answer.json()), (200, reply));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn answers_502_to_a_function_error_and_to_a_reply_that_cannot_be_unwrapped() {
    let emulator = start(function()).await;
    for event in [
        json!({ "fail": "no" }),
        json!({ "echo": { "statusCode": 42 } }),
        json!({ "echo": { "statusCode": "200" } }),
        json!({ "echo": { "statusCode": 200, "headers": { "bad name": "" } } }),
        json!({ "echo": { "statusCode": 200, "headers": { "bad-value": "a\nb" } } }),
        json!({ "echo": { "statusCode": 200, "headers": { "list": [] } } }),
        json!({ "echo": { "statusCode": 200, "body": "!", "isBase64Encoded": true } }),
    ] {
        let head = "POST / HTTP/1.1\ncontent-type: application/json";
        let body = event.to_string();
        let answer = http(emulator.function_url_address(), head, body.as_bytes()).await;
        let expected = json!({ "message": "Internal Server Error" });
        assert_eq!((answer.status, answer.json()), (502, expected), "{event}");
    }
}

#[tokio::test]
async fn answers_429_when_all_workers_are_busy() {
    let emulator = start(workers(1)).await;
    let gate = Gate::new().await;
    let (held, throttled) = tokio::join!(emulator.invoke(gate.event()), async {
        let inside = gate.entered().await;
        let throttled = http(emulator.function_url_address(), "GET / HTTP/1.1", b"").await;
        drop(inside);
        throttled
    });
    assert!(!held.unwrap().function_error);
    assert_eq!(
        (throttled.status, throttled.json()),
        (429, json!({ "message": "Too Many Requests" }))
    );
}

#[tokio::test]
async fn answers_413_to_what_does_not_fit_into_an_event() {
    let emulator = start(function()).await;
    // The larger is too large itself, the smaller once it has been encoded.
    for size in [6 * 1024 * 1024 + 1, 5 * 1024 * 1024] {
        let body = vec![b'x'; size];
        let answer = http(emulator.function_url_address(), "POST / HTTP/1.1", &body).await;
        assert_eq!(answer.status, 413);
    }
}
