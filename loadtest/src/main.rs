//! `cargo loadtest`: see README.md.

mod events;
mod flags;
mod load;
mod recorder;
mod report;
mod target;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU8;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rlt::BenchOpts;
use rlt::clock::Clock;
use rlt::collector::{ReportCollector, TuiCollector};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::flags::{Flags, Format};
use crate::load::Load;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::target::Target;

const FRAMES_PER_SECOND: NonZeroU8 = NonZeroU8::new(8).unwrap();

const DOLLARS_PER_MILLION_REQUESTS: f64 = 0.20;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) if error.use_stderr() => {
            // Its first paragraph, on one line; the usage is a --help away.
            let text = error.to_string();
            let paragraph = text.split("\n\n").next().unwrap_or_default();
            eprintln!("{} (see --help)", one_line(paragraph));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    // Each caller takes a descriptor, and there may be thousands.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    match run(flags).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns whether the run passed.
async fn run(flags: Flags) -> Result<bool> {
    let load = flags.load()?;
    let events = Arc::from(flags.events());
    let target = Arc::new(
        Target::new(
            flags.function_name.clone(),
            flags.qualifier.clone(),
            flags.endpoint_url.as_ref(),
        )
        .await?,
    );
    let capacity_provider = target.inspect().await?;
    if !target.is_local {
        match &capacity_provider {
            Some(provider) => eprintln!("{provider}"),
            None => eprintln!("no capacity provider: the function is not on Managed Instances"),
        }
        eprintln!("{}", cost(&load, flags.warmup));
    }

    let output = create(flags.output_file.as_deref())?;
    let html = create(flags.html.as_deref())?;

    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        tokio::spawn(stop_on(signal(kind)?, stop.clone()));
    }
    let mut warm_up = Recorder::new(None)?;
    let (pause, paused) = watch::channel(false);
    if flags.warmup > 0 {
        let load = Load {
            requests: Some(flags.warmup),
            duration: None,
            schedule: None,
            ..load
        };
        let (target, events) = (Arc::clone(&target), Arc::clone(&events));
        let ended = load::run(target, events, load, warm_up, stop.clone(), paused.clone()).await?;
        warm_up = ended.recorder;
    }

    let (display, showing) = if flags.quiet || !io::stdout().is_terminal() {
        (None, None)
    } else {
        let (display, shown) = mpsc::unbounded_channel();
        let collector = show(&load, flags.warmup, shown, pause, stop.clone())?;
        (Some(display), Some(collector))
    };
    let recorder = Recorder::new(display)?;
    let location = target.location.clone();
    let mut ended = load::run(target, events, load, recorder, stop, paused).await?;
    ended.recorder.display = None;
    // It gives the terminal back.
    if let Some(showing) = showing
        && let Err(error) = showing.await?
    {
        eprintln!("no live display: {error:#}");
    }

    let report = Report::new(&flags, location, capacity_provider, &load, warm_up, ended);
    let text = match flags.output {
        Format::Text => report.to_string(),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    let is_ok = report.violations().is_empty();
    if !is_ok && (output.is_some() || flags.output == Format::Json) {
        eprintln!("failed: {}", report.violations().join("; "));
    }
    match output {
        Some(mut file) => file.write_all(text.as_bytes()).context("--output-file")?,
        None => io::stdout()
            .write_all(text.as_bytes())
            .context("standard output")?,
    }
    if let Some(mut file) = html {
        file.write_all(report.page()?.as_bytes())
            .context("--html")?;
    }
    Ok(is_ok)
}

/// Creates a file before the load, not after an hour of it.
fn create(path: Option<&Path>) -> Result<Option<File>> {
    path.map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())))
        .transpose()
}

fn cost(load: &Load, warm_up: u64) -> String {
    let scheduled = load.schedule.zip(load.duration);
    let scheduled = scheduled.map(|(schedule, duration)| schedule.requests(duration));
    match load.requests.into_iter().chain(scheduled).min() {
        Some(requests) => {
            let requests = requests.saturating_add(warm_up);
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
            let dollars = requests as f64 / 1e6 * DOLLARS_PER_MILLION_REQUESTS;
            let retries = if load.retry {
                ", retries not counted"
            } else {
                ""
            };
            format!("cost: ${dollars:.2} for {requests} requests at most{retries}")
        }
        None => format!("cost: ${DOLLARS_PER_MILLION_REQUESTS:.2} per million requests"),
    }
}

/// rlt's display.
fn show(
    load: &Load,
    warm_up: u64,
    shown: mpsc::UnboundedReceiver<Result<rlt::IterReport>>,
    pause: watch::Sender<bool>,
    stop: CancellationToken,
) -> Result<JoinHandle<Result<()>>> {
    let options = BenchOpts {
        clock: Clock::start_at(tokio::time::Instant::now()),
        concurrency: load.concurrency.get().into(),
        iterations: load.requests,
        duration: load.duration,
        warmups: warm_up,
    };
    let mut collector = TuiCollector::new(options, FRAMES_PER_SECOND, shown, pause, stop, true)?;
    Ok(tokio::spawn(async move { collector.run().await.map(drop) }))
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
