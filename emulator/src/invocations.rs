//! The invocations that wait for a worker or are in flight, and the polls that wait for an event.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::history::History;
use crate::invocation::{Dispatch, Invocation, InvokeError, InvokeRequest, Reply, describe};
use crate::lock::lock;
use crate::logs::Logs;
use crate::settings::Settings;
use crate::start_error::StartError;
use crate::workers::{InFlight, Init, ReplyError, Workers};

/// A year. It stands for no limit, so that `Instant` arithmetic cannot overflow.
const YEAR: Duration = Duration::from_hours(365 * 24);

/// How many events of invocation type `Event` may wait.
const MAX_ASYNCHRONOUS: usize = 1_000;

/// What happened in a period.
#[derive(Default)]
pub(crate) struct Activity {
    /// Of each invocation, from the dispatch of its event to its reply.
    pub(crate) durations: Vec<Duration>,
    pub(crate) function_errors: usize,
    pub(crate) throttled: usize,
    /// The highest number of workers that had an event at once.
    pub(crate) most_busy: usize,
    /// How many workers are gone at the end: they have neither polled nor had an event for longer
    /// than [`Settings::return_limit`], or have had an event for longer than [`Settings::timeout`].
    pub(crate) gone: usize,
}

#[derive(Default)]
struct State {
    /// By number. An environment that was replaced stays until its process has ended.
    environments: BTreeMap<u64, Workers>,
    newest_environment: u64,
    /// The environment that gets the events, once it has polled and until it ends.
    current: Option<u64>,
    /// The events that no worker has taken. Empty while the current environment has an open poll.
    waiting: VecDeque<Invocation>,
    is_terminated: bool,
    most_polls: usize,
    activity: Activity,
}

pub(crate) struct Invocations {
    state: Mutex<State>,
    /// The number of open polls of the current environment.
    polls: watch::Sender<usize>,
    /// Notified when an invocation ends in an environment that was replaced.
    drained: Notify,
    workers: usize,
    queue: usize,
    timeout: Duration,
    /// How long a worker may take between its reply and its next poll.
    return_limit: Duration,
    logs: Arc<Logs>,
    pub(crate) history: History,
}

