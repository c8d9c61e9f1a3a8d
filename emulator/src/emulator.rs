//! The emulator as a whole: its servers, and one execution environment after another.

use std::ffi::OsString;
use std::fmt;
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::console;
use crate::environment::Environment;
use crate::faults::Fault;
use crate::function_url;
use crate::functions_api;
use crate::http::{listen, serve};
use crate::invocation::{InvokeError, Reply};
use crate::invoke_api;
use crate::memory;
use crate::other_service;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::start_error::StartError;
use crate::supervisor::{Replacement, Supervisor};

/// How long [`Emulator::terminate`] waits for the last replies to be written.
const LAST_REPLIES: Duration = Duration::from_secs(5);

/// A running function, and the servers around it.
///
/// The function's process group ends when this is dropped, and when the process that holds this ends.
pub struct Emulator {
    shared: Arc<Shared>,
    variables: Vec<(OsString, OsString)>,
    replacements: mpsc::Sender<Replacement>,
    terminate: oneshot::Sender<()>,
    supervisor: JoinSet<Option<ExitStatus>>,
    stop_listening: watch::Sender<()>,
    servers: JoinSet<()>,
    _background: JoinSet<()>,
}

impl Emulator {
    /// Starts the function and returns after its first poll. With [`Settings::attach`] it returns at
    /// once, and callers wait until somebody has started the function.
    ///
    /// Call it in a Tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    ///
    /// If an address is in use or the bootstrap cannot be run, and if before its first poll the
    /// function ends, reports an error, or exceeds [`Settings::init_timeout`].
    pub async fn start(mut settings: Settings) -> Result<Self, StartError> {
        let (invoke_listener, address) = listen("Invoke API", settings.invoke_address).await?;
        settings.invoke_address = address;
        let (url_listener, address) = listen("function URL", settings.function_url_address).await?;
        settings.function_url_address = address;
        let shared = Arc::new(Shared::new(settings.clone()));
        let (environment, variables) = match settings.attach {
            Some(address) => Environment::attach(address, &shared).await?,
            None => (Environment::start(&settings, &shared).await?, Vec::new()),
        };
        shared.pid.send_replace(environment.pid());

        let invoke_router = Router::new()
            .merge(invoke_api::router())
            .merge(functions_api::router())
            .merge(console::router())
            .fallback(invoke_api::unknown_path)
            .method_not_allowed_fallback(invoke_api::wrong_method)
            .layer(middleware::from_fn(other_service::refuse));
        let (stop_listening, _) = watch::channel(());
        let mut servers = JoinSet::new();
        for (listener, router) in [
            (invoke_listener, invoke_router),
            (url_listener, function_url::router()),
        ] {
            let router = router.with_state(Arc::clone(&shared));
            let stop = stop_listening.subscribe();
            servers.spawn(serve(listener, router, settings.read_timeout, stop));
        }
        let mut background = JoinSet::new();
        let invocations = Arc::clone(&shared.invocations);
        background.spawn(async move { invocations.enforce_deadlines().await });
        background.spawn(console::observe(Arc::clone(&shared)));

        let (terminate, terminated) = oneshot::channel();
        let (replacements, requests) = mpsc::channel(1);
        let supervisor = Supervisor {
            settings,
            shared: Arc::clone(&shared),
            requests,
            current: Some(environment),
            draining: JoinSet::new(),
        };
        Ok(Self {
            shared,
            variables,
            replacements,
            terminate,
            supervisor: iter::once(supervisor.run(terminated)).collect(),
            stop_listening,
            servers,
            _background: background,
        })
    }

    /// Where the Invoke API and the console are served.
    #[must_use]
    pub fn invoke_address(&self) -> SocketAddr {
        self.shared.settings.invoke_address
    }

    /// Where the function URL is served.
    #[must_use]
    pub fn function_url_address(&self) -> SocketAddr {
        self.shared.settings.function_url_address
    }

