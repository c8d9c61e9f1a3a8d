//! One execution environment: the function's process and its Runtime API.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::extensions::Extensions;
use crate::faults::Faults;
use crate::http::listen;
use crate::invocations::Invocations;
use crate::logs::Logs;
use crate::process::Process;
use crate::runtime_api::{self, RuntimeApi};
use crate::settings::Settings;
use crate::start_error::{StartError, exit_reason};

/// The variables of the emulator's own environment that the function gets as well: needed to run
/// anything at all, or useful for debugging.
const INHERITED: [&str; 5] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "AWS_LAMBDA_LOG_LEVEL",
    "RUST_BACKTRACE",
];

/// What all execution environments of an emulator share.
pub(crate) struct Shared {
    pub(crate) invocations: Arc<Invocations>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) faults: Faults,
}

/// One execution environment, or all of them in turn if somebody else starts the function.
pub(crate) struct Environment {
    number: u64,
    /// `None` if somebody else starts the function.
    process: Option<Process>,
    has_ended: bool,
    extensions: Arc<Extensions>,
    termination_grace: Duration,
    shared: Arc<Shared>,
    /// Each ends when every process of the function has closed its standard output or error.
    readers: JoinSet<()>,
    _runtime_api: JoinSet<()>,
}

impl Environment {
    /// Starts the function and waits until it polls.
    pub(crate) async fn start(
        settings: &Settings,
        shared: &Arc<Shared>,
    ) -> Result<Self, StartError> {
        let cannot_run = |error: io::Error| StartError::Bootstrap {
            path: settings.bootstrap.clone(),
            reason: error.to_string(),
        };
        let bootstrap = Bootstrap::find(settings)?;
        // Each environment has a port of its own, so that no process talks to another's Runtime API.
        let (listener, address) = listen("Runtime API", ([127, 0, 0, 1], 0).into()).await?;
        let first_line = shared.logs.count();
        let process = Process::start(bootstrap.command(settings, address));
        let mut process = process.await.map_err(cannot_run)?;
        let (number, mut init) = shared.invocations.start_environment();
        let extensions = Arc::new(Extensions::new(settings));
        let output = process.take_output().map_err(cannot_run)?;
        let api = RuntimeApi::new(shared, &extensions, number);
        let mut environment = Self {
            number,
            process: Some(process),
            has_ended: false,
            extensions: Arc::clone(&extensions),
            termination_grace: settings.termination_grace,
            shared: Arc::clone(shared),
            readers: JoinSet::new(),
            _runtime_api: std::iter::once(runtime_api::serve(listener, api)).collect(),
        };
        for pipe in output {
            let reader = shared.logs.attach(pipe, number).map_err(cannot_run)?;
            environment.readers.spawn(reader);
        }
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

    /// Serves the Runtime API to a function that somebody else starts, and starts again. Returns the
    /// variables with which to start it as well.
    pub(crate) async fn attach(
        settings: &Settings,
        address: SocketAddr,
        shared: &Arc<Shared>,
    ) -> Result<(Self, Vec<(OsString, OsString)>), StartError> {
        let (listener, address) = listen("Runtime API", address).await?;
        let directory = env::current_dir().unwrap_or_default();
        let (number, _) = shared.invocations.start_environment();
        let extensions = Arc::new(Extensions::new(settings));
        let api = RuntimeApi::new(shared, &extensions, number);
        let environment = Self {
            number,
            process: None,
            has_ended: false,
            extensions,
            termination_grace: settings.termination_grace,
            shared: Arc::clone(shared),
            readers: JoinSet::new(),
            _runtime_api: std::iter::once(runtime_api::serve_attached(listener, api)).collect(),
        };
        Ok((environment, variables(settings, &directory, address)))
    }

    /// The function's process, if this started it.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Waits for the process to end and cleans up after it.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let Some(process) = &mut self.process else {
            return std::future::pending().await;
        };
        let status = process.exited().await;
        self.clean_up(&exit_reason(status));
        status
    }

    fn clean_up(&mut self, reason: &str) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        if let Some(process) = &self.process {
            // Usually only the guard is left.
            process.signal(Signal::SIGKILL);
        }
        self.shared.logs.detach(self.number);
        (self.shared.invocations).environment_ended(self.number, reason);
    }

    /// Waits until nothing is in flight here, after another environment has replaced this one.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + use<> {
        let (number, invocations) = (self.number, Arc::clone(&self.shared.invocations));
        async move { invocations.wait_until_drained(number).await }
    }

    /// Ends the function: with SIGTERM to each of its processes if it has an extension, and with
    /// SIGKILL if it has none or takes too long, as in RIE. Returns how its process ended, or `None`
    /// if somebody else started it.
    pub(crate) async fn terminate(mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut()?;
        if !self.has_ended {
            if self.extensions.is_any_registered() {
                process.signal(Signal::SIGTERM);
                let ended = async {
                    process.exited().await;
                    while self.readers.join_next().await.is_some() {}
                };
                let _ = timeout(self.termination_grace, ended).await;
            }
            process.signal(Signal::SIGKILL);
        }
        Some(self.exited().await)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.clean_up("Runtime exited with error: signal: killed");
    }
}

