//! Measures programs in turns, so that a machine that slows down slows all of them down.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{io, thread};

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

/// A program and an N, to be measured in a setting.
pub(crate) struct Cell {
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

impl Setting {
    /// One and two CPUs, if this machine has two, with several concurrencies each.
    pub(crate) fn all(is_test: bool) -> io::Result<Vec<Self>> {
        let concurrencies = if is_test { &[8][..] } else { &[1, 8, 64] };
        let available = cpu::available_cpus()?;
        Ok((1..=available.len().min(2))
            .flat_map(|cpus| {
                let of_cpus = move |&concurrency| Self { cpus, concurrency };
                concurrencies.iter().map(of_cpus)
            })
            .collect())
    }

    /// The cells whose names contain `filter`, and ours to compare them with.
    pub(crate) fn cells(self, programs: &[Program], filter: &str) -> Vec<Cell> {
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

    /// Measures the cells. `function` is this function's executable.
    pub(crate) fn measure(
        self,
        mut cells: Vec<Cell>,
        function: &Path,
        is_test: bool,
    ) -> io::Result<Vec<Row>> {
        let (rounds, slice) = if is_test {
            (1, Duration::from_millis(10))
        } else {
            (5, Duration::from_millis(300))
        };
        let available = cpu::available_cpus()?;
        let (function_cpus, others) = available.split_at(self.cpus);
        let api_cpus = if others.is_empty() {
            &available
        } else {
            others
        };
        let api_thread = runtime_api::start_thread(api_cpus.to_vec());

        let mut contestants = Vec::<Contestant>::new();
        for &Cell { program, .. } in &cells {
            if !contestants.iter().any(|other| other.program == program) {
                let command = program.command(function, function_cpus)?;
                let contestant =
                    Contestant::start(program, command, self.concurrency, &api_thread)?;
                contestants.push(contestant);
            }
        }
        for round in 0..rounds {
            for cell in &mut cells {
                let contestant = contestants
                    .iter()
                    .find(|contestant| contestant.program == cell.program)
                    .expect("one was started for each program");
                if round == 0 {
                    contestant.sample(cell.n, self.concurrency, slice.min(WARM_UP))?;
                }
                let sample = contestant.sample(cell.n, self.concurrency, slice)?;
                cell.samples.push(sample);
            }
        }
        let ours_at = |n| {
            let is_it = |cell: &&Cell| cell.n == n && cell.program == Program::Ours;
            cells
                .iter()
                .find(is_it)
                .expect("ours takes part for each N")
        };
        Ok(cells
            .iter()
            .map(|cell| Row::new(self, cell, ours_at(cell.n)))
            .collect())
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
