//! The workers of an execution environment: which poll, which have an event, and which are about to
//! poll.
//!
//! A worker is known by its connection, but it may poll, reply and repeat a reply on different ones. So
//! which worker does what is sometimes a guess. How many do it is exact.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::invocation::{Dispatch, ReplySender};

/// How many timed-out invocations are remembered, to tell a late reply from an unknown one.
const MAX_LATE: usize = 1_000;

/// Who polls and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    /// The number of its execution environment.
    pub(crate) environment: u64,
    /// The number of its connection to the Runtime API.
    pub(crate) connection: u64,
}

pub(crate) struct InFlight {
    pub(crate) worker: Worker,
    pub(crate) invocation_id: Uuid,
    pub(crate) event: Bytes,
    pub(crate) reply: ReplySender,
    pub(crate) dispatched: Instant,
}

pub(crate) struct OpenPoll {
    pub(crate) worker: Worker,
    pub(crate) sender: oneshot::Sender<Dispatch>,
}

/// Why a reply is not accepted.
pub(crate) enum ReplyError {
    /// No such invocation is in flight.
    Unknown,
    /// The invocation has timed out.
    Late,
    /// The reply belongs to an earlier attempt.
    Stale,
}

/// The outcome of an execution environment's init phase: ready, or the body of `/init/error`.
pub(crate) type Init = Result<(), Bytes>;

/// The workers of one execution environment.
pub(crate) struct Workers {
    /// How many workers there are. The lists below never hold more of them.
    count: usize,
    /// Gets the outcome of the init phase, until that is over.
    init: Option<oneshot::Sender<Init>>,
    /// The open polls, oldest first.
    polls: VecDeque<OpenPoll>,
    in_flight: HashMap<Uuid, InFlight>,
    /// The workers that neither poll nor have an event, and since when: longest first.
    returning: VecDeque<(Worker, Instant)>,
    /// The workers that still have a timed-out event.
    overdue: Vec<Worker>,
    /// Timed-out invocations whose reply has not come, oldest first.
    late: VecDeque<Uuid>,
}

/// What happens to workers.
impl Workers {
    pub(crate) fn new(count: usize, init: oneshot::Sender<Init>) -> Self {
        Self {
            count,
            init: Some(init),
            polls: VecDeque::new(),
            in_flight: HashMap::new(),
            returning: VecDeque::new(),
            overdue: Vec::new(),
            late: VecDeque::new(),
        }
    }

    /// Ends the init phase. Returns whether it had not ended before.
    pub(crate) fn end_init(&mut self, outcome: Init) -> bool {
        let Some(init) = self.init.take() else {
            return false;
        };
        let _ = init.send(outcome);
        true
    }

    /// A worker polls, and so neither has an event nor is about to poll. Returns whether this is the
    /// first poll of all.
    pub(crate) fn polled(&mut self, poll: OpenPoll) -> bool {
        let is_first = self.end_init(Ok(()));
        if is_first {
            // All are about to poll, on connections that are not known yet.
            let unknown = Worker {
                connection: 0,
                ..poll.worker
            };
            for _ in 0..self.count {
                self.await_poll(unknown);
            }
        }
        self.note_poll(poll.worker);
        self.polls.push_back(poll);
        is_first
    }

    fn note_poll(&mut self, worker: Worker) {
        let same = |(returning, _): &(Worker, Instant)| *returning == worker;
        if let Some(place) = self.returning.iter().position(same) {
            self.returning.remove(place);
            return;
        }
        let has_event = |in_flight: &InFlight| in_flight.worker == worker;
        // If the event of this connection is still in flight, its worker will repeat the reply on
        // another connection, and no other worker has come back.
        if self.remove_overdue(worker) || self.in_flight.values().any(has_event) {
            return;
        }
        // A new connection: the worker that has been away longest has probably opened it.
        if self.returning.pop_front().is_none() {
            self.overdue.pop();
        }
    }

    /// The oldest poll, for an event.
    pub(crate) fn take_poll(&mut self) -> Option<OpenPoll> {
        self.polls.pop_front()
    }

    /// A poll that was taken has got an event.
    pub(crate) fn dispatched(&mut self, request_id: Uuid, in_flight: InFlight) {
        self.in_flight.insert(request_id, in_flight);
    }

