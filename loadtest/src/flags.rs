//! The command line.

use std::fs;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use fibonacci_generator::sequence::MAX_INDEX;

use crate::events::{Events, Given};
use crate::http::Endpoint;
use crate::load::Load;
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
    #[command(flatten)]
    pub function: FunctionName,

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

    #[command(flatten)]
    pub load: Load,

    /// Number of requests to send before the clock starts
    #[arg(long, short, value_name = "COUNT", default_value_t = 0)]
    pub warmup: u64,

    #[command(flatten)]
    pub generators: Option<GeneratorFlags>,

    /// How long to wait for CloudWatch's metrics after a run on Managed Instances; 0s skips them
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub cloudwatch: humantime::Duration,

    /// Dollars that an allocated vCPU costs per hour [default: a c7i.xlarge in us-east-1 with Lambda's
    /// 15 %, divided by the 3 vCPUs that functions can use]
    #[arg(long, value_name = "DOLLARS", default_value_t = 0.1785 * 1.15 / 3.0, hide_default_value = true, value_parser = parse_up_to(1_000.0))]
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
pub(crate) struct GeneratorFlags {
    /// Split the load over this many invocations of --generator-function
    #[arg(
        long = "generators",
        value_name = "COUNT",
        required = false,
        requires = "function",
        value_parser = value_parser!(u16).range(1..).try_map(NonZeroU16::try_from)
    )]
    pub count: NonZeroU16,

    /// This load tester, deployed as a Lambda function: its name or ARN
    #[arg(
        long = "generator-function",
        value_name = "NAME",
        required = false,
        requires = "count",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub function: String,

    /// Invoke API of the generators [default: that of the function]
    #[arg(long = "generator-endpoint-url", value_name = "URL", requires = "count", value_parser = Endpoint::parse)]
    pub endpoint: Option<Endpoint>,
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
    #[arg(long, value_name = "PERCENT", value_parser = parse_up_to(100.0))]
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

/// Clap's own parsers for numbers with a fraction know no range.
fn parse_up_to(most: f64) -> impl Fn(&str) -> Result<f64> + Clone {
    move |text| match text.parse() {
        Ok(number) if (0.0..=most).contains(&number) => Ok(number),
        _ => bail!("give a number from 0 to {most}"),
    }
}
