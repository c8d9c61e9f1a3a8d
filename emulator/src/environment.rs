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
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::extensions::Extensions;
use crate::faults::Faults;
use crate::invocation;
use crate::invocations::Invocations;
use crate::logs::Logs;
use crate::runtime_api::{self, RuntimeApi};
use crate::settings::Settings;

/// SIGKILL follows SIGTERM after this time, as in RIE.
const TERMINATION_GRACE: Duration = Duration::from_secs(2);

/// The variables of the emulator's own environment that the function gets as well: needed to run
/// anything at all, or useful for debugging.
const INHERITED: [&str; 5] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "AWS_LAMBDA_LOG_LEVEL",
    "RUST_BACKTRACE",
];

/// The guard of a process group: when its standard input ends, it kills the group.
const GUARD: &str = "read -r _; kill -s KILL 0";

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
    #[error("the function could not start: {}", diagnostic(body))]
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

fn diagnostic(body: &Bytes) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match (value["errorType"].as_str(), value["errorMessage"].as_str()) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        _ => String::from_utf8_lossy(body).into_owned(),
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

/// What all execution environments of an emulator share.
pub(crate) struct Shared {
    pub(crate) invocations: Arc<Invocations>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) faults: Arc<Faults>,
}

/// One execution environment: the function's process and its Runtime API.
///
/// The process is in a process group of its own, so that Ctrl-C in a terminal reaches only the
/// emulator, which then ends the process in order, and so that a bootstrap that is a script leaves no
/// children behind.
///
/// The group has one more process: the guard, which kills the group if the emulator disappears, for
/// whatever reason. The emulator holds the only end of the guard's standard input, and the kernel
/// closes it when the emulator ends.
pub(crate) struct Environment {
    number: u64,
    child: Child,
    id: Pid,
    group: Pid,
    _guard: (Child, Option<ChildStdin>),
    ended: Option<ExitStatus>,
    shared: Arc<Shared>,
    _runtime_api: JoinSet<()>,
}

impl Environment {
    /// Starts the function and waits until it polls.
    pub(crate) async fn start(
        settings: &Settings,
        shared: &Arc<Shared>,
    ) -> Result<Self, StartError> {
        let bootstrap = resolve(&settings.bootstrap)?;
        // Each environment has a port of its own, so that no process talks to another's Runtime API.
        let (listener, address) = listen("Runtime API", ([127, 0, 0, 1], 0).into()).await?;
        let first_line = shared.logs.count();
        let cannot_run = |error: io::Error| StartError::Bootstrap {
            path: settings.bootstrap.clone(),
            reason: error.to_string(),
        };
        // The guard comes first, so that the function is never without it.
        let (mut guard, group) = spawn(&mut guard_command()).map_err(|error| {
            cannot_run(io::Error::other(format!("cannot run /bin/sh: {error}")))
        })?;
        let guard_input = guard.stdin.take();
        let mut command = function_command(settings, &bootstrap, address);
        let (child, id) = spawn(command.process_group(group.as_raw())).map_err(cannot_run)?;
        let (number, mut init) = shared.invocations.start_environment();
        let extensions = Arc::new(Extensions::new(settings));
        let mut runtime_api = JoinSet::new();
        runtime_api.spawn(runtime_api::serve(
            listener,
            RuntimeApi {
                invocations: Arc::clone(&shared.invocations),
                faults: Arc::clone(&shared.faults),
                extensions: Arc::clone(&extensions),
                environment: number,
            },
        ));
        let mut environment = Self {
            number,
            child,
            id,
            group,
            _guard: (guard, guard_input),
            ended: None,
            shared: Arc::clone(shared),
            _runtime_api: runtime_api,
        };
        environment.attach_logs().map_err(cannot_run)?;
        let last_lines = || {
            shared.logs.drain();
            let mut lines = shared.logs.since(first_line);
            lines.split_off(lines.len().saturating_sub(3))
        };
        let limit = settings.init_timeout;
        let timed_out = async {
            if limit.is_zero() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(limit).await;
        };
        tokio::select! {
            biased;
            Ok(outcome) = &mut init => match outcome {
                Ok(()) => Ok(environment),
                Err(body) => Err(StartError::Init { body }),
            },
            status = environment.exited() => {
                Err(StartError::Exited { status, last_lines: last_lines() })
            }
            () = timed_out => Err(StartError::TimedOut {
                limit,
                extension: extensions.unready(),
                last_lines: last_lines(),
            }),
        }
    }

    fn attach_logs(&mut self) -> io::Result<()> {
        let logs = &self.shared.logs;
        if let Some(pipe) = self.child.stdout.take() {
            logs.attach(pipe.into_owned_fd()?, self.number)?;
        }
        if let Some(pipe) = self.child.stderr.take() {
            logs.attach(pipe.into_owned_fd()?, self.number)?;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.id.as_raw().unsigned_abs()
    }

    /// Waits for the process to end and cleans up after it.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        // `wait` fails only for a process that is not our child.
        let status = self.child.wait().await.unwrap_or_default();
        self.ended = Some(status);
        self.clean_up(&exit_reason(status));
        status
    }

    fn clean_up(&self, reason: &str) {
        // Usually only the guard is left.
        let _ = killpg(self.group, Signal::SIGKILL);
        self.shared.logs.detach(self.number);
        (self.shared.invocations).environment_ended(self.number, reason);
    }

    /// Waits until nothing is in flight here, after another environment has replaced this one.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + use<> {
        let (number, invocations) = (self.number, Arc::clone(&self.shared.invocations));
        async move { invocations.wait_until_drained(number).await }
    }

    /// Ends the process with SIGTERM, and with SIGKILL if that takes too long.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let _ = kill(self.id, Signal::SIGTERM);
        if let Ok(status) = timeout(TERMINATION_GRACE, self.exited()).await {
            return status;
        }
        let _ = killpg(self.group, Signal::SIGKILL);
        self.exited().await
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.clean_up("Runtime exited with error: signal: killed");
        }
    }
}

fn guard_command() -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GUARD])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command
}

fn function_command(settings: &Settings, bootstrap: &Path, runtime_api: SocketAddr) -> Command {
    let task_root = bootstrap.parent().unwrap_or(Path::new("/"));
    let inherited = INHERITED.iter();
    let mut command = Command::new(bootstrap);
    command
        .args(&settings.arguments)
        .env_clear()
        .envs(inherited.filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("LAMBDA_TASK_ROOT", task_root)
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
        .envs(settings.lambda_environment())
        .envs(settings.environment.iter().cloned())
        .current_dir(task_root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts a process that is killed when the child is dropped.
fn spawn(command: &mut Command) -> io::Result<(Child, Pid)> {
    let child = command.kill_on_drop(true).spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let id = id.ok_or_else(|| io::Error::other("the process has no id"))?;
    Ok((child, Pid::from_raw(id)))
}

/// The memory that a process occupies, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Listens on an address. Returns the address with its real port as well.
pub(crate) async fn listen(
    what: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    listen.await.map_err(|source| StartError::Listen {
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
