//! The emulator as a whole: listeners, and one execution environment after another.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::console::Console;
use crate::environment::{Environment, StartError, listen};
use crate::faults::Fault;
use crate::function_url;
use crate::invocations::{Invocations, InvokeError, Reply};
use crate::invoke_api::{self, InvokeApi};
use crate::logs::Logs;

/// The account and Region that a local function lives in.
pub(crate) const ACCOUNT_ID: &str = "123456789012";
pub(crate) const REGION: &str = "us-east-1";

/// The time before a function that has ended is started again, doubled with every failed start.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);

/// How long [`Emulator::terminate`] waits for the last replies to be written.
const LAST_REPLIES: Duration = Duration::from_secs(1);

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The function's executable.
    pub bootstrap: PathBuf,
    /// Its arguments. None on Lambda.
    pub arguments: Vec<OsString>,
    /// Environment variables beside those of Lambda, over which they win.
    pub environment: Vec<(OsString, OsString)>,
    /// The name by which it is invoked.
    pub function_name: String,
    /// `AWS_LAMBDA_MAX_CONCURRENCY`. `None` leaves the variable unset, as on ordinary Lambda.
    pub max_concurrency: Option<NonZeroU16>,
    /// How long the function may take for an event.
    pub timeout: Duration,
    /// How long it may take to ask for the first event.
    pub init_timeout: Duration,
    /// How many events may wait while all workers are busy.
    pub queue: usize,
    /// Where to serve the Invoke API. Port 0 is any free port.
    pub invoke_address: SocketAddr,
    /// Where to serve the function URL. Port 0 is any free port.
    pub function_url_address: SocketAddr,
    /// Whether to copy what the function prints to standard error.
    pub echo: bool,
}

impl Settings {
    /// A function with 8 workers, 10 seconds for an event, 130 seconds to start (the least that
    /// Managed Instances give), no queue, on free ports of 127.0.0.1.
    ///
    /// It is named after its executable, or after the directory of that where it is a `bootstrap`.
    #[must_use]
    pub fn new(bootstrap: impl Into<PathBuf>) -> Self {
        let bootstrap = bootstrap.into();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            function_name: function_name(&bootstrap),
            bootstrap,
            arguments: Vec::new(),
            environment: Vec::new(),
            max_concurrency: NonZeroU16::new(8),
            timeout: Duration::from_secs(10),
            init_timeout: Duration::from_secs(130),
            queue: 0,
            invoke_address: any_port,
            function_url_address: any_port,
            echo: false,
        }
    }

    /// The version that is run: Managed Instances run published ones.
    pub(crate) fn version(&self) -> &'static str {
        match self.max_concurrency {
            Some(_) => "$LATEST.PUBLISHED",
            None => "$LATEST",
        }
    }

    pub(crate) fn workers(&self) -> usize {
        self.max_concurrency
            .map_or(1, |workers| workers.get().into())
    }

    /// The variables that Lambda sets, after
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html> and RIE.
    pub(crate) fn lambda_environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("_HANDLER", "bootstrap".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_SESSION_TOKEN", "test".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", self.function_name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", self.version().to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048".to_owned()),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
            (
                "AWS_LAMBDA_LOG_GROUP_NAME",
                format!("/aws/lambda/{}", self.function_name),
            ),
            (
                "AWS_LAMBDA_LOG_STREAM_NAME",
                format!("local/[{}]", self.version()),
            ),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
            ("LANG", "en_US.UTF-8".to_owned()),
            ("TZ", ":UTC".to_owned()),
        ];
        let initialization_type = match self.max_concurrency {
            Some(workers) => {
                variables.push(("AWS_LAMBDA_MAX_CONCURRENCY", workers.to_string()));
                "lambda-managed-instances"
            }
            None => "on-demand",
        };
        variables.push((
            "AWS_LAMBDA_INITIALIZATION_TYPE",
            initialization_type.to_owned(),
        ));
        variables
    }
}

