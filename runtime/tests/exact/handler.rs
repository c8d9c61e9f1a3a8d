//! What becomes of a handler's panic, and what the loop sends, beside `lambda_runtime`'s own loop.

use serde_json::{Value, json};
use test_support::{Function, Request, event};

use crate::{HANDLERS, INFO, assert_is_content, in_every_mode, reply, start, take_line};

#[test]
fn reports_a_panic_and_goes_on() {
    in_every_mode(Function::start, |function, _| {
        for request_id in ["a", "b", "c"] {
            function.poll().dispatch(request_id, "\"panic\"");
            let post = function.post();
            post.accept();
            assert_eq!(post.posted(), (request_id, "error"));
            let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
            assert_eq!(
                diagnostic,
                json!({"errorType": "Function.Panic", "errorMessage": "on purpose"})
            );
            let line = take_line(&function, "ERROR", "panicked: on purpose");
            assert_eq!(line["requestId"], request_id);
            let location = line["location"].as_str().unwrap();
            assert!(location.contains("tests/exact/main.rs:"), "{location}");
        }
        assert_eq!(function.invoke("1"), reply("1"));
    });
}

#[test]
fn restarts_a_worker_that_died() {
    in_every_mode(Function::start, |function, _| {
        function.poll().dispatch("a", "\"end the worker\"");
        function.post().accept();
        let mut messages: Vec<_> = (0..2)
            .map(|_| function.json_line()["fields"]["message"].clone())
            .collect();
        messages.sort_by_key(ToString::to_string);
        assert_eq!(
            messages,
            ["a worker died; restarting it", "panicked: when dropped"]
        );
    });
}

#[test]
fn reports_a_panic_whose_payload_panics() {
    in_every_mode(Function::start, |function, _| {
        function.poll().dispatch("a", "\"panic twice\"");
        let post = function.post();
        assert_eq!(post.posted(), ("a", "error"));
        post.accept();
        let line = take_line(&function, "ERROR", "panicked: no message");
        assert_eq!(line["requestId"], "a");
        assert_is_content(function);
    });
}

#[test]
fn clones_a_handler_again_if_that_panics() {
    let function = start("cloned", &[INFO]);
    assert_eq!(function.invoke("1"), reply("1"));
}

#[test]
fn sends_what_lambda_runtime_sends() {
    let theirs = record(&start("theirs", &[INFO]));
    for handler in HANDLERS {
        let ours = record(&start(handler, &[INFO]));
        assert_eq!(ours.len(), 5);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.line, theirs.line);
            assert_eq!(comparable_headers(ours), comparable_headers(theirs));

            // The one difference: each says what it is.
            assert_eq!(
                ours.header("user-agent"),
                Some(concat!("lmi-runtime/", env!("CARGO_PKG_VERSION")))
            );
            assert_eq!(theirs.header("user-agent"), Some("aws-lambda-rust/1.1.1"));
        }
    }
}

/// A poll and a reply, a poll and an error, and another poll.
fn record(function: &Function) -> Vec<Request> {
    let mut requests = Vec::new();
    for (request_id, payload) in [("a", "{}"), ("b", "\"panic\"")] {
        let poll = function.poll();
        let event = String::from_utf8(event(request_id, payload)).unwrap();
        let invocation_id = "\r\nLambda-Runtime-Invocation-Id: attempt 1\r\n";
        poll.respond(event.replacen("\r\n", invocation_id, 1));
        let post = function.post();
        post.accept();
        requests.extend([poll, post]);
    }
    requests.push(function.poll());
    requests
}

/// Sorted names and values, without the values that differ with the port, the body and the sender.
fn comparable_headers(request: &Request) -> Vec<(&str, &str)> {
    let mut headers: Vec<_> = (request.headers.iter())
        .map(|(name, value)| match &**name {
            "host" | "content-length" | "user-agent" => (&**name, ""),
            _ => (&**name, &**value),
        })
        .collect();
    headers.sort_unstable();
    headers
}
