//! The emulator as a whole: its servers, and one execution environment after another.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::console::{self, Console};
use crate::environment::{Environment, Shared, StartError, listen, resident_bytes};
use crate::faults::{Fault, Faults};
use crate::function_url;
use crate::functions_api;
use crate::invocation::{InvokeError, Reply};
use crate::invocations::Invocations;
use crate::invoke_api::{self, InvokeApi};
use crate::logs::Logs;
use crate::settings::Settings;

/// The delay before a function that has ended is started again. It doubles with each failed start.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);

/// How long [`Emulator::terminate`] waits for the last replies to be written.
const LAST_REPLIES: Duration = Duration::from_secs(1);

/// A running function, and the servers around it.
///
/// The function ends when this is dropped, and when the process that holds this ends.
pub struct Emulator {
    shared: Arc<Shared>,
    invoke_api: Arc<InvokeApi>,
    invoke_address: SocketAddr,
    function_url_address: SocketAddr,
    pid: watch::Receiver<Option<u32>>,
    replacements: mpsc::Sender<Replacement>,
    terminate: oneshot::Sender<()>,
    supervisor: JoinSet<Option<ExitStatus>>,
    stop_listening: watch::Sender<()>,
    servers: JoinSet<()>,
    _background: JoinSet<()>,
}

/// An executable to run in place of the current one.
struct Replacement {
    bootstrap: PathBuf,
    outcome: oneshot::Sender<Result<(), StartError>>,
}

impl Emulator {
    /// Starts the function and returns after its first poll.
    ///
    /// Call it in a Tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    ///
    /// If an address is in use or the bootstrap cannot be run, and if before its first poll the
    /// function ends, reports an error, or exceeds [`Settings::init_timeout`].
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let (invoke_listener, invoke_address) =
            listen("Invoke API", settings.invoke_address).await?;
        let (function_url_listener, function_url_address) =
            listen("function URL", settings.function_url_address).await?;

        let logs = Arc::new(Logs::new(settings.echo));
        let invocations = Arc::new(Invocations::new(&settings));
        let shared = Arc::new(Shared {
            invocations: Arc::clone(&invocations),
            logs,
            faults: Arc::new(Faults::new()),
        });
        let environment = Environment::start(&settings, &shared).await?;

        let (pid_sender, pid) = watch::channel(Some(environment.pid()));
        let (stop_listening, _) = watch::channel(());
        let invoke_api = Arc::new(InvokeApi::new(&settings, Arc::clone(&invocations)));
        let console = Arc::new(Console::new(
            &settings,
            Arc::clone(&invoke_api),
            Arc::clone(&shared),
            pid.clone(),
            stop_listening.subscribe(),
        ));
        let invoke_router = Router::new()
            .merge(invoke_api::router(Arc::clone(&invoke_api)))
            .merge(functions_api::router(settings.clone()))
            .merge(console::router(Arc::clone(&console)))
            .fallback(invoke_api::unknown_path)
            .method_not_allowed_fallback(invoke_api::wrong_method);
        let function_url_router =
            function_url::router(Arc::clone(&invoke_api), function_url_address.port());
        let mut servers = JoinSet::new();
        for (listener, router) in [
            (invoke_listener, invoke_router),
            (function_url_listener, function_url_router),
        ] {
            servers.spawn(serve(listener, router, stop_listening.subscribe()));
        }
        let mut background = JoinSet::new();
        background.spawn(async move { invocations.enforce_deadlines().await });
        background.spawn(async move { console.observe().await });