fn function_name(bootstrap: &Path) -> String {
    let named_after = match bootstrap.file_stem() {
        Some(stem) if stem != "bootstrap" => Some(stem),
        _ => bootstrap.parent().and_then(Path::file_name),
    };
    let name = named_after.unwrap_or_default().to_string_lossy();
    // The characters that a function's name may have.
    let name = name.replace(
        |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_',
        "-",
    );
    if name.is_empty() {
        "function".to_owned()
    } else {
        name
    }
}

/// A running function, and the services around it.
///
/// Dropping it kills the function.
pub struct Emulator {
    invocations: Arc<Invocations>,
    invoke_api: Arc<InvokeApi>,
    invoke_address: SocketAddr,
    function_url_address: SocketAddr,
    pid: watch::Receiver<Option<u32>>,
    terminate: oneshot::Sender<()>,
    supervisor: JoinSet<Option<ExitStatus>>,
    stop_listening: watch::Sender<()>,
    servers: JoinSet<()>,
}

impl Emulator {
    /// Starts the function and returns when it has asked for its first event.
    ///
    /// Call it in a Tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    ///
    /// When an address is taken, the bootstrap cannot be run, or the function ends, reports an error
    /// or lets [`Settings::init_timeout`] pass before it asks for an event.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let invoke_listener = listen("Invoke API", settings.invoke_address).await?;
        let function_url_listener = listen("function URL", settings.function_url_address).await?;
        let address = |listener: &TcpListener, what, address| {
            listener.local_addr().map_err(|source| StartError::Listen {
                what,
                address,
                source,
            })
        };
        let invoke_address = address(&invoke_listener, "Invoke API", settings.invoke_address)?;
        let function_url_address = address(
            &function_url_listener,
            "function URL",
            settings.function_url_address,
        )?;

        let logs = Arc::new(Logs::new(settings.echo));
        let invocations = Arc::new(Invocations::new(
            settings.workers(),
            settings.queue,
            settings.timeout,
            logs,
        ));
        let environment = Environment::start(&settings, &invocations).await?;

        let invoke_api = Arc::new(InvokeApi::new(&settings, Arc::clone(&invocations)));
        let (pid_sender, pid) = watch::channel(Some(environment.pid()));
        let (stop_listening, _) = watch::channel(());
        let console = Console::new(
            &settings.function_name,
            settings.workers(),
            Arc::clone(&invoke_api),
            Arc::clone(&invocations),
            pid.clone(),
            stop_listening.subscribe(),
        );
        let mut servers = JoinSet::new();
        servers.spawn(invoke_api::serve(
            invoke_listener,
            Arc::clone(&invoke_api),
            Arc::new(console),
            stop_listening.subscribe(),
        ));
        servers.spawn(function_url::serve(
            function_url_listener,
            Arc::clone(&invoke_api),
            stop_listening.subscribe(),
        ));
        let deadlines = Arc::clone(&invocations);
        servers.spawn(async move { deadlines.enforce_deadlines().await });

