//! The report of a run, for programs and for a browser.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::cloudwatch::Metrics;
use crate::cost;
use crate::flags::Limits;
use crate::histogram::{self, microseconds};
use crate::http::Endpoint;
use crate::load::{Due, as_f64};
use crate::measured::{Measured, unix_ms};
use crate::recorder::{
    DIGITS, ErrorCount, FIRST_INTERVAL, INTERVAL_DIGITS, Interval, MAX_INTERVALS, Outcomes,
    Recorder, WrongReply,
};
use crate::share::Share;
use crate::target::{CapacityProvider, FunctionName};
use crate::text::milliseconds;

/// The page, with a place for the report as JSON.
const PAGE: &str = include_str!("report.html");

/// The version of the JSON report. A change that older load testers cannot merge raises it.
const VERSION: u64 = 2;

/// What was loaded, and how. Reports are merged only if they agree on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    #[serde(flatten)]
    pub function: FunctionName,
    pub endpoint: String,
    pub events: String,
    /// What was compared of every reply.
    pub compared: String,
    pub retry: bool,
    pub latency_measured_from: MeasuredFrom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MeasuredFrom {
    Due,
    Sending,
}

/// A report that was merged into this one, or should have been.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub name: String,
    pub requests: u64,
    /// Why it is missing, or what is wrong with it.
    pub problem: Option<String>,
}

/// A generator's clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Clock {
    /// When it received its event.
    pub received_unix_ms: u64,
    /// When it replied.
    pub replied_unix_ms: u64,
}

/// Serialised, it is the JSON report.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    version: u64,
    pub runs: Vec<String>,
    #[serde(flatten)]
    pub subject: Subject,
    pub capacity_provider: Option<CapacityProvider>,
    pub concurrency: u64,
    pub interrupted: bool,
    /// Why the run failed. Empty if it passed.
    pub violations: Vec<String>,
    /// Of the load tester that made the report.
    pub command_line: String,
    pub started_unix_ms: u64,
    pub elapsed_seconds: f64,
    pub due: Option<Due>,
    /// The average over the run, ramp included.
    pub requested_rate_per_second: Option<f64>,
    pub achieved_rate_per_second: f64,
    pub verified_per_second: f64,
    pub outcomes: Outcomes,
    pub throttled_percent: f64,
    pub retries: u64,
    pub warm_up_outcomes: Outcomes,
    pub latency_microseconds: Option<Latency>,
    pub histogram: String,
    pub percentiles: Vec<Percentile>,
    pub interval_ms: u64,
    pub intervals: Vec<IntervalReport>,
    pub wrong_replies: Vec<WrongReply>,
    pub errors: Vec<ErrorCount>,
    pub load_tester_cpu: Option<Cpu>,
    pub data_transfer: DataTransfer,
    pub parts: Vec<Part>,
    pub cloudwatch: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
}

