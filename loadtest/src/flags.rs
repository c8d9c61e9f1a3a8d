//! The command line.

use std::fs;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fibonacci_generator::sequence::MAX_INDEX;

use crate::events::{Events, Given};
use crate::http::Endpoint;
use crate::load::{Load, Schedule};
use crate::target::FunctionName;

/// Invokes the function, compares every byte of every reply with the table, and reports.
///
/// Fails on any wrong reply, function error or transport error, if no reply was right, if a generator
/// is missing or late, and over --max-p99 or --max-throttled.
#[derive(Parser)]
#[command(bin_name = "cargo loadtest", args_conflicts_with_subcommands = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Merge the JSON reports of runs that started together
    Merge(MergeFlags),
}

#[derive(Args)]
pub(crate) struct Flags {
    /// Function to invoke: its name or ARN
    #[arg(long, value_name = "NAME", default_value = "fibonacci-generator", value_parser = NonEmptyStringValueParser::new())]
    function_name: String,

    /// Version or alias to invoke
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    qualifier: Option<String>,

    /// Invoke API to use, such as the emulator's [default: what `AWS_ENDPOINT_URL_LAMBDA`,
    /// `AWS_ENDPOINT_URL` or the profile says, or else AWS's]
    #[arg(long, value_name = "URL", value_parser = Endpoint::parse)]
    pub endpoint_url: Option<Endpoint>,

    /// Event for any function, in a file, or - for standard input. Several are sent in turn
    #[arg(long, value_name = "FILE", conflicts_with_all = ["n", "mix"])]
    event: Vec<PathBuf>,

    /// What the reply to the event in the same place must be, byte for byte. Without it and
    /// --expect-status, whatever is no error is ok
    #[arg(long, value_name = "FILE", requires = "event")]
    expect: Vec<PathBuf>,

    /// What the statusCode of every reply must be
    #[arg(
        long,
        value_name = "CODE",
        requires = "event",
        conflicts_with = "expect"
    )]
    expect_status: Option<u16>,

    /// N of the events: one, or a range to choose from at random (not -n, the number of requests)
    #[arg(
        long,
        value_name = "N|FIRST..=LAST",
        default_value = "10",
        value_parser = parse_range,
        allow_negative_numbers = true
    )]
    n: RangeInclusive<u16>,

    /// Send valid and invalid events of every kind
    #[arg(long, conflicts_with = "n")]
    mix: bool,

    /// Requests in flight at once, at most
    #[arg(long, short, value_name = "COUNT", default_value = "1", value_parser = parse_count)]
    concurrency: NonZeroU16,

    /// Number of requests to send (not --n, the N of the events)
    #[arg(
        long,
        short = 'n',
        value_name = "COUNT",
        value_parser = parse_requests,
        allow_negative_numbers = true
    )]
    requests: Option<NonZeroU64>,

    /// How long to send requests, such as 30s or 5m [default: 10s, unless --requests is given]
    #[arg(long, short)]
    duration: Option<humantime::Duration>,

    /// Number of requests to send before the clock starts
    #[arg(long, short, value_name = "COUNT", default_value_t = 0)]
    pub warmup: u64,

    /// Requests per second, sent on schedule even if replies are late. Without it, each caller sends
    /// its next request when its reply arrives
    #[arg(long, short, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<NonZeroU32>,

    /// Raise the rate linearly from 0 during this time
    #[arg(long, value_name = "DURATION", requires = "rate")]
    ramp: Option<humantime::Duration>,

    /// Send a throttled request again, up to 9 times, with back-off
    #[arg(long)]
    retry: bool,

    /// Split the load over this many invocations of --generator-function
    #[arg(long, value_name = "COUNT", requires = "generator_function", value_parser = parse_count)]
    pub generators: Option<NonZeroU16>,

    /// This load tester, deployed as a Lambda function: its name or ARN
    #[arg(long, value_name = "NAME", requires = "generators", value_parser = NonEmptyStringValueParser::new())]
    pub generator_function: Option<String>,

    /// Invoke API of the generators [default: that of the function]
    #[arg(long, value_name = "URL", requires = "generators", value_parser = Endpoint::parse)]
    pub generator_endpoint_url: Option<Endpoint>,

    /// How long to wait for CloudWatch's metrics after a run on Managed Instances; 0s skips them
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub cloudwatch: humantime::Duration,

    /// Dollars that an allocated vCPU costs per hour [default: a c7i.xlarge in us-east-1 with Lambda's
    /// 15 %, divided by the 3 vCPUs that functions can use]
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.1785 * 1.15 / 3.0, hide_default_value = true, value_parser = parse_price)]
    pub vcpu_hour: f64,

    /// Show no live display
    #[arg(long, short)]
    pub quiet: bool,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub output: OutputFlags,
}

