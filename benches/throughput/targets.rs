//! What is promised of the function, and whether the promise is kept.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use serde::Serialize;

use super::cpu;
use super::measure::{Row, Setting, median};
use super::process::Process;
use super::program::Program;
use super::runtime_api::{self, Event, RuntimeApi};

#[derive(Serialize)]
pub(crate) struct Target {
    what: String,
    must: String,
    measured: String,
    /// `None` if it was not measured.
    met: Option<bool>,
}

impl Target {
    fn at_most(what: &str, limit: f64, unit: &str, measured: f64) -> Self {
        Self {
            what: what.to_owned(),
            must: format!("≤ {limit}{unit}"),
            measured: format!("{measured:.2}{unit}"),
            met: Some(measured <= limit),
        }
    }

    /// For a ratio that was not measured if a program or a setting was left out.
    fn ratio(what: String, must: String, ratio: Option<f64>, is_met: impl Fn(f64) -> bool) -> Self {
        Self {
            what,
            must,
            measured: ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.2} ×")),
            met: ratio.map(is_met),
        }
    }
}

/// The CPU of this function per invocation relative to that of the other programs, on one CPU.
pub(crate) fn of_rows(rows: &[Row]) -> Vec<Target> {
    let times_ours = |program: Program, concurrency, n| {
        let setting = Setting {
            cpus: 1,
            concurrency,
        };
        let is_asked_for =
            |row: &&Row| row.setting == setting && row.n == n && row.program == program;
        rows.iter().find(is_asked_for).map(|row| row.relative_cpu)
    };
    let at_most = |program: Program, concurrency, n, limit| {
        Target::ratio(
            format!(
                "ours / {}, concurrency {concurrency}, N = {n}",
                program.name()
            ),
            format!("≤ {limit} ×"),
            times_ours(program, concurrency, n).map(|times| 1.0 / times),
            |ratio| ratio <= limit,
        )
    };
    let at_least = |program: Program, concurrency, n, limit| {
        Target::ratio(
            format!(
                "{} / ours, concurrency {concurrency}, N = {n}",
                program.name()
            ),
            format!("≥ {limit} ×"),
            times_ours(program, concurrency, n),
            |ratio| ratio >= limit,
        )
    };
    vec![
        at_most(Program::NoOp, 8, 10, 0.40),
        at_most(Program::NoOp, 8, 1000, 0.75),
        at_most(Program::OursOff, 8, 10, 0.75),
        at_most(Program::OursOff, 8, 1000, 0.80),
        at_most(Program::OursOff, 1, 10, 1.0),
        at_most(Program::OursOff, 1, 1000, 1.0),
        at_most(Program::Raw, 8, 10, 1.15),
        at_most(Program::Raw, 8, 1000, 1.15),
        at_least(Program::Stock, 8, 1000, 7.0),
        at_least(Program::Iterative, 8, 1000, 24.0),
        at_least(Program::Python, 8, 1000, 50.0),
    ]
}

/// Figures of the function alone.
pub(crate) fn of_function(
    function: &Path,
    is_test: bool,
    is_long: bool,
) -> io::Result<Vec<Target>> {
    let (starts, invocations) = match (is_test, is_long) {
        (true, _) => (1, 1_000),
        (false, false) => (20, 100_000),
        (false, true) => (20, 1_000_000),
    };
    let api_thread = runtime_api::start_thread(cpu::available_cpus()?);
    let starts = (0..starts)
        .map(|_| start_to_first_poll(function, &api_thread))
        .collect::<io::Result<Vec<_>>>()?;
    let deflated = Command::new("gzip")
        .arg("-9c")
        .arg(function)
        .output()?
        .stdout
        .len();
    let mut targets = vec![
        Target::at_most("start to first poll", 2.5, " ms", median(starts)),
        Target::at_most(
            "binary",
            2.0,
            " MB",
            megabytes(fs::metadata(function)?.len()),
        ),
        Target::at_most("binary, deflated", 0.9, " MB", megabytes(deflated as u64)),
    ];

    let runtime_api = RuntimeApi::start(&api_thread)?;
    let mut command = Program::Ours.command(function, &cpu::available_cpus()?)?;
    let process = Process::spawn(&mut command, runtime_api.address, 64)?;
    let rss_after = |invocations: usize, event: &Arc<Event>| {
        runtime_api.wait_for_polls(64);
        runtime_api.offer(event);
        runtime_api.wait_for_replies(invocations);
        runtime_api.withhold();
        runtime_api.wait_for_polls(64);
        process.rss().map(megabytes)
    };
    let event = Program::Ours.event(1000);
    let early = rss_after(invocations / 10, &event)?;
    let late = rss_after(invocations / 10 * 9, &event)?;
    let what = format!("RSS after {invocations} invocations, 64 at once");
    targets.push(Target::at_most(&what, 6.0, " MB", late));
    let what = "RSS growth over the last nine tenths of them";
    targets.push(Target::at_most(what, 0.1, " MB", late - early));

    if is_long {
        let mut payload = br#"{"n": 1000, "ignored": ""#.to_vec();
        payload.resize(6_000_000, b'x');
        payload.extend(br#""}"#);
        let reply = event.reply.clone();
        // Each worker reads several: memory that one of them freed might not be used by the next.
        let soon = rss_after(4 * 64, &Arc::new(Event { payload, reply }))?;
        let peak = megabytes(process.peak_rss()?);
        thread::sleep(Duration::from_mins(1));
        let what =
            format!("RSS a minute after 64 events of 6 MB (at most {peak:.0}, then {soon:.1} MB)");
        targets.push(Target::at_most(
            &what,
            32.0,
            " MB",
            megabytes(process.rss()?),
        ));
    }
    Ok(targets)
}

/// The time from the start of the process to its first poll, in milliseconds.
fn start_to_first_poll(function: &Path, api_thread: &tokio::runtime::Handle) -> io::Result<f64> {
    let runtime_api = RuntimeApi::start(api_thread)?;
    let started = Instant::now();
    let _process = Process::spawn(&mut Command::new(function), runtime_api.address, 8)?;
    runtime_api.wait_for_polls(8);
    let first_poll = runtime_api.first_poll().expect("eight workers poll");
    Ok((first_poll - started).as_secs_f64() * 1e3)
}

pub(crate) fn print(targets: &[Target]) {
    println!("\nTargets, CPU per invocation on one CPU first:\n");
    for target in targets {
        let verdict = match target.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        println!(
            "{:<68} {:>10} {:>13}  {verdict}",
            target.what, target.must, target.measured
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
