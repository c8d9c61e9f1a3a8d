//! The invocations that wait for a worker or are in flight, and the polls that wait for an event.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;
use uuid::Uuid;

use crate::history::{History, Past};
use crate::lock::lock;
use crate::logs::Logs;

/// How long an event waits for a worker between its reply and its next poll, which is usually less
/// than a millisecond. A worker that takes longer counts as gone.
const RETURN_LIMIT: Duration = Duration::from_secs(1);

/// A year. It stands for no limit, so that `Instant` arithmetic cannot overflow.
const YEAR: Duration = Duration::from_hours(365 * 24);

/// How many events of invocation type `Event` may wait.
const MAX_ASYNCHRONOUS: usize = 1_000;

/// How many timed-out invocations are remembered, to tell a late reply from an unknown one.
const MAX_LATE: usize = 1_000;

/// The outcome of an invocation.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The invocation's request ID.
    pub request_id: Uuid,
    /// What the function returned, or a JSON object with `errorMessage` and `errorType`.
    pub payload: Bytes,
    /// Whether the function failed: it reported an error, timed out or exited.
    pub function_error: bool,
    /// The number of log lines before the event was handed to the function.
    pub(crate) first_line: u64,
}

/// Why an event was not given to the function.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// All workers are busy and the queue is full.
    #[error("Rate Exceeded.")]
    TooManyRequests,
    /// The payload is not JSON, or a header is invalid.
    #[error("{0}")]
    InvalidRequestContent(String),
    /// The payload is larger than its invocation type allows.
    #[error("{0}")]
    RequestTooLarge(String),
    /// The emulator is shutting down.
    #[error("the emulator is shutting down")]
    Terminated,
}

impl InvokeError {
    /// The payload is larger than `limit` bytes.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::RequestTooLarge(format!(
            "Request must be smaller than {limit} bytes for the InvokeFunction operation"
        ))
    }
}

/// What a caller asks for.
pub(crate) struct InvokeRequest {
    pub(crate) request_id: Uuid,
    /// The event, on its way to the function.
    pub(crate) payload: Bytes,
    /// The same event, for the history.
    pub(crate) event: Bytes,
    pub(crate) function_arn: HeaderValue,
    pub(crate) trace_id: HeaderValue,
    pub(crate) client_context: Option<HeaderValue>,
    /// Whether nobody waits for the reply, so that the event may wait for a worker.
    pub(crate) asynchronous: bool,
}

/// Who polls and replies. Workers are told apart by their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    /// The number of its execution environment.
    pub(crate) environment: u64,
    /// The number of its connection to the Runtime API.
    pub(crate) connection: u64,
}

/// An event on its way to a worker.
pub(crate) struct Dispatch {
    /// Identifies the attempt: an event that is handed out again gets another.
    pub(crate) invocation_id: Uuid,
    /// Milliseconds since the epoch.
    pub(crate) deadline_ms: u64,
    pub(crate) request: InvokeRequest,
}

type ReplySender = oneshot::Sender<Reply>;

struct Waiting {
    dispatch: Dispatch,
    reply: ReplySender,
}

struct InFlight {
    worker: Worker,
    invocation_id: Uuid,
    event: Bytes,
    reply: ReplySender,
    dispatched: Instant,
    first_line: u64,
}

struct OpenPoll {
    worker: Worker,
    sender: oneshot::Sender<Dispatch>,
}

/// A worker that neither polls nor has an event.
struct Returning {
    worker: Worker,
    since: Instant,
}

/// What happened in a period.
#[derive(Default)]
pub(crate) struct Activity {
    /// Of each invocation, from the dispatch of its event to its reply.
    pub(crate) durations: Vec<Duration>,
    pub(crate) function_errors: usize,
    pub(crate) throttled: usize,
    /// The highest number of workers that had an event at once.
    pub(crate) most_busy: usize,
}

/// Why a reply is refused.
pub(crate) enum Refusal {
    /// No such invocation is in flight.
    Unknown,
    /// The invocation has timed out.
    Late,
    /// The reply belongs to an earlier attempt.
    Stale,
}

/// The outcome of an execution environment's init phase: ready, or the body of `/init/error`.
pub(crate) type Init = Result<(), Bytes>;

