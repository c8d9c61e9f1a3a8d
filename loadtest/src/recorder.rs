//! Counts what comes back, in total and over time.

use std::ops::Range;
use std::time::Duration;

use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::events::WrongReply;
use crate::histogram::{Latencies, microseconds};
use crate::load::{Schedule, to_usize};
use crate::target::Outcome;
use crate::terminal::excerpt;

/// The length of an interval at first. When there are more than [`MAX_INTERVALS`], adjacent ones are
/// merged.
pub(crate) const FIRST_INTERVAL_MS: u64 = 100;
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

/// A function error or a transport error, and how often it occurred.
#[derive(Serialize, Deserialize)]
pub(crate) struct ErrorCount {
    pub message: String,
    pub count: u64,
}

/// What came back within a part of the run.
#[derive(Default, Deserialize)]
pub(crate) struct Interval {
    /// Of ok replies.
    #[serde(rename = "histogram")]
    pub latencies: Latencies<u32, 2>,
    pub throttled: u64,
    pub failed: u64,
}

/// What came back.
#[derive(Serialize, Deserialize)]
pub(crate) struct Recorder {
    pub outcomes: Outcomes,
    /// The bytes of all replies of the function, those of the warm-up included.
    pub reply_bytes: u64,
    /// Of ok replies, and how long unsent requests had waited at the end.
    #[serde(rename = "histogram")]
    pub latencies: Latencies<u64, 3>,
    pub interval_ms: u64,
    pub intervals: Vec<Interval>,
    pub wrong_replies: Vec<WrongReply>,
    pub errors: Vec<ErrorCount>,
}

impl Outcomes {
    pub(crate) fn sent(&self) -> u64 {
        let others = [self.ok, self.throttled];
        others.into_iter().fold(self.failed(), u64::saturating_add)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.sent().saturating_add(self.unsent)
    }

    pub(crate) fn failed(&self) -> u64 {
        let failed = [self.function_error, self.wrong_reply, self.transport];
        failed.into_iter().fold(0, u64::saturating_add)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, other) in [
            (&mut self.ok, other.ok),
            (&mut self.throttled, other.throttled),
            (&mut self.function_error, other.function_error),
            (&mut self.wrong_reply, other.wrong_reply),
            (&mut self.transport, other.transport),
            (&mut self.unsent, other.unsent),
        ] {
            *count = count.saturating_add(other);
        }
    }
}

impl Interval {
    fn add(&mut self, other: &Self) {
        // Every interval has the same bounds, so this cannot fail.
        let _ = self.latencies.0.add(&other.latencies.0);
        self.throttled = self.throttled.saturating_add(other.throttled);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

impl Serialize for Interval {
    /// With some of what its histogram says.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let latencies = &self.latencies.0;
        let has_any = !latencies.is_empty();
        let latency = |quantile| has_any.then(|| latencies.value_at_quantile(quantile));
        let interval = json!({
            "ok": latencies.len(),
            "throttled": self.throttled,
            "failed": self.failed,
            "p50_microseconds": latency(0.5),
            "p99_microseconds": latency(0.99),
            "max_microseconds": latency(1.0),
            "histogram": self.latencies,
        });
        interval.serialize(serializer)
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            outcomes: Outcomes::default(),
            reply_bytes: 0,
            latencies: Latencies::default(),
            interval_ms: FIRST_INTERVAL_MS,
            intervals: Vec::new(),
            wrong_replies: Vec::new(),
            errors: Vec::new(),
        }
    }
}

