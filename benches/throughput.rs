//! The whole loop: this function and the alternatives to it. Each runs as a process under a Runtime
//! API that always has an event ready.

mod handlers;
mod throughput {
    pub(crate) mod chart;
    pub(crate) mod competitors;
    pub(crate) mod cpu;
    pub(crate) mod measure;
    pub(crate) mod process;
    pub(crate) mod program;
    pub(crate) mod raw;
    pub(crate) mod report;
    pub(crate) mod runtime_api;
}

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use clap::Parser;

use crate::throughput::measure::{self, Cell, Row, Setting};
use crate::throughput::process::Process;
use crate::throughput::program::{self, OURS, Program};
use crate::throughput::report::{self, USUAL};
use crate::throughput::{chart, cpu, runtime_api};

/// Measures this function and the alternatives to it, in a minute and a half.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench throughput --")]
struct Options {
    /// Measure only programs whose names contain this, and ours
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    /// Measure one and two CPUs, 1, 8 and 64 at once, a fixed rate, and the start: six minutes
    #[arg(long)]
    all: bool,
    /// Make one short pass, to see that everything works. This is the default without `cargo bench`
    #[arg(long)]
    test: bool,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), lambda_runtime::Error> {
    let mut args = env::args().skip(1).peekable();
    if args.next_if(|arg| arg == program::LAUNCH).is_some() {
        return program::launch(args);
    }

    let mut options = Options::parse();
    options.test |= !options.bench;
    let programs = Program::chosen(&options.filter, options.all);
    if programs.is_empty() {
        return Ok(());
    }
    let minutes = if options.all {
        "six minutes"
    } else {
        "a minute and a half"
    };
    if !options.test {
        println!("throughput takes {minutes}");
    }
    // The executable that `cargo bench` builds has the features of the dev-dependencies too. This
    // builds the one that ships.
    let function = &*emulator::build_function()?;

    let mut rows = Vec::new();
    for setting in settings(options.all)? {
        let measured = setting.measure(&cells(setting, &programs), function, options.test)?;
        if options.all {
            report::print_rows(&measured);
        }
        rows.extend(measured);
    }
    let mut paced_rows = Vec::new();
    if options.all {
        paced_rows = USUAL.measure(&paced(&rows), function, options.test)?;
        report::print_rows(&paced_rows);
        print_starts(&programs, function, options.test)?;
    }
    if options.filter.is_empty() && !options.test {
        println!();
        let all_rows: Vec<_> = rows.iter().chain(&paced_rows).collect();
        let target_dir = function.ancestors().nth(2).unwrap_or(Path::new("."));
        for (name, contents) in [
            ("throughput.json", serde_json::to_string_pretty(&all_rows)?),
            ("throughput.svg", chart::svg(&rows)),
        ] {
            fs::write(target_dir.join(name), contents)?;
            println!("{}", target_dir.join(name).display());
        }
    }
    report::print_table(&rows);
    println!(
        "\nFor more: cargo bench --bench throughput -- --all (six minutes)\n          \
         cargo bench --bench soak -- --duration 60"
    );
    if options.test {
        println!("\nThis was one short pass. Its figures say nothing about speed.");
    }
    report::print_answer(&rows);
    Ok(())
}

fn settings(all: bool) -> io::Result<Vec<Setting>> {
    let (cpus, concurrencies) = if all {
        (cpu::available_cpus()?.len().min(2), &[8, 1, 64][..])
    } else {
        (1, &[8, 1][..])
    };
    Ok((1..=cpus)
        .flat_map(|cpus| {
            concurrencies
                .iter()
                .map(move |&concurrency| Setting { cpus, concurrency })
        })
        .collect())
}

/// What is measured in a setting with an event always ready.
fn cells(setting: Setting, programs: &[Program]) -> Vec<Cell> {
    let is_due = |n, name| match (n, name) {
        (0, _) => setting == USUAL && [OURS, "stock", "iterative"].contains(&name),
        // With one CPU it would be raw.
        (_, "raw-threads") => setting.cpus > 1,
        _ => true,
    };
    [0, 10, 100, 1000]
        .into_iter()
        .flat_map(|n| programs.iter().map(move |program| (n, program)))
        .filter(|(n, program)| is_due(*n, program.name))
        .map(|(n, &program)| Cell {
            n,
            program,
            rate: None,
        })
        .collect()
}

/// The same cells at half the rate that *ours* sustains.
fn paced(rows: &[Row]) -> Vec<Cell> {
    let usual = || rows.iter().filter(|row| row.setting == USUAL && row.n != 0);
    usual()
        .filter_map(|row| {
            let ours = usual().find(|ours| ours.n == row.n && ours.program.name == OURS)?;
            Some(Cell {
                n: row.n,
                program: row.program,
                rate: Some(ours.invocations_per_second / 2.0),
            })
        })
        .collect()
}

/// Prints the time from the start of the process to its first poll.
fn print_starts(programs: &[Program], function: &Path, is_test: bool) -> io::Result<()> {
    println!("\nFrom the start to the first poll, median:\n");
    let cpus = cpu::available_cpus()?;
    let api_thread = runtime_api::start_thread(cpus.clone())?;
    for program in programs {
        let mut millis = Vec::new();
        for _ in 0..if is_test { 1 } else { 21 } {
            let command = match program.name {
                OURS => Command::new(function), // without this executable before it
                _ => program.command(function, &cpus)?,
            };
            let process = Process::start(command, USUAL.concurrency, &api_thread)?;
            millis.push(process.start_time().as_secs_f64() * 1e3);
        }
        println!("{:<11} {:>8.1} ms", program.name, measure::median(millis));
    }
    Ok(())
}
