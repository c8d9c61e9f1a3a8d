//! The workers of an execution environment.
//!
//! Each takes an invocation from the Runtime API, answers it and posts the reply, for as long as
//! the process lives.

use std::any::Any;
use std::cell::Cell;
use std::future::pending;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::{error, warn};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::reply::Reply;
use crate::runtime_api::{Connection, Invocation, Socket};

const MIN_BACK_OFF: Duration = Duration::from_millis(10);
const MAX_BACK_OFF: Duration = Duration::from_millis(250);
/// Failures that are further apart belong to two outages.
const OUTAGE_GAP: Duration = Duration::from_secs(2);
/// `lambda_runtime` reckons with SIGKILL 500 ms after SIGTERM.
const DRAIN_LIMIT: Duration = Duration::from_millis(400);
/// Long enough for a worker to notice an event that has arrived on its open poll.
const QUIET: Duration = Duration::from_millis(10);

thread_local! {
    /// Whether this thread runs a handler, whose panic is logged with its request ID.
    static IN_HANDLER: Cell<bool> = const { Cell::new(false) };
    static PANIC_LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

/// The workers of an execution environment.
#[derive(Debug)]
pub struct Workers<H> {
    handler: H,
    /// `host:port` of the Runtime API.
    runtime_api: Arc<str>,
    /// How many invocations have arrived, at least in part, and are not answered yet.
    in_hand: AtomicUsize,
    is_draining: AtomicBool,
    /// Notified of every answer while draining.
    answered: Notify,
    /// When any worker last got no invocation.
    last_failure: Mutex<Option<Instant>>,
}

impl<H: Fn(&[u8]) -> Reply + Send + Sync + 'static> Workers<H> {
    /// `runtime_api` is the value of `AWS_LAMBDA_RUNTIME_API`, `host:port`; `handler` turns a
    /// payload into a reply. It may panic: that becomes an error of the one invocation.
    #[must_use]
    pub fn new(runtime_api: &str, handler: H) -> Self {
        Self {
            handler,
            runtime_api: runtime_api.into(),
            in_hand: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            answered: Notify::new(),
            last_failure: Mutex::new(None),
        }
    }

    /// Answers invocations that arrive over sockets of this kind, at most `max_concurrency` at once,
    /// until the process ends.
    pub async fn run<S: Socket + 'static>(self: Arc<Self>, max_concurrency: NonZeroU16) -> ! {
        let mut workers = JoinSet::new();
        for _ in 0..max_concurrency.get() {
            workers.spawn(self.clone().work::<S>());
        }
        while let Some(ended) = workers.join_next().await {
            if let Err(cause) = ended {
                error!(%cause, "a worker ended and is started anew");
                let worker = self.clone().work::<S>();
                workers.spawn(async {
                    sleep(MIN_BACK_OFF).await;
                    worker.await;
                });
            }
        }
        // All are drained; whoever asked for that ends the process.
        pending().await
    }

    /// Ends the polling and waits until nothing is in hand, for 400 ms at the most.
    pub async fn drain(&self) {
        self.is_draining.store(true, SeqCst);
        let drained = timeout(DRAIN_LIMIT, async {
            loop {
                let answered = self.answered.notified();
                if self.in_hand.load(SeqCst) > 0 {
                    answered.await;
                } else if timeout(QUIET, answered).await.is_err() && self.in_hand.load(SeqCst) == 0
                {
                    break;
                }
            }
        });
        if drained.await.is_err() {
            let in_hand = self.in_hand.load(SeqCst);
            warn!(in_hand, "shutting down with invocations unanswered");
        }
    }

    async fn work<S: Socket>(self: Arc<Self>) {
        let mut connection = Connection::<S>::new(self.runtime_api.clone());
        let mut invocation = Invocation::default();
        let mut back_off = MIN_BACK_OFF;
        while !self.is_draining.load(SeqCst) {
            let answered = self.answer_next(&mut connection, &mut invocation);
            if let Err(problem) = answered.await {
                self.note_failure(&problem);
                sleep(back_off.mul_f64(jitter())).await;
                back_off = MAX_BACK_OFF.min(back_off * 2);
            } else {
                back_off = MIN_BACK_OFF;
            }
        }
    }

    async fn answer_next(
        &self,
        connection: &mut Connection<impl Socket>,
        invocation: &mut Invocation,
    ) -> io::Result<()> {
        connection.open().await?;
        if self.is_draining.load(SeqCst) {
            return Ok(());
        }
        connection.next(invocation).await?;
        let _in_hand = InHand::new(self);
        if let Err(problem) = connection.receive(invocation).await {
            if !invocation.request_id().is_empty() {
                warn!(requestId = invocation.request_id(), %problem, "the event is unreadable");
                let diagnostic = diagnostic("Runtime.UnreadableEvent", problem.to_string());
                connection.fail(invocation, &diagnostic).await;
            }
            return Err(problem);
        }

        IN_HANDLER.set(true);
        let reply = catch_unwind(AssertUnwindSafe(|| (self.handler)(invocation.payload())));
        IN_HANDLER.set(false);
        match reply {
            Ok(reply) => connection.respond(invocation, &reply).await,
            Err(panic) => {
                let request_id = invocation.request_id();
                let message = panic_message(&*panic);
                error!(
                    requestId = request_id,
                    location = PANIC_LOCATION.take(),
                    "panicked: {message}"
                );
                let diagnostic = diagnostic("Function.Panic", message.to_owned());
                connection.fail(invocation, &diagnostic).await;
            }
        }
        Ok(())
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
            warn!(runtime_api, %problem, "the Runtime API gives no invocation; trying again");
        }
    }
}

/// Counts as an invocation in hand while it lives.
struct InHand<'a, H>(&'a Workers<H>);

impl<'a, H> InHand<'a, H> {
    fn new(workers: &'a Workers<H>) -> Self {
        workers.in_hand.fetch_add(1, SeqCst);
        Self(workers)
    }
}

impl<H> Drop for InHand<'_, H> {
    fn drop(&mut self) {
        let Self(workers) = self;
        workers.in_hand.fetch_sub(1, SeqCst);
        if workers.is_draining.load(SeqCst) {
            workers.answered.notify_one();
        }
    }
}

/// A panic hook that logs one line, and leaves the panic of a handler to its worker's line.
pub fn log_panic(panic: &PanicHookInfo) {
    let location = panic.location().map(ToString::to_string);
    if IN_HANDLER.get() {
        PANIC_LOCATION.set(location);
    } else {
        error!(location, "panicked: {}", panic_message(panic.payload()));
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
