//! Measures programs in turns, so that a machine that slows down slows all of them down.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{io, thread};

use indicatif::{ProgressBar, ProgressStyle};
use nix::time::ClockId;
use serde::Serialize;

use super::cpu::{self, Cpu};
use super::process::Process;
use super::program::Program;
use super::runtime_api::{self, RuntimeApi};

const INDICES: [u16; 3] = [10, 100, 1000];
const WARM_UP: Duration = Duration::from_millis(50);

/// The medians of a cell's samples.
#[derive(Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) setting: Setting,
    pub(crate) n: u16,
    pub(crate) program: Program,
    pub(crate) invocations_per_second: f64,
    /// CPU of the program per invocation, user and system, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// CPU of the program relative to that of ours, round by round.
    pub(crate) relative_cpu: f64,
    /// Highest resident set size of the program up to this N, in bytes.
    pub(crate) peak_rss_bytes: u64,
    /// Replies with the next poll behind them, as a share of all replies.
    pub(crate) polls_ahead: f64,
    /// CPU of the Runtime API per invocation, in microseconds.
    pub(crate) runtime_api_cpu_us: f64,
}

/// The CPUs that a program may use, and the invocations that it gets at once.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub(crate) cpus: usize,
    pub(crate) concurrency: usize,
}

/// What is measured in a setting.
struct Cell {
    n: u16,
    program: Program,
    samples: Vec<Sample>,
}

/// A program that waits for its turn.
struct Contestant {
    program: Program,
    runtime_api: RuntimeApi,
    process: Process,
}

/// What a slice of time showed.
struct Sample {
    invocations: f64,
    seconds: f64,
    cpu: Cpu,
    polls_ahead: f64,
    runtime_api_cpu: f64,
    peak_rss: u64,
}

/// Measures all cells whose names contain `filter`, and this function beside each. `function` is
/// its executable.
pub(crate) fn measure(function: &Path, filter: &str, is_test: bool) -> io::Result<Vec<Row>> {
    let (concurrencies, rounds, slice) = if is_test {
        (&[8][..], 1, Duration::from_millis(10))
    } else {
        (&[1, 8, 64][..], 5, Duration::from_millis(300))
    };
    let programs = Program::available();
    let available = cpu::available_cpus()?;

    let mut settings = Vec::new();
    for cpus in (1..=2).filter(|cpus| *cpus <= available.len()) {
        for &concurrency in concurrencies {
            let setting = Setting { cpus, concurrency };
            settings.push((setting, setting.cells(&programs, filter)));
        }
    }
    let slices = settings.iter().map(|(_, cells)| cells.len() * rounds);
    let bar = ProgressBar::new(slices.sum::<usize>() as u64).with_style(
        ProgressStyle::with_template("{wide_bar} {eta} left").map_err(io::Error::other)?,
    );

    let mut rows = Vec::new();
    for (setting, mut cells) in settings {
        let (function_cpus, others) = available.split_at(setting.cpus);
        let api_thread = runtime_api::start_thread(if others.is_empty() {
            available.clone()
        } else {
            others.to_vec()
        });
        let contestants = programs
            .iter()
            .filter(|program| cells.iter().any(|cell| cell.program == **program))
            .map(|program| {
                let command = program.command(function, function_cpus)?;
                Contestant::start(*program, command, setting.concurrency, &api_thread)
            })
            .collect::<io::Result<Vec<_>>>()?;
        for round in 0..rounds {
            for cell in &mut cells {
                let contestant = contestants
                    .iter()
                    .find(|contestant| contestant.program == cell.program)
                    .expect("one was started for each cell");
                if round == 0 {
                    contestant.sample(cell.n, setting.concurrency, slice.min(WARM_UP))?;
                }
                let sample = contestant.sample(cell.n, setting.concurrency, slice)?;
                cell.samples.push(sample);
                bar.inc(1);
            }
        }
        for cell in &cells {
            let ours = cells
                .iter()
                .find(|other| other.n == cell.n && other.program == Program::Ours)
                .expect("ours takes part for every N");
            rows.push(Row::new(setting, cell, ours));
        }
    }
    bar.finish_and_clear();
    Ok(rows)
}

