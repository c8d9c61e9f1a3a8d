//! One execution environment: the function's process and its Runtime API.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::extensions::Extensions;
use crate::http::listen;
use crate::process::Process;
use crate::runtime_api;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::start_error::{StartError, exit_reason};
use crate::workers::Init;

/// The variables of the emulator's own environment that the function gets as well: needed to run
/// anything at all, or useful for debugging.
const INHERITED: &str = "PATH HOME TMPDIR AWS_LAMBDA_LOG_LEVEL RUST_BACKTRACE";

/// One execution environment, or all of them in turn if somebody else starts the function.
pub(crate) struct Environment {
    number: u64,
    /// `None` if somebody else starts the function.
    process: Option<Process>,
    has_ended: bool,
    extensions: Arc<Extensions>,
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
        let cannot_run =
            |error: io::Error| StartError::cannot_run(&settings.bootstrap, &error.to_string());
        // Each environment has a port of its own, so that no process talks to another's Runtime API.
        let (listener, address) = listen("Runtime API", ([127, 0, 0, 1], 0).into()).await?;
        let first_line = shared.logs.count();
        let process = Process::start(command(settings, address)?);
        let mut process = process.await.map_err(cannot_run)?;
        let output = process.take_output().map_err(cannot_run)?;
        let (mut environment, mut init) = Self::new(shared, listener, Some(process));
        let extensions = Arc::clone(&environment.extensions);
        for pipe in output {
            let reader = shared.logs.attach(pipe, environment.number);
            environment.readers.spawn(reader.map_err(cannot_run)?);
        }
        let last_lines = || {
            shared.logs.drain();
            let mut lines = shared.logs.since(first_line);
            lines.split_off(lines.len().saturating_sub(3))
        };
        let limit = settings.init_timeout;
        tokio::select! {
            biased;
            Ok(outcome) = &mut init => match outcome {
                Ok(()) => Ok(environment),
                Err(body) => Err(StartError::reported(body)),
            },
            status = environment.exited() => Err(StartError::exited(status, &last_lines())),
            () = sleep(limit), if !limit.is_zero() => {
                let extension = extensions.unready();
                Err(StartError::timed_out(limit, extension.as_deref(), &last_lines()))
            }
        }
    }

    /// Serves the Runtime API to a function that somebody else starts, and starts again. Returns the
    /// variables with which to start it as well.
    pub(crate) async fn attach(
        address: SocketAddr,
        shared: &Arc<Shared>,
    ) -> Result<(Self, Vec<(OsString, OsString)>), StartError> {
        let (listener, address) = listen("Runtime API", address).await?;
        let directory = env::current_dir().unwrap_or_default();
        let (environment, _) = Self::new(shared, listener, None);
        Ok((environment, shared.settings.variables(&directory, address)))
    }

    fn new(
        shared: &Arc<Shared>,
        listener: TcpListener,
        process: Option<Process>,
    ) -> (Self, oneshot::Receiver<Init>) {
        let (number, init) = shared.invocations.start_environment();
        let extensions = Arc::new(Extensions::new(Arc::clone(shared)));
        let runtime_api = runtime_api::serve(
            listener,
            Arc::clone(shared),
            Arc::clone(&extensions),
            number,
            process.is_none(),
        );
        let environment = Self {
            number,
            process,
            has_ended: false,
            extensions,
            shared: Arc::clone(shared),
            readers: JoinSet::new(),
            _runtime_api: std::iter::once(runtime_api).collect(),
        };
        (environment, init)
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

    /// Ends the function as soon as nothing is in flight here, after another environment has replaced
    /// this one.
    pub(crate) async fn drain(mut self) {
        let (number, invocations) = (self.number, Arc::clone(&self.shared.invocations));
        tokio::select! {
            () = invocations.wait_until_drained(number) => {}
            _ = self.exited() => {}
        }
        self.terminate().await;
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
                let _ = timeout(self.shared.settings.termination_grace, ended).await;
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

/// The command that starts the function, if its executable can be run.
///
/// It runs in its own directory, as on Lambda, unless it has arguments or is a name to find in `PATH`:
/// then it is an interpreter, and what it runs is in the current directory. Links are not followed: a
/// Python of a virtual environment is one.
fn command(settings: &Settings, runtime_api: SocketAddr) -> Result<Command, StartError> {
    let given = &settings.bootstrap;
    let fail = |reason: &str| StartError::cannot_run(given, reason);
    let failed = |error: io::Error| fail(&error.to_string());
    let executable = path::absolute(given).map_err(failed)?;
    let is_in_path = given.components().count() == 1 && !given.exists();
    if !is_in_path {
        let file = fs::metadata(&executable).map_err(failed)?;
        if file.is_dir() {
            return Err(fail(
                "it is a directory; give the path of the executable in it",
            ));
        }
        if file.permissions().mode() & 0o111 == 0 {
            return Err(fail("it is not executable; try chmod +x"));
        }
    }
    let is_interpreter = is_in_path || !settings.arguments.is_empty();
    let directory = match executable.parent() {
        Some(own) if !is_interpreter => own.to_owned(),
        _ => env::current_dir().map_err(failed)?,
    };
    let inherited = INHERITED.split(' ');
    let mut command = Command::new(if is_in_path { given } else { &executable });
    command
        .args(&settings.arguments)
        .env_clear()
        .envs(inherited.filter_map(|name| Some((name, env::var_os(name)?))))
        .envs(settings.variables(&directory, runtime_api))
        .current_dir(&directory);
    Ok(command)
}
