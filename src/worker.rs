//! The workers of an execution environment.
//!
//! Each polls the Runtime API for an invocation, handles it and posts the reply, for as long as the
//! process lives.

use std::any::Any;
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::{error, info, warn};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::http::Socket;
use crate::log::excerpt;
use crate::reply::Reply;
use crate::runtime_api::{Connection, Invocation};

const MIN_BACK_OFF: Duration = Duration::from_millis(10);
const MAX_BACK_OFF: Duration = Duration::from_millis(250);
/// Failures that are further apart belong to two outages.
const OUTAGE_GAP: Duration = Duration::from_secs(2);
/// `lambda_runtime` expects SIGKILL 500 ms after SIGTERM. This leaves 100 ms to exit.
const DRAIN_LIMIT: Duration = Duration::from_millis(400);
/// A drain ends after so many looks in a row at workers with nothing in flight. Between two looks
/// the runtime takes in what has arrived on open polls, however busy the machine is.
const QUIET_LOOKS: u32 = 10;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// After so many polls in a row that were sent with a reply and got no response, the process sends
/// them on their own.
const MAX_DROPPED_POLLS: u32 = 2;

thread_local! {
    /// Whether this thread runs a handler, whose panic is logged with its request id.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
    static PANIC_LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

/// The workers of an execution environment.
#[derive(Debug)]
pub struct Workers<H> {
    handler: H,
    /// `host:port` of the Runtime API.
    runtime_api: Arc<str>,
    /// One for each worker.
    in_flight: Box<[InFlight]>,
    /// Whether a poll is sent together with the reply before it.
    polls_ahead: AtomicBool,
    is_draining: AtomicBool,
    drain_begins: Notify,
    /// When a poll last failed, on any worker.
    last_failure: Mutex<Option<Instant>>,
}

/// Whether a worker has an invocation in flight.
///
/// Each is alone on its cache lines, which x86 fetches in pairs: otherwise CPUs would contend for
/// them with every invocation.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InFlight(AtomicBool);

impl<H: Fn(&[u8]) -> Reply + Send + Sync + 'static> Workers<H> {
    /// `runtime_api` is the value of `AWS_LAMBDA_RUNTIME_API`, `host:port`. There are
    /// `max_concurrency` workers. If `polls_ahead`, they send the next poll together with a reply.
    /// `handler` turns an event into a reply; if it panics, only that invocation fails.
    #[must_use]
    pub fn new(
        runtime_api: &str,
        max_concurrency: NonZeroU16,
        polls_ahead: bool,
        handler: H,
    ) -> Self {
        let workers = 0..max_concurrency.get();
        Self {
            handler,
            runtime_api: runtime_api.into(),
            in_flight: workers.map(|_| InFlight::default()).collect(),
            polls_ahead: AtomicBool::new(polls_ahead),
            is_draining: AtomicBool::new(false),
            drain_begins: Notify::new(),
            last_failure: Mutex::new(None),
        }
    }

    /// How many invocations are in flight.
    pub fn in_flight(&self) -> usize {
        let is_set = |in_flight: &&InFlight| in_flight.is_set();
        self.in_flight.iter().filter(is_set).count()
    }

    /// Ends polling, so that every [`run`](Self::run) returns in time.
    pub fn drain(&self) {
        self.is_draining.store(true, Relaxed);
        self.drain_begins.notify_waiters();
    }

    /// Runs every `threads`th worker, from the one with number `thread` on, over sockets of this
    /// kind.
    ///
    /// After [`drain`](Self::drain), returns when nothing has been in flight for 10 ms, and after
    /// 400 ms at the latest.
    ///
    /// # Panics
    ///
    /// If `threads` is 0.
    pub async fn run<S: Socket + 'static>(self: Arc<Self>, thread: usize, threads: usize) {
        let workers = (thread..self.in_flight.len()).step_by(threads);
        let mut tasks = JoinSet::new();
        for worker in workers.clone() {
            tasks.spawn(self.clone().keep_working::<S>(worker));
        }
        let drain_begins = self.drain_begins.notified();
        if !self.is_draining() {
            drain_begins.await;
        }
        let drained = async {
            let mut quiet_looks = 0;
            while quiet_looks < QUIET_LOOKS {
                sleep(LOOK_INTERVAL).await;
                let is_quiet = !(workers.clone()).any(|worker| self.in_flight[worker].is_set());
                quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
            }
        };
        let _ = timeout(DRAIN_LIMIT, drained).await;
    }

    /// Starts a worker again whenever it dies.
    async fn keep_working<S: Socket + 'static>(self: Arc<Self>, worker: usize) {
        let mut task = JoinSet::new();
        task.spawn(self.clone().work::<S>(worker));
        while let Some(Err(cause)) = task.join_next().await {
            error!(%cause, "a worker died; restarting it");
            sleep(MIN_BACK_OFF).await;
            task.spawn(self.clone().work::<S>(worker));
        }
    }

    async fn work<S: Socket>(self: Arc<Self>, worker: usize) {
        let mut connection = Connection::<S>::new(self.runtime_api.clone());
        let mut invocation = Invocation::default();
        let mut back_off = MIN_BACK_OFF;
        let in_flight = &self.in_flight[worker];
        in_flight.set(false); // in case the worker before this one died
        while connection.is_polling() || !self.is_draining() {
            let handled = self.handle_next(in_flight, &mut connection, &mut invocation);
            let handled = handled.await;
            invocation.clear();
            in_flight.set(false);
            match handled {
                Ok(true) => back_off = MIN_BACK_OFF,
                Ok(false) => {}
                Err(problem) => {
                    self.note_failure(&problem);
                    sleep(back_off.mul_f64(jitter())).await;
                    back_off = MAX_BACK_OFF.min(back_off * 2);
                }
            }
            if connection.dropped_polls() >= MAX_DROPPED_POLLS
                && self.polls_ahead.swap(false, Relaxed)
            {
                info!("the Runtime API drops polls sent with a reply; sending them on their own");
            }
        }
    }

    /// Handles the next invocation. The result is whether there was one.
    async fn handle_next(
        &self,
        in_flight: &InFlight,
        connection: &mut Connection<impl Socket>,
        invocation: &mut Invocation,
    ) -> io::Result<bool> {
        if !connection.is_polling() {
            connection.open().await?;
            if self.is_draining() {
                return Ok(false);
            }
            connection.poll().await?;
        }
        if !connection.event_begins().await? {
            return Ok(false);
        }
        in_flight.set(true);
        if let Err(problem) = connection.receive(invocation).await {
            if !invocation.request_id().is_empty() {
                warn!(requestId = invocation.request_id(), %problem, "the event is unreadable");
                let diagnostic = diagnostic("Runtime.UnreadableEvent", problem.to_string());
                connection.fail(invocation, &diagnostic, false).await;
            }
            return Err(problem);
        }

        IN_HANDLER.set(true);
        let reply = catch_unwind(AssertUnwindSafe(|| (self.handler)(invocation.payload())));
        IN_HANDLER.set(false);
        let polls_ahead = self.polls_ahead.load(Relaxed) && !self.is_draining();
        match reply {
            Ok(reply) => connection.respond(invocation, &reply, polls_ahead).await,
            Err(panic) => {
                let message = panic_message(&*panic);
                error!(
                    requestId = invocation.request_id(),
                    location = PANIC_LOCATION.take(),
                    "panicked: {}",
                    excerpt(message.as_bytes())
                );
                let diagnostic = diagnostic("Function.Panic", message.to_owned());
                connection.fail(invocation, &diagnostic, polls_ahead).await;
            }
        }
        Ok(true)
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Logs the first of the failures that make up an outage of the Runtime API.
    fn note_failure(&self, problem: &io::Error) {
        let now = Instant::now();
        let previous = self
            .last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(now);
        if previous.is_none_or(|previous| now - previous > OUTAGE_GAP) {
            let runtime_api = &*self.runtime_api;
            warn!(runtime_api, %problem, "cannot get an invocation from the Runtime API; retrying");
        }
    }
}

impl InFlight {
    fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    fn set(&self, is_in_flight: bool) {
        self.0.store(is_in_flight, Relaxed);
    }
}

/// A panic hook that logs one line. It leaves the panic of a handler to the worker, which knows the
/// request id.
pub fn log_panic(panic: &PanicHookInfo) {
    let location = panic.location().map(ToString::to_string);
    if IN_HANDLER.get() {
        PANIC_LOCATION.set(location);
    } else {
        let message = excerpt(panic_message(panic.payload()).as_bytes());
        error!(location, "panicked: {message}");
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref().map(String::as_str))
        .unwrap_or("no message")
}

fn diagnostic(error_type: &str, error_message: String) -> Diagnostic {
    Diagnostic {
        error_type: error_type.to_owned(),
        error_message,
    }
}

/// A random factor of 0.5 to 1, so that workers do not come back all at once.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    0.5 + f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX) / 2.0
}
