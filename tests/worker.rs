//! The library's loop with a handler that panics, as a process beside one on `lambda_runtime`'s own
//! loop.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::{env, panic};

use crate::support::{Function, Request, event};
use fibonacci_generator::event::InvalidEvent;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::worker::{self, Workers};
use lambda_runtime::{LambdaEvent, service_fn, tracing};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Is the function where a test starts it as a process.
#[tokio::test]
#[ignore = "the process that the tests below start"]
async fn process_with_our_loop() {
    let Ok(runtime_api) = env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    tracing::init_default_subscriber();
    panic::set_hook(Box::new(worker::log_panic));
    let workers = Workers::new(
        &runtime_api,
        NonZeroU16::MIN,
        false,
        |payload: &[u8]| match payload {
            b"\"panic\"" => panic!("on purpose"),
            b"\"end the worker\"" => panic::panic_any(PanicsWhenDropped),
            _ => Reply::from(InvalidEvent::MissingIndex),
        },
    );
    Arc::new(workers).run::<TcpStream>(0, 1).await;
}

/// Is the function where a test starts it as a process.
#[tokio::test]
#[ignore = "the process that the tests below start"]
async fn process_with_their_loop() {
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return;
    }
    let handler = service_fn(async |event: LambdaEvent<Value>| {
        assert_ne!(event.payload, "panic");
        Ok::<_, lambda_runtime::Error>(event.payload)
    });
    lambda_runtime::run_concurrent(handler).await.unwrap();
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("while unwinding is over");
    }
}

fn start(test: &str) -> Function {
    Function::start_test(test, &[("AWS_LAMBDA_LOG_LEVEL", "WARN")])
}

/// The next line that is not the test runner's.
fn next_log_line(function: &Function) -> Value {
    loop {
        // On one CPU, the test runner leaves the name of its test before the first.
        let line = function.line();
        let json = line.find('{').map_or("", |start| &line[start..]);
        if let Ok(line) = serde_json::from_str(json) {
            return line;
        }
    }
}

#[test]
fn reports_a_panic_and_goes_on() {
    let function = start("worker::process_with_our_loop");
    for _ in 0..3 {
        function.poll().dispatch("a", "\"panic\"");
        let post = function.post();
        post.accept();
        assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/a/error");
        let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(
            diagnostic,
            json!({"errorType": "Function.Panic", "errorMessage": "on purpose"})
        );
        let line = next_log_line(&function);
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["fields"]["message"], "panicked: on purpose");
        assert_eq!(line["fields"]["requestId"], "a");
        let location = line["fields"]["location"].as_str().unwrap();
        assert!(location.starts_with("tests/worker.rs:"), "{location}");
    }
    let reply = Reply::from(InvalidEvent::MissingIndex).slices().concat();
    assert_eq!(function.invoke("{}"), reply);
}

#[test]
fn restarts_a_worker_that_died() {
    let function = start("worker::process_with_our_loop");
    function.poll().dispatch("a", "\"end the worker\"");
    let post = function.post();
    post.accept();
    assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/a/error");

    let poll = function.poll();
    assert_ne!(poll.port(), post.port());
    for message in [
        "panicked: no message",
        "panicked: while unwinding is over",
        "a worker died; restarting it",
    ] {
        assert_eq!(next_log_line(&function)["fields"]["message"], message);
    }
}

#[test]
fn sends_what_lambda_runtime_sends() {
    let ours = record(&start("worker::process_with_our_loop"));
    let theirs = record(&start("worker::process_with_their_loop"));
    assert_eq!(ours.len(), 5);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.line, theirs.line);
        assert_eq!(comparable_headers(ours), comparable_headers(theirs));

        // The one difference: each says what it is.
        assert_eq!(
            ours.header("user-agent"),
            Some(concat!("fibonacci-generator/", env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(theirs.header("user-agent"), Some("aws-lambda-rust/1.1.1"));
    }
}

/// A poll and a reply, a poll and an error, and another poll.
fn record(function: &Function) -> Vec<Request> {
    let mut requests = Vec::new();
    for payload in ["{}", "\"panic\""] {
        let poll = function.poll();
        let event = String::from_utf8(event("id", payload)).unwrap();
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
