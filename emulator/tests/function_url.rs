//! The function URL.

use crate::support::{Gate, call, function, http, start, workers};
use emulator::Emulator;
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn turns_a_request_into_an_event_of_payload_format_2_0() {
    let emulator = start(function()).await;
    let address = emulator.function_url_address();
    let head = "GET /some/path%20here?n=10&n=11&q=a%20b%26c HTTP/1.1
                User-Agent: test
                X-Thing: one
                x-thing: two
                Cookie: a=1; b=2";
    let response = http(address, head, b"").await;
    let mut event = response.json();
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
    let request_id = context["requestId"].as_str().unwrap();
    assert!(Uuid::try_parse(request_id).is_ok());
    assert_eq!(response.header("x-amzn-requestid"), Some(request_id));
    let trace_id = event["headers"]["x-amzn-trace-id"].take();
    assert!(trace_id.as_str().unwrap().starts_with("Root=1-"));
    let expected = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/some/path%20here",
        "rawQueryString": "n=10&n=11&q=a%20b%26c",
        "queryStringParameters": { "n": "10,11", "q": "a b&c" },
        "cookies": ["a=1", "b=2"],
        "headers": {
            "content-length": "0",
            "cookie": "a=1; b=2",
            "host": address.to_string(),
            "user-agent": "test",
            "x-amzn-trace-id": null,
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": address.port().to_string(),
            "x-forwarded-proto": "http",
            "x-thing": "one,two",
        },
        "requestContext": null,
        "isBase64Encoded": false,
    });
    assert_eq!(event, expected);
}

/// On AWS the host is `ID.lambda-url.REGION.on.aws`.
#[tokio::test]
async fn has_the_id_of_the_host() {
    let emulator = start(function()).await;
    for (host, id) in [
        ("abc123.lambda-url.us-east-1.on.aws", "abc123"),
        ("localhost:9001", "localhost"),
    ] {
        let head = format!("GET / HTTP/1.1\nhost: {host}");
        let event = http(emulator.function_url_address(), &head, b"")
            .await
            .json();
        let context = &event["requestContext"];
        assert_eq!(context["domainName"], host);
        assert_eq!(
            (&context["domainPrefix"], &context["apiId"]),
            (&json!(id), &json!(id))
        );
    }
}

#[tokio::test]
async fn refuses_a_trace_id_that_the_function_could_not_read() {
    let emulator = start(function()).await;
    let head = format!("GET / HTTP/1.1\nx-amzn-trace-id: {}", "x".repeat(300_000));
    let refused = http(emulator.function_url_address(), &head, b"").await;
    assert_eq!(refused.status, 431);
}

