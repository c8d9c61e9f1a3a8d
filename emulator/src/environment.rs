//! One execution environment: the function's process and its Runtime API.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::emulator::{ACCOUNT_ID, Settings};
use crate::invocations::{self, Invocations};
use crate::runtime_api::{self, RuntimeApi};

/// SIGKILL follows SIGTERM after this time, as in RIE.
const TERMINATION_GRACE: Duration = Duration::from_secs(2);

/// Variables of the emulator's own environment that the function gets too: what a program cannot be
/// found or run without, and what a person sets to see more.
const INHERITED: [&str; 5] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "AWS_LAMBDA_LOG_LEVEL",
    "RUST_BACKTRACE",
];

/// Why the function could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address} for the {what}: {source}; choose another address")]
    Listen {
        /// What the address is for.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The bootstrap cannot be run.
    #[error("cannot run {}: {reason}", path.display())]
    Bootstrap {
        /// The path as it was given.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The process ended before it asked for an event.
    #[error(
        "the function ended before it asked for an event ({status}){}",
        printed(last_lines)
    )]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it printed.
        last_lines: Vec<Arc<str>>,
    },
    /// The process reported an error to `/init/error`.
    #[error("the function could not start: {}", diagnostic(body))]
    Init {
        /// What it reported, usually a JSON object with `errorType` and `errorMessage`.
        body: Bytes,
    },
    /// The process did not ask for an event in time.
    #[error("the function did not ask for an event within {} seconds{}", limit.as_secs(), printed(last_lines))]
    TimedOut {
        /// The time it had.
        limit: Duration,
        /// The last lines that it printed.
        last_lines: Vec<Arc<str>>,
    },
}

fn printed(lines: &[Arc<str>]) -> String {
    match lines {
        [] => "; it printed nothing".to_owned(),
        lines => format!("; it last printed: {}", lines.join(" / ")),
    }
}

fn diagnostic(body: &Bytes) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match (value["errorType"].as_str(), value["errorMessage"].as_str()) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        _ => String::from_utf8_lossy(body).into_owned(),
    }
}

impl StartError {
    /// The error that a caller gets who was waiting for the function.
    pub(crate) fn for_caller(&self, request_id: Uuid) -> Bytes {
        match self {
            Self::Init { body } => body.clone(),
            Self::Exited { status, .. } => {
                invocations::error(request_id, "Runtime.ExitError", &exit_reason(*status))
            }
            Self::TimedOut { limit, .. } => {
                let reason = format!("Task timed out after {:.2} seconds", limit.as_secs_f64());
                invocations::error(request_id, "Sandbox.Timedout", &reason)
            }
            Self::Listen { .. } | Self::Bootstrap { .. } => {
                invocations::error(request_id, "Runtime.InvalidEntrypoint", &self.to_string())
            }
        }
    }
}

