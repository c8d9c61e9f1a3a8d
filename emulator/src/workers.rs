//! The workers of an execution environment: which poll, which have an event, and which are about to
//! poll.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::invocation::{Dispatch, ReplySender};

/// Who polls and replies. Workers are told apart by their connections.
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

/// A worker that neither polls nor has an event.
pub(crate) struct Returning {
    pub(crate) worker: Worker,
    pub(crate) since: Instant,
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

/// The workers of one execution environment.
pub(crate) struct Workers {
    /// Gets the outcome of the init phase, until that is over.
    pub(crate) init: Option<oneshot::Sender<Init>>,
    /// The open polls, oldest first.
    pub(crate) polls: VecDeque<OpenPoll>,
    pub(crate) in_flight: HashMap<Uuid, InFlight>,
    /// The workers that neither poll nor have an event, longest first.
    pub(crate) returning: VecDeque<Returning>,
    /// The workers that still have a timed-out event.
    pub(crate) overdue: Vec<Worker>,
    /// Timed-out invocations whose reply has not come, oldest first.
    pub(crate) late: VecDeque<Uuid>,
}

impl Workers {
    pub(crate) fn new(init: oneshot::Sender<Init>) -> Self {
        Self {
            init: Some(init),
            polls: VecDeque::new(),
            in_flight: HashMap::new(),
            returning: VecDeque::new(),
            overdue: Vec::new(),
            late: VecDeque::new(),
        }
    }

    /// How many have an event.
    pub(crate) fn busy(&self) -> usize {
        self.in_flight.len() + self.overdue.len()
    }

    /// How many poll or have an event.
    pub(crate) fn known(&self) -> usize {
        self.polls.len() + self.busy()
    }

    /// Notes that a worker polls, and so neither has an event nor is about to poll.
    pub(crate) fn poll(&mut self, worker: Worker) {
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

    /// Notes that a worker has no event any more and will poll. `all` is the number of workers.
    pub(crate) fn await_poll(&mut self, worker: Worker, all: usize) {
        // It may have polled already, if it repeated its reply on another connection.
        if self.known() + self.returning.len() < all {
            self.returning.push_back(Returning {
                worker,
                since: Instant::now(),
            });
        }
    }

    /// Notes that a worker has no timed-out event any more. Returns whether it had one.
    pub(crate) fn remove_overdue(&mut self, worker: Worker) -> bool {
        let place = self.overdue.iter().position(|overdue| *overdue == worker);
        place.map(|place| self.overdue.swap_remove(place)).is_some()
    }

    pub(crate) fn check(
        &self,
        request_id: Uuid,
        invocation_id: Option<&str>,
    ) -> Result<(), Refusal> {
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
