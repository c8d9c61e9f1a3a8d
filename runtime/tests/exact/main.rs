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
use std::time::Duration;

use bytes::Bytes;
use lmi_runtime::{Diagnostic, Invocation, Reply};
use serde_json::Value;
use test_support::{Function, PIPELINING, own_test};
use tokio::task::yield_now;
use tokio::time::sleep;

const HANDLERS: [&str; 2] = ["direct", "awaiting"];
const WARN: (&str, &str) = ("AWS_LAMBDA_LOG_LEVEL", "WARN");
const NO_LINES: [Value; 0] = [];

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
        b"\"end the worker\"" => panic_any(PanicsWhenDropped),
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
        panic!("while unwinding is over");
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

/// Runs a test with either handler, once with pipelining and once without, with a log of what is
/// wrong.
fn in_every_mode(test: impl Fn(Command, &str)) {
    for handler in HANDLERS {
        for pipelining in PIPELINING {
            let environment = [WARN, ("RUNTIME_API_PIPELINING", pipelining)];
            test(command(handler, &environment), pipelining);
        }
    }
}
