//! The examples, as functions of the emulator.

use std::env;
use std::time::Duration;

use emulator::{Emulator, Settings};
use serde_json::{Value, json};

/// Cargo builds the examples before it runs all tests of a package, into a directory beside theirs.
async fn start(example: &str) -> Emulator {
    let test = env::current_exe().unwrap();
    let executable = test.ancestors().nth(2).unwrap().join("examples");
    let executable = executable.join(example);
    assert!(
        executable.exists(),
        "run: cargo build -p lmi-runtime --examples"
    );
    let mut settings = Settings::new(executable);
    // It ends in order, however slow the machine is.
    settings.termination_grace = Duration::from_mins(2);
    Emulator::start(settings).await.unwrap()
}

#[tokio::test]
async fn greeting() {
    let emulator = start("greeting").await;
    let reply = emulator.invoke(r#"{"name": "Ada"}"#).await.unwrap();
    assert_eq!(reply.payload, r#"{"greeting":"Hello, Ada!"}"#);

    for (event, message) in [
        (r#"{"name": ""}"#, "the name is empty"),
        (
            r#"{"name": 1}"#,
            "failed to deserialize the incoming data into the function's payload type: \
             [name] name: invalid type: integer `1`, expected a string at line 1 column 10\n",
        ),
    ] {
        let reply = emulator.invoke(event).await.unwrap();
        assert!(reply.function_error);
        let error: Value = serde_json::from_slice(&reply.payload).unwrap();
        assert_eq!(error["errorMessage"], message);
    }
    assert_eq!(emulator.terminate().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn http() {
    let emulator = start("http").await;
    let reply = |path: &'static str| {
        let event = json!({
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {},
            "requestContext": { "http": { "method": "GET", "path": path } },
            "isBase64Encoded": false,
        });
        let reply = emulator.invoke(event.to_string());
        async { serde_json::from_slice::<Value>(&reply.await.unwrap().payload).unwrap() }
    };
    let hello = reply("/hello/Ada").await;
    assert_eq!(
        (&hello["statusCode"], &hello["body"]),
        (&json!(200), &json!("Hello, Ada!\n"))
    );
    assert_eq!(reply("/").await["statusCode"], 404);
}

#[tokio::test]
async fn slices() {
    let emulator = start("slices").await;
    let reply = emulator.invoke(r#""b""#).await.unwrap();
    assert_eq!(reply.payload, r#"["a", "b"]"#);
    let error = emulator.invoke(r#""z""#).await.unwrap();
    let is_logged = |line: &str| {
        line.contains("none of the letters") && line.contains(&error.request_id.to_string())
    };
    emulator.wait_for_line(is_logged).await;
    assert_eq!(
        error.payload,
        r#"{"errorType":"&&str","errorMessage":"the event is none of the letters"}"#
    );
}
