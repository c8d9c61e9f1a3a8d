//! What was measured, for people and as JSON.

use serde::Serialize;
use serde_json::json;

use crate::program::Program;
use crate::targets::Target;
use crate::{Sample, Setting};

/// The medians of a cell's samples.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) cpus: usize,
    pub(crate) concurrency: usize,
    pub(crate) n: u16,
    pub(crate) program: &'static str,
    pub(crate) invocations_per_second: f64,
    /// CPU of the program per invocation, user and system, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// CPU of the program relative to that of ours, round by round.
    pub(crate) relative_cpu: f64,
    /// Highest resident set size of the process until after this N.
    pub(crate) peak_rss_bytes: u64,
    /// CPU of the Runtime API per invocation, in microseconds.
    pub(crate) runtime_api_cpu_us: f64,
}

impl Row {
    pub(crate) fn all(
        setting: Setting,
        cells: &[(u16, Program)],
        samples: &[Vec<Sample>],
    ) -> Vec<Self> {
        let of = |cell| {
            let position = cells.iter().position(|other| *other == cell);
            &samples[position.expect("ours takes part everywhere")]
        };
        cells
            .iter()
            .map(|&(n, program)| {
                let (samples, ours) = (of((n, program)), of((n, Program::Ours)));
                let cpu_us = median(samples.iter().map(Sample::cpu_us));
                let user_ticks: u64 = samples.iter().map(|sample| sample.cpu.user_ticks).sum();
                let system_ticks: u64 = samples.iter().map(|sample| sample.cpu.system_ticks).sum();
                #[expect(clippy::cast_precision_loss, reason = "a few hundred ticks")]
                let user_us =
                    cpu_us * user_ticks as f64 / (user_ticks + system_ticks).max(1) as f64;
                Self {
                    cpus: setting.cpus,
                    concurrency: setting.concurrency,
                    n,
                    program: program.name(),
                    invocations_per_second: median(
                        samples
                            .iter()
                            .map(|sample| sample.invocations / sample.seconds),
                    ),
                    cpu_us,
                    user_us,
                    system_us: cpu_us - user_us,
                    relative_cpu: median(
                        samples
                            .iter()
                            .zip(ours)
                            .map(|(sample, ours)| sample.cpu_us() / ours.cpu_us()),
                    ),
                    // In the first round no larger N came before.
                    peak_rss_bytes: samples[0].peak_rss,
                    runtime_api_cpu_us: median(
                        samples
                            .iter()
                            .map(|sample| sample.runtime_api_cpu / sample.invocations),
                    ),
                }
            })
            .collect()
    }
}

impl Sample {
    fn cpu_us(&self) -> f64 {
        self.cpu.time / self.invocations
    }
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "printed with two digits")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

pub(crate) fn print(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "Per invocation, in microseconds: CPU of the program (user, system; relative to ours) and \
         of the Runtime API.\n\
         Memory is the highest RSS, summed over the processes of python.\n"
    );
    println!(
        "CPUs concurrency    N  program   invocations/s     CPU    user  system  × ours     memory  \
         Runtime API"
    );
    for row in rows {
        println!(
            "{:>4} {:>11} {:>4}  {:<9} {:>13.0} {:>7.1} {:>7.1} {:>7.1} {:>7.2} {:>7.1} MB {:>12.1}",
            row.cpus,
            row.concurrency,
            row.n,
            row.program,
            row.invocations_per_second,
            row.cpu_us,
            row.user_us,
            row.system_us,
            row.relative_cpu,
            megabytes(row.peak_rss_bytes),
            row.runtime_api_cpu_us,
        );
    }
}

pub(crate) fn print_targets(targets: &[Target]) {
    println!();
    for target in targets {
        let Target {
            what,
            must,
            measured,
            met,
        } = target;
        let verdict = if *met { "met" } else { "missed" };
        println!("{what:<68} {must:>10} {measured:>11}  {verdict}");
    }
}

pub(crate) fn to_json(rows: &[Row], targets: &[Target]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&json!({ "cells": rows, "targets": targets }))
}
