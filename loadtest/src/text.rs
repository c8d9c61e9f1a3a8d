//! A report as text.

use std::time::{Duration, UNIX_EPOCH};

use aws_smithy_types::date_time::{DateTime, Format};

use crate::cloudwatch::Metrics;
use crate::load::as_f64;
use crate::recorder::{ErrorCount, WrongReply};
use crate::report::{MeasuredFrom, Report, per};
use crate::terminal::printable;

pub(crate) fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03}", microseconds / 1000, microseconds % 1000)
}

/// Every line leaves through [`Text::line`].
struct Text(String);

pub(crate) fn text(report: &Report) -> String {
    let mut text = Text(String::new());
    let (subject, concurrency) = (&report.subject, report.concurrency);
    text.line(&format!("{subject}, concurrency {concurrency}"));
    if let Some(provider) = &report.capacity_provider {
        text.line(&provider.to_string());
    }
    text.rates(report);
    text.outcomes(report);
    text.latency(report);
    text.problems(report);
    if let Some(metrics) = &report.cloudwatch {
        text.metrics(metrics);
    }
    if !report.violations.is_empty() {
        text.line("");
        text.line(&format!("failed: {}", report.violations.join("; ")));
    }
    text.0
}

impl Text {
    /// Much of it comes from the network.
    fn line(&mut self, text: &str) {
        self.0 += &printable(text);
        self.0.push('\n');
    }

    /// A name and a value. Names are aligned at their end.
    fn row(&mut self, name: &str, value: &str) {
        self.line(&format!("{name:>16}  {value}"));
    }

    fn rates(&mut self, report: &Report) {
        self.line("");
        let mut time = format!("{:.2} s", report.elapsed_seconds);
        if report.interrupted {
            time += ", interrupted";
        }
        self.row("time", &time);
        let requested = report.requested_rate_per_second;
        let requested = requested.map(|rate| format!(" of {rate:.1}/s requested"));
        let rate = format!(
            "{:.1}/s achieved{}, {:.1}/s verified",
            report.achieved_rate_per_second,
            requested.unwrap_or_default(),
            report.verified_per_second
        );
        self.row("rate", &rate);
        let parts = &report.parts;
        if !parts.is_empty() {
            let complete = parts.iter().filter(|part| part.problem.is_none()).count();
            let parts = format!("{} merged, {complete} without a problem", parts.len());
            self.row("reports", &parts);
        }
        if let Some(cpu) = report.load_tester_cpu {
            let (each, all) = (cpu.microseconds_per_request, cpu.seconds);
            let cpu = format!("{each:.1} us per request, {all:.2} s in all");
            self.row("load tester CPU", &cpu);
        }
        let data = &report.data_transfer;
        let dollars = data.dollars_outside_region;
        let dollars =
            dollars.map(|dollars| format!(", ${dollars:.2} if they left the function's Region"));
        let dollars = dollars.unwrap_or_default();
        let replies = if data.reply_bytes < 1_000_000 {
            format!("{} bytes{dollars}", data.reply_bytes)
        } else {
            format!("{:.3} GB{dollars}", data.gb)
        };
        self.row("replies", &replies);
    }

    fn outcomes(&mut self, report: &Report) {
        let outcomes = &report.outcomes;
        for (name, count) in [
            ("ok", outcomes.ok),
            ("throttled", outcomes.throttled),
            ("function errors", outcomes.function_error),
            ("wrong replies", outcomes.wrong_reply),
            ("transport errors", outcomes.transport),
        ] {
            let percent = per(count, as_f64(outcomes.requests())) * 100.0;
            self.row(name, &format!("{count} ({percent:.2} %)"));
        }
        if outcomes.unsent > 0 {
            let (unsent, callers) = (outcomes.unsent, report.concurrency);
            let reason = format!("due, but all {callers} callers were busy until the end");
            self.row("unsent", &format!("{unsent} ({reason})"));
        }
        if report.subject.retry {
            self.row("retries", &report.retries.to_string());
        }
    }

    fn latency(&mut self, report: &Report) {
        let Some(latency) = &report.latency_microseconds else {
            return;
        };
        let from = match report.subject.latency_measured_from {
            MeasuredFrom::Due => "from when the request was due",
            MeasuredFrom::Sending => "from sending",
        };
        self.line("");
        self.line(&format!("latency in ms, {from}"));
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
            self.row(name, &format!("{:>9}", milliseconds(microseconds)));
        }
    }

    fn problems(&mut self, report: &Report) {
        for wrong in &report.wrong_replies {
            let WrongReply {
                event, difference, ..
            } = wrong;
            let (received, expected) = (&difference.received, &difference.expected);
            self.line("");
            self.line(&match difference.offset {
                Some(offset) => format!(
                    "wrong reply to {event} at offset {offset}: {received:?} instead of {expected:?}"
                ),
                None => format!("wrong reply to {event}: {received} instead of {expected}"),
            });
        }
        if !report.errors.is_empty() {
            self.line("");
        }
        for ErrorCount { message, count } in &report.errors {
            self.line(&format!("{count} x {message}"));
        }
    }

    fn metrics(&mut self, metrics: &Metrics) {
        let [start, end] = [metrics.start_unix_seconds, metrics.end_unix_seconds].map(|seconds| {
            let time = DateTime::from(UNIX_EPOCH + Duration::from_secs(seconds));
            time.fmt(Format::DateTime).unwrap_or_default()
        });
        self.line("");
        self.line(&format!("CloudWatch, {start} to {end}"));
        let reasons = [
            ("concurrency", metrics.concurrency_throttles),
            ("CPU", metrics.cpu_throttles),
            ("memory", metrics.memory_throttles),
            ("disk", metrics.disk_throttles),
        ];
        let reasons = reasons
            .into_iter()
            .filter_map(|(name, count)| Some(format!("{name} {}", count?)));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        let throttles = |count: f64| match &reasons[..] {
            "" => count.to_string(),
            reasons => format!("{count} ({reasons})"),
        };
        let average = |count: f64| format!("{count:.1} on average");
        let price = metrics.dollars_per_vcpu_hour;
        for (name, value) in [
            ("invocations", metrics.invocations.map(|count| count.to_string())),
            ("throttles", metrics.throttles.map(throttles)),
            ("environments", metrics.execution_environments.map(average)),
            ("their CPU", metrics.cpu_utilization_percent.map(|percent| format!("{percent:.1} % used"))),
            ("vCPUs allocated", metrics.vcpus_allocated.map(average)),
            ("CPU", metrics.cpu_microseconds_per_invocation.map(|time| format!("{time:.1} us per invocation"))),
            ("cost", metrics.dollars_per_million_invocations.map(|dollars| format!(
                "${dollars:.2} per million invocations, at ${price:.4} for a vCPU-hour and $0.20 for a million requests"
            ))),
            ("missing", Some(metrics.missing.join(", ")).filter(|missing| !missing.is_empty())),
        ] {
            if let Some(value) = value {
                self.row(name, &value);
            }
        }
    }
}
