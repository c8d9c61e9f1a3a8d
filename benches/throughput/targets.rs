//! What is promised of the whole loop, and whether it is kept.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use serde::Serialize;

use crate::process::{self, Process};
use crate::program::Program;
use crate::report::{Row, median, megabytes};
use crate::runtime_api::{self, Event, RuntimeApi};

#[derive(Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) must: String,
    pub(crate) measured: String,
    pub(crate) met: bool,
}

impl Target {
    fn at_most(what: &str, limit: f64, unit: &str, measured: f64) -> Self {
        Self {
            what: what.to_owned(),
            must: format!("≤ {limit}{unit}"),
            measured: format!("{measured:.2}{unit}"),
            met: measured <= limit,
        }
    }
}

/// The function against its competitors, at a concurrency of 8.
pub(crate) fn of_rows(rows: &[Row]) -> Vec<Target> {
    let mut targets = Vec::new();
    for row in rows.iter().filter(|row| row.concurrency == 8) {
        let (limit, is_upper) = match (row.program, row.n) {
            ("no-op", 10) => (0.7, true),
            ("no-op", 1000) => (1.15, true),
            ("stock", 1000) => (2.5, false),
            ("iterative", 1000) => (15.0, false),
            ("python", 1000) => (40.0, false),
            _ => continue,
        };
        let Row {
            cpus,
            n,
            program,
            relative_cpu,
            ..
        } = row;
        targets.push(if is_upper {
            let what = format!("CPU relative to {program}, N = {n}, CPUs: {cpus}");
            Target::at_most(&what, limit, " ×", 1.0 / relative_cpu)
        } else {
            Target {
                what: format!("CPU of {program} relative to it, N = {n}, CPUs: {cpus}"),
                must: format!("≥ {limit} ×"),
                measured: format!("{relative_cpu:.2} ×"),
                met: *relative_cpu >= limit,
            }
        });
    }
    targets
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
    let api_thread = runtime_api::start_thread(process::available_cpus()?);
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
        Target::at_most("start to first poll", 10.0, " ms", median(starts)),
        Target::at_most(
            "binary",
            3.0,
            " MB",
            megabytes(fs::metadata(function)?.len()),
        ),
        Target::at_most("binary, deflated", 1.2, " MB", megabytes(deflated as u64)),
    ];

    let runtime_api = RuntimeApi::start(&api_thread)?;
    let process = Process::start(
        Program::Ours,
        function,
        &process::available_cpus()?,
        runtime_api.address,
        64,
    )?;
    let rss_after = |invocations: usize, event: &Arc<Event>| {
        let end = runtime_api.replies() + invocations;
        runtime_api.wait_for_polls(64);
        runtime_api.offer(event);
        while runtime_api.replies() < end {
            thread::sleep(Duration::from_millis(1));
        }
        runtime_api.withhold();
        runtime_api.wait_for_polls(64);
        process.rss().map(megabytes)
    };
    let event = Program::Ours.event(1000);
    let early = rss_after(invocations / 10, &event)?;
    let late = rss_after(invocations / 10 * 9, &event)?;
    let what = format!("RSS after {invocations} invocations, {early:.2} MB after a tenth");
    targets.push(Target::at_most(&what, 8.0, " MB", late));

    if is_long {
        let mut payload = br#"{"n": 1000, "ignored": ""#.to_vec();
        payload.resize(6_000_000, b'x');
        payload.extend(br#""}"#);
        let reply = event.reply.clone();
        // More than once: what was freed might not be used again.
        let soon = rss_after(4 * 64, &Arc::new(Event { payload, reply }))?;
        let peak = megabytes(process.peak_rss()?);
        thread::sleep(Duration::from_mins(1));
        let what = format!("RSS a minute after 64 events of 6 MB ({peak:.0} MB, then {soon:.1})");
        targets.push(Target::at_most(
            &what,
            32.0,
            " MB",
            megabytes(process.rss()?),
        ));
    }
    Ok(targets)
}

/// In milliseconds.
fn start_to_first_poll(function: &Path, api_thread: &tokio::runtime::Handle) -> io::Result<f64> {
    let runtime_api = RuntimeApi::start(api_thread)?;
    let started = Instant::now();
    let _process = Process::spawn(&mut Command::new(function), runtime_api.address, 8)?;
    runtime_api.wait_for_polls(8);
    let first_poll = runtime_api.first_poll().expect("there are eight");
    Ok((first_poll - started).as_secs_f64() * 1e3)
}
