//! A process that is measured.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use tokio::runtime::Handle;

use super::cpu;
use super::runtime_api::RuntimeApi;

/// Linux counts a hundred ticks a second for programs: `proc_pid_stat(5)`.
const MICROS_PER_TICK: f64 = 10_000.0;

/// A function's process under a Runtime API of its own. It is killed when this value is dropped.
pub(crate) struct Process {
    child: Child,
    started: Instant,
    pub(crate) runtime_api: RuntimeApi,
}

impl Process {
    /// Starts a function in the environment of a managed instance, and waits until all its workers
    /// poll.
    pub(crate) fn start(
        mut command: Command,
        max_concurrency: usize,
        api_thread: &Handle,
    ) -> io::Result<Self> {
        let runtime_api = RuntimeApi::start(api_thread)?;
        command
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048")
            .env("AWS_LAMBDA_FUNCTION_NAME", "fibonacci-generator")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST.PUBLISHED")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("AWS_LAMBDA_MAX_CONCURRENCY", max_concurrency.to_string())
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api.address.to_string())
            .env_remove("TOKIO_WORKER_THREADS")
            .stdin(Stdio::null())
            .stdout(io::stderr());
        let started = Instant::now();
        let process = Self {
            child: command.spawn()?,
            started,
            runtime_api,
        };
        process.runtime_api.wait_for_polls(max_concurrency);
        Ok(process)
    }

    /// From the start to the first poll.
    pub(crate) fn start_time(&self) -> Duration {
        let first_poll = self.runtime_api.first_poll().expect("all workers poll");
        first_poll - self.started
    }

    /// CPU that the process and its children have used, and how much of that in the kernel, in
    /// microseconds. Only `awslambdaric` has children.
    pub(crate) fn cpu(&self) -> io::Result<[f64; 2]> {
        let [mut cpu, mut in_kernel] = [0.0; 2];
        for pid in self.pids()? {
            cpu += cpu::micros(clock_getcpuclockid(Pid::from_raw(pid))?)?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            in_kernel += number(after_name.split(' ').nth(12)) * MICROS_PER_TICK;
        }
        Ok([cpu, in_kernel])
    }

    /// The highest resident set size so far, in bytes, summed over the process and its children.
    pub(crate) fn peak_rss(&self) -> io::Result<f64> {
        let mut kib = 0.0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            kib += number(line.and_then(|line| line.split_whitespace().next()));
        }
        Ok(kib * 1024.0)
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        let parent = self.child.id().cast_signed();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        Ok(children.chain([parent]).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(field: Option<&str>) -> f64 {
    let number = field.and_then(|field| field.parse().ok());
    number.expect("a number where proc(5) says so")
}