/// An init phase that is not over.
struct Starting {
    environment: u64,
    outcome: oneshot::Sender<Init>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No process has polled yet. Events may wait.
    Init,
    Ready,
    Terminated,
}

struct State {
    phase: Phase,
    /// The number of the execution environment that gets the events, 0 while there is none.
    environment: u64,
    newest_environment: u64,
    starting: Option<Starting>,
    /// The open polls, oldest first. Invariant: `polls` or `waiting` is empty.
    polls: VecDeque<OpenPoll>,
    waiting: VecDeque<Waiting>,
    in_flight: HashMap<Uuid, InFlight>,
    /// The workers that neither poll nor have an event, longest first.
    returning: VecDeque<Returning>,
    /// The workers that still have a timed-out event.
    overdue: Vec<Worker>,
    /// Invocations in flight in environments that were replaced. They may finish.
    draining: HashMap<Uuid, InFlight>,
    /// Open polls of environments that were replaced. They get no event.
    parked: Vec<OpenPoll>,
    /// Environments that were replaced and have not ended.
    replaced: Vec<u64>,
    /// Timed-out invocations whose reply has not come, oldest first.
    late: VecDeque<Uuid>,
    most_polls: usize,
    /// `None` while nobody wants to know.
    activity: Option<Activity>,
}

pub(crate) struct Invocations {
    state: Mutex<State>,
    polls: watch::Sender<usize>,
    /// Notified when an invocation in `State::draining` ends.
    drained: Notify,
    workers: usize,
    queue: usize,
    timeout: Duration,
    logs: Arc<Logs>,
    pub(crate) history: History,
}

impl Invocations {
    pub(crate) fn new(workers: usize, queue: usize, timeout: Duration, logs: Arc<Logs>) -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Init,
                environment: 0,
                newest_environment: 0,
                starting: None,
                polls: VecDeque::new(),
                waiting: VecDeque::new(),
                in_flight: HashMap::new(),
                returning: VecDeque::new(),
                overdue: Vec::new(),
                draining: HashMap::new(),
                parked: Vec::new(),
                replaced: Vec::new(),
                late: VecDeque::new(),
                most_polls: 0,
                activity: None,
            }),
            polls: watch::Sender::new(0),
            drained: Notify::new(),
            workers,
            queue,
            timeout: match timeout {
                Duration::ZERO => YEAR,
                limit => limit.clamp(Duration::from_millis(1), YEAR),
            },
            logs,
            history: History::new(),
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
        let (request_id, asynchronous) = (request.request_id, request.asynchronous);
        let (sender, receiver) = oneshot::channel();
        let mut pending = PendingReply {
            invocations: Arc::clone(self),
            request_id,
            wait_limit: (!asynchronous).then_some(self.timeout),
            receiver,
        };
        let mut state = self.state();
        if state.phase == Phase::Terminated {
            return Err(InvokeError::Terminated);
        }
        state.waiting.push_back(Waiting {
            dispatch: Dispatch {
                invocation_id: Uuid::new_v4(),
                deadline_ms: 0,
                request,
            },
            reply: sender,
        });
        self.hand_out(&mut state);
        let last = state.waiting.back();
        if last.is_none_or(|last| last.dispatch.request.request_id != request_id) {
            return Ok(pending);
        }
        let ahead = state.waiting.len() - 1;
        if asynchronous && ahead < self.workers + MAX_ASYNCHRONOUS {
            return Ok(pending);
        } else if ahead < self.queue.saturating_add(self.about_to_poll(&state)) {
            if self.queue == 0 {
                pending.wait_limit = Some(RETURN_LIMIT);
            }
            return Ok(pending);
        }
        state.waiting.pop_back();
        Err(state.throttle())
    }

    /// How many workers can be expected to poll within [`RETURN_LIMIT`].
    fn about_to_poll(&self, state: &State) -> usize {
        match state.phase {
            Phase::Init => self.workers,
            Phase::Ready => {
                let is_recent = |returning: &&Returning| returning.since.elapsed() < RETURN_LIMIT;
                let recent = state.returning.iter().filter(is_recent).count();
                // Which worker polls is a guess if workers share connections. The sum is certain.
                recent.min((self.workers).saturating_sub(state.polls.len() + state.busy()))
            }
            Phase::Terminated => 0,
        }
    }
}

