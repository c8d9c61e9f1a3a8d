//! `cargo loadtest`: see README.md.
//!
//! ```text
//! flags.rs ─► load.rs, events.rs ─► run.rs ─► target.rs ─► aws.rs ─► http.rs
//!                                     ▼
//!                                recorder.rs ─► measured.rs ─► report.rs ─► text.rs, report.html
//! ```
//!
//! With `--generators`, `coordinator.rs` gives each of them a share of the load; `share.rs` is the load
//! tester as a generator. `merge.rs` makes one report of several, and `output.rs` writes it.
//! `cloudwatch.rs` asks what the fleet did, `cost.rs` says what a run costs.

mod aws;
mod cloudwatch;
mod coordinator;
mod cost;
mod events;
mod flags;
mod histogram;
mod http;
mod load;
mod measured;
mod merge;
mod output;
mod recorder;
mod report;
mod run;
mod share;
mod target;
mod terminal;
mod text;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::aws::Aws;
use crate::cloudwatch::Fleet;
use crate::coordinator::Generators;
use crate::flags::{Command, CommandLine, Flags};
use crate::output::Output;
use crate::report::{Report, Subject};
use crate::share::Share;
use crate::target::{FunctionName, Target};
use crate::terminal::say;

fn main() -> ExitCode {
    // Each caller needs a file descriptor, and there may be thousands.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return lmi_runtime::run(share::handle);
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(start());
    // If one thread of callers has failed, the others may still wait for replies.
    runtime.shutdown_background();
    status
}

async fn start() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) if error.use_stderr() => {
            // Only the first paragraph, on one line: --help shows the usage.
            let text = error.to_string();
            let paragraph = text.split("\n\n").next().unwrap_or_default();
            say(&format!("{paragraph} (see --help)"));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    let ended = match command_line.command {
        Some(Command::Merge(flags)) => merge::merge_files(&flags)
            .and_then(|report| Output::open(&flags.output)?.write(&report)),
        None => run(command_line.flags).await,
    };
    ended.unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn run(flags: Flags) -> Result<ExitCode> {
    let (load, function, endpoint) = (flags.load, &flags.function, &flags.endpoint_url);
    let count = flags.generators.as_ref().map(|flags| flags.count.get());
    load.check(count.unwrap_or(1).into())?;
    let events = flags.events()?;
    let aws = Aws::find(endpoint.as_ref()).await?;
    let target = Target::new(aws.lambda(endpoint.clone())?, function.clone())?;
    let target = Arc::new(target);
    let description = target.describe().await?;
    let mut capacity_provider = None;
    if let Some(name) = &description.capacity_provider {
        capacity_provider = Some(target.describe_fleet(name).await);
    }
    let mut generators = None;
    if let Some(flags) = &flags.generators {
        let function = FunctionName {
            name: flags.function.clone(),
            qualifier: None,
        };
        let service = aws.lambda(flags.endpoint.as_ref().or(endpoint.as_ref()).cloned())?;
        let target = Target::new(service, function)?;
        generators = Some(Generators::check(target, &load, flags.count).await?);
    }
    let mut cloudwatch = None;
    // The emulator sends CloudWatch no metrics.
    let is_on_aws = !target.is_loopback();
    if is_on_aws && capacity_provider.is_some() && !flags.cloudwatch.is_zero() {
        cloudwatch = Some(aws.cloudwatch()?);
    }
    let share = Share {
        version: share::VERSION,
        sent_unix_ms: 0,
        start_unix_ms: 0,
        function: function.clone(),
        endpoint_url: target.url(),
        events,
        warm_up: flags.warmup,
        load,
    };
    let output = Output::open(&flags.output)?;
    say(&format!(
        "invoking {} at {}",
        share.function, share.endpoint_url
    ));
    if is_on_aws {
        let none = "no capacity provider: the function is not on Managed Instances";
        say(capacity_provider.as_deref().unwrap_or(none));
        cost::say_cost(&share, generators.is_some());
    }

    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        tokio::spawn(stop_on(signal(kind)?, stop.clone()));
    }
    let is_quiet = flags.quiet;
    let (measured, parts) = if let Some(generators) = generators {
        generators.run(&share, is_quiet, &stop).await?
    } else {
        let measured = run::measure(&target, &share, is_quiet, &stop).await?;
        let measured = measured.context("interrupted while warming up: nothing was measured")?;
        (measured, Vec::new())
    };
    let subject = Subject::new(&share);
    let mut report = Report::new(subject, capacity_provider, measured, parts, &flags.limits);
    if let Some(service) = cloudwatch {
        let fleet = Fleet::new(service, description, flags.vcpu_hour, &report.measured);
        let metrics = fleet.metrics(*flags.cloudwatch, is_quiet, &stop);
        report.cloudwatch = Some(metrics.await);
    }
    // Nothing is left to end but the process: the next Ctrl-C ends that, even if nobody reads the report.
    stop.cancel();
    tokio::task::spawn_blocking(move || output.write(&report)).await?
}

/// The first Ctrl-C ends the run, which then reports; the second ends the process.
async fn stop_on(mut signal: Signal, stop: CancellationToken) {
    while signal.recv().await.is_some() {
        if stop.is_cancelled() {
            std::process::exit(130);
        }
        stop.cancel();
    }
}
