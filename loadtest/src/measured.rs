//! What load testers measured, before it is a report.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::load::Due;
use crate::recorder::{Outcomes, Recorder};

/// What one load tester measured, or several of them together.
pub(crate) struct Measured {
    /// The identity of each run, so that none is counted twice.
    pub runs: Vec<String>,
    pub started: SystemTime,
    pub elapsed: Duration,
    pub concurrency: u64,
    pub due: Option<Due>,
    pub interrupted: bool,
    pub recorder: Recorder,
    pub warm_up: Outcomes,
    /// CPU time of the load testers. `None` if a process served other runs at the same time.
    pub cpu: Option<Duration>,
}

impl Measured {
    /// What several load testers measured together.
    pub(crate) fn sum(mut all: Vec<Self>) -> Result<Self> {
        all.sort_by_key(|measured| measured.started);
        let mut sum = Self {
            runs: Vec::new(),
            started: all.first().map_or(UNIX_EPOCH, |first| first.started),
            elapsed: Duration::ZERO,
            concurrency: 0,
            due: None,
            interrupted: false,
            recorder: Recorder::new()?,
            warm_up: Outcomes::default(),
            cpu: Some(Duration::ZERO),
        };
        for measured in all {
            sum.add(measured);
        }
        Ok(sum)
    }

    /// Adds what another load tester measured that started no earlier.
    fn add(&mut self, other: Self) {
        let later = other.started.duration_since(self.started);
        let later = later.unwrap_or_default();
        self.runs.extend(other.runs);
        self.elapsed = self.elapsed.max(later + other.elapsed);
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
        self.recorder.add(other.recorder, later);
        self.warm_up.add(&other.warm_up);
        self.cpu = self.cpu.zip(other.cpu).map(|(one, other)| one + other);
    }
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}