#[derive(Args)]
pub(crate) struct MergeFlags {
    /// Reports that `--output json` wrote
    #[arg(required = true, num_args = 2.., value_name = "REPORT")]
    pub reports: Vec<PathBuf>,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub output: OutputFlags,
}

/// What a run must not exceed.
#[derive(Args, Default)]
pub(crate) struct Limits {
    /// Fail if the 99th percentile of the latency is longer than this
    #[arg(long, value_name = "DURATION")]
    pub max_p99: Option<humantime::Duration>,

    /// Fail if more than this share of the requests is throttled
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub max_throttled: Option<f64>,
}

#[derive(Args)]
pub(crate) struct OutputFlags {
    /// Format of the report
    #[arg(long = "output", short = 'o', value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write the report to this file instead of standard output
    #[arg(long = "output-file", short = 'O', value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Also write the report to this file as a page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Flags {
    pub(crate) fn function(&self) -> FunctionName {
        FunctionName {
            name: self.function_name.clone(),
            qualifier: self.qualifier.clone(),
        }
    }

    /// # Errors
    ///
    /// If a file cannot be read, or the files do not match.
    pub(crate) fn events(&self) -> Result<Events> {
        if self.event.is_empty() {
            return Ok(if self.mix {
                Events::Mix
            } else {
                Events::N(self.n.clone())
            });
        }
        let (events, replies) = (self.event.len(), self.expect.len());
        ensure!(
            replies == 0 || replies == events,
            "{events} --event and {replies} --expect: give an --expect for every --event"
        );
        let is_input = |path: &&PathBuf| path.as_os_str() == "-";
        ensure!(
            self.event.iter().filter(is_input).count() <= 1,
            "standard input has one event: give --event - once"
        );
        let mut replies = self.expect.iter();
        let events = self.event.iter().map(|path| {
            Ok(Given {
                name: path.display().to_string(),
                payload: read(if is_input(&path) {
                    Path::new("/dev/stdin")
                } else {
                    path
                })?,
                reply: replies.next().map(|path| read(path)).transpose()?,
            })
        });
        Ok(Events::Given {
            events: events.collect::<Result<_>>()?,
            expect_status: self.expect_status,
        })
    }

    /// # Errors
    ///
    /// If nothing could be sent.
    pub(crate) fn to_load(&self) -> Result<Load> {
        let requests = self.requests.map(NonZeroU64::get);
        let duration = match (requests, self.duration) {
            (Some(_), None) => None,
            (_, Some(duration)) => Some(*duration),
            (None, None) => Some(Duration::from_secs(10)),
        };
        let ramp = self.ramp.map_or(Duration::ZERO, Into::into);
        let load = Load {
            concurrency: self.concurrency,
            requests,
            duration,
            schedule: self.rate.map(|rate| Schedule {
                rate_per_second: rate.get(),
                ramp,
                first: 0,
                step: 1,
            }),
            retry: self.retry,
        };
        load.check(self.generators.map_or(1, |count| count.get().into()))?;
        Ok(load)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parse_range(text: &str) -> Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once("..=").unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && last <= MAX_INDEX => Ok(first..=last),
        _ => bail!(
            "give an N up to {MAX_INDEX}, or a range such as 0..={MAX_INDEX}; -n, with one hyphen, \
             is the number of requests"
        ),
    }
}

fn parse_count(text: &str) -> Result<NonZeroU16> {
    text.parse().context("give a number from 1 to 65535")
}

fn parse_rate(text: &str) -> Result<NonZeroU32> {
    text.parse()
        .context("give a whole number of requests per second, at least 1")
}

fn parse_requests(text: &str) -> Result<NonZeroU64> {
    text.parse().context(
        "give a number of requests, at least 1; --n, with two hyphens, is the N of the events",
    )
}

fn parse_percent(text: &str) -> Result<f64> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => bail!("give a percentage from 0 to 100"),
    }
}

fn parse_price(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(dollars) if (0.0..=1_000.0).contains(&dollars) => Ok(dollars),
        _ => bail!("give a price in dollars, such as 0.068"),
    }
}
