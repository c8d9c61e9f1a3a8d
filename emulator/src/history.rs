//! The last invocations, for the console.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use uuid::Uuid;

use crate::api_error::ApiError;
use crate::lock::lock;

/// How many invocations of each [`Kind`] are kept at most, so that a thousand throttled ones leave
/// the replies before them.
const MAX_INVOCATIONS: usize = 50;

/// How many bytes of events and replies are kept at most. The oldest invocations go first.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// An event of at most this many bytes is copied.
const SMALL: usize = 4 * 1024;

/// An invocation that has ended.
pub(crate) struct Past {
    pub(crate) request_id: Uuid,
    pub(crate) ended: SystemTime,
    pub(crate) event: Bytes,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    /// The caller got a reply, or the function's error.
    Reply {
        payload: Bytes,
        function_error: bool,
        /// From the dispatch of the event to the reply.
        duration: Duration,
    },
    /// The function did not get the event.
    Refused(ApiError),
}

#[derive(PartialEq, Eq)]
enum Kind {
    Success,
    FunctionError,
    Refused,
}

#[derive(Default)]
pub(crate) struct History(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    /// The newest last.
    past: VecDeque<Arc<Past>>,
    bytes: usize,
    count: u64,
}

impl Past {
    fn bytes(&self) -> usize {
        self.event.len()
            + match &self.outcome {
                Outcome::Reply { payload, .. } => payload.len(),
                Outcome::Refused(_) => 0,
            }
    }

    fn kind(&self) -> Kind {
        match self.outcome {
            Outcome::Reply { function_error, .. } if function_error => Kind::FunctionError,
            Outcome::Reply { .. } => Kind::Success,
            Outcome::Refused(_) => Kind::Refused,
        }
    }
}

impl Recent {
    fn remove(&mut self, place: usize) {
        if let Some(past) = self.past.remove(place) {
            self.bytes -= past.bytes();
        }
    }
}

impl History {
    /// Adds an invocation that ends now.
    pub(crate) fn add(&self, request_id: Uuid, event: &Bytes, outcome: Outcome) {
        let past = Past {
            request_id,
            ended: SystemTime::now(),
            // A small event is a part of a larger buffer, which would be kept with it.
            event: if event.len() <= SMALL {
                Bytes::copy_from_slice(event)
            } else {
                event.clone()
            },
            outcome,
        };
        let mut recent = lock(&self.0);
        recent.count += 1;
        recent.bytes += past.bytes();
        let kind = past.kind();
        recent.past.push_back(Arc::new(past));
        let mut same_kind = (recent.past.iter().enumerate())
            .filter(|(_, one)| one.kind() == kind)
            .map(|(place, _)| place);
        if let Some(oldest) = same_kind.next()
            && same_kind.count() == MAX_INVOCATIONS
        {
            recent.remove(oldest);
        }
        while recent.bytes > MAX_BYTES && !recent.past.is_empty() {
            recent.remove(0);
        }
    }

    /// How many invocations there have been.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.0).count
    }

    /// The invocations that are kept, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<Arc<Past>> {
        lock(&self.0).past.iter().rev().cloned().collect()
    }
}