/// What the function has sent, warm-up included.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct DataTransfer {
    pub reply_bytes: u64,
    pub gb: f64,
    /// What it costs if the callers are outside the function's Region. `None` for the emulator.
    pub dollars_outside_region: Option<f64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub max: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Percentile {
    pub percentile: f64,
    pub microseconds: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IntervalReport {
    pub start_seconds: f64,
    pub length_seconds: f64,
    pub ok: u64,
    pub throttled: u64,
    pub failed: u64,
    pub p50_microseconds: Option<u64>,
    pub p99_microseconds: Option<u64>,
    pub max_microseconds: Option<u64>,
    /// `None` without an ok reply.
    pub histogram: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub seconds: f64,
    pub microseconds_per_request: f64,
}

impl Subject {
    pub(crate) fn new(share: &Share) -> Self {
        Self {
            function: share.function.clone(),
            endpoint: share.endpoint_url.clone(),
            events: share.events.to_string(),
            compared: share.events.compared(),
            retry: share.load.retry,
            latency_measured_from: match share.load.schedule {
                Some(_) => MeasuredFrom::Due,
                None => MeasuredFrom::Sending,
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (function, endpoint) = (&self.function, &self.endpoint);
        let (events, compared) = (&self.events, &self.compared);
        write!(
            f,
            "{function} at {endpoint}, {events}, compared: {compared}"
        )
    }
}

impl Report {
    pub(crate) fn new(
        subject: Subject,
        capacity_provider: Option<CapacityProvider>,
        measured: Measured,
        parts: Vec<Part>,
        limits: &Limits,
    ) -> Result<Self> {
        let recorder = measured.recorder;
        let outcomes = recorder.outcomes;
        let sent = outcomes.requests().saturating_sub(outcomes.unsent);
        // A schedule of 10 requests at 1 per second lasts 10 s, even if the last reply comes earlier.
        let span = measured
            .due
            .map_or(measured.elapsed, |due| measured.elapsed.max(due.time))
            .as_secs_f64();
        let throttled_percent = per(outcomes.throttled, as_f64(sent)) * 100.0;
        let histogram = &recorder.microseconds;
        let latency = (!histogram.is_empty()).then(|| Latency {
            min: histogram.min(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            p99_99: histogram.value_at_quantile(0.9999),
            max: histogram.max(),
        });
        let intervals = recorder.intervals.iter().zip(0..);
        let (gb, dollars) = cost::data_transfer(as_f64(recorder.reply_bytes));
        let is_local = Endpoint::parse(&subject.endpoint).is_ok_and(|one| one.is_loopback());
        let mut report = Self {
            version: VERSION,
            runs: measured.runs,
            subject,
            capacity_provider,
            concurrency: measured.concurrency,
            interrupted: measured.interrupted,
            violations: Vec::new(),
            command_line: command_line(),
            started_unix_ms: unix_ms(measured.started),
            elapsed_seconds: measured.elapsed.as_secs_f64(),
            due: measured.due,
            requested_rate_per_second: measured
                .due
                .map(|due| per(due.requests, due.time.as_secs_f64())),
            achieved_rate_per_second: per(sent, span),
            verified_per_second: per(outcomes.ok, span),
            outcomes,
            throttled_percent,
            retries: recorder.retries,
            warm_up_outcomes: measured.warm_up,
            latency_microseconds: latency,
            histogram: histogram::encode(histogram)?,
            percentiles: histogram
                .iter_quantiles(5)
                .map(|value| Percentile {
                    percentile: value.quantile_iterated_to() * 100.0,
                    microseconds: value.value_iterated_to(),
                })
                .collect(),
            interval_ms: recorder.interval.as_millis().try_into()?,
            intervals: intervals
                .map(|(interval, index)| {
                    let start = recorder.interval * index;
                    // The last one ends with the run.
                    let length = recorder
                        .interval
                        .min(measured.elapsed.saturating_sub(start));
                    IntervalReport::new(interval, start, length)
                })
                .collect::<Result<_>>()?,
            wrong_replies: recorder.wrong_replies,
            errors: recorder.errors,
            load_tester_cpu: measured.cpu.filter(|_| sent > 0).map(|cpu| Cpu {
                seconds: cpu.as_secs_f64(),
                microseconds_per_request: cpu.as_secs_f64() * 1e6 * per(1, as_f64(sent)),
            }),
            data_transfer: DataTransfer {
                reply_bytes: recorder.reply_bytes,
                gb,
                dollars_outside_region: (!is_local).then_some(dollars),
            },
            parts,
            cloudwatch: None,
            clock: None,
        };
        report.violations = report.find_violations(limits);
        Ok(report)
    }

    /// How many replies the function sent, right or wrong.
    pub(crate) fn replies(&self) -> u64 {
        let mut all = self.outcomes;
        all.add(&self.warm_up_outcomes);
        let replies = [all.ok, all.function_error, all.wrong_reply];
        replies.into_iter().fold(0, u64::saturating_add)
    }

    pub(crate) fn started(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.started_unix_ms)
    }

    /// Reads a JSON report.
    ///
    /// # Errors
    ///
    /// If the text is not a report, or one of another version.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let Versioned { version } =
            serde_json::from_slice(json).context("not a report of the load tester")?;
        if version != VERSION {
            bail!(
                "version {version} of the report, where this load tester reads version {VERSION}"
            );
        }
        serde_json::from_slice(json).context("not a report of the load tester")
    }

    /// Restores what was measured.
    ///
    /// # Errors
    ///
    /// If the report contradicts itself.
    pub(crate) fn measured(&self) -> Result<Measured> {
        const MAX_TIME: Duration = Duration::from_hours(24 * 366);
        let elapsed = Duration::try_from_secs_f64(self.elapsed_seconds)?;
        let interval = Duration::from_millis(self.interval_ms);
        ensure!(
            elapsed < MAX_TIME && interval < MAX_TIME,
            "it lasted more than a year"
        );
        ensure!(
            interval >= FIRST_INTERVAL && self.intervals.len() <= MAX_INTERVALS,
            "its intervals are too short or too many"
        );
        ensure!(!self.runs.is_empty(), "it consists of no run");
        let mut recorder = Recorder::new()?;
        recorder.outcomes = self.outcomes;
        recorder.retries = self.retries;
        recorder.reply_bytes = self.data_transfer.reply_bytes;
        recorder.interval = interval;
        recorder.microseconds =
            histogram::decode(&self.histogram, DIGITS).context("its histogram")?;
        recorder.intervals = self
            .intervals
            .iter()
            .map(IntervalReport::interval)
            .collect::<Result<_>>()
            .context("the histogram of an interval")?;
        let latencies = self.outcomes.ok.saturating_add(self.outcomes.unsent);
        let ok = self
            .intervals
            .iter()
            .fold(0, |ok: u64, interval| ok.saturating_add(interval.ok));
        ensure!(
            recorder.microseconds.len() == latencies && ok == self.outcomes.ok,
            "its counts do not add up"
        );
        recorder.add_examples(self.wrong_replies.clone(), self.errors.clone());
        let cpu = self
            .load_tester_cpu
            .map(|cpu| Duration::try_from_secs_f64(cpu.seconds));
        Ok(Measured {
            runs: self.runs.clone(),
            started: self.started(),
            elapsed,
            concurrency: self.concurrency,
            due: self.due.filter(|due| due.time < MAX_TIME),
            interrupted: self.interrupted,
            recorder,
            warm_up: self.warm_up_outcomes,
            cpu: cpu.transpose()?.filter(|cpu| *cpu < MAX_TIME),
        })
    }

    /// The report as a page that needs nothing else.
    pub(crate) fn page(&self) -> Result<String> {
        // `</script>` must not occur in it.
        let json = serde_json::to_string(self)?.replace('<', r"\u003c");
        Ok(PAGE.replace("{{report}}", &json))
    }

    fn find_violations(&self, limits: &Limits) -> Vec<String> {
        let parts = self.parts.iter();
        let mut violations: Vec<String> = parts
            .filter_map(|part| Some(format!("{}: {}", part.name, part.problem.as_ref()?)))
            .collect();
        let mut all = self.outcomes;
        all.add(&self.warm_up_outcomes);
        for (count, what) in [
            (all.wrong_reply, "wrong replies"),
            (all.function_error, "function errors"),
            (all.transport, "transport errors"),
        ] {
            if count > 0 {
                violations.push(format!("{what}: {count}"));
            }
        }
        if self.outcomes.ok == 0 {
            violations.push("no reply was right".to_owned());
        }
        if let Some(latency) = self.latency_microseconds
            && let Some(max) = limits.max_p99
            && latency.p99 > microseconds(*max)
        {
            let p99 = milliseconds(latency.p99);
            violations.push(format!("p99: {p99} ms, more than --max-p99 {max}"));
        }
        if let Some(max) = limits.max_throttled
            && self.throttled_percent > max
        {
            violations.push(format!(
                "throttled: {:.2} %, more than --max-throttled {max}",
                self.throttled_percent
            ));
        }
        violations
    }
}

impl IntervalReport {
    fn new(interval: &Interval, start: Duration, length: Duration) -> Result<Self> {
        let histogram = interval.microseconds.as_ref();
        Ok(Self {
            start_seconds: start.as_secs_f64(),
            length_seconds: length.as_secs_f64(),
            ok: histogram.map_or(0, Histogram::len),
            throttled: interval.throttled,
            failed: interval.failed,
            p50_microseconds: histogram.map(|one| one.value_at_quantile(0.5)),
            p99_microseconds: histogram.map(|one| one.value_at_quantile(0.99)),
            max_microseconds: histogram.map(Histogram::max),
            histogram: histogram.map(histogram::encode).transpose()?,
        })
    }

    fn interval(&self) -> Result<Interval> {
        let histogram = self.histogram.as_ref();
        let histogram = histogram.map(|text| histogram::decode(text, INTERVAL_DIGITS));
        let histogram = histogram.transpose()?;
        let ok = histogram.as_ref().map_or(0, Histogram::len);
        ensure!(ok == self.ok, "its counts do not add up");
        Ok(Interval {
            microseconds: histogram,
            throttled: self.throttled,
            failed: self.failed,
        })
    }
}

/// As for a shell.
fn command_line() -> String {
    let arguments = std::env::args_os().skip(1);
    let arguments: Vec<_> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments = shlex::try_join(arguments.iter().map(String::as_str));
    // No argument has a NUL.
    format!("cargo loadtest {}", arguments.unwrap_or_default())
}

pub(crate) fn per(count: u64, all: f64) -> f64 {
    if all > 0.0 { as_f64(count) / all } else { 0.0 }
}