        let (terminate, terminated) = oneshot::channel();
        let mut supervisor = JoinSet::new();
        supervisor.spawn(supervise(
            settings,
            Arc::clone(&invocations),
            environment,
            pid_sender,
            terminated,
        ));
        Ok(Self {
            invocations,
            invoke_api,
            invoke_address,
            function_url_address,
            pid,
            terminate,
            supervisor,
            stop_listening,
            servers,
        })
    }

    /// Where the Invoke API is served.
    #[must_use]
    pub fn invoke_address(&self) -> SocketAddr {
        self.invoke_address
    }

    /// Where the function URL is served.
    #[must_use]
    pub fn function_url_address(&self) -> SocketAddr {
        self.function_url_address
    }

    /// The function's process. `None` while it has ended and not been started again.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// Waits until the process is another than `pid` and has asked for an event.
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

    /// Gives an event to the function, as a caller of the Invoke API does. An empty payload is `{}`.
    ///
    /// # Errors
    ///
    /// When the payload is not JSON or larger than 6 MB, or all workers are busy and the queue full.
    pub async fn invoke(&self, payload: impl Into<Bytes>) -> Result<Reply, InvokeError> {
        self.invoke_api.invoke(payload.into()).await
    }

    /// The lines that the function has printed to standard output and standard error, the oldest
    /// first. Of more than 4 MB only the last are kept.
    #[must_use]
    pub fn lines(&self) -> Vec<Arc<str>> {
        self.invocations.logs.drain();
        self.invocations.logs.since(0)
    }

    /// Waits for a line that `wanted` accepts, of those printed or still to be printed.
    pub async fn wait_for_line(&self, wanted: impl Fn(&str) -> bool) -> Arc<str> {
        self.invocations.logs.wait_for(wanted).await
    }

    /// Waits until `wanted` accepts the number of workers that ask for an event at once, as in
    /// `emulator.wait_for_polls(|polls| polls == 8).await`.
    pub async fn wait_for_polls(&self, wanted: impl Fn(usize) -> bool) {
        // The sender is in `self`, so this cannot fail.
        let _ = self
            .invocations
            .polls()
            .wait_for(|&polls| wanted(polls))
            .await;
    }

    /// The highest number of workers that have asked for an event at once.
    #[must_use]
    pub fn most_polls(&self) -> usize {
        self.invocations.most_polls()
    }

    /// Makes the next requests of the function to the Runtime API fail, each fault once, those of
    /// one kind of request in this order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.invocations.faults.inject(faults);
    }

    /// Waits until every fault that was injected has happened.
    pub async fn wait_for_faults(&self) {
        // The sender lives as long as this.
        let _ = self
            .invocations
            .faults
            .left()
            .wait_for(|left| *left == 0)
            .await;
    }

    /// Ends the function with SIGTERM, after 2 seconds with SIGKILL, and returns how its process
    /// ended: `None` if none was running. Callers whose event it had get its reply, or the error that
    /// it has exited; other callers an error.
    pub async fn terminate(mut self) -> Option<ExitStatus> {
        self.invocations.terminate();
        let _ = self.terminate.send(());
        let status = self
            .supervisor
            .join_next()
            .await
            .and_then(Result::ok)
            .flatten();
        drop(self.stop_listening);
        // A caller that does not read its reply is left.
        let _ = timeout(LAST_REPLIES, async {
            // The third task is the one that enforces deadlines, for ever.
            self.servers.join_next().await;
            self.servers.join_next().await;
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

/// Sends waiting callers away when the emulator is dropped.
struct TerminateOnDrop(Arc<Invocations>);

impl Drop for TerminateOnDrop {
    fn drop(&mut self) {
        self.0.terminate();
    }
}

/// Starts the function again whenever it ends, until told to terminate it.
async fn supervise(
    settings: Settings,
    invocations: Arc<Invocations>,
    mut environment: Environment,
    pid: watch::Sender<Option<u32>>,
    mut terminated: oneshot::Receiver<()>,
) -> Option<ExitStatus> {
    let _terminate = TerminateOnDrop(Arc::clone(&invocations));
    loop {
        let status = tokio::select! {
            status = environment.exited() => status,
            _ = &mut terminated => return Some(environment.terminate().await),
        };
        pid.send_replace(None);
        warn!("the function has ended ({status}); starting it again");
        let mut back_off = FIRST_BACK_OFF;
        environment = loop {
            let restart = async {
                sleep(back_off).await;
                Environment::start(&settings, &invocations).await
            };
            let restarted = tokio::select! {
                restarted = restart => restarted,
                _ = &mut terminated => return None,
            };
            match restarted {
                Ok(environment) => break environment,
                Err(error) => {
                    warn!("{error}");
                    invocations.init_failed(|request_id| error.for_caller(request_id));
                    back_off = LAST_BACK_OFF.min(back_off * 2);
                }
            }
        };
        pid.send_replace(Some(environment.pid()));
        info!("the function runs again");
    }
}
