//! The last invocations, for the console.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use uuid::Uuid;

use crate::lock::lock;

/// How many invocations are kept at most.
const MAX_INVOCATIONS: usize = 50;

/// How many bytes of events and replies are kept at most. The oldest invocations go first.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// An event of at most this many bytes is copied.
const SMALL: usize = 4 * 1024;

/// An invocation that has ended.
pub(crate) struct Past {
    pub(crate) request_id: Uuid,
    pub(crate) ended: SystemTime,
    /// From the dispatch of the event to the reply.
    pub(crate) duration: Duration,
    /// The number of the connection that the event was sent on.
    pub(crate) connection: u64,
    pub(crate) event: Bytes,
    pub(crate) reply: Bytes,
    pub(crate) function_error: bool,
}

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
        self.event.len() + self.reply.len()
    }
}

impl History {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(crate) fn add(&self, mut past: Past) {
        if past.event.len() <= SMALL {
            // It is a part of a larger buffer, which would be kept with it.
            past.event = Bytes::copy_from_slice(&past.event);
        }
        let mut recent = lock(&self.0);
        recent.count += 1;
        recent.bytes += past.bytes();
        recent.past.push_back(Arc::new(past));
        while recent.past.len() > MAX_INVOCATIONS || recent.bytes > MAX_BYTES {
            let Some(oldest) = recent.past.pop_front() else {
                break;
            };
            recent.bytes -= oldest.bytes();
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
