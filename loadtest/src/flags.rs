//! The command line: rlt's letters for what both have. rlt's own flags are not embedded, since half
//! of them (baselines, collectors) belong to its own report and runner.

use std::num::{NonZeroU16, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use fibonacci_generator::sequence::MAX_INDEX;
use http::Uri;

use crate::events::{self, Event};
use crate::load::{Load, Schedule};

/// Invokes the function, compares every byte of every reply with the table, and reports.
///
/// Fails on any wrong reply, function error or transport error, if no reply was right, and over
/// --max-p99 or --max-throttled.
#[derive(Parser)]
pub(crate) struct Flags {
    /// Function to invoke: its name or ARN
    #[arg(long, default_value = "fibonacci-generator")]
    pub function_name: String,

    /// Version or alias to invoke
    #[arg(long)]
    pub qualifier: Option<String>,

    /// Invoke API to use instead of AWS's, such as the emulator's
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL", value_parser = parse_url)]
    pub endpoint_url: Option<Uri>,

    /// N of the events: one, or a range to choose from at random
    #[arg(long, value_name = "N|FIRST..=LAST", default_value = "10", value_parser = parse_range)]
    pub n: RangeInclusive<u16>,

    /// Send valid and invalid events of every kind
    #[arg(long, conflicts_with = "n")]
    pub mix: bool,

    /// Requests in flight at once, at most
    #[arg(long, short, value_name = "COUNT", default_value = "1")]
    concurrency: NonZeroU16,

    /// Requests to send
    #[arg(long, short = 'n', value_name = "COUNT")]
    requests: Option<NonZeroU64>,

    /// Time to send requests for, as 30s or 5m [default: 10s, unless --requests is given]
    #[arg(long, short)]
    duration: Option<humantime::Duration>,

    /// Requests to send before the clock starts
    #[arg(long, short, value_name = "COUNT", default_value_t = 0)]
    pub warmup: u64,

    /// Requests per second, due whether or not replies have come; else a caller sends on its reply
    #[arg(long, short, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,

    /// Let the rate rise from 0, linearly, in this time
    #[arg(long, value_name = "DURATION", requires = "rate")]
    ramp: Option<humantime::Duration>,

    /// Send a throttled request again, up to 9 times, with back-off
    #[arg(long)]
    retry: bool,

    /// Fail if the 99th percentile of the latency is longer
    #[arg(long, value_name = "DURATION")]
    pub max_p99: Option<humantime::Duration>,

    /// Fail if a larger share of the requests is throttled
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub max_throttled: Option<f64>,

    /// No live display
    #[arg(long, short)]
    pub quiet: bool,

    /// Format of the report
    #[arg(long, short, value_enum, default_value_t = Format::Text)]
    pub output: Format,

    /// Write the report to this file instead of standard output
    #[arg(long, short = 'O', value_name = "FILE")]
    pub output_file: Option<PathBuf>,

    /// Write the report to this file too, as a page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Flags {
    /// What the flags ask to send.
    pub(crate) fn load(&self) -> Result<Load> {
        let requests = self.requests.map(NonZeroU64::get);
        let duration = match (requests, self.duration) {
            (Some(_), None) => None,
            (_, Some(duration)) => Some(*duration),
            (None, None) => Some(Duration::from_secs(10)),
        };
        let ramp = self.ramp.map_or(Duration::ZERO, Into::into);
        if let Some(duration) = duration {
            ensure!(
                !duration.is_zero(),
                "--duration 0 leaves no time to send: give more"
            );
            let time = humantime::Duration::from(duration);
            ensure!(
                ramp <= duration,
                "the run ends after {time}, before the --ramp: give a longer --duration"
            );
        }
        if self.html.is_some() && self.html == self.output_file {
            bail!("--html and --output-file name the same file: give two");
        }
        Ok(Load {
            concurrency: self.concurrency,
            requests,
            duration,
            schedule: self.rate.map(|rate_per_second| Schedule {
                rate_per_second,
                ramp,
            }),
            retry: self.retry,
        })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        if self.mix {
            events::mix()
        } else {
            events::direct(self.n.clone())
        }
    }

    /// The events, for people.
    pub(crate) fn events_name(&self) -> String {
        if self.mix {
            "a mix of events".to_owned()
        } else if self.n.start() == self.n.end() {
            format!("n = {}", self.n.start())
        } else {
            format!("n = {}..={}", self.n.start(), self.n.end())
        }
    }
}

fn parse_range(text: &str) -> Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once("..=").unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && last <= MAX_INDEX => Ok(first..=last),
        _ => bail!("give a number up to {MAX_INDEX}, or a range as 0..={MAX_INDEX}"),
    }
}

fn parse_url(text: &str) -> Result<Uri> {
    match text.parse::<Uri>() {
        Ok(url) if has_valid_port(&url) && matches!(url.scheme_str(), Some("http" | "https")) => {
            Ok(url)
        }
        _ => bail!("give a URL as http://127.0.0.1:9000"),
    }
}

/// A port that does not exist is none to `Uri`.
fn has_valid_port(url: &Uri) -> bool {
    url.authority().is_some_and(|authority| {
        authority.port().is_some() || authority.as_str().ends_with(authority.host())
    })
}

fn parse_percent(text: &str) -> Result<f64> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => bail!("give a percentage from 0 to 100"),
    }
}
