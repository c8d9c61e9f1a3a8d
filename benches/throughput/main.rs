//! The whole loop: the function and what one would write otherwise, each a process under a Runtime
//! API that always has an event ready.

mod competitors;
#[path = "../iterative/mod.rs"]
mod iterative;
mod process;
mod program;
mod raw;
mod report;
mod runtime_api;
mod targets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use nix::time::ClockId;

use crate::process::{Cpu, Process};
use crate::program::Program;
use crate::report::Row;
use crate::runtime_api::RuntimeApi;

/// Measures the function and its competitors, in under five minutes.
#[derive(Parser)]
struct Options {
    /// Only what has this in its name: cpus=1/concurrency=8/n=1000/stock and the like, or targets
    #[arg(default_value = "")]
    filter: String,
    /// One short pass, to see that everything works; so is everything without --bench
    #[arg(long)]
    test: bool,
    #[arg(long, hide = true)]
    bench: bool,
    /// Where the JSON goes [default: throughput.json in the target directory]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure memory after a million invocations, and a minute after events of 6 MB
    #[arg(long)]
    long: bool,
}

/// The CPUs that a function has and the invocations that it gets at once.
#[derive(Clone, Copy)]
struct Setting {
    cpus: usize,
    concurrency: usize,
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
    runtime_api_cpu: f64,
    peak_rss: u64,
}

const INDICES: [u16; 3] = [10, 100, 1000];
const WARM_UP: Duration = Duration::from_millis(50);

fn main() -> Result<(), lambda_runtime::Error> {
    let mut args = env::args().skip(1).peekable();
    if args.next_if(|arg| arg == process::LAUNCH).is_some() {
        return process::launch(args);
    }

    let mut options = Options::parse();
    options.test |= !options.bench;
    // What `cargo bench` has built has the features of the dev-dependencies.
    let function = &*emulator::build_function()?;

    let rows = measure(&options, function)?;
    report::print(&rows);
    let mut targets = Vec::new();
    if "targets".contains(&options.filter) {
        targets.extend(targets::of_rows(&rows));
        targets.extend(targets::of_function(function, options.test, options.long)?);
        report::print_targets(&targets);
    }

    let is_whole = options.filter.is_empty() && !options.test;
    let target_dir = function.ancestors().nth(2).filter(|_| is_whole);
    if let Some(path) = options
        .json
        .or(target_dir.map(|dir| dir.join("throughput.json")))
    {
        fs::write(&path, report::to_json(&rows, &targets)?)?;
        println!("\nas JSON: {}", path.display());
    }
    Ok(())
}

fn measure(options: &Options, function: &Path) -> io::Result<Vec<Row>> {
    let (concurrencies, rounds, slice) = if options.test {
        (&[8][..], 1, Duration::from_millis(10))
    } else {
        (&[1, 8, 64][..], 5, Duration::from_millis(300))
    };
    let mut programs = Program::ALL.to_vec();
    if !process::has_awslambdaric() {
        eprintln!("python is left out: its interpreter (PYTHON or python3) has no awslambdaric");
        programs.retain(|program| *program != Program::Python);
    }
    let available = process::available_cpus()?;

    let mut settings = Vec::new();
    for cpus in (1..=2).filter(|cpus| *cpus <= available.len()) {
        for &concurrency in concurrencies {
            let setting = Setting { cpus, concurrency };
            settings.push((setting, setting.cells(&programs, &options.filter)));
        }
    }
    let slices = settings.iter().map(|(_, cells)| cells.len() * rounds);
    let bar = ProgressBar::new(slices.sum::<usize>() as u64).with_style(
        ProgressStyle::with_template("{wide_bar} {eta} left").map_err(io::Error::other)?,
    );

    let mut rows = Vec::new();
    for (setting, cells) in settings {
        let (function_cpus, others) = available.split_at(setting.cpus);
        let api_thread = runtime_api::start_thread(if others.is_empty() {
            available.clone()
        } else {
            others.to_vec()
        });
        let mut contestants = Vec::new();
        for &program in &programs {
            if cells.iter().any(|cell| cell.1 == program) {
                contestants.push(Contestant::start(
                    program,
                    function,
                    function_cpus,
                    setting.concurrency,
                    &api_thread,
                )?);
            }
        }
        for contestant in &contestants {
            contestant.sample(10, setting.concurrency, WARM_UP)?;
        }
        let mut samples: Vec<_> = cells.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((index, program), samples) in cells.iter().zip(&mut samples) {
                let contestant = contestants
                    .iter()
                    .find(|contestant| contestant.program == *program)
                    .expect("was started");
                samples.push(contestant.sample(*index, setting.concurrency, slice)?);
                bar.inc(1);
            }
        }
        rows.extend(Row::all(setting, &cells, &samples));
    }
    bar.finish_and_clear();
    Ok(rows)
}

impl Setting {
    /// Pairs of an index and a program whose names have `filter` in them, and ours to compare with.
    fn cells(self, programs: &[Program], filter: &str) -> Vec<(u16, Program)> {
        let Self { cpus, concurrency } = self;
        let mut cells = Vec::new();
        for index in INDICES {
            let mut chosen = programs.to_vec();
            chosen.retain(|program| {
                let name = program.name();
                format!("cpus={cpus}/concurrency={concurrency}/n={index}/{name}").contains(filter)
            });
            if !chosen.is_empty() && !chosen.contains(&Program::Ours) {
                chosen.insert(0, Program::Ours);
            }
            cells.extend(chosen.into_iter().map(|program| (index, program)));
        }
        cells
    }
}

impl Contestant {
    /// Starts a program and waits until all its workers poll.
    fn start(
        program: Program,
        function: &Path,
        cpus: &[usize],
        concurrency: usize,
        api_thread: &tokio::runtime::Handle,
    ) -> io::Result<Self> {
        let runtime_api = RuntimeApi::start(api_thread)?;
        let process = Process::start(program, function, cpus, runtime_api.address, concurrency)?;
        runtime_api.wait_for_polls(concurrency);
        Ok(Self {
            program,
            runtime_api,
            process,
        })
    }

    fn sample(&self, index: u16, concurrency: usize, slice: Duration) -> io::Result<Sample> {
        let own_clock = ClockId::CLOCK_PROCESS_CPUTIME_ID;
        let replies = self.runtime_api.replies();
        let cpu = self.process.cpu()?;
        let own_cpu = process::micros(own_clock)?;
        let started = Instant::now();

        self.runtime_api.offer(&self.program.event(index));
        thread::sleep(slice);
        self.runtime_api.withhold();
        self.runtime_api.wait_for_polls(concurrency);

        let seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        Ok(Sample {
            invocations: (self.runtime_api.replies() - replies) as f64,
            seconds,
            cpu: self.process.cpu()? - cpu,
            runtime_api_cpu: process::micros(own_clock)? - own_cpu,
            peak_rss: self.process.peak_rss()?,
        })
    }
}
