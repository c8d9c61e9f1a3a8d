//! Counts what comes back, in all and over time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use rlt::{IterReport, Status};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::events::{Difference, Event};
use crate::target::Outcome;

/// Two hours, which no reply takes.
const HIGHEST_MICROSECONDS: u64 = 7_200_000_000;
/// Above this many, each two intervals become one.
const MAX_INTERVALS: usize = 300;
/// Of wrong replies, and of kinds of errors, this many are kept.
const MAX_EXAMPLES: usize = 10;

/// How many requests ended how.
#[derive(Clone, Copy, Default, Serialize)]
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
#[derive(Serialize)]
pub(crate) struct WrongReply {
    pub n: Option<u16>,
    pub event: String,
    #[serde(flatten)]
    pub difference: Difference,
}

/// What came back within a part of the run.
#[derive(Clone)]
pub(crate) struct Interval {
    /// Of ok replies.
    pub microseconds: Histogram<u32>,
    pub throttled: u64,
    pub failed: u64,
}

/// What came back.
pub(crate) struct Recorder {
    pub outcomes: Outcomes,
    pub retries: u64,
    /// Of ok replies, and how long what was unsent had waited at the end.
    pub microseconds: Histogram<u64>,
    pub intervals: Vec<Interval>,
    pub interval: Duration,
    empty: Interval,
    pub wrong_replies: Vec<WrongReply>,
    /// What was said of function errors and transport errors, and how often.
    pub errors: BTreeMap<String, u64>,
    pub display: Option<UnboundedSender<Result<IterReport>>>,
}

impl Outcomes {
    pub(crate) fn requests(&self) -> u64 {
        let Self {
            ok,
            throttled,
            function_error,
            wrong_reply,
            transport,
            unsent,
        } = self;
        ok + throttled + function_error + wrong_reply + transport + unsent
    }
}

impl Recorder {
    /// `display` is shown a copy of everything.
    pub(crate) fn new(display: Option<UnboundedSender<Result<IterReport>>>) -> Result<Self> {
        Ok(Self {
            outcomes: Outcomes::default(),
            retries: 0,
            microseconds: Histogram::new_with_bounds(1, HIGHEST_MICROSECONDS, 3)?,
            intervals: Vec::new(),
            interval: Duration::from_millis(100),
            empty: Interval {
                microseconds: Histogram::new_with_bounds(1, HIGHEST_MICROSECONDS, 2)?,
                throttled: 0,
                failed: 0,
            },
            wrong_replies: Vec::new(),
            errors: BTreeMap::new(),
            display,
        })
    }

    /// Counts an answer that came at this time of the run.
    pub(crate) fn answered(
        &mut self,
        at: Duration,
        latency: Duration,
        retries: u32,
        event: &Event,
        outcome: Outcome,
    ) {
        self.retries += u64::from(retries);
        let interval = self.interval_at(at);
        let status = match outcome {
            Outcome::Ok => {
                interval
                    .microseconds
                    .saturating_record(microseconds(latency));
                self.microseconds.saturating_record(microseconds(latency));
                self.outcomes.ok += 1;
                Status::success(200)
            }
            Outcome::Throttled => {
                interval.throttled += 1;
                self.outcomes.throttled += 1;
                Status::client_error(429)
            }
            Outcome::FunctionError(message) => {
                interval.failed += 1;
                self.outcomes.function_error += 1;
                self.error(&format!("function error: {message}"));
                Status::server_error(200)
            }
            Outcome::WrongReply(difference) => {
                interval.failed += 1;
                self.outcomes.wrong_reply += 1;
                if self.wrong_replies.len() < MAX_EXAMPLES {
                    self.wrong_replies.push(WrongReply {
                        n: event.n,
                        event: String::from_utf8_lossy(event.payload.as_ref()).into_owned(),
                        difference,
                    });
                }
                Status::error(200)
            }
            Outcome::Transport(message) => {
                interval.failed += 1;
                self.outcomes.transport += 1;
                self.error(&format!("transport: {message}"));
                Status::error(0)
            }
        };
        if let Some(display) = &self.display {
            // It may have been quit.
            let _ = display.send(Ok(IterReport {
                duration: latency,
                status,
                bytes: 0,
                items: 1,
            }));
        }
    }

    /// Counts a request that was due this long ago and will not be sent.
    pub(crate) fn unsent(&mut self, waited: Duration) {
        self.outcomes.unsent += 1;
        self.microseconds.saturating_record(microseconds(waited));
    }

    fn error(&mut self, message: &str) {
        // It may be a payload, so anything of any length.
        let printable = message.chars().filter(|character| !character.is_control());
        let message: String = printable.take(300).collect();
        if self.errors.len() < MAX_EXAMPLES || self.errors.contains_key(&message) {
            *self.errors.entry(message).or_default() += 1;
        }
    }

    fn interval_at(&mut self, at: Duration) -> &mut Interval {
        let mut index = at.as_nanos() / self.interval.as_nanos();
        while index >= MAX_INTERVALS as u128 {
            self.interval *= 2;
            index /= 2;
            let mut pairs = std::mem::take(&mut self.intervals).into_iter();
            while let Some(mut interval) = pairs.next() {
                if let Some(next) = pairs.next() {
                    interval.microseconds += next.microseconds;
                    interval.throttled += next.throttled;
                    interval.failed += next.failed;
                }
                self.intervals.push(interval);
            }
        }
        let index = index as usize;
        if index >= self.intervals.len() {
            self.intervals.resize(index + 1, self.empty.clone());
        }
        &mut self.intervals[index]
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
