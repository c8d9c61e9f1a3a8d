//! The function URL.

use crate::support::{Response, function, hold, http, start, workers};
use emulator::Emulator;
use serde_json::json;
use uuid::Uuid;

async fn get(emulator: &Emulator, headers: &str) -> Response {
    let head = format!("GET / HTTP/1.1\n{headers}");
    http(emulator.function_url_address(), &head, b"").await
}

/// Posts a body. If it is one of the test function's instructions, the function follows it.
async fn post(emulator: &Emulator, content_type: &str, body: &[u8]) -> Response {
    let head = format!("POST / HTTP/1.1\ncontent-type: {content_type}");
    http(emulator.function_url_address(), &head, body).await
}

/// Has the function return this.
async fn reply(emulator: &Emulator, json: &str) -> Response {
    let event = json!({ "raw": json }).to_string();
    post(emulator, "application/json", event.as_bytes()).await
}

#[tokio::test]
async fn turns_a_request_into_an_event_of_payload_format_2_0() {
    let emulator = start(function()).await;
    let address = emulator.function_url_address();
    let head = "GET /some/path%20here?n=10&n=11&q=a%20b%26c HTTP/1.1
                User-Agent: test
                X-Thing: one
                x-thing: two
                Cookie: a=1; b=2
                Cookie: c=3";
    let response = http(address, head, b"").await;
    let mut event = response.json();
    let context = event["requestContext"].take();
    let expected = json!({
        "method": "GET",
        "path": "/some/path%20here",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "test",
    });
    assert_eq!(context["http"], expected);
    assert_eq!(context["accountId"], "anonymous");
    assert_eq!(context["stage"], "$default");
    let time = context["time"].as_str().unwrap();
    let is_common_log_format = time.ends_with(" +0000") && time.split(['/', ':']).count() == 6;
    assert!(is_common_log_format, "{time}");
    assert!(context["timeEpoch"].is_u64());
    let request_id = context["requestId"].as_str().unwrap();
    assert!(Uuid::try_parse(request_id).is_ok());
    assert_eq!(response.request_id(), request_id);
    let trace_id = event["headers"]["x-amzn-trace-id"].take();
    assert!(trace_id.as_str().unwrap().starts_with("Root=1-"));
    let expected = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/some/path%20here",
        "rawQueryString": "n=10&n=11&q=a%20b%26c",
        "queryStringParameters": { "n": "10,11", "q": "a b&c" },
        "cookies": ["a=1", "b=2", "c=3"],
        "headers": {
            "content-length": "0",
            "cookie": "a=1; b=2; c=3",
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
        let event = post(&emulator, content_type, body).await.json();
        assert_eq!(event["body"], expected);
        assert_eq!(event["isBase64Encoded"], encoded, "{expected}");
    }
}