    /// The client of this worker's poll has gone away.
    pub(crate) fn poll_closed(&mut self, worker: Worker) {
        self.polls.retain(|poll| !poll.sender.is_closed());
        self.await_poll(worker);
    }

    /// An event has not reached the worker that it was handed to.
    pub(crate) fn event_lost(&mut self, worker: Worker, request_id: Uuid) -> Option<InFlight> {
        let lost = self.in_flight.remove(&request_id);
        if lost.is_some() {
            self.await_poll(worker);
        }
        lost
    }

    /// A worker replies, and polls before long. Returns what was in flight.
    pub(crate) fn replied(
        &mut self,
        worker: Worker,
        request_id: Uuid,
        invocation_id: Option<&str>,
    ) -> Result<InFlight, ReplyError> {
        match self.check(request_id, invocation_id) {
            Ok(()) => self
                .event_lost(worker, request_id)
                .ok_or(ReplyError::Unknown),
            Err(ReplyError::Late) => {
                self.late.retain(|late| *late != request_id);
                if self.remove_overdue(worker) || self.overdue.pop().is_some() {
                    self.await_poll(worker);
                }
                Err(ReplyError::Late)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes out the invocations that have taken `limit`. Their workers still have the events.
    pub(crate) fn time_out(&mut self, limit: Duration, now: Instant) -> Vec<(Uuid, InFlight)> {
        let is_due = |_: &Uuid, in_flight: &mut InFlight| in_flight.dispatched + limit <= now;
        let due: Vec<_> = self.in_flight.extract_if(is_due).collect();
        for (request_id, in_flight) in &due {
            // If all workers are known without this one, it has lost the event and polled again.
            if self.known() < self.count {
                self.overdue.push(in_flight.worker);
            }
            self.late.push_back(*request_id);
            if self.late.len() > MAX_LATE {
                self.late.pop_front();
            }
        }
        due
    }

    /// Notes that a worker has no event any more and will poll.
    fn await_poll(&mut self, worker: Worker) {
        // It may have polled already, if it repeated its reply on another connection.
        if self.known() + self.returning.len() < self.count {
            self.returning.push_back((worker, Instant::now()));
        }
    }

    /// Notes that a worker has no timed-out event any more. Returns whether it had one.
    fn remove_overdue(&mut self, worker: Worker) -> bool {
        let place = self.overdue.iter().position(|overdue| *overdue == worker);
        place.map(|place| self.overdue.swap_remove(place)).is_some()
    }

    /// Takes out everything that is in flight, because the process has ended.
    pub(crate) fn into_in_flight(self) -> impl Iterator<Item = (Uuid, InFlight)> {
        self.in_flight.into_iter()
    }
}

/// What is known of them.
impl Workers {
    pub(crate) fn open_polls(&self) -> usize {
        self.polls.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// When the oldest event in flight was dispatched.
    pub(crate) fn oldest_dispatch(&self) -> Option<Instant> {
        self.in_flight.values().map(|one| one.dispatched).min()
    }

    /// How many can be expected to poll, because they have been away for less than `limit`.
    pub(crate) fn about_to_poll(&self, limit: Duration) -> usize {
        let is_recent = |(_, since): &&(Worker, Instant)| since.elapsed() < limit;
        let recent = self.returning.iter().filter(is_recent).count();
        recent.min(self.count.saturating_sub(self.known()))
    }

    /// How many poll or have an event.
    fn known(&self) -> usize {
        self.polls.len() + self.in_flight.len() + self.overdue.len()
    }

    /// Whether a reply to this invocation would be accepted.
    pub(crate) fn check(
        &self,
        request_id: Uuid,
        invocation_id: Option<&str>,
    ) -> Result<(), ReplyError> {
        match self.in_flight.get(&request_id) {
            // Runtimes older than the header do not echo it.
            Some(in_flight) => match invocation_id.map(Uuid::try_parse) {
                None => Ok(()),
                Some(Ok(id)) if id == in_flight.invocation_id => Ok(()),
                Some(_) => Err(ReplyError::Stale),
            },
            None if self.late.contains(&request_id) => Err(ReplyError::Late),
            None => Err(ReplyError::Unknown),
        }
    }
}
