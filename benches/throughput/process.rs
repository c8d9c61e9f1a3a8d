//! The processes that are measured.

use std::net::SocketAddr;
use std::ops::Sub;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, io};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::competitors;
use crate::program::Program;

/// The first argument of this executable when it is to become a program that is measured.
pub(crate) const LAUNCH: &str = "launch";

/// A function's process. It ends with this value, and with the bench however that ends.
pub(crate) struct Process(Child);

/// What a process has used since its start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// In microseconds.
    pub(crate) time: f64,
    /// How that divides, sampled by the kernel's timer.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            time: self.time - earlier.time,
            user_ticks: self.user_ticks - earlier.user_ticks,
            system_ticks: self.system_ticks - earlier.system_ticks,
        }
    }
}

impl Process {
    pub(crate) fn start(
        program: Program,
        function: &Path,
        cpus: &[usize],
        runtime_api: SocketAddr,
        max_concurrency: usize,
    ) -> io::Result<Self> {
        let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
        let mut command = Command::new(env::current_exe()?);
        command.args([LAUNCH, &cpus.join(",")]);
        match program {
            Program::Ours => command.arg(function),
            Program::Off => command.arg(function).env("RUNTIME_API_PIPELINING", "off"),
            Program::Multi => command.arg("/tmp/fib-multi"),
            Program::Old => command.arg("/tmp/fib-old"),
            // In its favour without AWS_EXECUTION_ENV, which makes it poll from a new thread each time.
            Program::Python => command
                .arg(python())
                .args(["-m", "awslambdaric", "function.handler"])
                .env(
                    "PYTHONPATH",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/throughput"),
                )
                .env("PYTHONDONTWRITEBYTECODE", "1"),
            _ => command.arg(program.name()),
        };
        Self::spawn(&mut command, runtime_api, max_concurrency)
    }

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

    /// CPU used by the process and its children, which only `awslambdaric` has.
    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        let mut sum = Cpu::default();
        for pid in self.pids()? {
            sum.time += micros(clock_getcpuclockid(Pid::from_raw(pid))?)?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            let mut ticks = fields.skip(11).map_while(|field| field.parse().ok());
            sum.user_ticks += ticks.next().unwrap_or(0);
            sum.system_ticks += ticks.next().unwrap_or(0);
        }
        Ok(sum)
    }

    /// The highest resident set size so far in bytes, summed over the processes.
    pub(crate) fn peak_rss(&self) -> io::Result<u64> {
        self.memory("VmHWM:")
    }

    /// The resident set size in bytes, summed over the processes.
    pub(crate) fn rss(&self) -> io::Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> io::Result<u64> {
        let mut kib = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(name));
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

/// Whether the interpreter has what runs a function written in Python.
pub(crate) fn has_awslambdaric() -> bool {
    Command::new(python())
        .args(["-c", "import awslambdaric"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn python() -> String {
    env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// The time on a clock, in microseconds.
pub(crate) fn micros(clock: ClockId) -> nix::Result<f64> {
    Ok(Duration::from(clock.now()?).as_secs_f64() * 1e6)
}

/// Becomes a program that is measured, from the arguments after [`LAUNCH`].
pub(crate) fn launch(mut args: impl Iterator<Item = String>) -> Result<(), lambda_runtime::Error> {
    set_pdeathsig(Signal::SIGKILL)?;
    let cpus = args.next().unwrap_or_default();
    run_on(cpus.split(',').flat_map(str::parse))?;

    let program = args.next().unwrap_or_default();
    match &*program {
        "no-op" => competitors::run(competitors::no_op()),
        "raw" => Ok(crate::raw::run(true)?),
        "raw-off" => Ok(crate::raw::run(false)?),
        "stock" => competitors::run(competitors::stock()),
        "seam" => competitors::run(competitors::seam()),
        "iterative" => competitors::run(competitors::iterative()),
        path => Err(Command::new(path).args(args).exec().into()),
    }
}

/// Confines the calling thread, and what it starts, to these CPUs.
pub(crate) fn run_on(cpus: impl IntoIterator<Item = usize>) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// The CPUs that this process may use.
pub(crate) fn available_cpus() -> nix::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu) == Ok(true))
        .collect())
}
