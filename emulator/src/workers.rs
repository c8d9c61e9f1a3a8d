//! The workers of an execution environment: how many poll, which events they have, and how many are
//! about to poll.
//!
//! A worker may poll, reply and repeat a reply on different connections, so nothing tells which of them
//! does what. How many do it is exact.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::invocation::{Dispatch, Invocation};

/// How many timed-out invocations are remembered, to tell a late reply from an unknown one.
const MAX_LATE: usize = 1_000;

/// An invocation whose event a worker has.
pub(crate) struct InFlight {
    pub(crate) invocation: Invocation,
    pub(crate) invocation_id: Uuid,
    pub(crate) dispatched: Instant,
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
#[derive(Default)]
pub(crate) struct Workers {
    /// How many workers there are.
    count: usize,
    /// Gets the outcome of the init phase, until that is over.
    init: Option<oneshot::Sender<Init>>,
    /// The open polls, oldest first.
    polls: VecDeque<oneshot::Sender<Dispatch>>,
    in_flight: HashMap<Uuid, InFlight>,
    /// Since when each worker is awaited that neither polls nor has an event: longest first.
    awaited: VecDeque<Instant>,
    /// How many workers still have a timed-out event.
    overdue: usize,
    /// Timed-out invocations whose reply has not come, oldest first.
    late: VecDeque<Uuid>,
}

/// What happens to workers.
impl Workers {
    pub(crate) fn new(count: usize, init: oneshot::Sender<Init>) -> Self {
        Self {
            count,
            init: Some(init),
            ..Self::default()
        }
    }

    /// Ends the init phase. Returns whether it had not ended before.
    pub(crate) fn end_init(&mut self, outcome: Init) -> bool {
        let init = self.init.take();
        init.map(|init| init.send(outcome)).is_some()
    }

    /// A worker polls. Returns whether this is the first poll of all.
    pub(crate) fn polled(&mut self, poll: oneshot::Sender<Dispatch>) -> bool {
        let is_first = self.end_init(Ok(()));
        if is_first {
            self.awaited = vec![Instant::now(); self.count].into();
        }
        if self.awaited.pop_front().is_none() {
            self.overdue = self.overdue.saturating_sub(1);
        }
        self.polls.push_back(poll);
        is_first
    }

    /// Gives an event to the oldest poll, of which there must be one.
    pub(crate) fn dispatch(&mut self, invocation: Invocation, deadline_ms: i64) {
        let request = Arc::clone(&invocation.request);
        let (request_id, invocation_id) = (request.request_id, Uuid::new_v4());
        let in_flight = InFlight {
            invocation,
            invocation_id,
            dispatched: Instant::now(),
        };
        self.in_flight.insert(request_id, in_flight);
        if let Some(poll) = self.polls.pop_front() {
            // Its receiver is there: one that goes away takes the poll with it.
            let _ = poll.send(Dispatch {
                invocation_id,
                deadline_ms,
                request,
            });
        }
    }

    /// The client of a poll has gone away.
    pub(crate) fn poll_closed(&mut self) {
        self.polls.retain(|poll| !poll.is_closed());
        self.await_poll();
    }

    /// A worker has the event no more: it has replied, or the event has not reached it.
    pub(crate) fn take_in_flight(&mut self, request_id: Uuid) -> Option<InFlight> {
        let taken = self.in_flight.remove(&request_id)?;
        self.await_poll();
        Some(taken)
    }

    /// A worker replies, and polls before long. Returns what was in flight.
    pub(crate) fn replied(
        &mut self,
        request_id: Uuid,
        invocation_id: Option<&str>,
    ) -> Result<InFlight, ReplyError> {
        if let Some(in_flight) = self.in_flight.get(&request_id) {
            // Runtimes older than the header do not echo it.
            let is_this = |id| Uuid::try_parse(id) == Ok(in_flight.invocation_id);
            if !invocation_id.is_none_or(is_this) {
                return Err(ReplyError::Stale);
            }
        } else if let Some(place) = self.late.iter().position(|late| *late == request_id) {
            self.late.remove(place);
            if self.overdue > 0 {
                self.overdue -= 1;
                self.await_poll();
            }
            return Err(ReplyError::Late);
        }
        self.take_in_flight(request_id).ok_or(ReplyError::Unknown)
    }

    /// Takes out the invocations that have taken `limit`. Their workers still have the events.
    pub(crate) fn time_out(&mut self, limit: Duration, now: Instant) -> Vec<InFlight> {
        let is_due = |_: &Uuid, in_flight: &mut InFlight| in_flight.dispatched + limit <= now;
        let due: Vec<_> = self.in_flight.extract_if(is_due).collect();
        for (request_id, _) in &due {
            // If all workers are known without this one, it has lost the event and polled again.
            if self.known() < self.count {
                self.overdue += 1;
            }
            self.late.push_back(*request_id);
            if self.late.len() > MAX_LATE {
                self.late.pop_front();
            }
        }
        due.into_iter().map(|(_, in_flight)| in_flight).collect()
    }

    /// Notes that a worker has no event any more and will poll.
    fn await_poll(&mut self) {
        // It may have polled already, if it repeated its reply on another connection.
        if self.known() + self.awaited.len() < self.count {
            self.awaited.push_back(Instant::now());
        }
    }

    /// Takes out everything that is in flight, because the process has ended.
    pub(crate) fn into_in_flight(self) -> impl Iterator<Item = InFlight> {
        self.in_flight.into_values()
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

    /// How many can be expected to poll, because they have been awaited for less than `limit`.
    pub(crate) fn about_to_poll(&self, limit: Duration) -> usize {
        let is_recent = |since: &&Instant| since.elapsed() < limit;
        let recent = self.awaited.iter().filter(is_recent).count();
        recent.min(self.count.saturating_sub(self.known()))
    }

    /// How many poll or have an event.
    fn known(&self) -> usize {
        self.polls.len() + self.in_flight.len() + self.overdue
    }
}
