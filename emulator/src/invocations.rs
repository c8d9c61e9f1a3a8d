//! The invocations that wait for a worker or are with one, and the polls that wait for an event.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;
use uuid::Uuid;

use crate::faults::Faults;
use crate::lock;
use crate::logs::Logs;

/// How long an event waits for the next poll of a worker that has just answered, which usually takes
/// less than a millisecond. With a queue it may wait like the events in it.
const POLL_GRACE: Duration = Duration::from_millis(50);

/// No time-out is longer: a year.
const MAX_TIMEOUT: Duration = Duration::from_hours(365 * 24);

/// How many events of invocation type `Event` may wait.
const MAX_ASYNCHRONOUS: usize = 1_000;

/// How many timed-out invocations are remembered, to tell a late answer from an unknown one.
const MAX_LATE: usize = 1_000;

/// What an invocation came to.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The invocation's request id.
    pub request_id: Uuid,
    /// The function's reply, or a JSON object with `errorMessage` and `errorType`.
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
    /// The payload is not JSON, or a header cannot be read.
    #[error("{0}")]
    InvalidRequestContent(String),
    /// The payload is larger than the limit of its invocation type.
    #[error("{0}")]
    RequestTooLarge(String),
    /// The emulator is being terminated.
    #[error("the emulator is being terminated")]
    Terminated,
}

/// What a caller asks for.
pub(crate) struct Invocation {
    pub(crate) payload: Bytes,
    pub(crate) function_arn: HeaderValue,
    pub(crate) trace_id: Option<HeaderValue>,
    pub(crate) client_context: Option<HeaderValue>,
    /// Whether nobody waits for the reply, so that the event may wait for a worker.
    pub(crate) asynchronous: bool,
}

/// An event on its way to a worker.
pub(crate) struct Event {
    pub(crate) request_id: Uuid,
    /// Unique to the attempt: an event handed out again gets another.
    pub(crate) invocation_id: Uuid,
    /// Milliseconds since the epoch.
    pub(crate) deadline_ms: u64,
    pub(crate) invocation: Invocation,
}

type ReplySender = oneshot::Sender<Reply>;

struct Waiting {
    event: Event,
    reply: ReplySender,
}

struct InFlight {
    invocation_id: Uuid,
    reply: ReplySender,
    dispatched: Instant,
    first_line: u64,
}

/// What has happened since somebody last looked, while somebody does.
#[derive(Default)]
pub(crate) struct Activity {
    /// From an event's dispatch to its reply.
    pub(crate) durations: Vec<Duration>,
    pub(crate) function_errors: usize,
    pub(crate) throttled: usize,
    /// The highest number of workers that had an event at once.
    pub(crate) most_busy: usize,
}

/// What an answer of the function is refused for.
pub(crate) enum Refusal {
    /// No such invocation, or it has been answered.
    Unknown,
    /// The invocation has timed out.
    Late,
    /// The answer belongs to an earlier attempt.
    Stale,
}

/// What an execution environment's init phase came to: ready, or the body of `/init/error`.
pub(crate) type Init = Result<(), Bytes>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No process has polled yet. Events may wait.
    Init,
    Ready {
        since: Instant,
    },
    Terminated,
}

struct State {
    phase: Phase,
    /// The number of the current execution environment. Requests of an earlier one are refused: they
    /// may still be in a socket when its process has long been gone.
    environment: u64,
    init: Option<oneshot::Sender<Init>>,
    /// The open polls, oldest first. Either these or those who wait are none.
    polls: VecDeque<(u64, oneshot::Sender<Event>)>,
    poll_count: u64,
    waiting: VecDeque<Waiting>,
    in_flight: HashMap<Uuid, InFlight>,
    /// How many workers are still at an invocation that has timed out.
    overdue: usize,
    /// Timed-out invocations that have not been answered, oldest first.
    late: VecDeque<Uuid>,
    most_polls: usize,
    /// `None` while nobody looks.
    activity: Option<Activity>,
}

pub(crate) struct Invocations {
    state: Mutex<State>,
    polls: watch::Sender<usize>,
    workers: usize,
    queue: usize,
    timeout: Duration,
    pub(crate) logs: Arc<Logs>,
    pub(crate) faults: Faults,
}

