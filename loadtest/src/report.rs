//! The report of a run, for programs and for a browser.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloudwatch::Metrics;
use crate::cost;
use crate::flags::Limits;
use crate::histogram::microseconds;
use crate::http::Endpoint;
use crate::load::as_f64;
use crate::measured::Measured;
use crate::share::Share;
use crate::target::FunctionName;
use crate::text::milliseconds;

/// The page, with a place for the report as JSON.
const PAGE: &str = include_str!("report.html");

/// The version of the JSON report. A change that older load testers cannot merge raises it.
const VERSION: u64 = 3;

/// The latencies that a report names.
pub(crate) const QUANTILES: [(&str, f64); 8] = [
    ("min", 0.0),
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
    ("max", 1.0),
];

/// What was loaded, and how. Reports are merged only if they agree on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    #[serde(flatten)]
    pub function: FunctionName,
    pub endpoint: String,
    pub events: String,
    /// What was compared of every reply.
    pub compared: String,
    pub latency_measured_from: String,
}

/// A report that was merged into this one, or should have been.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub name: String,
    pub requests: u64,
    /// Why it is missing, or what is wrong with it.
    pub problem: Option<String>,
}

/// Serialised, it is the JSON report.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    version: u64,
    /// Of the load tester that made the report.
    command_line: String,
    #[serde(flatten)]
    pub subject: Subject,
    /// In words.
    pub capacity_provider: Option<String>,
    #[serde(flatten)]
    pub measured: Measured,
    #[serde(flatten, skip_deserializing)]
    pub figures: Figures,
    pub parts: Vec<Part>,
    pub cloudwatch: Option<Metrics>,
    /// By a generator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replied_unix_ms: Option<u64>,
}

/// What follows from the rest of a report.
#[derive(Default, Serialize)]
pub(crate) struct Figures {
    /// Why the run failed. Empty if it passed.
    pub violations: Vec<String>,
    /// The average over the run, ramp included.
    pub requested_rate_per_second: Option<f64>,
    pub achieved_rate_per_second: f64,
    pub verified_per_second: f64,
    pub throttled_percent: f64,
    pub latency_microseconds: Option<BTreeMap<&'static str, u64>>,
    percentiles: Vec<Percentile>,
    pub cpu_microseconds_per_request: Option<f64>,
    /// What the replies cost if the callers are outside the function's Region. `None` for the emulator.
    pub dollars_outside_region: Option<f64>,
}

#[derive(Serialize)]
struct Percentile {
    percentile: f64,
    microseconds: u64,
}

impl Subject {
    pub(crate) fn new(share: &Share) -> Self {
        Self {
            function: share.function.clone(),
            endpoint: share.endpoint_url.clone(),
            events: share.events.to_string(),
            compared: share.events.compared(),
            latency_measured_from: match share.load.schedule {
                Some(_) => "when the request was due".to_owned(),
                None => "sending".to_owned(),
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
        capacity_provider: Option<String>,
        measured: Measured,
        parts: Vec<Part>,
        limits: &Limits,
    ) -> Self {
        let is_local = Endpoint::parse(&subject.endpoint).is_ok_and(|one| one.is_loopback());
        let mut figures = Figures::new(&measured, is_local);
        figures.violations = violations(&measured, &figures, &parts, limits);
        Self {
            version: VERSION,
            command_line: command_line(),
            subject,
            capacity_provider,
            measured,
            figures,
            parts,
            cloudwatch: None,
            replied_unix_ms: None,
        }
    }

    /// Reads a JSON report.
    ///
    /// # Errors
    ///
    /// If the text is not a report, or one of another version, or it contradicts itself.
    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let no_report = "not a report of the load tester";
        let json: Value = serde_json::from_slice(json).context(no_report)?;
        let version = &json["version"];
        ensure!(
            *version == VERSION,
            "{no_report} that this one reads: its version is {version}, not {VERSION}"
        );
        let report: Self = serde_json::from_value(json).context(no_report)?;
        report.measured.check()?;
        Ok(report)
    }

    /// The report as a page that needs nothing else.
    pub(crate) fn page(&self) -> Result<String> {
        // `</script>` must not occur in it.
        let json = serde_json::to_string(self)?.replace('<', r"\u003c");
        Ok(PAGE.replace("{{report}}", &json))
    }
}

impl Figures {
    fn new(measured: &Measured, is_local: bool) -> Self {
        let (recorder, due) = (&measured.recorder, measured.due);
        let outcomes = recorder.outcomes;
        let sent = as_f64(outcomes.sent());
        // A schedule of 10 requests at 1 per second lasts 10 s, even if the last reply comes earlier.
        let scheduled = due.map_or(0.0, |due| due.time.as_secs_f64());
        let span = measured.elapsed_seconds.max(scheduled);
        let latencies = &recorder.latencies.0;
        let cpu_seconds = measured.cpu_seconds.filter(|_| sent > 0.0);
        Self {
            violations: Vec::new(),
            requested_rate_per_second: due.map(|due| per(due.requests, scheduled)),
            achieved_rate_per_second: per(outcomes.sent(), span),
            verified_per_second: per(outcomes.ok, span),
            throttled_percent: per(outcomes.throttled, sent) * 100.0,
            latency_microseconds: (!latencies.is_empty()).then(|| {
                let latency = |(name, quantile)| (name, latencies.value_at_quantile(quantile));
                QUANTILES.map(latency).into()
            }),
            percentiles: latencies
                .iter_quantiles(5)
                .map(|value| Percentile {
                    percentile: value.quantile_iterated_to() * 100.0,
                    microseconds: value.value_iterated_to(),
                })
                .collect(),
            cpu_microseconds_per_request: cpu_seconds.map(|seconds| seconds * 1e6 / sent),
            dollars_outside_region: (!is_local)
                .then(|| cost::data_transfer(as_f64(recorder.reply_bytes)).1),
        }
    }
}

fn violations(
    measured: &Measured,
    figures: &Figures,
    parts: &[Part],
    limits: &Limits,
) -> Vec<String> {
    let problems = parts.iter().filter_map(|part| {
        let problem = part.problem.as_ref()?;
        Some(format!("{}: {problem}", part.name))
    });
    let mut violations: Vec<_> = problems.collect();
    let outcomes = measured.recorder.outcomes;
    let mut all = outcomes;
    all.add(&measured.warm_up_outcomes);
    for (count, what) in [
        (all.wrong_reply, "wrong replies"),
        (all.function_error, "function errors"),
        (all.transport, "transport errors"),
    ] {
        if count > 0 {
            violations.push(format!("{what}: {count}"));
        }
    }
    if outcomes.ok == 0 {
        violations.push("no reply was right".to_owned());
    }
    let p99 = measured.recorder.latencies.0.value_at_quantile(0.99);
    if let Some(max) = limits.max_p99.filter(|max| p99 > microseconds(**max)) {
        let p99 = milliseconds(p99);
        violations.push(format!("p99: {p99} ms, more than --max-p99 {max}"));
    }
    let throttled = figures.throttled_percent;
    if let Some(max) = limits.max_throttled.filter(|max| throttled > *max) {
        violations.push(format!(
            "throttled: {throttled:.2} %, more than --max-throttled {max}"
        ));
    }
    violations
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
