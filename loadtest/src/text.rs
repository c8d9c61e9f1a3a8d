//! A report as text.

use aws_smithy_types::date_time::{DateTime, Format};

use crate::cloudwatch::Metrics;
use crate::cost;
use crate::load::as_f64;
use crate::report::{QUANTILES, Report, per};
use crate::terminal::printable;

pub(crate) fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03}", microseconds / 1000, microseconds % 1000)
}

/// Every line leaves through [`Text::line`].
struct Text(String);

pub(crate) fn text(report: &Report) -> String {
    let mut text = Text(String::new());
    let (subject, concurrency) = (&report.subject, report.measured.concurrency);
    text.line(&format!("{subject}, concurrency {concurrency}"));
    if let Some(provider) = &report.capacity_provider {
        text.line(provider);
    }
    text.rates(report);
    text.outcomes(report);
    text.latency(report);
    text.problems(report);
    if let Some(metrics) = &report.cloudwatch {
        text.metrics(metrics);
    }
    let violations = &report.figures.violations;
    if !violations.is_empty() {
        text.line("");
        text.line(&format!("failed: {}", violations.join("; ")));
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
        let (measured, figures) = (&report.measured, &report.figures);
        let is_interrupted = if measured.interrupted {
            ", interrupted"
        } else {
            ""
        };
        self.line("");
        self.row(
            "time",
            &format!("{:.2} s{is_interrupted}", measured.elapsed_seconds),
        );
        let requested = figures.requested_rate_per_second;
        let requested = requested.map(|rate| format!(" of {rate:.1}/s requested"));
        let rate = format!(
            "{:.1}/s achieved{}, {:.1}/s verified",
            figures.achieved_rate_per_second,
            requested.unwrap_or_default(),
            figures.verified_per_second
        );
        self.row("rate", &rate);
        let parts = &report.parts;
        if !parts.is_empty() {
            let complete = parts.iter().filter(|part| part.problem.is_none()).count();
            let parts = format!("{} merged, {complete} without a problem", parts.len());
            self.row("reports", &parts);
        }
        let cpu = measured
            .cpu_seconds
            .zip(figures.cpu_microseconds_per_request);
        if let Some((all, each)) = cpu {
            let cpu = format!("{each:.1} us per request, {all:.2} s in all");
            self.row("load tester CPU", &cpu);
        }
        let bytes = measured.recorder.reply_bytes;
        let size = if bytes < 1_000_000 {
            format!("{bytes} bytes")
        } else {
            format!("{:.3} GB", cost::data_transfer(as_f64(bytes)).0)
        };
        let dollars = figures
            .dollars_outside_region
            .map(|dollars| format!(", ${dollars:.2} if they left the function's Region"));
        self.row("replies", &(size + &dollars.unwrap_or_default()));
    }

    fn outcomes(&mut self, report: &Report) {
        let outcomes = &report.measured.recorder.outcomes;
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
            let (unsent, callers) = (outcomes.unsent, report.measured.concurrency);
            let reason = format!("due, but all {callers} callers were busy until the end");
            self.row("unsent", &format!("{unsent} ({reason})"));
        }
    }

    fn latency(&mut self, report: &Report) {
        let Some(latencies) = &report.figures.latency_microseconds else {
            return;
        };
        let from = &report.subject.latency_measured_from;
        self.line("");
        self.line(&format!("latency in ms, from {from}"));
        for (name, _) in QUANTILES {
            let latency = milliseconds(latencies[name]);
            self.row(&name.replace('_', "."), &format!("{latency:>9}"));
        }
    }

    fn problems(&mut self, report: &Report) {
        let recorder = &report.measured.recorder;
        for wrong in &recorder.wrong_replies {
            let (event, received, expected) = (&wrong.event, &wrong.received, &wrong.expected);
            self.line("");
            self.line(&match wrong.offset {
                Some(offset) => format!(
                    "wrong reply to {event} at offset {offset}: {received:?} instead of {expected:?}"
                ),
                None => format!("wrong reply to {event}: {received} instead of {expected}"),
            });
        }
        if !recorder.errors.is_empty() {
            self.line("");
        }
        for error in &recorder.errors {
            self.line(&format!("{} x {}", error.count, error.message));
        }
    }

    fn metrics(&mut self, metrics: &Metrics) {
        let [start, end] = [metrics.start_unix_seconds, metrics.end_unix_seconds].map(|seconds| {
            let time = DateTime::from_secs(seconds.try_into().unwrap_or(i64::MAX));
            time.fmt(Format::DateTime).unwrap_or_default()
        });
        self.line("");
        self.line(&format!("CloudWatch, {start} to {end}"));
        let price = metrics.dollars_per_vcpu_hour;
        let of_cost = format!(
            " per million invocations, at ${price:.4} for a vCPU-hour and $0.20 for a million requests"
        );
        for (title, name, before, decimals, after) in [
            ("invocations", "invocations", "", 0, ""),
            ("throttles", "throttles", "", 0, ""),
            ("for concurrency", "concurrency_throttles", "", 0, ""),
            ("for CPU", "cpu_throttles", "", 0, ""),
            ("for memory", "memory_throttles", "", 0, ""),
            ("for disk", "disk_throttles", "", 0, ""),
            (
                "environments",
                "execution_environments",
                "",
                1,
                " on average",
            ),
            ("their CPU", "cpu_utilization_percent", "", 1, " % used"),
            ("vCPUs allocated", "vcpus_allocated", "", 1, " on average"),
            (
                "CPU",
                "cpu_microseconds_per_invocation",
                "",
                1,
                " us per invocation",
            ),
            ("cost", "dollars_per_million_invocations", "$", 2, &of_cost),
        ] {
            if let Some(value) = metrics.values.get(name) {
                self.row(title, &format!("{before}{value:.decimals$}{after}"));
            }
        }
        if !metrics.missing.is_empty() {
            self.row("missing", &metrics.missing.join(", "));
        }
    }
}