/// What the function asks for.
impl Invocations {
    /// The next event for a worker. `None` once its execution environment has ended.
    pub(crate) async fn next(&self, worker: Worker) -> Option<Dispatch> {
        self.poll(worker)?.dispatch().await
    }

    fn poll(&self, worker: Worker) -> Option<Poll<'_>> {
        let environment = worker.environment;
        let mut state = self.state();
        if let Some(starting) =
            (state.starting).take_if(|starting| starting.environment == environment)
        {
            state.replace_environment(environment, self.workers);
            let _ = starting.outcome.send(Ok(()));
        }
        let (sender, receiver) = oneshot::channel();
        let poll = OpenPoll { worker, sender };
        if environment == state.environment {
            state.worker_polls(worker);
            state.polls.push_back(poll);
            state.most_polls = state.most_polls.max(state.polls.len());
            self.hand_out(&mut state);
        } else if state.replaced.contains(&environment) {
            state.parked.push(poll);
        } else {
            return None;
        }
        Some(Poll {
            invocations: self,
            worker,
            receiver,
        })
    }

    /// Gives waiting events to open polls, the oldest to the oldest.
    fn hand_out(&self, state: &mut State) {
        while let Some(poll) = state.polls.pop_front() {
            let Some(waiting) = state.next_waiting() else {
                state.polls.push_front(poll);
                break;
            };
            let Waiting {
                mut dispatch,
                reply,
            } = waiting;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let deadline = now.saturating_add(self.timeout).as_millis();
            dispatch.deadline_ms = u64::try_from(deadline).unwrap_or(u64::MAX);
            let in_flight = InFlight {
                worker: poll.worker,
                invocation_id: dispatch.invocation_id,
                event: dispatch.request.event.clone(),
                reply,
                dispatched: Instant::now(),
                first_line: self.logs.count(),
            };
            let request_id = dispatch.request.request_id;
            match poll.sender.send(dispatch) {
                Ok(()) => {
                    state.in_flight.insert(request_id, in_flight);
                    let busy = state.busy();
                    if let Some(activity) = &mut state.activity {
                        activity.most_busy = activity.most_busy.max(busy);
                    }
                }
                // The client of that poll has gone away.
                Err(dispatch) => state.waiting.push_front(Waiting {
                    dispatch,
                    reply: in_flight.reply,
                }),
            }
        }
        self.polls.send_replace(state.polls.len());
    }

    /// Takes an event back that does not reach its worker, and hands it to another poll.
    pub(crate) fn give_back(&self, dispatch: Dispatch) {
        let mut state = self.state();
        state.take_back(dispatch, self.workers);
        self.hand_out(&mut state);
    }

    /// Whether a reply to this invocation would be accepted.
    pub(crate) fn check(
        &self,
        request_id: Uuid,
        invocation_id: Option<&str>,
    ) -> Result<(), Refusal> {
        self.state().check(request_id, invocation_id)
    }

    /// Accepts the reply of a worker, or the body of its error.
    pub(crate) fn reply(
        &self,
        worker: Worker,
        request_id: Uuid,
        invocation_id: Option<&str>,
        payload: Bytes,
        function_error: bool,
    ) -> Result<(), Refusal> {
        let mut state = self.state();
        let checked = state.check(request_id, invocation_id);
        match checked {
            Ok(()) => {
                if let Some(in_flight) = state.in_flight.remove(&request_id) {
                    state.worker_returns(worker, self.workers);
                    self.settle(state, in_flight, request_id, payload, function_error);
                } else if let Some(in_flight) = state.draining.remove(&request_id) {
                    self.settle(state, in_flight, request_id, payload, function_error);
                    self.drained.notify_waiters();
                }
            }
            Err(Refusal::Late) => {
                state.late.retain(|late| *late != request_id);
                let is_current = worker.environment == state.environment;
                if is_current && (state.remove_overdue(worker) || state.overdue.pop().is_some()) {
                    state.worker_returns(worker, self.workers);
                }
            }
            Err(_) => {}
        }
        checked
    }

    /// Gives the caller the outcome of an invocation that is no longer in flight.
    fn settle(
        &self,
        mut state: MutexGuard<'_, State>,
        ended: InFlight,
        request_id: Uuid,
        payload: Bytes,
        function_error: bool,
    ) {
        let duration = ended.dispatched.elapsed();
        if let Some(activity) = &mut state.activity {
            activity.durations.push(duration);
            activity.function_errors += usize::from(function_error);
        }
        drop(state);
        self.history.add(Past {
            request_id,
            ended: SystemTime::now(),
            duration,
            connection: ended.worker.connection,
            event: ended.event,
            reply: payload.clone(),
            function_error,
            first_line: ended.first_line,
        });
        // A caller that has gone away wants no reply.
        let _ = ended.reply.send(Reply {
            request_id,
            payload,
            function_error,
            first_line: ended.first_line,
        });
    }

    /// Handles `POST /init/error`.
    pub(crate) fn init_error(&self, environment: u64, body: Bytes) -> Result<(), Refusal> {
        let mut state = self.state();
        let starting = (state.starting)
            .take_if(|starting| starting.environment == environment)
            .ok_or(Refusal::Unknown)?;
        let _ = starting.outcome.send(Err(body));
        Ok(())
    }
}

