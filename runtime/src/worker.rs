//! The workers of an execution environment.
//!
//! Each polls the Runtime API for an invocation, handles it and posts the reply, for as long as the
//! process lives.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::{error, warn};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::back_off::BackOff;
use crate::connection::{Connection, Polling};
use crate::http::Socket;
use crate::log::excerpt;
use crate::{Handler, Invocation, Reply};

/// Failures that are further apart belong to two outages.
const OUTAGE_GAP: Duration = Duration::from_secs(2);
/// `lambda_runtime` expects SIGKILL 500 ms after SIGTERM. This leaves 100 ms to exit.
const DRAIN_LIMIT: Duration = Duration::from_millis(400);
/// A drain ends after so many looks in a row at workers with nothing in flight. Between two looks
/// the runtime takes in what has arrived on open polls, however busy the machine is.
const QUIET_LOOKS: u32 = 10;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// What is said of a panic with something that is not a text.
const NO_MESSAGE: &str = "no message";

thread_local! {
    /// Whether this thread runs a handler. Its panic is logged by the worker, which knows the
    /// request id.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
    static PANIC_LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

/// What the workers of an execution environment share.
#[derive(Debug)]
pub(crate) struct Workers {
    /// `host:port` of the Runtime API.
    runtime_api: Arc<str>,
    /// One for each worker.
    in_flight: Box<[InFlight]>,
    polling: Polling,
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

impl Workers {
    /// `runtime_api` is the value of `AWS_LAMBDA_RUNTIME_API`, `host:port`.
    pub(crate) fn new(runtime_api: &str, max_concurrency: NonZeroU16, pipelines: bool) -> Self {
        let workers = 0..max_concurrency.get();
        Self {
            runtime_api: runtime_api.into(),
            in_flight: workers.map(|_| InFlight::default()).collect(),
            polling: Polling {
                pipelines: pipelines.into(),
                is_draining: false.into(),
            },
            drain_begins: Notify::new(),
            last_failure: Mutex::new(None),
        }
    }

    /// How many invocations are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        let is_set = |in_flight: &&InFlight| in_flight.0.load(Relaxed);
        self.in_flight.iter().filter(is_set).count()
    }

    /// Ends polling, so that every [`run`](Self::run) returns in time.
    pub(crate) fn drain(&self) {
        self.polling.is_draining.store(true, Relaxed);
        self.drain_begins.notify_waiters();
    }

    /// Runs every `threads`th worker, from the one with number `thread` on, over sockets of the kind
    /// `S`. Each calls a clone of `handler`.
    ///
    /// After [`drain`](Self::drain), returns when nothing has been in flight for 10 ms, and after
    /// 400 ms at the latest.
    ///
    /// # Panics
    ///
    /// If `threads` is 0, or outside a `LocalRuntime`.
    pub(crate) async fn run<S: Socket>(
        self: Arc<Self>,
        handler: impl Handler,
        thread: usize,
        threads: usize,
    ) {
        let workers = (thread..self.in_flight.len()).step_by(threads);
        let handler = Rc::new(handler);
        let mut tasks = JoinSet::new();
        for worker in workers.clone() {
            tasks.spawn_local(self.clone().keep_working::<S>(worker, handler.clone()));
        }
        let drain_begins = self.drain_begins.notified();
        if self.polling.may_poll() {
            drain_begins.await;
        }
        let drained = async {
            let mut quiet_looks = 0;
            while quiet_looks < QUIET_LOOKS {
                sleep(LOOK_INTERVAL).await;
                let is_quiet =
                    !(workers.clone()).any(|worker| self.in_flight[worker].0.load(Relaxed));
                quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
            }
        };
        tokio::select! {
            () = drained => {}
            () = running_time(DRAIN_LIMIT) => {}
        }
    }

    /// Starts a worker again whenever it dies.
    async fn keep_working<S: Socket>(self: Arc<Self>, worker: usize, handler: Rc<impl Handler>) {
        let mut task = JoinSet::new();
        loop {
            task.spawn_local(self.clone().work::<S>(worker, handler.clone()));
            let Some(Err(cause)) = task.join_next().await else {
                return;
            };
            error!(%cause, "a worker died; restarting it");
            BackOff::default().wait().await;
        }
    }

    async fn work<S: Socket>(self: Arc<Self>, worker: usize, handler: Rc<impl Handler>) {
        let mut handler = (*handler).clone();
        let mut connection = Connection::<S>::new(self.runtime_api.clone());
        let mut invocation = Invocation::default();
        let mut back_off = BackOff::default();
        let in_flight = &self.in_flight[worker].0;
        loop {
            invocation.clear();
            in_flight.store(false, Relaxed); // also if the worker before this one died
            let set_in_flight = |is| in_flight.store(is, Relaxed);
            let event = connection.next(&mut invocation, &self.polling, set_in_flight);
            match event.await {
                Ok(true) => {
                    let result = handle(&mut handler, &invocation).await;
                    connection.respond(&invocation, result, &self.polling).await;
                    back_off = BackOff::default();
                }
                Ok(false) => return,
                Err(problem) => {
                    in_flight.store(connection.has_event(), Relaxed);
                    self.note_failure(&problem);
                    back_off.wait().await;
                }
            }
        }
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

/// Calls the handler. Its panic is that invocation's error.
async fn handle(handler: &mut impl Handler, invocation: &Invocation) -> Result<Reply, Diagnostic> {
    let handling = async { handler.handle(invocation).await };
    let result = catch_panic(handling, invocation.request_id()).await;
    result.unwrap_or_else(|message| {
        Err(Diagnostic {
            error_type: "Function.Panic".to_owned(),
            error_message: message.unwrap_or_else(|| NO_MESSAGE.to_owned()),
        })
    })
}

/// Catches and logs a panic of a handler, also after it has awaited something. Returns its message.
pub(crate) async fn catch_panic<T>(
    handling: impl Future<Output = T>,
    request_id: &str,
) -> Result<T, Option<String>> {
    let mut handling = pin!(handling);
    let result = poll_fn(|context| {
        let polled = in_handler(|| handling.as_mut().poll(context));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    result.await.map_err(|panic| {
        let message = panic_message(&*panic).map(str::to_owned);
        error!(
            requestId = request_id,
            location = PANIC_LOCATION.take(),
            "panicked: {}",
            excerpt(message.as_deref().unwrap_or(NO_MESSAGE).as_bytes())
        );
        if let Err(panic) = in_handler(|| drop(panic)) {
            mem::forget(panic); // it could go on for ever
        }
        message
    })
}

/// Calls this. Its panic is not logged.
fn in_handler<T>(call: impl FnOnce() -> T) -> thread::Result<T> {
    let outer = IN_HANDLER.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IN_HANDLER.set(outer);
    result
}

/// Waits until the process has run for so long. A time in which it stood still counts for 20 ms at
/// most.
pub(crate) async fn running_time(mut time: Duration) {
    const STEP: Duration = Duration::from_millis(10);
    while !time.is_zero() {
        let begun = Instant::now();
        sleep(time.min(STEP)).await;
        time = time.saturating_sub(begun.elapsed().min(2 * STEP));
    }
}

/// A panic hook that logs one line. It leaves the panic of a handler to the worker, which knows the
/// request id.
pub(crate) fn log_panic(panic: &PanicHookInfo) {
    let location = panic.location().map(ToString::to_string);
    if IN_HANDLER.get() {
        PANIC_LOCATION.set(location);
    } else {
        let message = panic_message(panic.payload()).unwrap_or(NO_MESSAGE);
        let message = excerpt(message.as_bytes());
        error!(location, "panicked: {message}");
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> Option<&str> {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref().map(String::as_str))
}
