//! Why a function could not be started, in words for its user and for its callers.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::invocation::{Reply, describe};
use crate::invocations::timed_out;

/// Why the function could not be started, in words for its user: an address is in use, the bootstrap
/// cannot be run, or before its first poll the function ended, reported an error or took too long.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    message: String,
    /// What callers are told who waited for the function.
    error_type: &'static str,
    reason: String,
    /// What they are told instead: what the function has reported to `/init/error`.
    reported: Option<Bytes>,
}

impl StartError {
    fn new(message: String, error_type: &'static str, reason: String) -> Self {
        Self {
            message,
            error_type,
            reason,
            reported: None,
        }
    }

    pub(crate) fn cannot_listen(what: &str, address: SocketAddr, error: &io::Error) -> Self {
        let message =
            format!("cannot listen on {address} for the {what}: {error}; choose another address");
        Self::new(message.clone(), "Runtime.InvalidEntrypoint", message)
    }

    pub(crate) fn cannot_run(bootstrap: &Path, reason: &str) -> Self {
        let message = format!("cannot run {}: {reason}", bootstrap.display());
        Self::new(message.clone(), "Runtime.InvalidEntrypoint", message)
    }

    /// The process ended before its first poll.
    pub(crate) fn exited(status: ExitStatus, last_lines: &[Arc<str>]) -> Self {
        let printed = printed(last_lines);
        let message = format!("the function ended before its first poll ({status}){printed}");
        Self::new(message, "Runtime.ExitError", exit_reason(status))
    }

    pub(crate) fn reported(body: Bytes) -> Self {
        let message = format!("the function could not start: {}", describe(&body));
        Self {
            reported: Some(body),
            ..Self::new(message, "", String::new())
        }
    }

    /// The process, or an extension that it registered, was not ready in time.
    pub(crate) fn timed_out(
        limit: Duration,
        extension: Option<&str>,
        last_lines: &[Arc<str>],
    ) -> Self {
        let not_done = match extension {
            Some(name) => {
                format!("the function's extension {name:?} did not ask for its first event")
            }
            None => "the function did not poll".to_owned(),
        };
        let (seconds, printed) = (limit.as_secs_f64(), printed(last_lines));
        let message = format!("{not_done} within {seconds} seconds{printed}");
        Self::new(message, "Sandbox.Timedout", timed_out(limit))
    }

    /// The reply for a caller who waited for the function.
    pub(crate) fn for_caller(&self, request_id: Uuid) -> Reply {
        let mut reply = Reply::failure(request_id, self.error_type, &self.reason);
        if let Some(body) = &self.reported {
            reply.payload = body.clone();
        }
        reply
    }
}

fn printed(lines: &[Arc<str>]) -> String {
    match lines {
        [] => "; it printed nothing".to_owned(),
        lines => format!("; it last printed: {}", lines.join(" / ")),
    }
}

/// How a process ended, in the words of Lambda.
pub(crate) fn exit_reason(status: ExitStatus) -> String {
    let how = match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(0), _) => return "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(Ok(Signal::SIGABRT))) => "signal: aborted".to_owned(),
        (_, Some(Ok(Signal::SIGKILL))) => "signal: killed".to_owned(),
        (_, Some(Ok(Signal::SIGSEGV))) => "signal: segmentation fault".to_owned(),
        (_, Some(Ok(Signal::SIGTERM))) => "signal: terminated".to_owned(),
        _ => status.to_string(),
    };
    format!("Runtime exited with error: {how}")
}