/// What happens to execution environments.
impl Invocations {
    /// Begins the init phase of a new execution environment. It gets the events from its first poll
    /// on. Returns its number and the outcome of the init phase.
    pub(crate) fn start_environment(&self) -> (u64, oneshot::Receiver<Init>) {
        let (outcome, receiver) = oneshot::channel();
        let mut state = self.state();
        state.newest_environment += 1;
        let environment = state.newest_environment;
        state.starting = Some(Starting {
            environment,
            outcome,
        });
        (environment, receiver)
    }

    /// Waits until nothing is in flight in an execution environment that was replaced.
    pub(crate) async fn wait_until_drained(&self, environment: u64) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            let is_of = |in_flight: &InFlight| in_flight.worker.environment == environment;
            if !self.state().draining.values().any(is_of) {
                return;
            }
            drained.await;
        }
    }

    /// The environment's process is gone. The callers whose events it had get `reason` as the error.
    pub(crate) fn environment_ended(&self, environment: u64, reason: &str) {
        let mut state = self.state();
        state
            .starting
            .take_if(|starting| starting.environment == environment);
        let mut lost: Vec<_> = if environment == state.environment {
            if state.phase == Phase::Ready {
                state.phase = Phase::Init;
            }
            state.environment = 0;
            state.polls.clear();
            state.returning.clear();
            state.overdue.clear();
            self.polls.send_replace(0);
            state.in_flight.drain().collect()
        } else {
            let is_of =
                |_: &Uuid, in_flight: &mut InFlight| in_flight.worker.environment == environment;
            state.draining.extract_if(is_of).collect()
        };
        state.replaced.retain(|replaced| *replaced != environment);
        state
            .parked
            .retain(|poll| poll.worker.environment != environment);
        drop(state);
        for (request_id, in_flight) in lost.drain(..) {
            let error = error(request_id, "Runtime.ExitError", reason);
            self.settle(self.state(), in_flight, request_id, error, true);
        }
        self.drained.notify_waiters();
    }

    /// The process could not be started again. Each waiting caller gets the error that `describe`
    /// returns for its request ID.
    pub(crate) fn fail_waiting(&self, describe: impl Fn(Uuid) -> Bytes) {
        let first_line = self.logs.count();
        for Waiting { dispatch, reply } in self.state().waiting.drain(..) {
            let request_id = dispatch.request.request_id;
            let _ = reply.send(Reply {
                request_id,
                payload: describe(request_id),
                function_error: true,
                first_line,
            });
        }
    }

    /// Hands out no event from now on.
    pub(crate) fn terminate(&self) {
        let mut state = self.state();
        state.phase = Phase::Terminated;
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
        let mut state = self.state();
        let limit = self.timeout;
        let is_due = |_: &Uuid, in_flight: &mut InFlight| in_flight.dispatched + limit <= now;
        let mut due: Vec<_> = state.in_flight.extract_if(is_due).collect();
        for (_, in_flight) in &due {
            // A worker that lost the event may have polled again.
            if state.polls.len() + state.busy() < self.workers {
                state.overdue.push(in_flight.worker);
            }
        }
        due.extend(state.draining.extract_if(is_due));
        for (request_id, _) in &due {
            state.late.push_back(*request_id);
            if state.late.len() > MAX_LATE {
                state.late.pop_front();
            }
        }
        // Every invocation has the same limit, so nothing handed out later can be due earlier.
        let in_flight = state.in_flight.values().chain(state.draining.values());
        let next = in_flight
            .map(|in_flight| in_flight.dispatched + limit)
            .min()
            .unwrap_or(now + limit);
        drop(state);
        for (request_id, in_flight) in due {
            let reason = format!("Task timed out after {:.2} seconds", limit.as_secs_f64());
            let error = error(request_id, "Sandbox.Timedout", &reason);
            self.settle(self.state(), in_flight, request_id, error, true);
        }
        self.drained.notify_waiters();
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

    /// What happened since the last call, and how many workers neither poll nor have an event now.
    /// Recording goes on until [`stop_recording`](Self::stop_recording).
    pub(crate) fn take_activity(&self) -> (Activity, usize) {
        let mut state = self.state();
        let most_busy = state.busy();
        let next = Activity {
            most_busy,
            ..Activity::default()
        };
        let activity = state.activity.replace(next).unwrap_or_default();
        let missing = self.workers.saturating_sub(state.polls.len() + most_busy);
        (activity, missing)
    }

    pub(crate) fn stop_recording(&self) {
        self.state().activity = None;
    }
}

