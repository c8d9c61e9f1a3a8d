//! A process that is measured.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::{fs, io};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use super::cpu::{self, Cpu};

/// A function's process. It is killed when this value is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a function in the environment of a managed instance.
    pub(crate) fn spawn(
        command: &mut Command,
        runtime_api: SocketAddr,
        max_concurrency: usize,
    ) -> io::Result<Self> {
        command
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048")
            .env("AWS_LAMBDA_FUNCTION_NAME", "fibonacci-generator")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST.PUBLISHED")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("AWS_LAMBDA_MAX_CONCURRENCY", max_concurrency.to_string())
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
            .env_remove("TOKIO_WORKER_THREADS")
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .spawn()
            .map(Self)
    }

    /// CPU used by the process and its children. Only `awslambdaric` has children.
    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        let mut sum = Cpu::default();
        for pid in self.pids()? {
            sum.time += cpu::micros(clock_getcpuclockid(Pid::from_raw(pid))?)?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            let mut ticks = fields.skip(11).map_while(|field| field.parse().ok());
            sum.user_ticks += ticks.next().unwrap_or(0);
            sum.system_ticks += ticks.next().unwrap_or(0);
        }
        Ok(sum)
    }

    /// The highest resident set size so far, in bytes, summed over the process and its children.
    pub(crate) fn peak_rss(&self) -> io::Result<u64> {
        let mut kib = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let value = line.and_then(|line| line.split_whitespace().next());
            kib += value.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(kib * 1024)
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        let parent = self.0.id().cast_signed();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        Ok(children.chain([parent]).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