#[tokio::test]
async fn sends_the_response_that_a_reply_describes() {
    let emulator = start(function()).await;
    let json = json!({
        "statusCode": 201,
        "headers": {
            "X-Thing": "one", "x-number": 2, "content-length": "1", "Content-Type": "text/plain",
        },
        "cookies": ["a=1; HttpOnly", "b=2"],
        "body": "aGVsbG8=",
        "isBase64Encoded": true,
    });
    let response = reply(&emulator, &json.to_string()).await;
    assert_eq!((response.status, &*response.text()), (201, "hello"));
    for (name, value) in [
        ("x-thing", "one"),
        ("x-number", "2"),
        ("content-type", "text/plain"),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    let is_cookie = |header: &&(String, String)| header.0 == "set-cookie";
    assert_eq!(response.headers.iter().filter(is_cookie).count(), 2);
}

/// On AWS the host is `ID.lambda-url.REGION.on.aws`.
#[tokio::test]
async fn has_the_id_of_the_host_and_appends_to_what_a_proxy_says() {
    let emulator = start(function()).await;
    let trace_id = "Root=1-5759e988-bd862e3fe1be46a994272793";
    let headers = format!(
        "connection: keep-alive
         x-forwarded-for: 203.0.113.7
         x-forwarded-port: 443
         x-forwarded-proto: https
         x-amzn-trace-id: {trace_id}
         keep-alive: timeout=5
         te: trailers"
    );
    let port = emulator.function_url_address().port().to_string();
    for (host, id) in [
        ("abc123.lambda-url.us-east-1.on.aws", "abc123"),
        ("localhost:9001", "localhost"),
    ] {
        let response = get(&emulator, &format!("host: {host}\n{headers}")).await;
        assert_eq!(response.header("x-amzn-trace-id"), Some(trace_id));
        let event = response.json();
        for (pointer, value) in [
            ("/requestContext/domainName", host),
            ("/requestContext/domainPrefix", id),
            ("/requestContext/apiId", id),
            ("/headers/x-forwarded-for", "203.0.113.7, 127.0.0.1"),
            ("/headers/x-forwarded-port", &port),
            ("/headers/x-forwarded-proto", "http"),
            ("/headers/x-amzn-trace-id", trace_id),
        ] {
            assert_eq!(event.pointer(pointer).unwrap(), value, "{pointer}");
        }
        for name in ["keep-alive", "te", "connection"] {
            assert_eq!(event["headers"].get(name), None);
        }
    }
}

#[tokio::test]
async fn gives_the_function_the_ids_that_the_caller_sees() {
    let emulator = start(function()).await;
    let event = br#"{"context": {}}"#;
    let response = post(&emulator, "application/json", event).await;
    let context = response.json();
    assert_eq!(response.request_id(), context["request_id"]);
    let trace_id = context["xray_trace_id"].as_str();
    assert_eq!(response.header("x-amzn-trace-id"), trace_id);
}

#[tokio::test]
async fn sends_a_reply_that_describes_no_response_as_aws_does() {
    let emulator = start(function()).await;
    let escaped = r#"{ "hello" : "w \" o" , "a": [ 1, 2 ] }"#;
    let numbers = "[ 1 , 1e999, \n 12345678901234567890123 ]";
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for (json, status, body) in [
        (escaped, 200, r#"{"hello":"w \" o","a":[1,2]}"#),
        (numbers, 200, "[1,1e999,12345678901234567890123]"),
        (r#""hello \"world\"""#, 200, "hello \"world\""),
        ("3.10", 200, "3.10"),
        (" true ", 200, "true"),
        ("null", 200, "null"),
        (r#"{"body": {"no": 1}}"#, 200, r#"{"body":{"no":1}}"#),
        (r#"{"statusCode": null}"#, 200, r#"{"statusCode":null}"#),
        (&deep, 200, &deep),
        // These do, in an unusual way.
        (r#"{"statusCode": "418", "body": "tea"}"#, 418, "tea"),
        (r#"{"statusCode": 204, "body": "x"}"#, 204, ""),
    ] {
        let response = reply(&emulator, json).await;
        let sent = (response.status, &*response.text());
        assert_eq!(sent, (status, body), "{json}");
        let content_type = response.header("content-type");
        assert_eq!(content_type, Some("application/json"));
        let length = (status != 204).then(|| body.len().to_string());
        assert_eq!(response.header("content-length"), length.as_deref());
    }
}

#[tokio::test]
async fn sends_502_for_a_function_error_and_for_a_reply_that_is_no_response() {
    let emulator = start(function()).await;
    for event in [
        r#"{"fail": "no"}"#,
        r#"{"panic": "oh"}"#,
        r#"{"raw": "no JSON"}"#,
        r#"{"echo": {"statusCode": 42}}"#,
        r#"{"echo": {"statusCode": "ok"}}"#,
        r#"{"echo": {"statusCode": 200, "headers": {"bad name": ""}}}"#,
        r#"{"echo": {"statusCode": 200, "headers": {"bad-value": "a\nb"}}}"#,
        r#"{"echo": {"statusCode": 200, "headers": {"list": []}}}"#,
        r#"{"echo": {"statusCode": 200, "body": "!", "isBase64Encoded": true}}"#,
        r#"{"echo": {"statusCode": 200, "body": {}}}"#,
    ] {
        let response = post(&emulator, "application/json", event.as_bytes()).await;
        let expected = (502, "Internal Server Error");
        assert_eq!((response.status, &*response.text()), expected, "{event}");
        assert!(Uuid::try_parse(response.request_id()).is_ok());
    }
}

#[tokio::test]
async fn sends_429_when_all_workers_are_busy() {
    let emulator = start(workers(1)).await;
    let _held = hold(&emulator).await;
    let throttled = get(&emulator, "").await;
    let message = json!({ "message": "Too Many Requests" });
    assert_eq!((throttled.status, throttled.json()), (429, message));
}

#[tokio::test]
async fn refuses_what_does_not_fit_into_an_event() {
    let emulator = start(function()).await;
    let trace_id = format!("x-amzn-trace-id: {}", "x".repeat(300_000));
    assert_eq!(get(&emulator, &trace_id).await.status, 431);
    // The larger is too large itself, the smaller once it has been encoded.
    for size in [6 * 1024 * 1024 + 1, 5 * 1024 * 1024] {
        let body = vec![b'x'; size];
        assert_eq!(post(&emulator, "", &body).await.status, 413);
    }
}
