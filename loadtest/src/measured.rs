//! What load testers measured, before it is a report.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::load::Due;
use crate::recorder::{FIRST_INTERVAL_MS, MAX_INTERVALS, Outcomes, Recorder};

/// What one load tester measured, or several of them together.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The identity of each run, so that none is counted twice.
    pub runs: Vec<String>,
    pub started_unix_ms: u64,
    pub elapsed_seconds: f64,
    pub concurrency: u64,
    pub due: Option<Due>,
    pub interrupted: bool,
    pub warm_up_outcomes: Outcomes,
    /// Of the load testers. `None` if a process served other runs at the same time.
    pub cpu_seconds: Option<f64>,
    #[serde(flatten)]
    pub recorder: Recorder,
}

impl Measured {
    /// What several load testers measured together.
    pub(crate) fn sum(mut all: Vec<Self>) -> Self {
        all.sort_by_key(|measured| measured.started_unix_ms);
        let mut sum = Self {
            started_unix_ms: all.first().map_or(0, |first| first.started_unix_ms),
            cpu_seconds: Some(0.0),
            ..Self::default()
        };
        for measured in all {
            sum.add(measured);
        }
        sum
    }

    /// Adds what another load tester measured that started no earlier.
    fn add(&mut self, other: Self) {
        let later_ms = other.started_unix_ms - self.started_unix_ms;
        let later = Duration::from_millis(later_ms).as_secs_f64();
        self.runs.extend(other.runs);
        self.elapsed_seconds = self.elapsed_seconds.max(later + other.elapsed_seconds);
        self.concurrency = self.concurrency.saturating_add(other.concurrency);
        self.due = match (self.due, other.due) {
            (Some(one), Some(other)) => Some(Due {
                requests: one.requests.saturating_add(other.requests),
                time: one.time.max(other.time),
                rate_per_second: one.rate_per_second + other.rate_per_second,
                ramp: one.ramp.max(other.ramp),
            }),
            (one, other) => one.or(other),
        };
        self.interrupted |= other.interrupted;
        self.recorder.add(other.recorder, later_ms);
        self.warm_up_outcomes.add(&other.warm_up_outcomes);
        let cpu = self.cpu_seconds.zip(other.cpu_seconds);
        self.cpu_seconds = cpu.map(|(one, other)| one + other);
    }

    /// # Errors
    ///
    /// If it contradicts itself.
    pub(crate) fn check(&self) -> Result<()> {
        const YEAR: Duration = Duration::from_hours(24 * 366);
        let recorder = &self.recorder;
        ensure!(!self.runs.is_empty(), "it consists of no run");
        let seconds = [self.elapsed_seconds, self.cpu_seconds.unwrap_or_default()];
        ensure!(
            (seconds.iter()).all(|seconds| (0.0..YEAR.as_secs_f64()).contains(seconds)),
            "it took an impossible time"
        );
        ensure!(
            (FIRST_INTERVAL_MS..1000 * YEAR.as_secs()).contains(&recorder.interval_ms)
                && recorder.intervals.len() <= MAX_INTERVALS,
            "its intervals are too short, too long or too many"
        );
        let outcomes = recorder.outcomes;
        let latencies = recorder.latencies.0.len();
        let intervals = recorder.intervals.iter();
        let ok: u64 = intervals.map(|interval| interval.latencies.0.len()).sum();
        ensure!(
            latencies == outcomes.ok.saturating_add(outcomes.unsent) && ok == outcomes.ok,
            "its counts do not add up"
        );
        Ok(())
    }
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}
