//! Counts what comes back, in total and over time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::events::{Difference, Event};
use crate::excerpt;
use crate::histogram::{self, microseconds};
use crate::target::Outcome;

/// The significant digits in the histogram of a whole run, and of an interval.
pub(crate) const DIGITS: u8 = 3;
pub(crate) const INTERVAL_DIGITS: u8 = 2;

/// The length of an interval at first. When there are more than [`MAX_INTERVALS`], adjacent ones are
/// merged.
pub(crate) const FIRST_INTERVAL: Duration = Duration::from_millis(100);
pub(crate) const MAX_INTERVALS: usize = 300;

/// How many wrong replies, and how many different errors, are kept.
const MAX_EXAMPLES: usize = 10;

/// How many requests had which outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    pub ok: u64,
    pub throttled: u64,
    pub function_error: u64,
    pub wrong_reply: u64,
    pub transport: u64,
    /// Due, but every caller was busy until the end.
    pub unsent: u64,
}

/// A reply that is not what the table says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WrongReply {
    pub n: Option<u16>,
    pub event: String,
    #[serde(flatten)]
    pub difference: Difference,
}

/// What came back within a part of the run.
#[derive(Clone)]
pub(crate) struct Interval {
    /// Latencies of ok replies.
    pub microseconds: Histogram<u32>,
    pub throttled: u64,
    pub failed: u64,
}

/// What came back.
pub(crate) struct Recorder {
    pub outcomes: Outcomes,
    pub retries: u64,
    /// Latencies of ok replies, and how long unsent requests had waited at the end.
    pub microseconds: Histogram<u64>,
    pub intervals: Vec<Interval>,
    pub interval: Duration,
    empty: Interval,
    pub wrong_replies: Vec<WrongReply>,
    /// The texts of function errors and transport errors, and how often each occurred.
    pub errors: BTreeMap<String, u64>,
}

impl Outcomes {
    pub(crate) fn requests(&self) -> u64 {
        self.all().into_iter().fold(0, u64::saturating_add)
    }

    pub(crate) fn failed(&self) -> u64 {
        let failed = [self.function_error, self.wrong_reply, self.transport];
        failed.into_iter().fold(0, u64::saturating_add)
    }

    fn all(&self) -> [u64; 6] {
        let Self {
            ok,
            throttled,
            function_error,
            wrong_reply,
            transport,
            unsent,
        } = *self;
        [
            ok,
            throttled,
            function_error,
            wrong_reply,
            transport,
            unsent,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            ok,
            throttled,
            function_error,
            wrong_reply,
            transport,
            unsent,
        } = self;
        let counts = [
            ok,
            throttled,
            function_error,
            wrong_reply,
            transport,
            unsent,
        ];
        for (count, other) in counts.into_iter().zip(other.all()) {
            *count = count.saturating_add(other);
        }
    }
}

impl Interval {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            microseconds: histogram::new(INTERVAL_DIGITS)?,
            throttled: 0,
            failed: 0,
        })
    }

    fn add(&mut self, other: &Self) {
        // Every interval has the same bounds, so this cannot fail.
        let _ = self.microseconds.add(&other.microseconds);
        self.throttled = self.throttled.saturating_add(other.throttled);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

impl Recorder {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            outcomes: Outcomes::default(),
            retries: 0,
            microseconds: histogram::new(DIGITS)?,
            intervals: Vec::new(),
            interval: FIRST_INTERVAL,
            empty: Interval::new()?,
            wrong_replies: Vec::new(),
            errors: BTreeMap::new(),
        })
    }

    /// Counts a reply, or the lack of one, at this time of the run.
    pub(crate) fn replied(
        &mut self,
        at: Duration,
        latency: Duration,
        retries: u32,
        event: &Event,
        outcome: Outcome,
    ) {
        self.retries += u64::from(retries);
        let interval = self.interval_at(at);
        match outcome {
            Outcome::Ok => {
                interval
                    .microseconds
                    .saturating_record(microseconds(latency));
                self.microseconds.saturating_record(microseconds(latency));
                self.outcomes.ok += 1;
            }
            Outcome::Throttled => {
                interval.throttled += 1;
                self.outcomes.throttled += 1;
            }
            Outcome::FunctionError(message) => {
                interval.failed += 1;
                self.outcomes.function_error += 1;
                self.error(&format!("function error: {message}"), 1);
            }
            Outcome::WrongReply(difference) => {
                interval.failed += 1;
                self.outcomes.wrong_reply += 1;
                self.wrong_reply(WrongReply {
                    n: event.n,
                    event: String::from_utf8_lossy(&event.payload).into_owned(),
                    difference,
                });
            }
            Outcome::Transport(message) => {
                interval.failed += 1;
                self.outcomes.transport += 1;
                self.error(&format!("transport: {message}"), 1);
            }
        }
    }

    /// Counts a request that has been due for this long and will not be sent.
    pub(crate) fn unsent(&mut self, waited: Duration) {
        self.outcomes.unsent += 1;
        self.microseconds.saturating_record(microseconds(waited));
    }

    /// Adds what another recorder counted that started this much later.
    pub(crate) fn add(&mut self, other: Self, later: Duration) {
        self.outcomes.add(&other.outcomes);
        self.retries = self.retries.saturating_add(other.retries);
        // The bounds are the same, so this cannot fail.
        let _ = self.microseconds.add(&other.microseconds);
        while self.interval < other.interval {
            self.merge_adjacent();
        }
        for (interval, index) in other.intervals.iter().zip(0..) {
            self.interval_at(later + other.interval * index)
                .add(interval);
        }
        self.add_examples(other.wrong_replies, other.errors);
    }

    pub(crate) fn add_examples(
        &mut self,
        wrong_replies: Vec<WrongReply>,
        errors: BTreeMap<String, u64>,
    ) {
        for wrong_reply in wrong_replies {
            self.wrong_reply(wrong_reply);
        }
        for (message, count) in errors {
            self.error(&message, count);
        }
    }

    fn wrong_reply(&mut self, wrong_reply: WrongReply) {
        if self.wrong_replies.len() < MAX_EXAMPLES {
            self.wrong_replies.push(wrong_reply);
        }
    }

    fn error(&mut self, message: &str, count: u64) {
        let message = excerpt(message);
        if self.errors.len() < MAX_EXAMPLES || self.errors.contains_key(&message) {
            let total = self.errors.entry(message).or_default();
            *total = total.saturating_add(count);
        }
    }

    fn interval_at(&mut self, at: Duration) -> &mut Interval {
        while at.as_nanos() / self.interval.as_nanos() >= MAX_INTERVALS as u128 {
            self.merge_adjacent();
        }
        let index = (at.as_nanos() / self.interval.as_nanos()) as usize;
        if index >= self.intervals.len() {
            self.intervals.resize(index + 1, self.empty.clone());
        }
        &mut self.intervals[index]
    }

    /// Makes one interval out of every two.
    fn merge_adjacent(&mut self) {
        self.interval *= 2;
        let mut pairs = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut interval) = pairs.next() {
            if let Some(next) = pairs.next() {
                interval.add(&next);
            }
            self.intervals.push(interval);
        }
    }
}