impl State {
    /// How many workers have an event.
    fn busy(&self) -> usize {
        self.in_flight.len() + self.overdue.len()
    }

    fn throttle(&mut self) -> InvokeError {
        if let Some(activity) = &mut self.activity {
            activity.throttled += 1;
        }
        InvokeError::TooManyRequests
    }

    /// The first event in line whose caller still waits.
    fn next_waiting(&mut self) -> Option<Waiting> {
        loop {
            let waiting = self.waiting.pop_front()?;
            if !waiting.reply.is_closed() {
                return Some(waiting);
            }
        }
    }

    /// The place of an event in the line.
    fn place(&self, request_id: Uuid) -> Option<usize> {
        (self.waiting.iter()).position(|waiting| waiting.dispatch.request.request_id == request_id)
    }

    /// Gives the events to another execution environment. The one before may finish what it has.
    fn replace_environment(&mut self, environment: u64, workers: usize) {
        if self.environment != 0 {
            self.replaced.push(self.environment);
        }
        self.draining.extend(self.in_flight.drain());
        self.parked.extend(self.polls.drain(..));
        self.overdue.clear();
        // Its workers are about to poll for the first time.
        let returning = || Returning {
            worker: Worker {
                environment,
                connection: 0,
            },
            since: Instant::now(),
        };
        self.returning = std::iter::repeat_with(returning).take(workers).collect();
        self.environment = environment;
        if self.phase == Phase::Init {
            self.phase = Phase::Ready;
        }
    }

    fn worker_polls(&mut self, worker: Worker) {
        let same = |returning: &Returning| returning.worker == worker;
        if let Some(place) = self.returning.iter().position(same) {
            self.returning.remove(place);
            return;
        }
        let has_event = |in_flight: &InFlight| in_flight.worker == worker;
        // A worker that polls on the connection of its last event repeats its reply elsewhere.
        if self.remove_overdue(worker) || self.in_flight.values().any(has_event) {
            return;
        }
        // A new connection: the worker that has been away longest has probably opened it.
        if self.returning.pop_front().is_none() {
            self.overdue.pop();
        }
    }

    /// Notes that a worker has no event any more and will poll.
    fn worker_returns(&mut self, worker: Worker, workers: usize) {
        // It may have polled already, if it repeated its reply on another connection.
        if self.polls.len() + self.busy() + self.returning.len() < workers {
            self.returning.push_back(Returning {
                worker,
                since: Instant::now(),
            });
        }
    }

    /// Notes that a worker has no timed-out event any more. Returns whether it had one.
    fn remove_overdue(&mut self, worker: Worker) -> bool {
        let place = self.overdue.iter().position(|overdue| *overdue == worker);
        place.map(|place| self.overdue.swap_remove(place)).is_some()
    }

    /// Puts an event back in line that did not reach the worker it was handed to.
    fn take_back(&mut self, mut dispatch: Dispatch, workers: usize) {
        let request_id = dispatch.request.request_id;
        let in_flight = (self.in_flight.remove(&request_id))
            .inspect(|in_flight| self.worker_returns(in_flight.worker, workers))
            .or_else(|| self.draining.remove(&request_id));
        if let Some(in_flight) = in_flight {
            dispatch.invocation_id = Uuid::new_v4();
            self.waiting.push_front(Waiting {
                dispatch,
                reply: in_flight.reply,
            });
        }
    }

