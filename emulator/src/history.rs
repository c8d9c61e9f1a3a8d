//! The last invocations, for the console.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::api_error::ApiError;
use crate::invocation::Reply;
use crate::lock::lock;

/// How many successes, function errors and refusals are kept at most, of each, so that a thousand
/// throttled invocations leave the replies before them.
const MAX_INVOCATIONS: usize = 50;

/// How many bytes of events and replies are kept at most. The oldest invocations go first.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// An invocation that has ended.
pub(crate) struct Past {
    pub(crate) request_id: Uuid,
    pub(crate) ended: DateTime<Utc>,
    pub(crate) event: Bytes,
    /// From the dispatch of the event to the reply. Zero if the function did not get the event.
    pub(crate) duration: Duration,
    /// What the caller got. An error means that the function did not get the event.
    pub(crate) outcome: Result<Reply, ApiError>,
}

/// The newest last.
#[derive(Default)]
pub(crate) struct History(Mutex<VecDeque<Arc<Past>>>);

impl Past {
    fn bytes(&self) -> usize {
        let reply = self.outcome.as_ref();
        self.event.len() + reply.map_or(0, |reply| reply.payload.len())
    }

    fn is_like(&self, other: &Self) -> bool {
        let failed = |past: &Self| past.outcome.as_ref().ok().map(|reply| reply.function_error);
        failed(self) == failed(other)
    }
}

impl History {
    /// Adds an invocation that ends now.
    pub(crate) fn add(
        &self,
        request_id: Uuid,
        event: &Bytes,
        duration: Duration,
        outcome: Result<Reply, ApiError>,
    ) {
        let past = Arc::new(Past {
            request_id,
            ended: Utc::now(),
            event: event.clone(),
            duration,
            outcome,
        });
        let mut kept = lock(&self.0);
        kept.push_back(Arc::clone(&past));
        if kept.iter().filter(|one| one.is_like(&past)).count() > MAX_INVOCATIONS {
            let oldest = kept.iter().position(|one| one.is_like(&past));
            oldest.and_then(|place| kept.remove(place));
        }
        while kept.iter().map(|one| one.bytes()).sum::<usize>() > MAX_BYTES {
            kept.pop_front();
        }
    }

    /// The invocations that are kept, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<Arc<Past>> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}