impl Invocations {
    pub(crate) fn new(workers: usize, queue: usize, timeout: Duration, logs: Arc<Logs>) -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Init,
                environment: 0,
                init: None,
                polls: VecDeque::new(),
                poll_count: 0,
                waiting: VecDeque::new(),
                in_flight: HashMap::new(),
                overdue: 0,
                late: VecDeque::new(),
                most_polls: 0,
                activity: None,
            }),
            polls: watch::Sender::new(0),
            workers,
            queue,
            // Zero would leave no time to look at the clock, and there is an end to the calendar.
            timeout: timeout.clamp(Duration::from_millis(1), MAX_TIMEOUT),
            logs,
            faults: Faults::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    // --- The callers' side ---

    /// Hands an event to a worker, or puts it in line.
    pub(crate) fn submit(
        self: &Arc<Self>,
        request_id: Uuid,
        invocation: Invocation,
    ) -> Result<Caller, InvokeError> {
        let asynchronous = invocation.asynchronous;
        let event = Event {
            request_id,
            invocation_id: Uuid::new_v4(),
            deadline_ms: 0,
            invocation,
        };
        let (sender, receiver) = oneshot::channel();
        let mut caller = Caller {
            invocations: Arc::clone(self),
            request_id,
            patience: (!asynchronous).then_some(self.timeout),
            receiver,
        };
        let mut state = self.state();
        if state.phase == Phase::Terminated {
            return Err(InvokeError::Terminated);
        }
        state.waiting.push_back(Waiting {
            event,
            reply: sender,
        });
        self.hand_out(&mut state);
        let last = state.waiting.back();
        if last.is_none_or(|last| last.event.request_id != request_id) {
            return Ok(caller);
        }
        let before = state.busy() + state.waiting.len() - 1;
        if asynchronous && before < self.workers + MAX_ASYNCHRONOUS {
            return Ok(caller);
        } else if before < self.workers.saturating_add(self.queue) {
            if self.queue == 0 {
                caller.patience = Some(POLL_GRACE);
            }
            return Ok(caller);
        }
        state.waiting.pop_back();
        Err(state.throttle())
    }

    // --- The function's side ---

    /// The next event for a worker of the given execution environment. `None` once that has ended.
    pub(crate) async fn next(&self, environment: u64) -> Option<Event> {
        self.poll(environment)?.event().await
    }

    fn poll(&self, environment: u64) -> Option<Poll<'_>> {
        let mut state = self.state();
        if environment != state.environment {
            return None;
        }
        if state.phase == Phase::Init {
            state.phase = Phase::Ready {
                since: Instant::now(),
            };
        }
        if let Some(init) = state.init.take() {
            let _ = init.send(Ok(()));
        }
        let (sender, receiver) = oneshot::channel();
        let number = state.poll_count;
        state.poll_count += 1;
        state.polls.push_back((number, sender));
        state.most_polls = state.most_polls.max(state.polls.len());
        // More polls than free workers: one of those believed to be at a timed-out invocation is not.
        if state.polls.len() + state.busy() > self.workers {
            state.overdue = state.overdue.saturating_sub(1);
        }
        self.hand_out(&mut state);
        Some(Poll {
            invocations: self,
            number,
            receiver,
        })
    }

    /// Gives waiting events to open polls, the oldest first.
    fn hand_out(&self, state: &mut State) {
        while !state.polls.is_empty()
            && let Some(Waiting { mut event, reply }) = state.waiting.pop_front()
        {
            if reply.is_closed() {
                continue;
            }
            let Some((_, poll)) = state.polls.pop_front() else {
                break;
            };
            let deadline = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let deadline = deadline.saturating_add(self.timeout).as_millis();
            event.deadline_ms = u64::try_from(deadline).unwrap_or(u64::MAX);
            let in_flight = InFlight {
                invocation_id: event.invocation_id,
                reply,
                dispatched: Instant::now(),
                first_line: self.logs.count(),
            };
            let request_id = event.request_id;
            match poll.send(event) {
                Ok(()) => {
                    state.in_flight.insert(request_id, in_flight);
                    let busy = state.busy();
                    if let Some(activity) = &mut state.activity {
                        activity.most_busy = activity.most_busy.max(busy);
                    }
                }
                // That worker has gone away.
                Err(event) => state.waiting.push_front(Waiting {
                    event,
                    reply: in_flight.reply,
                }),
            }
        }
        self.polls.send_replace(state.polls.len());
    }

    /// Takes an event back that its worker is not to get, for another poll.
    pub(crate) fn give_back(&self, event: Event) {
        let mut state = self.state();
        state.take_back(event);
        self.hand_out(&mut state);
    }

    /// Whether an answer to this invocation would be accepted.
    pub(crate) fn check(
        &self,
        request_id: Uuid,
        invocation_id: Option<&str>,
    ) -> Result<(), Refusal> {
        self.state().check(request_id, invocation_id)
    }

    /// The function's answer: its reply, or the body of its error.
    pub(crate) fn answer(
        &self,
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
                    state.record(&in_flight, function_error);
                    drop(state);
                    in_flight.settle(request_id, payload, function_error);
                }
            }
            Err(Refusal::Late) => {
                state.late.retain(|late| *late != request_id);
                state.overdue = state.overdue.saturating_sub(1);
            }
            Err(_) => {}
        }
        checked
    }

    /// The function cannot start, it says.
    pub(crate) fn init_error(&self, environment: u64, body: Bytes) -> Result<(), Refusal> {
        let mut state = self.state();
        if environment != state.environment {
            return Err(Refusal::Stale);
        }
        let init = state.init.take().ok_or(Refusal::Unknown)?;
        let _ = init.send(Err(body));
        Ok(())
    }

    // --- The execution environment's side ---

    /// Begins the init phase of a new execution environment. Returns its number and what tells the
    /// outcome.
    pub(crate) fn begin(&self) -> (u64, oneshot::Receiver<Init>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.environment += 1;
        state.init = Some(sender);
        (state.environment, receiver)
    }

    /// The process is gone: those whose events it had get `reason` as their error.
    pub(crate) fn environment_ended(&self, reason: &str) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Ready { .. }) {
            state.phase = Phase::Init;
        }
        state.environment += 1;
        state.init = None;
        state.polls.clear();
        state.overdue = 0;
        state.late.clear();
        self.polls.send_replace(0);
        for (request_id, in_flight) in std::mem::take(&mut state.in_flight) {
            state.record(&in_flight, true);
            let error = error(request_id, "Runtime.ExitError", reason);
            in_flight.settle(request_id, error, true);
        }
    }

    /// The process could not be started again: those who wait for it get the error that `describe`
    /// gives for their request id.
    pub(crate) fn init_failed(&self, describe: impl Fn(Uuid) -> Bytes) {
        let first_line = self.logs.count();
        for Waiting { event, reply } in self.state().waiting.drain(..) {
            let _ = reply.send(Reply {
                request_id: event.request_id,
                payload: describe(event.request_id),
                function_error: true,
                first_line,
            });
        }
    }

    /// No event is handed out from now on.
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

    /// Times out the invocations that are due. Returns when to look again.
    fn time_out(&self, now: Instant) -> Instant {
        let mut state = self.state();
        let due = state
            .in_flight
            .extract_if(|_, in_flight| in_flight.dispatched + self.timeout <= now);
        for (request_id, in_flight) in due.collect::<Vec<_>>() {
            state.record(&in_flight, true);
            state.late.push_back(request_id);
            if state.late.len() > MAX_LATE {
                state.late.pop_front();
            }
            if state.polls.len() + state.busy() < self.workers {
                state.overdue += 1;
            }
            let seconds = self.timeout.as_secs_f64();
            let reason = format!("Task timed out after {seconds:.2} seconds");
            in_flight.settle(
                request_id,
                error(request_id, "Sandbox.Timedout", &reason),
                true,
            );
        }
        // All have the same time, so what is handed out later is not due before this.
        let later = now + self.timeout;
        state
            .in_flight
            .values()
            .map(|in_flight| in_flight.dispatched + self.timeout)
            .min()
            .unwrap_or(later)
    }

    // --- For whoever watches ---

    pub(crate) fn polls(&self) -> watch::Receiver<usize> {
        self.polls.subscribe()
    }

    pub(crate) fn most_polls(&self) -> usize {
        self.state().most_polls
    }

    /// Returns what has happened since this was last called, and how many workers neither poll nor
    /// have an event now. Until [`look_away`](Self::look_away), what happens is kept for the next
    /// call.
    pub(crate) fn look(&self) -> (Activity, usize) {
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

    pub(crate) fn look_away(&self) {
        self.state().activity = None;
    }
}