impl Invocations {
    pub(crate) fn new(settings: &Settings, logs: Arc<Logs>) -> Self {
        Self {
            state: Mutex::default(),
            polls: watch::Sender::default(),
            drained: Notify::new(),
            workers: settings.max_concurrency.into(),
            queue: settings.queue,
            timeout: match settings.timeout {
                Duration::ZERO => YEAR,
                limit => limit.clamp(Duration::from_millis(1), YEAR),
            },
            return_limit: settings.return_limit,
            logs,
            history: History::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// What callers ask for.
impl Invocations {
    /// Hands an event to a worker, or puts it in line.
    pub(crate) fn submit(
        self: &Arc<Self>,
        request: InvokeRequest,
    ) -> Result<PendingReply, InvokeError> {
        let request = Arc::new(request);
        let (caller, receiver) = oneshot::channel();
        let mut pending = PendingReply {
            invocations: Arc::clone(self),
            request: Arc::clone(&request),
            wait_limit: self.timeout,
            receiver,
        };
        let mut state = self.state();
        if state.is_terminated {
            return Err(InvokeError::Terminated);
        }
        state.waiting.push_back(Invocation {
            request: Arc::clone(&request),
            caller,
        });
        self.hand_out(&mut state);
        let Some(ahead) = state.place(&request) else {
            return Ok(pending); // a worker has it
        };
        if request.asynchronous && ahead < self.workers + MAX_ASYNCHRONOUS {
            pending.wait_limit = YEAR;
        } else if ahead >= self.queue.saturating_add(self.about_to_poll(&state)) {
            return Err(self.throttle(&mut state, ahead));
        } else if self.queue == 0 {
            // It waits only for a worker that is about to poll.
            pending.wait_limit = self.return_limit;
        }
        Ok(pending)
    }

    /// How many workers can be expected to poll within the limit.
    fn about_to_poll(&self, state: &State) -> usize {
        match state.current() {
            Some(workers) => workers.about_to_poll(self.return_limit),
            // The process is starting: all its workers are still to poll.
            None => self.workers,
        }
    }
}

/// What the function asks for.
impl Invocations {
    /// The next event for a worker. `None` once its execution environment has ended.
    pub(crate) async fn next(&self, environment: u64) -> Option<Dispatch> {
        let mut poll = self.poll(environment)?;
        (&mut poll.receiver).await.ok()
    }

    fn poll(&self, environment: u64) -> Option<Poll<'_>> {
        let mut state = self.state();
        let state = &mut *state;
        let workers = state.environments.get_mut(&environment)?;
        let (sender, receiver) = oneshot::channel();
        if workers.polled(sender) {
            state.current = Some(environment);
        }
        if state.current == Some(environment) {
            state.most_polls = state.most_polls.max(workers.open_polls());
            self.hand_out(state);
        }
        Some(Poll {
            invocations: self,
            environment,
            receiver,
        })
    }

    /// Gives waiting events to open polls, the oldest to the oldest.
    fn hand_out(&self, state: &mut State) {
        let current = state.current;
        let Some(workers) = current.and_then(|number| state.environments.get_mut(&number)) else {
            return;
        };
        while workers.open_polls() > 0
            && let Some(invocation) = state.waiting.pop_front()
        {
            let deadline = Utc::now() + self.timeout;
            self.logs.expect(invocation.request.request_id);
            workers.dispatch(invocation, deadline.timestamp_millis());
        }
        let most_busy = &mut state.activity.most_busy;
        *most_busy = workers.in_flight().max(*most_busy);
        self.polls.send_replace(workers.open_polls());
    }

    /// Takes an event back that does not reach its worker, and hands it to another poll.
    pub(crate) fn give_back(&self, environment: u64, request_id: Uuid) {
        let mut state = self.state();
        state.take_back(environment, request_id);
        self.hand_out(&mut state);
    }

    /// Accepts the reply of a worker, or the body of its error.
    pub(crate) fn reply(
        &self,
        environment: u64,
        invocation_id: Option<&str>,
        reply: Reply,
    ) -> Result<(), ReplyError> {
        let mut state = self.state();
        let workers = state.environments.get_mut(&environment);
        let workers = workers.ok_or(ReplyError::Unknown)?;
        let in_flight = workers.replied(reply.request_id, invocation_id)?;
        drop(state);
        self.settle(in_flight.invocation, Some(in_flight.dispatched), reply);
        Ok(())
    }

    /// Gives the caller the outcome of an invocation that is no longer in flight, or never was.
    fn settle(&self, ended: Invocation, dispatched: Option<Instant>, reply: Reply) {
        let duration = dispatched.map(|dispatched| dispatched.elapsed());
        let mut state = self.state();
        state.activity.durations.extend(duration);
        state.activity.function_errors += usize::from(reply.function_error);
        drop(state);
        let duration = duration.unwrap_or_default();
        let milliseconds = duration.as_secs_f64() * 1e3;
        let request_id = reply.request_id;
        if reply.function_error {
            let own = format!("RequestId: {request_id} Error: ");
            let error = describe(&reply.payload).replace(&own, "");
            warn!("invocation {request_id} failed after {milliseconds:.1} ms: {error}");
        } else {
            debug!("invocation {request_id} took {milliseconds:.1} ms");
        }
        let event = &ended.request.event;
        (self.history).add(request_id, event, duration, Ok(reply.clone()));
        // A caller that has gone away wants no reply.
        let _ = ended.caller.send(reply);
        self.drained.notify_waiters();
    }

    /// Handles `POST /init/error`. Returns whether the init phase had not ended before.
    pub(crate) fn init_error(&self, environment: u64, body: Bytes) -> bool {
        let mut state = self.state();
        let workers = state.environments.get_mut(&environment);
        workers.is_some_and(|workers| workers.end_init(Err(body)))
    }
}

/// What happens to execution environments.
impl Invocations {
    /// Begins the init phase of a new execution environment. It gets the events from its first poll
    /// on. Returns its number and the outcome of the init phase.
    pub(crate) fn start_environment(&self) -> (u64, oneshot::Receiver<Init>) {
        let (init, outcome) = oneshot::channel();
        let mut state = self.state();
        state.newest_environment += 1;
        let number = state.newest_environment;
        let workers = Workers::new(self.workers, init);
        state.environments.insert(number, workers);
        (number, outcome)
    }

    /// Whether an execution environment gets the events, because it has polled and not ended.
    pub(crate) fn is_current(&self, environment: u64) -> bool {
        self.state().current == Some(environment)
    }

    /// Waits until nothing is in flight in an execution environment that was replaced.
    pub(crate) async fn wait_until_drained(&self, environment: u64) {
        loop {
            let drained = self.drained.notified();
            let is_busy = |workers: &Workers| workers.in_flight() > 0;
            if !(self.state().environments.get(&environment)).is_some_and(is_busy) {
                return;
            }
            drained.await;
        }
    }

    /// The environment's process is gone. The callers whose events it had get `reason` as the error.
    pub(crate) fn environment_ended(&self, environment: u64, reason: &str) {
        let mut state = self.state();
        let ended = state.environments.remove(&environment);
        if state.current == Some(environment) {
            state.current = None;
            self.polls.send_replace(0);
        }
        drop(state);
        let in_flight = ended.into_iter().flat_map(Workers::into_in_flight);
        self.fail(in_flight, "Runtime.ExitError", reason);
        self.drained.notify_waiters();
    }

    fn fail(&self, all: impl IntoIterator<Item = InFlight>, error_type: &str, reason: &str) {
        for failed in all {
            let request_id = failed.invocation.request.request_id;
            let failure = Reply::failure(request_id, error_type, reason);
            self.settle(failed.invocation, Some(failed.dispatched), failure);
        }
    }

    /// The process could not be started again: waiting callers are told why.
    pub(crate) fn fail_waiting(&self, error: &StartError) {
        let waiting = std::mem::take(&mut self.state().waiting);
        for invocation in waiting {
            let failure = error.for_caller(invocation.request.request_id);
            self.settle(invocation, None, failure);
        }
    }

    /// Hands out no event from now on.
    pub(crate) fn terminate(&self) {
        let mut state = self.state();
        state.is_terminated = true;
        state.waiting.clear();
    }

    /// Times invocations out, for ever.
    pub(crate) async fn enforce_deadlines(&self) {
        loop {
            sleep_until(self.time_out(Instant::now())).await;
        }
    }

    /// Times out the invocations that are due. Returns when the next may be due.
    fn time_out(&self, now: Instant) -> Instant {
        let limit = self.timeout;
        // Every invocation has the same limit, so nothing handed out later can be due earlier.
        let mut next = now + limit;
        let mut due = Vec::new();
        for workers in self.state().environments.values_mut() {
            due.extend(workers.time_out(limit, now));
            let oldest = workers.oldest_dispatch();
            next = oldest.map_or(next, |dispatched| next.min(dispatched + limit));
        }
        self.fail(due, "Sandbox.Timedout", &timed_out(limit));
        next
    }
}

/// What observers ask for.
impl Invocations {
    /// How many polls are open.
    pub(crate) fn polls(&self) -> watch::Receiver<usize> {
        self.polls.subscribe()
    }

    pub(crate) fn most_polls(&self) -> usize {
        self.state().most_polls
    }

    /// Whether an execution environment takes events.
    pub(crate) fn has_environment(&self) -> bool {
        self.state().current.is_some()
    }

    /// What happened since the last call.
    pub(crate) fn take_activity(&self) -> Activity {
        let mut state = self.state();
        let state = &mut *state;
        let busy = state.current().map_or(0, Workers::in_flight);
        let next = Activity {
            most_busy: busy,
            ..Activity::default()
        };
        let mut activity = std::mem::replace(&mut state.activity, next);
        let here = state.current().map_or(0, |workers| {
            busy + workers.open_polls() + self.about_to_poll(state)
        });
        activity.gone = self.workers.saturating_sub(here);
        activity
    }

    /// Refuses the event at this place of the line.
    fn throttle(&self, state: &mut State, place: usize) -> InvokeError {
        state.activity.throttled += 1;
        if let Some(refused) = state.waiting.remove(place) {
            let (request_id, workers) = (refused.request.request_id, self.workers);
            warn!("invocation {request_id} was throttled: it found none of {workers} workers free");
            let event = &refused.request.event;
            let outcome = Err(InvokeError::TooManyRequests.into());
            (self.history).add(request_id, event, Duration::ZERO, outcome);
        }
        InvokeError::TooManyRequests
    }
}

impl State {
    fn current(&self) -> Option<&Workers> {
        self.environments.get(&self.current?)
    }

    /// The place of an event in the line.
    fn place(&self, request: &Arc<InvokeRequest>) -> Option<usize> {
        let is_it = |waiting: &Invocation| Arc::ptr_eq(&waiting.request, request);
        self.waiting.iter().rposition(is_it)
    }

    /// Puts an event back in line that did not reach the worker it was handed to.
    fn take_back(&mut self, environment: u64, request_id: Uuid) {
        let workers = self.environments.get_mut(&environment);
        let taken = workers.and_then(|workers| workers.take_in_flight(request_id));
        // A caller that has gone away wants no reply.
        if let Some(InFlight { invocation, .. }) = taken
            && !invocation.caller.is_closed()
        {
            self.waiting.push_front(invocation);
        }
    }
}

/// What a caller is told whose invocation has taken too long.
pub(crate) fn timed_out(limit: Duration) -> String {
    format!("Task timed out after {:.2} seconds", limit.as_secs_f64())
}

/// A reply that has not come yet.
pub(crate) struct PendingReply {
    invocations: Arc<Invocations>,
    request: Arc<InvokeRequest>,
    /// How long the event may wait for a worker.
    wait_limit: Duration,
    receiver: oneshot::Receiver<Reply>,
}

impl PendingReply {
    pub(crate) async fn reply(mut self) -> Result<Reply, InvokeError> {
        loop {
            match timeout(self.wait_limit, &mut self.receiver).await {
                Ok(reply) => return reply.map_err(|_| InvokeError::Terminated),
                Err(_) => self.throttle_if_waiting()?,
            }
        }
    }

    /// Refuses the event if it is still in line after the time limit.
    fn throttle_if_waiting(&mut self) -> Result<(), InvokeError> {
        let invocations = &self.invocations;
        let mut state = invocations.state();
        let Some(place) = state.place(&self.request) else {
            // A worker has it, but may still turn out to be gone, which puts the event back in line.
            self.wait_limit = invocations.timeout;
            return Ok(());
        };
        // A process that is starting has no worker yet, but soon will.
        let is_about_to_be_taken = state.current.is_none()
            || (invocations.queue == 0 && place < invocations.about_to_poll(&state));
        if is_about_to_be_taken {
            return Ok(());
        }
        Err(invocations.throttle(&mut state, place))
    }
}

impl Drop for PendingReply {
    /// An event whose caller goes away before a worker takes it is not handed out.
    fn drop(&mut self) {
        if let Err(TryRecvError::Closed) = self.receiver.try_recv() {
            return;
        }
        let mut state = self.invocations.state();
        if let Some(place) = state.place(&self.request) {
            state.waiting.remove(place);
        }
        if !state.is_terminated {
            let request_id = self.request.request_id;
            warn!("the caller of invocation {request_id} has gone away");
        }
    }
}

/// An open `/next`.
struct Poll<'a> {
    invocations: &'a Invocations,
    environment: u64,
    receiver: oneshot::Receiver<Dispatch>,
}

impl Drop for Poll<'_> {
    /// If the client of a poll goes away before it gets an event, the event goes to another poll.
    fn drop(&mut self) {
        if self.receiver.is_terminated() {
            return;
        }
        let mut state = self.invocations.state();
        // An event that was sent before can still be received.
        self.receiver.close();
        if let Ok(dispatch) = self.receiver.try_recv() {
            state.take_back(self.environment, dispatch.request.request_id);
        } else if let Some(workers) = state.environments.get_mut(&self.environment) {
            workers.poll_closed();
        }
        self.invocations.hand_out(&mut state);
    }
}