impl Setting {
    /// Cells whose names contain `filter`, and ours to compare them with.
    fn cells(self, programs: &[Program], filter: &str) -> Vec<Cell> {
        let Self { cpus, concurrency } = self;
        let mut cells = Vec::new();
        for n in INDICES {
            let mut chosen = programs.to_vec();
            chosen.retain(|program| {
                let name = program.name();
                format!("cpus={cpus}/concurrency={concurrency}/n={n}/{name}").contains(filter)
            });
            if !chosen.is_empty() && !chosen.contains(&Program::Ours) {
                chosen.insert(0, Program::Ours);
            }
            cells.extend(chosen.into_iter().map(|program| Cell {
                n,
                program,
                samples: Vec::new(),
            }));
        }
        cells
    }
}

impl Contestant {
    /// Starts a program and waits until all its workers poll.
    fn start(
        program: Program,
        mut command: Command,
        concurrency: usize,
        api_thread: &tokio::runtime::Handle,
    ) -> io::Result<Self> {
        let runtime_api = RuntimeApi::start(api_thread)?;
        let process = Process::spawn(&mut command, runtime_api.address, concurrency)?;
        runtime_api.wait_for_polls(concurrency);
        Ok(Self {
            program,
            runtime_api,
            process,
        })
    }

    fn sample(&self, n: u16, concurrency: usize, slice: Duration) -> io::Result<Sample> {
        let own_clock = ClockId::CLOCK_PROCESS_CPUTIME_ID;
        let event = self.program.event(n);
        let cpu = self.process.cpu()?;
        let own_cpu = cpu::micros(own_clock)?;
        let started = Instant::now();

        self.runtime_api.offer(&event);
        thread::sleep(slice);
        self.runtime_api.wait_for_replies(1);
        self.runtime_api.withhold();
        self.runtime_api.wait_for_polls(concurrency);

        let seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let sample = Sample {
            invocations: self.runtime_api.replies() as f64,
            seconds,
            cpu: self.process.cpu()? - cpu,
            polls_ahead: self.runtime_api.polls_ahead() as f64,
            runtime_api_cpu: cpu::micros(own_clock)? - own_cpu,
            peak_rss: self.process.peak_rss()?,
        };
        let share = sample.polls_ahead / sample.invocations;
        let is_as_named = if self.program.pipelines() {
            share > 0.99
        } else {
            share == 0.0
        };
        if !is_as_named {
            let name = self.program.name();
            return Err(io::Error::other(format!(
                "{name} sent a poll with {} of {} replies",
                sample.polls_ahead, sample.invocations
            )));
        }
        Ok(sample)
    }
}

impl Sample {
    fn cpu_us(&self) -> f64 {
        self.cpu.time / self.invocations
    }
}

impl Row {
    fn new(setting: Setting, cell: &Cell, ours: &Cell) -> Self {
        let of_samples = |figure: fn(&Sample) -> f64| median(cell.samples.iter().map(figure));
        let sum = |ticks: fn(&Sample) -> u64| cell.samples.iter().map(ticks).sum::<u64>();
        let user_ticks = sum(|sample| sample.cpu.user_ticks);
        let system_ticks = sum(|sample| sample.cpu.system_ticks);
        let cpu_us = of_samples(Sample::cpu_us);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred ticks")]
        let user_us = cpu_us * user_ticks as f64 / (user_ticks + system_ticks).max(1) as f64;
        let rounds = cell.samples.iter().zip(&ours.samples);
        Self {
            setting,
            n: cell.n,
            program: cell.program,
            invocations_per_second: of_samples(|sample| sample.invocations / sample.seconds),
            cpu_us,
            user_us,
            system_us: cpu_us - user_us,
            relative_cpu: median(rounds.map(|(sample, ours)| sample.cpu_us() / ours.cpu_us())),
            // The first round has not come to a larger N yet.
            peak_rss_bytes: cell.samples[0].peak_rss,
            polls_ahead: of_samples(|sample| sample.polls_ahead / sample.invocations),
            runtime_api_cpu_us: of_samples(|sample| sample.runtime_api_cpu / sample.invocations),
        }
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
