//! What a run showed: for people, for programs and for a browser.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::flags::Flags;
use crate::load::{Ended, Load};
use crate::recorder::{Interval, Outcomes, Recorder, WrongReply};
use crate::target::CapacityProvider;

/// The page, around the report as JSON.
const PAGE: &str = include_str!("report.html");

/// Serialised, it is the JSON report.
#[derive(Serialize)]
pub(crate) struct Report {
    function_name: String,
    qualifier: Option<String>,
    endpoint: String,
    capacity_provider: Option<CapacityProvider>,
    events: String,
    concurrency: u16,
    retry: bool,
    interrupted: bool,
    /// What fails the run; empty if it passed.
    violations: Vec<String>,
    elapsed_seconds: f64,
    /// On average, a ramp included.
    requested_rate_per_second: Option<f64>,
    achieved_rate_per_second: f64,
    verified_per_second: f64,
    outcomes: Outcomes,
    throttled_percent: f64,
    retries: u64,
    warm_up_outcomes: Outcomes,
    latency_measured_from: MeasuredFrom,
    latency_microseconds: Option<Latency>,
    percentiles: Vec<Percentile>,
    intervals: Vec<IntervalReport>,
    wrong_replies: Vec<WrongReply>,
    errors: Vec<ErrorReport>,
}

#[derive(Serialize)]
struct ErrorReport {
    message: String,
    count: u64,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum MeasuredFrom {
    Due,
    Sending,
}

#[derive(Clone, Copy, Serialize)]
struct Latency {
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p95: u64,
    p99: u64,
    p99_9: u64,
    p99_99: u64,
    max: u64,
}

#[derive(Serialize)]
struct Percentile {
    percentile: f64,
    microseconds: u64,
}

#[derive(Serialize)]
struct IntervalReport {
    start_seconds: f64,
    length_seconds: f64,
    ok: u64,
    throttled: u64,
    failed: u64,
    p50_microseconds: Option<u64>,
    p99_microseconds: Option<u64>,
    max_microseconds: Option<u64>,
}

impl Report {
    pub(crate) fn new(
        flags: &Flags,
        endpoint: String,
        capacity_provider: Option<CapacityProvider>,
        load: &Load,
        warm_up: Recorder,
        ended: Ended,
    ) -> Self {
        let Ended {
            recorder,
            elapsed,
            due,
            interrupted,
        } = ended;
        let outcomes = recorder.outcomes;
        let answered = outcomes.requests() - outcomes.unsent;
        // A schedule of 10 requests, 1 a second, lasts 10 seconds, whenever the last is answered.
        let span = due.map_or(elapsed, |(_, time)| elapsed.max(time));
        let throttled_percent = per(outcomes.throttled, answered) * 100.0;
        let microseconds = &recorder.microseconds;
        let latency = (!microseconds.is_empty()).then(|| Latency {
            min: microseconds.min(),
            mean: microseconds.mean(),
            p50: microseconds.value_at_quantile(0.5),
            p90: microseconds.value_at_quantile(0.9),
            p95: microseconds.value_at_quantile(0.95),
            p99: microseconds.value_at_quantile(0.99),
            p99_9: microseconds.value_at_quantile(0.999),
            p99_99: microseconds.value_at_quantile(0.9999),
            max: microseconds.max(),
        });
        let mut wrong_replies = warm_up.wrong_replies;
        wrong_replies.extend(recorder.wrong_replies);
        let mut errors = warm_up.errors;
        for (message, count) in recorder.errors {
            *errors.entry(message).or_default() += count;
        }
        Self {
            function_name: flags.function_name.clone(),
            qualifier: flags.qualifier.clone(),
            endpoint,
            capacity_provider,
            events: flags.events_name(),
            concurrency: load.concurrency.get(),
            retry: load.retry,
            interrupted,
            violations: violations(
                flags,
                warm_up.outcomes,
                outcomes,
                throttled_percent,
                latency,
            ),
            elapsed_seconds: elapsed.as_secs_f64(),
            requested_rate_per_second: due.map(|(requests, time)| per_second(requests, time)),
            achieved_rate_per_second: per_second(answered, span),
            verified_per_second: per_second(outcomes.ok, span),
            outcomes,
            throttled_percent,
            retries: recorder.retries,
            warm_up_outcomes: warm_up.outcomes,
            latency_measured_from: match load.schedule {
                Some(_) => MeasuredFrom::Due,
                None => MeasuredFrom::Sending,
            },
            latency_microseconds: latency,
            percentiles: microseconds
                .iter_quantiles(5)
                .map(|value| Percentile {
                    percentile: value.quantile_iterated_to() * 100.0,
                    microseconds: value.value_iterated_to(),
                })
                .collect(),
            intervals: recorder
                .intervals
                .iter()
                .zip(0..)
                .map(|(interval, index)| {
                    IntervalReport::new(
                        interval,
                        recorder.interval * index,
                        recorder.interval,
                        elapsed,
                    )
                })
                .collect(),
            wrong_replies,
            errors: errors
                .into_iter()
                .map(|(message, count)| ErrorReport { message, count })
                .collect(),
        }
    }

