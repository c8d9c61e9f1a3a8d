//! Measures programs in turns, so that a machine that slows down slows all of them down.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{array, io, thread};

use nix::time::ClockId;
use serde::Serialize;

use super::cpu;
use super::process::Process;
use super::program::{OURS, Program};
use super::runtime_api::{self, Replies};

const WARM_UP: Duration = Duration::from_millis(50);

/// What is measured.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Cell {
    /// CPUs that the program may use.
    pub(crate) cpus: usize,
    /// Invocations that it gets at once.
    pub(crate) concurrency: usize,
    pub(crate) n: u16,
    #[serde(flatten)]
    pub(crate) program: Program,
    /// Events that are due per second, unless one is always ready.
    pub(crate) rate: Option<f64>,
}

/// The medians of a cell's samples.
#[derive(Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) invocations_per_second: f64,
    /// CPU of the program per invocation, user and system, in microseconds.
    pub(crate) cpu_us: f64,
    /// The kernel's share of it, as its timer samples it.
    pub(crate) system_share: f64,
    /// CPU of the program relative to that of ours, round by round.
    pub(crate) relative_cpu: f64,
    /// From an event's last byte to its reply's last byte, in microseconds, over all samples.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Highest resident set size of the program up to this N, in bytes.
    pub(crate) peak_rss_bytes: f64,
    /// CPU of the Runtime API per invocation, in microseconds.
    pub(crate) runtime_api_cpu_us: f64,
}

/// What a slice of time showed.
struct Sample {
    invocations: f64,
    seconds: f64,
    /// In microseconds, as that of the kernel's share and of the Runtime API.
    cpu: f64,
    system_cpu: f64,
    runtime_api_cpu: f64,
    /// In nanoseconds.
    latencies: Vec<u32>,
    peak_rss: f64,
}

impl Cell {
    /// Whether it has what an execution environment of 1 vCPU gets by default, and always an event.
    pub(crate) fn is_usual(self) -> bool {
        self.cpus == 1 && self.concurrency == 8 && self.rate.is_none()
    }
}

/// Measures these cells, of the same CPUs and as many invocations at once, among which are those of
/// *ours* for each N. `function` is this function's executable.
pub(crate) fn measure(cells: &[Cell], function: &Path, is_test: bool) -> io::Result<Vec<Row>> {
    let (rounds, slice) = if is_test {
        (1, Duration::from_millis(10))
    } else {
        (5, Duration::from_millis(300))
    };
    let Cell {
        cpus, concurrency, ..
    } = cells[0];
    let available = cpu::available_cpus()?;
    let (function_cpus, others) = available.split_at(cpus);
    let api_cpus = if others.is_empty() {
        &available
    } else {
        others
    };
    let api_thread = runtime_api::start_thread(api_cpus.to_vec())?;

    let mut processes = HashMap::<_, Process>::new();
    for Cell { program, .. } in cells {
        if let Entry::Vacant(entry) = processes.entry(program.name) {
            let command = program.command(function, function_cpus)?;
            entry.insert(Process::start(command, concurrency, &api_thread)?);
        }
    }
    let mut samples: Vec<_> = cells.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (cell, samples) in cells.iter().zip(&mut samples) {
            let process = &processes[cell.program.name];
            if round == 0 {
                Sample::take(process, cell, slice.min(WARM_UP))?;
            }
            samples.push(Sample::take(process, cell, slice)?);
        }
    }
    let ours_at = |n| {
        let is_it = |cell: &Cell| cell.n == n && cell.program.name == OURS;
        let ours = cells.iter().position(is_it);
        &samples[ours.expect("ours takes part for each N")]
    };
    let measured = cells.iter().zip(&samples);
    Ok(measured
        .map(|(&cell, samples)| Row::new(cell, samples, ours_at(cell.n)))
        .collect())
}

impl Sample {
    fn take(process: &Process, cell: &Cell, slice: Duration) -> io::Result<Self> {
        let cpu_times = || -> io::Result<[f64; 3]> {
            let [cpu, system_cpu] = process.cpu()?;
            let own_cpu = cpu::micros(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
            Ok([cpu, system_cpu, own_cpu])
        };
        let program = cell.program;
        let before = cpu_times()?;
        let started = Instant::now();

        process.runtime_api.offer(program.event(cell.n), cell.rate);
        thread::sleep(slice);
        let Replies {
            latencies,
            pipelined,
        } = process.runtime_api.withhold(cell.concurrency);

        let seconds = started.elapsed().as_secs_f64();
        let after = cpu_times()?;
        let [cpu, system_cpu, runtime_api_cpu] = array::from_fn(|i| after[i] - before[i]);
        let replies = latencies.len();
        // A poll that waits for an event after a slow reply may arrive on its own.
        let is_as_named = if program.is_pipelined() {
            pipelined * 100 > replies * 99
        } else {
            pipelined == 0
        };
        if !is_as_named {
            let name = program.name;
            let problem = format!("{name} sent a poll with {pipelined} of {replies} replies");
            return Err(io::Error::other(problem));
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        Ok(Self {
            invocations: replies as f64,
            seconds,
            cpu,
            system_cpu,
            runtime_api_cpu,
            latencies,
            peak_rss: process.peak_rss()?,
        })
    }

    fn cpu_us(&self) -> f64 {
        self.cpu / self.invocations
    }
}

impl Row {
    fn new(cell: Cell, samples: &[Sample], ours: &[Sample]) -> Self {
        let of_samples = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        let sum = |figure: fn(&Sample) -> f64| samples.iter().map(figure).sum::<f64>();
        let mut latencies: Vec<_> = samples.iter().flat_map(|it| &it.latencies).collect();
        latencies.sort_unstable();
        let percentile = |per_mille: usize| {
            let nanos = latencies[latencies.len() * per_mille / 1000];
            f64::from(*nanos) / 1e3
        };
        let rounds = samples.iter().zip(ours);
        Self {
            cell,
            invocations_per_second: of_samples(|sample| sample.invocations / sample.seconds),
            cpu_us: of_samples(Sample::cpu_us),
            system_share: (sum(|sample| sample.system_cpu) / sum(|sample| sample.cpu)).min(1.0),
            relative_cpu: median(rounds.map(|(sample, ours)| sample.cpu_us() / ours.cpu_us())),
            p50_us: percentile(500),
            p99_us: percentile(990),
            p999_us: percentile(999),
            // The first round has not come to a larger N yet.
            peak_rss_bytes: samples[0].peak_rss,
            runtime_api_cpu_us: of_samples(|sample| sample.runtime_api_cpu / sample.invocations),
        }
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