/// In the words of Lambda.
fn exit_reason(status: ExitStatus) -> String {
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

pub(crate) struct Environment {
    process: Process,
    _runtime_api: JoinSet<()>,
}

impl Environment {
    /// Starts the function and waits until it asks for an event.
    pub(crate) async fn start(
        settings: &Settings,
        invocations: &Arc<Invocations>,
    ) -> Result<Self, StartError> {
        let bootstrap = resolve(&settings.bootstrap)?;
        // Each environment has a port of its own, so that none hears what was meant for another.
        let address = ([127, 0, 0, 1], 0).into();
        let listener = listen("Runtime API", address).await?;
        let address = listener.local_addr().map_err(|source| StartError::Listen {
            what: "Runtime API",
            address,
            source,
        })?;
        let (environment, mut init) = invocations.begin();
        let mut runtime_api = JoinSet::new();
        runtime_api.spawn(runtime_api::serve(
            listener,
            RuntimeApi {
                invocations: Arc::clone(invocations),
                environment,
                registration: json!({
                    "functionName": settings.function_name,
                    "functionVersion": settings.version(),
                    "handler": "bootstrap",
                    "accountId": ACCOUNT_ID,
                })
                .to_string(),
            },
        ));
        let logs = &invocations.logs;
        let first_line = logs.count();
        let mut process =
            Process::spawn(settings, &bootstrap, address, invocations).map_err(|error| {
                StartError::Bootstrap {
                    path: settings.bootstrap.clone(),
                    reason: error.to_string(),
                }
            })?;
        let last_lines = || {
            logs.drain();
            let mut lines = logs.since(first_line);
            lines.split_off(lines.len().saturating_sub(3))
        };
        tokio::select! {
            biased;
            outcome = &mut init => match outcome {
                Ok(Err(body)) => Err(StartError::Init { body }),
                _ => Ok(Self { process, _runtime_api: runtime_api }),
            },
            status = process.exited() => {
                Err(StartError::Exited { status, last_lines: last_lines() })
            }
            () = tokio::time::sleep(settings.init_timeout) => Err(StartError::TimedOut {
                limit: settings.init_timeout,
                last_lines: last_lines(),
            }),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id.as_raw().unsigned_abs()
    }

    /// Waits for the process to end.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        self.process.exited().await
    }

    /// Ends the process: SIGTERM, after a while SIGKILL.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        // It may have ended already.
        let _ = kill(self.process.id, Signal::SIGTERM);
        if let Ok(status) = timeout(TERMINATION_GRACE, self.process.exited()).await {
            return status;
        }
        let _ = killpg(self.process.id, Signal::SIGKILL);
        self.process.exited().await
    }
}

pub(crate) async fn listen(
    what: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen {
            what,
            address,
            source,
        })
}

/// The absolute path of the bootstrap, if that can be run.
fn resolve(bootstrap: &Path) -> Result<PathBuf, StartError> {
    let fail = |reason: String| StartError::Bootstrap {
        path: bootstrap.to_owned(),
        reason,
    };
    let path = fs::canonicalize(bootstrap).map_err(|error| fail(error.to_string()))?;
    let metadata = fs::metadata(&path).map_err(|error| fail(error.to_string()))?;
    if metadata.is_dir() {
        return Err(fail(
            "it is a directory; give the path of the executable in it".to_owned(),
        ));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(fail("it is not executable; try chmod +x".to_owned()));
    }
    Ok(path)
}

/// The function's process, in a process group of its own: Ctrl-C in a terminal reaches only the
/// emulator, which then ends the process in order, and a bootstrap that is a script does not leave
/// its children behind.
struct Process {
    id: Pid,
    child: Child,
    ended: Option<ExitStatus>,
    invocations: Arc<Invocations>,
}

impl Process {
    fn spawn(
        settings: &Settings,
        bootstrap: &Path,
        runtime_api: SocketAddr,
        invocations: &Arc<Invocations>,
    ) -> io::Result<Self> {
        let task_root = bootstrap.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new(bootstrap);
        command
            .args(&settings.arguments)
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("LAMBDA_TASK_ROOT", task_root)
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
            .envs(settings.lambda_environment())
            .envs(
                settings
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .current_dir(task_root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the process has no id"))?;
        if let Some(pipe) = child.stdout.take() {
            invocations.logs.attach(pipe.into_owned_fd()?)?;
        }
        if let Some(pipe) = child.stderr.take() {
            invocations.logs.attach(pipe.into_owned_fd()?)?;
        }
        Ok(Self {
            id,
            child,
            ended: None,
            invocations: Arc::clone(invocations),
        })
    }

    /// Waits for the process to end and clears up after it.
    async fn exited(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        // Waiting fails for a process that is not our child, which this one is.
        let status = self.child.wait().await.unwrap_or_default();
        self.ended = Some(status);
        self.clear_up();
        self.invocations.environment_ended(&exit_reason(status));
        status
    }

    fn clear_up(&self) {
        // Usually there is nobody left.
        let _ = killpg(self.id, Signal::SIGKILL);
        self.invocations.logs.detach();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.clear_up();
            self.invocations
                .environment_ended("Runtime exited with error: signal: killed");
        }
    }
}