/// What to run, and where.
struct Bootstrap {
    executable: PathBuf,
    directory: PathBuf,
}

impl Bootstrap {
    /// Finds the executable and makes sure that it can be run.
    ///
    /// It runs in its own directory, as on Lambda, unless it has arguments or is found in `PATH`: then
    /// it is an interpreter, and what it runs is in the current directory. Links are not followed: a
    /// Python of a virtual environment is one.
    fn find(settings: &Settings) -> Result<Self, StartError> {
        let given = &settings.bootstrap;
        let fail = |reason: String| StartError::Bootstrap {
            path: given.clone(),
            reason,
        };
        let in_path = || {
            let is_name = given.components().count() == 1 && !given.exists();
            let path = env::var_os("PATH").filter(|_| is_name)?;
            let mut candidates = env::split_paths(&path).map(|directory| directory.join(given));
            candidates.find(|candidate| candidate.is_file())
        };
        let (executable, is_interpreter) = match in_path() {
            Some(found) => (found, true),
            None => (given.clone(), !settings.arguments.is_empty()),
        };
        let executable = path::absolute(executable).map_err(|error| fail(error.to_string()))?;
        let metadata = fs::metadata(&executable).map_err(|error| fail(error.to_string()))?;
        if metadata.is_dir() {
            return Err(fail(
                "it is a directory; give the path of the executable in it".to_owned(),
            ));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(fail("it is not executable; try chmod +x".to_owned()));
        }
        let directory = match executable.parent() {
            Some(directory) if !is_interpreter => directory.to_owned(),
            _ => env::current_dir().map_err(|error| fail(error.to_string()))?,
        };
        Ok(Self {
            executable,
            directory,
        })
    }

    fn command(&self, settings: &Settings, runtime_api: SocketAddr) -> Command {
        let inherited = INHERITED.iter();
        let mut command = Command::new(&self.executable);
        command
            .args(&settings.arguments)
            .env_clear()
            .envs(inherited.filter_map(|name| Some((name, env::var_os(name)?))))
            .envs(variables(settings, &self.directory, runtime_api))
            .current_dir(&self.directory);
        command
    }
}

/// The variables that make a process the function.
fn variables(
    settings: &Settings,
    task_root: &Path,
    runtime_api: SocketAddr,
) -> Vec<(OsString, OsString)> {
    let mut variables = vec![
        ("LAMBDA_TASK_ROOT".into(), task_root.into()),
        (
            "AWS_LAMBDA_RUNTIME_API".into(),
            runtime_api.to_string().into(),
        ),
    ];
    let lambda = settings.lambda_environment().into_iter();
    variables.extend(lambda.map(|(name, value)| (name.into(), value.into())));
    variables.extend(settings.environment.iter().cloned());
    variables
}
