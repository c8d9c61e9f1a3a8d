//! What a run sends, and when.

use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::{ArgPredicate, TypedValueParser};
use clap::{Args, value_parser};
use humantime::parse_duration;
use serde::{Deserialize, Serialize};

/// The most requests per second that one load tester schedules.
const HIGHEST_RATE: u64 = 100_000;

#[derive(Clone, Copy, Args, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Requests in flight at once, at most
    #[arg(long, short, value_name = "COUNT", default_value = "1",
          value_parser = value_parser!(u16).range(1..).try_map(NonZeroU16::try_from))]
    pub concurrency: NonZeroU16,

    /// Number of requests to send (not --n, the N of the events)
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = parse_requests, allow_negative_numbers = true)]
    pub requests: Option<u64>,

    /// How long to send requests, such as 30s or 5m [default: 10s, unless --requests is given]
    #[arg(
        long,
        short,
        value_parser = parse_duration,
        default_value = "10s",
        default_value_if("requests", ArgPredicate::IsPresent, None),
        hide_default_value = true
    )]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub schedule: Option<Schedule>,
}

/// When requests are due.
///
/// A generator sends its share of a schedule: request `first`, and every `step`th after it.
#[derive(Clone, Copy, Args, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// Requests per second, sent on schedule even if replies are late. Without it, each caller sends
    /// its next request when its reply arrives
    #[arg(
        long = "rate",
        short,
        value_name = "PER_SECOND",
        required = false,
        value_parser = value_parser!(u32).range(1..)
    )]
    pub rate_per_second: u32,

    /// Raise the rate linearly from 0 during this time
    #[arg(
        long,
        value_name = "DURATION",
        requires = "rate_per_second",
        value_parser = parse_duration,
        default_value = "0s",
        hide_default_value = true
    )]
    pub ramp: Duration,

    #[arg(skip)]
    pub first: u64,

    #[arg(skip = 1u64)]
    pub step: u64,
}

/// Requests that are due according to a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Due {
    pub requests: u64,
    /// How long the schedule lasts.
    pub time: Duration,
    /// After the ramp.
    pub rate_per_second: f64,
    pub ramp: Duration,
}

impl Load {
    /// # Errors
    ///
    /// If nothing could be sent, or more than can be scheduled by this many load testers.
    pub(crate) fn check(&self, load_testers: u64) -> Result<()> {
        ensure!(
            self.duration.is_none_or(|duration| !duration.is_zero()),
            "--duration 0 leaves no time to send: give more"
        );
        let Some(schedule) = self.schedule else {
            return Ok(());
        };
        ensure!(
            self.duration.is_none_or(|time| schedule.ramp <= time),
            "the run ends before the --ramp: give a longer --duration"
        );
        let rate = schedule.rate_per_second;
        let highest = load_testers.saturating_mul(HIGHEST_RATE);
        ensure!(
            u64::from(rate) <= highest,
            "--rate {rate} is more than can be scheduled: give at most {highest}, or more --generators"
        );
        ensure!(
            rate > 0 && schedule.step > 0,
            "--rate 0 leaves nothing to send: give more"
        );
        Ok(())
    }

    /// All that is due. `None` without a schedule.
    pub(crate) fn due(&self) -> Option<Due> {
        let schedule = self.schedule?;
        let time = self.duration.unwrap_or(Duration::MAX);
        let (requests, time) = match (self.requests, schedule.requests(time)) {
            // A schedule of 10 requests at 1 per second lasts 10 s.
            (Some(limit), due) if limit <= due => (limit, schedule.due(limit)),
            (_, due) => (due, time),
        };
        Some(Due {
            requests,
            time,
            rate_per_second: f64::from(schedule.rate_per_second) / as_f64(schedule.step),
            ramp: schedule.ramp,
        })
    }
}

impl Schedule {
    /// When the request of this number is due, counted from the start.
    pub(crate) fn due(&self, request: u64) -> Duration {
        let rate = f64::from(self.rate_per_second);
        let ramp = self.ramp.as_secs_f64();
        let during_ramp = rate * ramp / 2.0;
        let request = as_f64(request.saturating_mul(self.step).saturating_add(self.first));
        let seconds = if request < during_ramp {
            (2.0 * ramp * request / rate).sqrt()
        } else {
            ramp + (request - during_ramp) / rate
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many requests are due within this time.
    pub(crate) fn requests(&self, time: Duration) -> u64 {
        let rate = f64::from(self.rate_per_second);
        let (time, ramp) = (time.as_secs_f64(), self.ramp.as_secs_f64());
        let requests = if time < ramp {
            rate * time * time / (2.0 * ramp)
        } else {
            rate * (time - ramp / 2.0)
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and saturates"
        )]
        let requests = requests.ceil() as u64;
        requests.saturating_sub(self.first).div_ceil(self.step)
    }
}

fn parse_requests(text: &str) -> Result<u64> {
    let requests = text.parse().ok().filter(|requests| *requests > 0);
    requests.context(
        "give a number of requests, at least 1; --n, with two hyphens, is the N of the events",
    )
}

pub(crate) fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        rate_per_second: 100,
        ramp: Duration::from_secs(2),
        first: 0,
        step: 1,
    };

    #[test]
    fn requests_come_closer_together_until_the_ramp_ends() {
        assert_eq!(SCHEDULE.due(0), Duration::ZERO);
        assert_eq!(SCHEDULE.due(25), Duration::from_secs(1));
        assert_eq!(SCHEDULE.due(100), Duration::from_secs(2));
        assert_eq!(SCHEDULE.due(101), Duration::from_millis(2010));
        assert_eq!(SCHEDULE.due(200), Duration::from_secs(3));
    }

    #[test]
    fn as_many_requests_are_due_within_a_time_as_are_due_before_it() {
        for time in [0.5, 1.0, 1.99, 2.0, 2.015, 3.0].map(Duration::from_secs_f64) {
            let requests = SCHEDULE.requests(time);
            assert!(SCHEDULE.due(requests - 1) < time, "{time:?}");
            assert!(SCHEDULE.due(requests) >= time, "{time:?}");
        }
    }

    #[test]
    fn the_shares_of_a_schedule_make_up_the_schedule() {
        let shares = (0..3).map(|first| Schedule {
            first,
            step: 3,
            ..SCHEDULE
        });
        let time = Duration::from_secs(3);
        let mut due: Vec<_> = shares
            .flat_map(|share| (0..share.requests(time)).map(move |request| share.due(request)))
            .collect();
        due.sort();
        let whole: Vec<_> = (0..SCHEDULE.requests(time))
            .map(|request| SCHEDULE.due(request))
            .collect();
        assert_eq!(due, whole);
    }
}