    /// With [`Settings::attach`], the variables with which to start the function.
    #[must_use]
    pub fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }

    /// The function's process, or `None` while it has ended and not been started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        *self.shared.pid.borrow()
    }

    /// The memory that the function's processes take, in bytes. What they share counts once.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        self.pid().map(memory::of_tree)
    }

    /// Waits until the process is another than `pid` and has polled.
    pub async fn wait_for_restart(&self, pid: u32) -> u32 {
        let mut current = self.shared.pid.subscribe();
        let is_other = |current: &Option<u32>| current.is_some_and(|current| current != pid);
        let other = current.wait_for(is_other).await;
        // The sender is in `self`, so this cannot fail.
        other.ok().and_then(|other| *other).unwrap_or(pid)
    }

    /// Starts another executable in place of the current one. From its first poll on it gets all
    /// events, while the current one finishes the invocations that it has in flight.
    ///
    /// # Errors
    ///
    /// If the executable does not start, for the reasons of [`start`](Self::start). The current one
    /// then goes on.
    pub async fn replace(&self, bootstrap: impl Into<PathBuf>) -> Result<(), StartError> {
        let (outcome, replaced) = oneshot::channel();
        // Only `terminate` ends the supervisor, so neither of them can fail.
        let _ = self.replacements.send((bootstrap.into(), outcome)).await;
        replaced.await.unwrap_or(Ok(()))
    }

    /// Invokes the function, as a caller of the Invoke API does. An empty payload becomes `{}`.
    ///
    /// # Errors
    ///
    /// If the payload is not JSON or larger than 6 MB, or all workers are busy and the queue is full.
    pub async fn invoke(&self, payload: impl Into<Bytes>) -> Result<Reply, InvokeError> {
        invoke_api::invoke_with(&self.shared, payload.into()).await
    }

    /// The lines that the function has printed to standard output and standard error, oldest first.
    /// Only the last 4 MB are kept.
    #[must_use]
    pub fn lines(&self) -> Vec<Arc<str>> {
        self.shared.logs.drain();
        self.shared.logs.since(0)
    }

    /// Stops copying what the function prints to standard error ([`Settings::echo`]). Everything that
    /// it has printed up to now is copied.
    pub fn stop_echo(&self) {
        self.shared.logs.drain();
        self.shared.logs.stop_echo();
    }

    /// Waits for a line that `wanted` accepts, among those printed and those still to be printed.
    pub async fn wait_for_line(&self, wanted: impl Fn(&str) -> bool) -> Arc<str> {
        self.shared.logs.wait_for(wanted).await
    }

    /// Waits until `wanted` accepts the number of open polls, as in
    /// `emulator.wait_for_polls(|polls| polls == 8).await`.
    pub async fn wait_for_polls(&self, wanted: impl Fn(usize) -> bool) {
        let mut polls = self.shared.invocations.polls();
        // The sender is in `self`, so this cannot fail.
        let _ = polls.wait_for(|&polls| wanted(polls)).await;
    }

    /// The highest number of polls that were open at once.
    #[must_use]
    pub fn most_polls(&self) -> usize {
        self.shared.invocations.most_polls()
    }

    /// Makes the next requests of the function to the Runtime API fail. Each fault happens once, and
    /// faults of the same kind of request happen in this order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.inject(faults);
    }

    /// Waits until every injected fault has happened.
    pub async fn wait_for_faults(&self) {
        self.shared.faults.wait_for_all().await;
    }

    /// Ends the function as Lambda does: with SIGTERM to all its processes if it has registered an
    /// extension, and SIGKILL after [`Settings::termination_grace`], or else with SIGKILL at once. Returns
    /// how its process ended, or `None` if none was running.
    ///
    /// Callers whose events are in flight get the reply, or the error that the function has exited.
    /// Callers whose events wait get an error.
    pub async fn terminate(self) -> Option<ExitStatus> {
        self.shared.invocations.terminate();
        let _ = self.terminate.send(());
        let status = self.supervisor.join_all().await.pop().flatten();
        drop(self.stop_listening);
        // A caller that does not read its reply is left behind.
        let _ = timeout(LAST_REPLIES, self.servers.join_all()).await;
        status
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Emulator {{ pid: {:?} }}", self.pid())
    }
}