    fn check(&self, request_id: Uuid, invocation_id: Option<&str>) -> Result<(), Refusal> {
        let in_flight = self.in_flight.get(&request_id);
        match in_flight.or_else(|| self.draining.get(&request_id)) {
            // Runtimes older than the header do not echo it.
            Some(in_flight) => match invocation_id.map(Uuid::try_parse) {
                None => Ok(()),
                Some(Ok(id)) if id == in_flight.invocation_id => Ok(()),
                Some(_) => Err(Refusal::Stale),
            },
            None if self.late.contains(&request_id) => Err(Refusal::Late),
            None => Err(Refusal::Unknown),
        }
    }
}

/// An error of the function in the words of Lambda.
pub(crate) fn error(request_id: Uuid, error_type: &str, reason: &str) -> Bytes {
    json!({
        "errorType": error_type,
        "errorMessage": format!("RequestId: {request_id} Error: {reason}"),
    })
    .to_string()
    .into()
}

/// A reply that has not come yet.
pub(crate) struct PendingReply {
    invocations: Arc<Invocations>,
    request_id: Uuid,
    /// How long the event may wait for a worker.
    wait_limit: Option<Duration>,
    receiver: oneshot::Receiver<Reply>,
}

impl PendingReply {
    pub(crate) async fn reply(mut self) -> Result<Reply, InvokeError> {
        while let Some(limit) = self.wait_limit {
            match timeout(limit, &mut self.receiver).await {
                Ok(reply) => return reply.map_err(|_| InvokeError::Terminated),
                Err(_) => self.throttle_if_waiting()?,
            }
        }
        (&mut self.receiver)
            .await
            .map_err(|_| InvokeError::Terminated)
    }

    /// Refuses the event if it is still in line after the time limit.
    fn throttle_if_waiting(&mut self) -> Result<(), InvokeError> {
        let invocations = &self.invocations;
        let mut state = invocations.state();
        let Some(place) = state.place(self.request_id) else {
            // A worker has it, but may still turn out to be gone, which puts the event back in line.
            self.wait_limit = Some(invocations.timeout);
            return Ok(());
        };
        // A process that starts is worth waiting for.
        let is_about_to_be_taken = state.phase == Phase::Init
            || (invocations.queue == 0 && place < invocations.about_to_poll(&state));
        if is_about_to_be_taken {
            return Ok(());
        }
        state.waiting.remove(place);
        Err(state.throttle())
    }
}

impl Drop for PendingReply {
    /// An event whose caller goes away before a worker takes it is not handed out.
    fn drop(&mut self) {
        if self.receiver.is_terminated()
            || matches!(self.receiver.try_recv(), Err(TryRecvError::Closed))
        {
            return;
        }
        let mut state = self.invocations.state();
        if let Some(place) = state.place(self.request_id) {
            state.waiting.remove(place);
        }
        if state.phase != Phase::Terminated {
            warn!("the caller of invocation {} has gone away", self.request_id);
        }
    }
}

/// An open `/next`.
struct Poll<'a> {
    invocations: &'a Invocations,
    worker: Worker,
    receiver: oneshot::Receiver<Dispatch>,
}

impl Poll<'_> {
    async fn dispatch(mut self) -> Option<Dispatch> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Poll<'_> {
    /// If the client of a poll goes away before it gets an event, the event goes to another poll.
    fn drop(&mut self) {
        if self.receiver.is_terminated() {
            return;
        }
        let invocations = self.invocations;
        let mut state = invocations.state();
        // An event that was sent before can still be received.
        self.receiver.close();
        let before = state.polls.len();
        state.polls.retain(|poll| !poll.sender.is_closed());
        state.parked.retain(|poll| !poll.sender.is_closed());
        match self.receiver.try_recv() {
            Ok(dispatch) => state.take_back(dispatch, invocations.workers),
            Err(_) if state.polls.len() < before => {
                state.worker_returns(self.worker, invocations.workers);
            }
            Err(_) => {}
        }
        invocations.hand_out(&mut state);
    }
}
