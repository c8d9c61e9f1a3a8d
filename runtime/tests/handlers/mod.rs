//! Handlers in a process that a test starts: one that awaits nothing, and one that awaits.

use std::env;
use std::panic::panic_any;
use std::process::{ExitCode, exit};
use std::time::Duration;

use bytes::Bytes;
use lmi_runtime::{Diagnostic, Invocation, Reply};
use tokio::task::yield_now;
use tokio::time::sleep;

pub(crate) const HANDLERS: [&str; 2] = ["direct", "awaiting"];

/// Runs the handler that `HANDLER` names, or this other one, up to the end of the process.
pub(crate) fn run(other: impl FnOnce() -> ExitCode) {
    let code = match env::var("HANDLER").as_deref() {
        Ok("direct") => lmi_runtime::run(direct),
        Ok("awaiting") => lmi_runtime::run(awaiting),
        Ok(_) => other(),
        Err(_) => return,
    };
    exit(i32::from(code != ExitCode::SUCCESS));
}

/// Replies with the payload in brackets.
async fn direct(invocation: &Invocation) -> Result<Reply, Diagnostic> {
    let payload = match invocation.payload() {
        b"\"panic\"" => panic!("on purpose"),
        b"\"panic twice\"" => panic_any(PanicsWhenDropped),
        b"\"end the worker\"" => Bytes::from_owner(PanicsWhenDropped),
        payload if payload.starts_with(b"\"do not copy") => Bytes::from_static(b"null"),
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

/// The reply of both.
pub(crate) fn reply(payload: &str) -> Vec<u8> {
    format!("[{payload}]").into_bytes()
}