        let (terminate, terminated) = oneshot::channel();
        let (replacements, requests) = mpsc::channel(1);
        let supervisor = Supervisor {
            settings,
            shared: Arc::clone(&shared),
            pid: pid_sender,
            draining: JoinSet::new(),
        };
        let mut supervisors = JoinSet::new();
        supervisors.spawn(supervisor.run(environment, requests, terminated));
        Ok(Self {
            shared,
            invoke_api,
            invoke_address,
            function_url_address,
            pid,
            replacements,
            terminate,
            supervisor: supervisors,
            stop_listening,
            servers,
            _background: background,
        })
    }

    /// Where the Invoke API and the console are served.
    #[must_use]
    pub fn invoke_address(&self) -> SocketAddr {
        self.invoke_address
    }

    /// Where the function URL is served.
    #[must_use]
    pub fn function_url_address(&self) -> SocketAddr {
        self.function_url_address
    }

    /// The function's process, or `None` while it has ended and not been started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// The memory that the function's process occupies, in bytes, as Linux reports it (`VmRSS`).
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        self.pid().and_then(resident_bytes)
    }

    /// Waits until the process is another than `pid` and has polled.
    pub async fn wait_for_restart(&self, pid: u32) -> u32 {
        let mut current = self.pid.clone();
        let other = current
            .wait_for(|current| current.is_some_and(|current| current != pid))
            .await;
        match other.ok().and_then(|other| *other) {
            Some(other) => other,
            // The supervisor has ended, which only `terminate` makes it do.
            None => std::future::pending().await,
        }
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
        let bootstrap = bootstrap.into();
        let request = Replacement { bootstrap, outcome };
        let _ = self.replacements.send(request).await;
        match replaced.await {
            Ok(outcome) => outcome,
            // The supervisor has ended, which only `terminate` makes it do.
            Err(_) => std::future::pending().await,
        }
    }

    /// Invokes the function, as a caller of the Invoke API does. An empty payload becomes `{}`.
    ///
    /// # Errors
    ///
    /// If the payload is not JSON or larger than 6 MB, or all workers are busy and the queue is full.
    pub async fn invoke(&self, payload: impl Into<Bytes>) -> Result<Reply, InvokeError> {
        self.invoke_api.invoke(payload.into()).await
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
        let mut left = self.shared.faults.left();
        // The sender is in `self`, so this cannot fail.
        let _ = left.wait_for(|left| *left == 0).await;
    }

    /// Ends the function with SIGTERM, or after 2 seconds with SIGKILL. Returns how its process
    /// ended, or `None` if none was running.
    ///
    /// Callers whose events are in flight get the reply, or the error that the function has exited.
    /// Callers whose events wait get an error.
    pub async fn terminate(mut self) -> Option<ExitStatus> {
        self.shared.invocations.terminate();
        let _ = self.terminate.send(());
        let status = self
            .supervisor
            .join_next()
            .await
            .and_then(Result::ok)
            .flatten();
        drop(self.stop_listening);
        // A caller that does not read its reply is left behind.
        let _ = timeout(LAST_REPLIES, async {
            while self.servers.join_next().await.is_some() {}
        })
        .await;
        status
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Emulator")
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// Serves a router until `stop` is dropped.
async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<()>) {
    let listener = listener.tap_io(|connection| {
        // Without it, a large reply may wait for a delayed acknowledgement.
        let _ = connection.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = async move {
        let _ = stop.changed().await;
    };
    let _ = axum::serve(listener, service)
        .with_graceful_shutdown(stopped)
        .await;
}

/// Turns waiting callers away when it is dropped.
struct TerminateOnDrop(Arc<Invocations>);

impl Drop for TerminateOnDrop {
    fn drop(&mut self) {
        self.0.terminate();
    }
}

/// Keeps the function running.
struct Supervisor {
    settings: Settings,
    shared: Arc<Shared>,
    pid: watch::Sender<Option<u32>>,
    /// Replaced environments that finish what they have in flight.
    draining: JoinSet<()>,
}

impl Supervisor {
    /// Starts the function again whenever it ends, and replaces it on request, until terminated.
    /// Returns how the last process ended.
    async fn run(
        mut self,
        mut environment: Environment,
        mut requests: mpsc::Receiver<Replacement>,
        mut terminated: oneshot::Receiver<()>,
    ) -> Option<ExitStatus> {
        let _terminate = TerminateOnDrop(Arc::clone(&self.shared.invocations));
        loop {
            tokio::select! {
                status = environment.exited() => {
                    self.pid.send_replace(None);
                    warn!("the function has ended ({status}); starting it again");
                    environment = tokio::select! {
                        environment = self.restart(&mut requests) => environment,
                        _ = &mut terminated => return None,
                    };
                    info!("the function is running again");
                }
                Some(replacement) = requests.recv() => {
                    let replaced = tokio::select! {
                        replaced = self.replace(replacement, Some(&mut environment)) => replaced,
                        _ = &mut terminated => return Some(environment.terminate().await),
                    };
                    if let Some(new) = replaced {
                        self.drain(std::mem::replace(&mut environment, new));
                    }
                }
                _ = &mut terminated => return Some(environment.terminate().await),
            }
        }
    }

    /// Starts the function, or what is asked for in its place, until it polls.
    async fn restart(&mut self, requests: &mut mpsc::Receiver<Replacement>) -> Environment {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let start = async {
                sleep(back_off).await;
                Environment::start(&self.settings, &self.shared).await
            };
            tokio::select! {
                started = start => match started {
                    Ok(environment) => {
                        self.pid.send_replace(Some(environment.pid()));
                        return environment;
                    }
                    Err(error) => {
                        warn!("{error}");
                        let invocations = &self.shared.invocations;
                        invocations.fail_waiting(|request_id| error.for_caller(request_id));
                        back_off = LAST_BACK_OFF.min(back_off * 2);
                    }
                },
                Some(replacement) = requests.recv() => {
                    if let Some(environment) = self.replace(replacement, None).await {
                        return environment;
                    }
                }
            }
        }
    }

    /// Starts another executable, while the current environment runs and takes note if that ends.
    async fn replace(
        &mut self,
        Replacement { bootstrap, outcome }: Replacement,
        current: Option<&mut Environment>,
    ) -> Option<Environment> {
        let settings = Settings {
            bootstrap,
            ..self.settings.clone()
        };
        let started = {
            let start = Environment::start(&settings, &self.shared);
            tokio::pin!(start);
            let current_ended = async {
                if let Some(current) = current {
                    current.exited().await;
                }
            };
            tokio::select! {
                started = &mut start => started,
                () = current_ended => start.await,
            }
        };
        match started {
            Ok(environment) => {
                self.settings = settings;
                self.pid.send_replace(Some(environment.pid()));
                let _ = outcome.send(Ok(()));
                Some(environment)
            }
            Err(error) => {
                let _ = outcome.send(Err(error));
                None
            }
        }
    }

    /// Ends a replaced environment as soon as nothing is in flight there.
    fn drain(&mut self, mut environment: Environment) {
        while self.draining.try_join_next().is_some() {}
        self.draining.spawn(async move {
            let drained = environment.drained();
            tokio::select! {
                () = drained => {}
                _ = environment.exited() => {}
            }
            environment.terminate().await;
        });
    }
}
