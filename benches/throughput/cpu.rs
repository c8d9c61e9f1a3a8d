//! CPUs, and the time that processes spend on them.

use std::ops::Sub;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

/// What a process has used since it started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// In microseconds.
    pub(crate) time: f64,
    /// The kernel's timer samples how much of that was user code and how much the kernel.
    pub(crate) user_ticks: u32,
    pub(crate) system_ticks: u32,
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

/// The time on a clock, in microseconds.
pub(crate) fn micros(clock: ClockId) -> nix::Result<f64> {
    Ok(Duration::from(clock.now()?).as_secs_f64() * 1e6)
}

/// Confines the calling thread, and all that it starts, to these CPUs.
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
