//! The function's process, in a process group of its own, and the guard of that group.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Ignores SIGTERM, says with an empty line that it does, and kills its process group when its standard
/// input ends.
const GUARD: &str = "trap '' TERM; echo; read -r _; kill -s KILL 0";

/// The function's process.
///
/// It is in a process group of its own, so that Ctrl-C in a terminal reaches only the emulator, which
/// then ends the function in order, and so that a bootstrap that is a script leaves no children behind.
///
/// The group has one more process: the guard, which kills the group if the emulator disappears, for
/// whatever reason. The emulator holds the only end of the guard's standard input, and the kernel
/// closes it when the emulator ends. A process that leaves the group is out of the guard's reach.
pub(crate) struct Process {
    child: Child,
    id: Pid,
    group: Pid,
    _guard: (Child, Option<ChildStdin>),
}

impl Process {
    pub(crate) async fn start(mut command: Command) -> io::Result<Self> {
        // The guard comes first, so that the function is never without it.
        let started = start_guard().await;
        let (guard, input, group) =
            started.map_err(|error| io::Error::other(format!("cannot run /bin/sh: {error}")))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (child, id) = spawn(command.process_group(group.as_raw()))?;
        Ok(Self {
            child,
            id,
            group,
            _guard: (guard, input),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id.as_raw().unsigned_abs()
    }

    /// The other ends of standard output and standard error, once.
    pub(crate) fn take_output(&mut self) -> io::Result<Vec<OwnedFd>> {
        let stdout = self.child.stdout.take().map(ChildStdout::into_owned_fd);
        let stderr = self.child.stderr.take().map(ChildStderr::into_owned_fd);
        [stdout, stderr].into_iter().flatten().collect()
    }

    /// Waits until the process itself has ended.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        // `wait` fails only for a process that is not our child.
        self.child.wait().await.unwrap_or_default()
    }

    /// Sends a signal to the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = killpg(self.group, signal);
    }
}

async fn start_guard() -> io::Result<(Child, Option<ChildStdin>, Pid)> {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GUARD])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let (mut guard, group) = spawn(&mut command)?;
    let input = guard.stdin.take();
    if let Some(mut ready) = guard.stdout.take() {
        ready.read_u8().await?;
    }
    Ok((guard, input, group))
}

/// Starts a process that is killed when the child is dropped.
fn spawn(command: &mut Command) -> io::Result<(Child, Pid)> {
    let child = command.kill_on_drop(true).spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let id = id.ok_or_else(|| io::Error::other("the process has no id"))?;
    Ok((child, Pid::from_raw(id)))
}
