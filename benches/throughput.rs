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

use crate::throughput::measure::{Cell, Row, measure, median};
use crate::throughput::process::Process;
use crate::throughput::program::{self, OURS, Program};
use crate::throughput::{chart, cpu, report, runtime_api};

/// Measures this function and the alternatives to it, in a minute and a half.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench throughput --")]
struct Options {
    /// Measure one and two CPUs, 1, 8 and 64 at once, a fixed rate, and the start: six minutes
    #[arg(long)]
    all: bool,
    /// Make one short pass, to see that everything works. This is the default without `cargo bench`
    #[arg(long)]
    test: bool,
    #[arg(long, hide = true)]
    bench: bool,
    /// Run only if `throughput` contains this
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
}

fn main() -> Result<(), lambda_runtime::Error> {
    let mut args = env::args().skip(1).peekable();
    if args.next_if(|arg| arg == program::LAUNCH).is_some() {
        return program::launch(args);
    }

    let options = Options::parse();
    if !"throughput".contains(&options.filter) {
        return Ok(());
    }
    let is_test = options.test || !options.bench;
    let (minutes, most_cpus, concurrencies) = if options.all {
        ("six minutes", 2, &[8, 1, 64][..])
    } else {
        ("a minute and a half", 1, &[8, 1][..])
    };
    if !is_test {
        println!("throughput takes {minutes}");
    }
    let programs = Program::available(options.all);
    // The executable that `cargo bench` builds has the features of the dev-dependencies too. This
    // builds the one that ships.
    let function = &*emulator::build_function()?;

    let mut rows = Vec::new();
    for cpus in 1..=most_cpus.min(cpu::available_cpus()?.len()) {
        for &concurrency in concurrencies {
            let measured = measure(&cells(cpus, concurrency, &programs), function, is_test)?;
            if options.all {
                report::print_rows(&measured);
            }
            rows.extend(measured);
        }
    }
    if options.all {
        let measured = measure(&paced(&rows), function, is_test)?;
        report::print_rows(&measured);
        rows.extend(measured);
        print_starts(&programs, function, is_test)?;
    }
    if !is_test {
        println!();
        let target_dir = function.ancestors().nth(2).unwrap_or(Path::new("."));
        for (name, contents) in [
            ("throughput.json", serde_json::to_string_pretty(&rows)?),
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
    if is_test {
        println!("\nThis was one short pass. Its figures say nothing about speed.");
    }
    report::print_answer(&rows);
    Ok(())
}

/// What is measured with an event always ready.
fn cells(cpus: usize, concurrency: usize, programs: &[Program]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for n in [0, 10, 100, 1000] {
        cells.extend(programs.iter().map(|&program| Cell {
            cpus,
            concurrency,
            n,
            program,
            rate: None,
        }));
    }
    cells.retain(|cell| match (cell.n, cell.program.name) {
        (0, name) => cell.is_usual() && [OURS, "stock", "iterative"].contains(&name),
        // With one CPU it would be raw.
        (_, "raw-threads") => cpus > 1,
        _ => true,
    });
    cells
}

/// The same cells at half the rate that *ours* sustains.
fn paced(rows: &[Row]) -> Vec<Cell> {
    let usual = rows.iter().map(|row| row.cell);
    let usual = usual.filter(|cell| cell.is_usual() && cell.n != 0);
    let with_rate = |cell: Cell| {
        let ours = report::find(rows, cell.concurrency, OURS, cell.n);
        let rate = ours.map(|ours| ours.invocations_per_second / 2.0);
        Cell { rate, ..cell }
    };
    usual.map(with_rate).collect()
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
            let process = Process::start(command, 8, &api_thread)?;
            millis.push(process.start_time().as_secs_f64() * 1e3);
        }
        println!("{:<11} {:>8.1} ms", program.name, median(millis));
    }
    Ok(())
}
