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

    /// Whether the function failed, if it got the event.
    fn has_failed(&self) -> Option<bool> {
        let reply = self.outcome.as_ref().ok();
        reply.map(|reply| reply.function_error)
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
        let newest_first = kept.iter().enumerate().rev();
        let mut alike = newest_first.filter(|(_, one)| one.has_failed() == past.has_failed());
        if let Some((place, _)) = alike.nth(MAX_INVOCATIONS) {
            kept.remove(place);
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
