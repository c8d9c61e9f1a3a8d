//! What the loop and the Runtime API send to each other, and how the process starts and ends, with a
//! handler that awaits nothing and with one that awaits.
//!
//! These tests depend on moments. Nothing heavy belongs beside them.

mod handler;
#[path = "../handlers/mod.rs"]
mod handlers;
mod lambda_runtime;
mod limits;
mod log;
mod process;
mod slow;
mod wire;

use std::process::Command;
use std::thread;

use handlers::{HANDLERS, reply};
use serde_json::Value;
use test_support::{Function, PIPELINING, Request, own_test};

const NEXT_EXTENSION_EVENT: &str = "GET /2020-01-01/extension/event/next";

/// Is the function in a process that a test starts.
#[test]
fn function() {
    handlers::run(lambda_runtime::run);
}

/// A process with this handler.
fn command(handler: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = own_test("function");
    command.env("HANDLER", handler);
    command.envs(environment.iter().copied());
    command
}

fn start(handler: &str, environment: &[(&str, &str)]) -> Function {
    Function::start(command(handler, environment))
}

/// Runs a test with either handler, once with pipelining and once without, side by side, because most
/// of the time it waits. The log says what is wrong. `start` is how the function starts.
fn in_every_mode(start: impl Fn(Command) -> Function + Sync, test: impl Fn(Function, &str) + Sync) {
    thread::scope(|scope| {
        for handler in HANDLERS {
            for pipelining in PIPELINING {
                let environment = [
                    ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
                    ("RUNTIME_API_PIPELINING", pipelining),
                ];
                let command = command(handler, &environment);
                let (start, test) = (&start, &test);
                scope.spawn(move || {
                    println!("{handler}, pipelining {pipelining}");
                    test(start(command), pipelining);
                });
            }
        }
    });
}

/// Starts a function with so many workers.
fn with_workers(workers: usize) -> impl Fn(Command) -> Function {
    move |mut command| {
        command.env("AWS_LAMBDA_MAX_CONCURRENCY", workers.to_string());
        Function::start(command)
    }
}

/// Takes the next post, which is the reply to this invocation.
#[track_caller]
fn take_reply(function: &Function, request_id: &str, payload: &str) -> Request {
    let post = function.post();
    assert_eq!(post.posted(), (request_id, "response"));
    assert_eq!(post.body, reply(payload));
    post
}

/// Takes the next line of the log; returns its fields.
#[track_caller]
fn take_line(function: &Function, level: &str, message: &str) -> Value {
    let mut line = function.json_line();
    assert_eq!(line["level"], level, "{line}");
    assert_eq!(line["fields"]["message"], message);
    line["fields"].take()
}

/// Asserts that it polls, and ends at a signal without a word.
#[track_caller]
fn assert_is_content(function: Function) {
    function.poll();
    assert_eq!(function.terminate(), [] as [Value; 0]);
}