#[tokio::test]
async fn encodes_a_body_that_is_not_text() {
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
async fn sends_the_response_that_a_reply_describes() {
    let emulator = start(function()).await;
    let reply = json!({ "echo": {
        "statusCode": 201,
        "headers": { "X-Thing": "one", "x-number": 2, "content-length": "1", "Content-Type": "text/plain" },
        "cookies": ["a=1; HttpOnly", "b=2"],
        "body": "aGVsbG8=",
        "isBase64Encoded": true,
    }});
    let head = "POST / HTTP/1.1\ncontent-type: application/json";
    let response = http(
        emulator.function_url_address(),
        head,
        reply.to_string().as_bytes(),
    )
    .await;
    assert_eq!((response.status, &*response.text()), (201, "hello"));
    assert_eq!(response.header("x-thing"), Some("one"));
    assert_eq!(response.header("x-number"), Some("2"));
    assert_eq!(response.header("content-type"), Some("text/plain"));
    let cookies: Vec<_> = response
        .headers
        .iter()
        .filter(|header| header.0 == "set-cookie")
        .collect();
    assert_eq!(cookies.len(), 2);
}

/// Has the function return this, by way of the function URL.
async fn reply(emulator: &Emulator, json: &str) -> crate::support::Response {
    let head = "POST / HTTP/1.1\ncontent-type: application/json";
    let event = serde_json::json!({ "raw": json }).to_string();
    http(emulator.function_url_address(), head, event.as_bytes()).await
}

#[tokio::test]
async fn appends_to_what_a_proxy_says() {
    let emulator = start(function()).await;
    let head = "GET / HTTP/1.1
                x-forwarded-for: 203.0.113.7
                x-forwarded-port: 443
                x-forwarded-proto: https
                x-amzn-trace-id: Root=1-5759e988-bd862e3fe1be46a994272793
                keep-alive: timeout=5
                te: trailers";
    let response = http(emulator.function_url_address(), head, b"").await;
    let headers = response.json()["headers"].take();
    assert_eq!(headers["x-forwarded-for"], "203.0.113.7, 127.0.0.1");
    let port = emulator.function_url_address().port().to_string();
    assert_eq!(headers["x-forwarded-port"], port);
    assert_eq!(headers["x-forwarded-proto"], "http");
    for name in ["keep-alive", "te", "connection"] {
        assert_eq!(headers.get(name), None);
    }
    let trace_id = "Root=1-5759e988-bd862e3fe1be46a994272793";
    assert_eq!(headers["x-amzn-trace-id"], trace_id);
    assert_eq!(response.header("x-amzn-trace-id"), Some(trace_id));
}

#[tokio::test]
async fn announces_no_body_of_a_response_that_has_none() {
    let emulator = start(function()).await;
    let response = reply(&emulator, r#"{"statusCode": 204, "body": "x"}"#).await;
    assert_eq!((response.status, &*response.text()), (204, ""));
    assert_eq!(response.header("content-length"), None);
}

#[tokio::test]
async fn gives_the_function_the_ids_that_the_caller_sees() {
    let emulator = start(function()).await;
    let head = "POST / HTTP/1.1\ncontent-type: application/json";
    let address = emulator.function_url_address();
    let response = http(address, head, br#"{"context": {}}"#).await;
    let context = response.json();
    let request_id = context["request_id"].as_str();
    assert_eq!(response.header("x-amzn-requestid"), request_id);
    let trace_id = context["xray_trace_id"].as_str();
    assert_eq!(response.header("x-amzn-trace-id"), trace_id);
}

#[tokio::test]
async fn sends_a_reply_without_status_code_as_aws_does() {
    let emulator = start(function()).await;
    for (json, body) in [
        (
            r#"{ "hello" : "w \" o" , "a": [ 1, 2 ] }"#,
            r#"{"hello":"w \" o","a":[1,2]}"#,
        ),
        (
            "[ 1 , 1e999, \n 12345678901234567890123 ]",
            "[1,1e999,12345678901234567890123]",
        ),
        (r#""hello \"world\"""#, "hello \"world\""),
        ("3.10", "3.10"),
        (" true ", "true"),
        ("null", "null"),
        (
            r#"{"body": {"no": "string"}}"#,
            r#"{"body":{"no":"string"}}"#,
        ),
        (r#"{"statusCode": null}"#, r#"{"statusCode":null}"#),
    ] {
        let response = reply(&emulator, json).await;
        assert_eq!((response.status, &*response.text()), (200, body), "{json}");
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    assert_eq!(reply(&emulator, &deep).await.text(), deep);
}

#[tokio::test]
async fn accepts_a_status_that_is_a_string() {
    let emulator = start(function()).await;
    let json = r#"{"statusCode": "418", "body": "i'm a teapot"}"#;
    let response = reply(&emulator, json).await;
    assert_eq!((response.status, &*response.text()), (418, "i'm a teapot"));
}

#[tokio::test]
async fn sends_502_for_a_function_error_and_for_a_reply_that_is_no_response() {
    let emulator = start(function()).await;
    for event in [
        json!({ "fail": "no" }),
        json!({ "panic": "oh" }),
        json!({ "echo": { "statusCode": 42 } }),
        json!({ "echo": { "statusCode": "ok" } }),
        json!({ "echo": { "statusCode": 200, "headers": { "bad name": "" } } }),
        json!({ "echo": { "statusCode": 200, "headers": { "bad-value": "a\nb" } } }),
        json!({ "echo": { "statusCode": 200, "headers": { "list": [] } } }),
        json!({ "echo": { "statusCode": 200, "body": "!", "isBase64Encoded": true } }),
        json!({ "echo": { "statusCode": 200, "body": {} } }),
    ] {
        let head = "POST / HTTP/1.1\ncontent-type: application/json";
        let body = event.to_string();
        let response = http(emulator.function_url_address(), head, body.as_bytes()).await;
        assert_eq!(
            (response.status, &*response.text()),
            (502, "Internal Server Error"),
            "{event}"
        );
        let request_id = response.header("x-amzn-requestid").unwrap();
        assert!(Uuid::try_parse(request_id).is_ok());
    }
    assert_eq!(reply(&emulator, "no JSON").await.status, 502);
}

#[tokio::test]
async fn sends_429_when_all_workers_are_busy() {
    let emulator = start(workers(1)).await;
    let gate = Gate::new().await;
    let (held, throttled) = tokio::join!(call(&emulator, gate.event()), async {
        let inside = gate.entered().await;
        let throttled = http(emulator.function_url_address(), "GET / HTTP/1.1", b"").await;
        drop(inside);
        throttled
    });
    assert!(!held.function_error);
    assert_eq!(
        (throttled.status, throttled.json()),
        (429, json!({ "message": "Too Many Requests" }))
    );
}

#[tokio::test]
async fn sends_413_for_a_body_that_does_not_fit_into_an_event() {
    let emulator = start(function()).await;
    // The larger is too large itself, the smaller once it has been encoded.
    for size in [6 * 1024 * 1024 + 1, 5 * 1024 * 1024] {
        let body = vec![b'x'; size];
        let response = http(emulator.function_url_address(), "POST / HTTP/1.1", &body).await;
        assert_eq!(response.status, 413);
    }
}
