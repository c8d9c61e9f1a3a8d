//! The whole loop: this function and the alternatives to it. Each runs as a process under a Runtime
//! API that always has an event ready.

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
    pub(crate) mod targets;
}
mod without_table;

use std::path::PathBuf;
use std::{env, fs};

use clap::Parser;

use crate::throughput::measure::Setting;
use crate::throughput::program::{self, Program};
use crate::throughput::{chart, report, targets};

/// Measures this function and the alternatives to it, in about five minutes.
#[derive(Parser)]
struct Options {
    /// Measure only cells whose names contain this (cpus=1/concurrency=8/n=1000/stock and the like),
    /// or only the targets that are no ratios (targets)
    #[arg(default_value = "")]
    filter: String,
    /// Make one short pass, to see that everything works. This is the default without --bench
    #[arg(long)]
    test: bool,
    #[arg(long, hide = true)]
    bench: bool,
    /// Write the figures as JSON [default: throughput.json in the target directory]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw CPU per invocation over N [default: throughput.svg in the target directory]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure memory after a million invocations, and a minute after events of 6 MB
    #[arg(long)]
    long: bool,
}

fn main() -> Result<(), lambda_runtime::Error> {
    let mut args = env::args().skip(1).peekable();
    if args.next_if(|arg| arg == program::LAUNCH).is_some() {
        return program::launch(args);
    }

    let mut options = Options::parse();
    options.test |= !options.bench;
    // The executable that `cargo bench` builds has the features of the dev-dependencies too. This
    // builds the one that ships.
    let function = &*emulator::build_function()?;

    let programs = Program::available();
    let mut rows = Vec::new();
    for setting in Setting::all(options.test)? {
        let cells = setting.cells(&programs, &options.filter);
        if !cells.is_empty() {
            if rows.is_empty() {
                report::print_legend();
            }
            report::print_heading(setting);
            let measured = setting.measure(cells, function, options.test)?;
            report::print(&measured);
            rows.extend(measured);
        }
    }
    if options.test {
        println!("\nThis was one short pass. Its figures say nothing about speed.");
    }
    let mut targets = Vec::new();
    if "targets".contains(&options.filter) {
        if !rows.is_empty() {
            targets.extend(targets::of_rows(&rows));
        }
        targets.extend(targets::of_function(function, options.test, options.long)?);
        targets::print(&targets);
    }

    let is_whole = options.filter.is_empty() && !options.test;
    let target_dir = function.ancestors().nth(2).filter(|_| is_whole);
    let files = [
        (
            options.json,
            "throughput.json",
            report::to_json(&rows, &targets)?,
        ),
        (options.svg, "throughput.svg", chart::svg(&rows)),
    ];
    for (path, name, contents) in files {
        if let Some(path) = path.or(target_dir.map(|dir| dir.join(name))) {
            fs::write(&path, contents)?;
            println!("\n{}", path.display());
        }
    }
    Ok(())
}
