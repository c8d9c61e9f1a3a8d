//! What the loop and the Runtime API send to each other, and how the process starts and ends, with a
//! handler that awaits nothing and with one that awaits.
//!
//! These tests depend on moments. Nothing heavy belongs beside them.

mod handler;
mod lambda_runtime;
mod limits;
mod log;
mod process;
mod slow;
mod wire;

use std::env;
use std::panic::panic_any;
use std::process::{Command, ExitCode, exit};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use lmi_runtime::{Diagnostic, Invocation, Reply};
use serde_json::Value;
use test_support::{Function, PIPELINING, Request, own_test};
use tokio::task::yield_now;
use tokio::time::sleep;

const HANDLERS: [&str; 2] = ["direct", "awaiting"];
const NEXT_EXTENSION_EVENT: &str = "GET /2020-01-01/extension/event/next";

/// Is the function in a process that a test starts.
#[test]
fn function() {
    let code = match env::var("HANDLER").as_deref() {
        Ok("direct") => lmi_runtime::run(direct),
        Ok("awaiting") => lmi_runtime::run(awaiting),
        Ok("theirs") => lambda_runtime::run(),
        _ => return,
    };
    exit(i32::from(code != ExitCode::SUCCESS));
}

/// Replies with the payload in brackets.
async fn direct(invocation: &Invocation) -> Result<Reply, Diagnostic> {
    let payload = match invocation.payload() {
        b"\"panic\"" => panic!("on purpose"),
        b"\"panic twice\"" => panic_any(PanicsWhenDropped),
        b"\"end the worker\"" => Bytes::from_owner(PanicsWhenDropped),
        payload => Bytes::copy_from_slice(payload),
    };
    let slices = [Bytes::from_static(b"["), payload, Bytes::from_static(b"]")];
    Ok(slices.into_iter().collect())
}

/// The same, later.
async fn awaiting(invocation: &Invocation) -> Result<Reply, Diagnostic> {
    yield_now().await;
    let slept = tokio::spawn(sleep(Duration::from_millis(1))).await;
    slept.map_err(|error| Diagnostic {
        error_type: "Join".to_owned(),
        error_message: error.to_string(),
    })?;
    direct(invocation).await
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("when dropped");
    }
}

impl AsRef<[u8]> for PanicsWhenDropped {
    fn as_ref(&self) -> &[u8] {
        b"1"
    }
}

fn reply(payload: &str) -> Vec<u8> {
    format!("[{payload}]").into_bytes()
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