    /// What fails the run; empty if it passed.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The report as a page that needs nothing else.
    pub(crate) fn page(&self) -> Result<String> {
        // `</script>` must not occur in it.
        let json = serde_json::to_string(self)?.replace('<', r"\u003c");
        Ok(PAGE.replace("{{report}}", &json))
    }
}

impl IntervalReport {
    fn new(interval: &Interval, start: Duration, length: Duration, elapsed: Duration) -> Self {
        let microseconds = &interval.microseconds;
        let of_ok = |value: u64| (!microseconds.is_empty()).then_some(value);
        Self {
            start_seconds: start.as_secs_f64(),
            // The last one is cut short.
            length_seconds: length.min(elapsed.saturating_sub(start)).as_secs_f64(),
            ok: microseconds.len(),
            throttled: interval.throttled,
            failed: interval.failed,
            p50_microseconds: of_ok(microseconds.value_at_quantile(0.5)),
            p99_microseconds: of_ok(microseconds.value_at_quantile(0.99)),
            max_microseconds: of_ok(microseconds.max()),
        }
    }
}

fn violations(
    flags: &Flags,
    warm_up: Outcomes,
    outcomes: Outcomes,
    throttled_percent: f64,
    latency: Option<Latency>,
) -> Vec<String> {
    let mut violations = Vec::new();
    for (count, what) in [
        (warm_up.wrong_reply + outcomes.wrong_reply, "wrong replies"),
        (
            warm_up.function_error + outcomes.function_error,
            "function errors",
        ),
        (warm_up.transport + outcomes.transport, "transport errors"),
    ] {
        if count > 0 {
            violations.push(format!("{what}: {count}"));
        }
    }
    if outcomes.ok == 0 {
        violations.push("no reply was right".to_owned());
    }
    if let Some(latency) = latency
        && let Some(max) = flags.max_p99
        && Duration::from_micros(latency.p99) > *max
    {
        let p99 = milliseconds(latency.p99);
        violations.push(format!("p99: {p99} ms, more than --max-p99 {max}"));
    }
    if let Some(max) = flags.max_throttled
        && throttled_percent > max
    {
        violations.push(format!(
            "throttled: {throttled_percent:.2} %, more than --max-throttled {max}"
        ));
    }
    violations
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            function_name,
            endpoint,
            events,
            concurrency,
            outcomes,
            ..
        } = self;
        write!(f, "{function_name}")?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        writeln!(f, " at {endpoint}, {events}, concurrency {concurrency}")?;
        if let Some(provider) = &self.capacity_provider {
            writeln!(f, "{provider}")?;
        }

        let interrupted = if self.interrupted {
            ", interrupted"
        } else {
            ""
        };
        writeln!(
            f,
            "\n{:>16}  {:.2} s{interrupted}",
            "time", self.elapsed_seconds
        )?;
        write!(
            f,
            "{:>16}  {:.1}/s achieved",
            "rate", self.achieved_rate_per_second
        )?;
        if let Some(requested) = self.requested_rate_per_second {
            write!(f, " of {requested:.1}/s requested")?;
        }
        writeln!(f, ", {:.1}/s verified", self.verified_per_second)?;
        for (name, count) in [
            ("ok", outcomes.ok),
            ("throttled", outcomes.throttled),
            ("function errors", outcomes.function_error),
            ("wrong replies", outcomes.wrong_reply),
            ("transport errors", outcomes.transport),
        ] {
            let percent = per(count, outcomes.requests()) * 100.0;
            writeln!(f, "{name:>16}  {count} ({percent:.2} %)")?;
        }
        if outcomes.unsent > 0 {
            writeln!(
                f,
                "{:>16}  {} (due, but all {concurrency} callers were busy until the end)",
                "unsent", outcomes.unsent
            )?;
        }
        if self.retry {
            writeln!(f, "{:>16}  {}", "retries", self.retries)?;
        }

        if let Some(latency) = &self.latency_microseconds {
            let from = match self.latency_measured_from {
                MeasuredFrom::Due => "from when the request was due",
                MeasuredFrom::Sending => "from sending",
            };
            writeln!(f, "\nlatency in ms, {from}")?;
            for (name, microseconds) in [
                ("min", latency.min),
                ("p50", latency.p50),
                ("p90", latency.p90),
                ("p95", latency.p95),
                ("p99", latency.p99),
                ("p99.9", latency.p99_9),
                ("p99.99", latency.p99_99),
                ("max", latency.max),
            ] {
                writeln!(f, "{name:>16}  {:>9}", milliseconds(microseconds))?;
            }
        }

        for wrong in &self.wrong_replies {
            let (event, difference) = (&wrong.event, &wrong.difference);
            writeln!(
                f,
                "\nwrong reply to {event} at offset {}: {:?} instead of {:?}",
                difference.offset, difference.received, difference.expected
            )?;
        }
        if !self.errors.is_empty() {
            writeln!(f)?;
        }
        for ErrorReport { message, count } in &self.errors {
            writeln!(f, "{count} x {message}")?;
        }
        if !self.violations.is_empty() {
            writeln!(f, "\nfailed: {}", self.violations.join("; "))?;
        }
        Ok(())
    }
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03}", microseconds / 1000, microseconds % 1000)
}

fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        as_f64(count) / time.as_secs_f64()
    }
}

fn per(count: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        as_f64(count) / as_f64(all)
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