impl State {
    /// How many workers have an event.
    fn busy(&self) -> usize {
        self.in_flight.len() + self.overdue
    }

    fn throttle(&mut self) -> InvokeError {
        if let Some(activity) = &mut self.activity {
            activity.throttled += 1;
        }
        InvokeError::TooManyRequests
    }

    fn record(&mut self, ended: &InFlight, function_error: bool) {
        if let Some(activity) = &mut self.activity {
            activity.durations.push(ended.dispatched.elapsed());
            activity.function_errors += usize::from(function_error);
        }
    }

    /// Where in the line an event stands.
    fn place(&self, request_id: Uuid) -> Option<usize> {
        (self.waiting.iter()).position(|waiting| waiting.event.request_id == request_id)
    }

    /// Takes an event back that did not reach the worker it was handed to.
    fn take_back(&mut self, mut event: Event) {
        if let Some(in_flight) = self.in_flight.remove(&event.request_id) {
            event.invocation_id = Uuid::new_v4();
            self.waiting.push_front(Waiting {
                event,
                reply: in_flight.reply,
            });
        }
    }

    fn check(&self, request_id: Uuid, invocation_id: Option<&str>) -> Result<(), Refusal> {
        match self.in_flight.get(&request_id) {
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

impl InFlight {
    fn settle(self, request_id: Uuid, payload: Bytes, function_error: bool) {
        // A caller that has gone away wants no reply.
        let _ = self.reply.send(Reply {
            request_id,
            payload,
            function_error,
            first_line: self.first_line,
        });
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

/// Someone who waits for a reply.
pub(crate) struct Caller {
    invocations: Arc<Invocations>,
    request_id: Uuid,
    /// How long the event may wait for a worker.
    patience: Option<Duration>,
    receiver: oneshot::Receiver<Reply>,
}

impl Caller {
    pub(crate) async fn reply(mut self) -> Result<Reply, InvokeError> {
        while let Some(patience) = self.patience {
            match timeout(patience, &mut self.receiver).await {
                Ok(reply) => return reply.map_err(|_| InvokeError::Terminated),
                Err(_) => self.lose_patience()?,
            }
        }
        (&mut self.receiver)
            .await
            .map_err(|_| InvokeError::Terminated)
    }

    fn lose_patience(&mut self) -> Result<(), InvokeError> {
        let mut state = self.invocations.state();
        match state.place(self.request_id) {
            // A worker has it, unless it comes back because that worker is gone.
            None => self.patience = Some(self.invocations.timeout),
            Some(place) => {
                // While a process starts, callers wait for what comes of that.
                let is_starting = match state.phase {
                    Phase::Init => true,
                    Phase::Ready { since } => since.elapsed() < POLL_GRACE,
                    Phase::Terminated => false,
                };
                if !is_starting {
                    state.waiting.remove(place);
                    return Err(state.throttle());
                }
            }
        }
        Ok(())
    }
}

impl Drop for Caller {
    /// An event whose caller went away before a worker took it is not handed out.
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
    number: u64,
    receiver: oneshot::Receiver<Event>,
}

impl Poll<'_> {
    async fn event(mut self) -> Option<Event> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Poll<'_> {
    /// The client of a poll that is dropped before its event was taken has gone away: the event goes
    /// to another.
    fn drop(&mut self) {
        if self.receiver.is_terminated() {
            return;
        }
        let mut state = self.invocations.state();
        state.polls.retain(|(number, _)| *number != self.number);
        if let Ok(event) = self.receiver.try_recv() {
            state.take_back(event);
        }
        self.invocations.hand_out(&mut state);
    }
}
