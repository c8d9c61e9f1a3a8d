//! What was measured, for people and as JSON.

use serde_json::json;

use super::measure::{Row, Setting};
use super::targets::{Target, megabytes};

/// Prints what the columns mean.
pub(crate) fn print_legend() {
    println!(
        "CPU is that of the program per invocation, in microseconds; × ours is its ratio to ours.\n\
         Polls ahead are replies that came with the next poll behind them.\n\
         Memory is the highest RSS. For python it is summed over the processes.\n\
         The last column is the CPU of the bench's Runtime API per invocation, in microseconds."
    );
}

/// Prints the heading of a setting's rows, which take up to a minute.
pub(crate) fn print_heading(setting: Setting) {
    println!(
        "\nCPUs: {}, concurrency: {}\n\n   \
         N  program    invocations/s     CPU    user  system  × ours  polls ahead     memory  \
         Runtime API",
        setting.cpus, setting.concurrency
    );
}

pub(crate) fn print(rows: &[Row]) {
    for row in rows {
        println!(
            "{:>4}  {:<9} {:>14.0} {:>7.1} {:>7.1} {:>7.1} {:>7.2} {:>10.1} % {:>7.1} MB {:>12.1}",
            row.n,
            row.program.name(),
            row.invocations_per_second,
            row.cpu_us,
            row.user_us,
            row.system_us,
            row.relative_cpu,
            row.polls_ahead * 100.0,
            megabytes(row.peak_rss_bytes),
            row.runtime_api_cpu_us,
        );
    }
}

pub(crate) fn to_json(rows: &[Row], targets: &[Target]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&json!({ "cells": rows, "targets": targets }))
}
