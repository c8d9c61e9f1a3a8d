//! Why a function could not be started, in words for its user and for its callers.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::invocation;

/// Why the function could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is in use or not this machine's.
    #[error("cannot listen on {address} for the {what}: {source}; choose another address")]
    Listen {
        /// What the address is for.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The bootstrap cannot be run.
    #[error("cannot run {}: {reason}", path.display())]
    Bootstrap {
        /// The path as it was given.
        path: PathBuf,
        /// Why it cannot be run.
        reason: String,
    },
    /// The process ended before its first poll.
    #[error(
        "the function ended before its first poll ({status}){}",
        printed(last_lines)
    )]
    Exited {
        /// How the process ended.
        status: ExitStatus,
        /// The last lines that it printed.
        last_lines: Vec<Arc<str>>,
    },
    /// The process reported an error to `/init/error`.
    #[error("the function could not start: {}", invocation::describe(body))]
    Init {
        /// What it reported, usually a JSON object with `errorType` and `errorMessage`.
        body: Bytes,
    },
    /// The process did not poll in time, or an extension that it registered did not ask for its
    /// first event.
    #[error(
        "{} within {} seconds{}",
        not_done(extension.as_deref()),
        limit.as_secs_f64(),
        printed(last_lines)
    )]
    TimedOut {
        /// The time that the function had.
        limit: Duration,
        /// The extension that is not ready.
        extension: Option<String>,
        /// The last lines that the process printed.
        last_lines: Vec<Arc<str>>,
    },
}

fn not_done(extension: Option<&str>) -> String {
    match extension {
        Some(name) => format!("the function's extension {name:?} did not ask for its first event"),
        None => "the function did not poll".to_owned(),
    }
}

fn printed(lines: &[Arc<str>]) -> String {
    match lines {
        [] => "; it printed nothing".to_owned(),
        lines => format!("; it last printed: {}", lines.join(" / ")),
    }
}

impl StartError {
    /// The error for a caller who waited for the function.
    pub(crate) fn for_caller(&self, request_id: Uuid) -> Bytes {
        match self {
            Self::Init { body } => body.clone(),
            Self::Exited { status, .. } => {
                invocation::error(request_id, "Runtime.ExitError", &exit_reason(*status))
            }
            Self::TimedOut { limit, .. } => {
                let reason = format!("Task timed out after {:.2} seconds", limit.as_secs_f64());
                invocation::error(request_id, "Sandbox.Timedout", &reason)
            }
            Self::Listen { .. } | Self::Bootstrap { .. } => {
                invocation::error(request_id, "Runtime.InvalidEntrypoint", &self.to_string())
            }
        }
    }
}

/// How a process ended, in the words of Lambda.
pub(crate) fn exit_reason(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (_, Some(Ok(signal))) => {
            let name = match signal {
                Signal::SIGABRT => "aborted",
                Signal::SIGKILL => "killed",
                Signal::SIGSEGV => "segmentation fault",
                Signal::SIGTERM => "terminated",
                other => other.as_str(),
            };
            format!("Runtime exited with error: signal: {name}")
        }
        _ => format!("Runtime exited with error: {status}"),
    }
}