impl Recorder {
    /// Counts a reply, or the lack of one, at this time of the run.
    pub(crate) fn replied(&mut self, at: Duration, latency: Duration, outcome: Outcome) {
        let at_ms = microseconds(at) / 1000;
        let interval = self.interval_at(at_ms);
        match outcome {
            Outcome::Ok => {
                let latency = microseconds(latency);
                interval.latencies.0.saturating_record(latency);
                self.latencies.0.saturating_record(latency);
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
            Outcome::WrongReply(wrong_reply) => {
                interval.failed += 1;
                self.outcomes.wrong_reply += 1;
                self.wrong_reply(wrong_reply);
            }
            Outcome::Transport(message) => {
                interval.failed += 1;
                self.outcomes.transport += 1;
                self.error(&format!("transport: {message}"), 1);
            }
        }
    }

    /// Counts requests of a schedule that will not be sent, by how long they have been due.
    pub(crate) fn unsent(&mut self, schedule: &Schedule, requests: Range<u64>, elapsed: Duration) {
        self.outcomes.unsent += requests.end.saturating_sub(requests.start);
        let latencies = &mut self.latencies.0;
        let mut request = requests.start;
        while request < requests.end {
            let waited = microseconds(elapsed.saturating_sub(schedule.due(request)));
            // Together with those that the histogram cannot tell from it.
            let least = latencies.lowest_equivalent(waited.min(latencies.high()));
            let since = elapsed.saturating_sub(Duration::from_micros(least));
            let next = schedule.requests(since).clamp(request + 1, requests.end);
            latencies.saturating_record_n(waited, next - request);
            request = next;
        }
    }

    /// Adds what another recorder counted that started this much later.
    pub(crate) fn add(&mut self, other: Self, later_ms: u64) {
        self.outcomes.add(&other.outcomes);
        self.reply_bytes = self.reply_bytes.saturating_add(other.reply_bytes);
        // The bounds are the same, so this cannot fail.
        let _ = self.latencies.0.add(&other.latencies.0);
        while self.interval_ms < other.interval_ms {
            self.merge_adjacent();
        }
        for (interval, index) in other.intervals.iter().zip(0..) {
            self.interval_at(later_ms.saturating_add(other.interval_ms * index))
                .add(interval);
        }
        self.add_examples(other.wrong_replies, other.errors);
    }

    pub(crate) fn add_examples(&mut self, wrong_replies: Vec<WrongReply>, errors: Vec<ErrorCount>) {
        for wrong_reply in wrong_replies {
            self.wrong_reply(wrong_reply);
        }
        for error in errors {
            self.error(&error.message, error.count);
        }
    }

    fn wrong_reply(&mut self, wrong_reply: WrongReply) {
        if self.wrong_replies.len() < MAX_EXAMPLES {
            self.wrong_replies.push(wrong_reply);
        }
    }

    fn error(&mut self, message: &str, count: u64) {
        let message = excerpt(message);
        if let Some(known) = self.errors.iter_mut().find(|one| one.message == message) {
            known.count = known.count.saturating_add(count);
        } else if self.errors.len() < MAX_EXAMPLES {
            self.errors.push(ErrorCount { message, count });
        }
    }

    fn interval_at(&mut self, at_ms: u64) -> &mut Interval {
        while at_ms / self.interval_ms >= MAX_INTERVALS as u64 {
            self.merge_adjacent();
        }
        let index = to_usize(at_ms / self.interval_ms);
        if index >= self.intervals.len() {
            self.intervals.resize_with(index + 1, Interval::default);
        }
        &mut self.intervals[index]
    }

    /// Makes one interval out of every two.
    fn merge_adjacent(&mut self) {
        self.interval_ms *= 2;
        let mut pairs = std::mem::take(&mut self.intervals).into_iter();
        while let Some(mut interval) = pairs.next() {
            if let Some(next) = pairs.next() {
                interval.add(&next);
            }
            self.intervals.push(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many throttles there are in each interval.
    fn throttled(recorder: &Recorder) -> Vec<u64> {
        let intervals = recorder.intervals.iter();
        intervals.map(|interval| interval.throttled).collect()
    }

    fn recorder(at: &[u64]) -> Recorder {
        let mut recorder = Recorder::default();
        for at in at {
            let at = Duration::from_millis(*at);
            recorder.replied(at, at, Outcome::Throttled);
        }
        recorder
    }

    #[test]
    fn intervals_of_a_later_run_are_added_where_they_belong() {
        let mut whole = recorder(&[0, 350]);
        whole.add(recorder(&[0, 50, 150]), 300);
        assert_eq!(throttled(&whole), [1, 0, 0, 3, 1]);

        // A run of a minute has intervals of 200 ms.
        whole.add(recorder(&[0, 59_999]), 0);
        assert_eq!(throttled(&whole)[..3], [2, 3, 1]);
        assert_eq!((whole.interval_ms, whole.intervals.len()), (200, 300));
    }

    #[test]
    fn unsent_requests_count_their_wait_as_one_by_one() {
        let schedule = Schedule {
            rate_per_second: 70,
            ramp: Duration::from_secs(2),
            first: 1,
            step: 3,
        };
        let elapsed = Duration::from_secs(9);
        let mut one_by_one = Latencies::default();
        for request in 5..100 {
            one_by_one
                .0
                .record(microseconds(elapsed.saturating_sub(schedule.due(request))))
                .unwrap();
        }
        let mut recorder = Recorder::default();
        recorder.unsent(&schedule, 5..100, elapsed);
        assert_eq!(recorder.latencies, one_by_one);
        assert_eq!(recorder.outcomes.unsent, 95);
    }
}
