//! What the function prints.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::lock;

/// Older lines are forgotten beyond this many bytes.
const MAX_RETAINED: usize = 4 * 1024 * 1024;

/// A longer line is cut into several.
const MAX_LINE: usize = 64 * 1024;

/// What a line takes beside its bytes, roughly.
const LINE_OVERHEAD: usize = 48;

/// What a pipe holds on Linux.
const PIPE_CAPACITY: usize = 64 * 1024;

/// `X-Amz-Log-Result` holds the last 4 KB.
const MAX_TAIL: usize = 4 * 1024;

/// The lines that the function has printed, to standard output and standard error alike.
pub(crate) struct Logs {
    lines: Mutex<Lines>,
    /// How many lines there have been.
    printed: watch::Sender<u64>,
    /// The same number, cheap to read.
    count: AtomicU64,
    pipes: Mutex<Vec<Arc<Pipe>>>,
    echo: bool,
}

#[derive(Default)]
struct Lines {
    retained: VecDeque<Arc<str>>,
    bytes: usize,
    forgotten: u64,
}

/// The emulator's end of the function's standard output or standard error.
struct Pipe {
    receiver: pipe::Receiver,
    /// The beginning of a line whose end has not come yet.
    partial: Mutex<Vec<u8>>,
}

/// Whether a pipe has more to come.
#[derive(PartialEq, Eq)]
enum More {
    Later,
    Never,
}

impl Logs {
    pub(crate) fn new(echo: bool) -> Self {
        Self {
            lines: Mutex::default(),
            printed: watch::Sender::new(0),
            count: AtomicU64::new(0),
            pipes: Mutex::default(),
            echo,
        }
    }

    /// Forgets the pipes of the process before.
    pub(crate) fn detach(&self) {
        self.drain();
        lock(&self.pipes).clear();
    }

    /// Reads from `fd`, a pipe that a process prints to, until that ends. It runs by itself.
    pub(crate) fn attach(self: &Arc<Self>, fd: OwnedFd) -> io::Result<()> {
        let pipe = Arc::new(Pipe {
            receiver: pipe::Receiver::from_owned_fd(fd)?,
            partial: Mutex::default(),
        });
        lock(&self.pipes).push(Arc::clone(&pipe));
        let logs = Arc::clone(self);
        tokio::spawn(async move {
            while pipe.receiver.readable().await.is_ok()
                && logs.read(&pipe, |buffer| pipe.receiver.try_read(buffer)) == More::Later
            {
            }
        });
        Ok(())
    }

    /// Takes in what the function has printed up to now: what it prints before it answers has to be
    /// there when its answer is. Tokio may not have heard of it yet, so this asks the pipe itself.
    pub(crate) fn drain(&self) {
        for pipe in &*lock(&self.pipes) {
            self.read(pipe, |buffer| {
                Ok(nix::unistd::read(&pipe.receiver, buffer)?)
            });
        }
    }

    /// Reads what is there, at most as much as a pipe holds: there is no end to wait for while the
    /// function prints faster than this reads.
    fn read(&self, pipe: &Pipe, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> More {
        let mut partial = lock(&pipe.partial);
        let mut buffer = [0; 8 * 1024];
        for _ in 0..PIPE_CAPACITY / buffer.len() {
            let length = match read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return More::Later,
                Ok(0) | Err(_) => {
                    if !partial.is_empty() {
                        self.push(&std::mem::take(&mut *partial));
                    }
                    return More::Never;
                }
                Ok(length) => length,
            };
            if self.echo {
                // Nothing can be done where standard error is closed.
                let _ = io::stderr().write_all(&buffer[..length]);
            }
            for piece in buffer[..length].split_inclusive(|&byte| byte == b'\n') {
                partial.extend_from_slice(piece);
                if piece.ends_with(b"\n") || partial.len() >= MAX_LINE {
                    self.push(&partial);
                    partial.clear();
                }
            }
        }
        More::Later
    }

    fn push(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line: Arc<str> = line.trim_end_matches(['\n', '\r']).into();
        let mut lines = lock(&self.lines);
        lines.bytes += line.len() + LINE_OVERHEAD;
        lines.retained.push_back(line);
        while lines.bytes > MAX_RETAINED
            && let Some(oldest) = lines.retained.pop_front()
        {
            lines.bytes -= oldest.len() + LINE_OVERHEAD;
            lines.forgotten += 1;
        }
        let count = lines.forgotten + lines.retained.len() as u64;
        self.count.store(count, Ordering::Relaxed);
        self.printed.send_replace(count);
    }

    /// How many lines there have been.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The retained lines from the `first`th on.
    pub(crate) fn since(&self, first: u64) -> Vec<Arc<str>> {
        let lines = lock(&self.lines);
        let skipped = first.saturating_sub(lines.forgotten);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        lines.retained.iter().skip(skipped).cloned().collect()
    }

    /// The first line that `wanted` accepts, of those retained or still to come.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> Arc<str> {
        let mut printed = self.printed.subscribe();
        let mut first = 0;
        loop {
            let count = *printed.borrow_and_update();
            if let Some(line) = self.since(first).into_iter().find(|line| wanted(line)) {
                return line;
            }
            first = count;
            // The sender is ours, so this cannot fail.
            let _ = printed.changed().await;
        }
    }

    /// The last 4 KB of the lines from the `first`th on that `wanted` accepts.
    pub(crate) fn tail(&self, first: u64, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
        self.drain();
        let mut tail = Vec::new();
        for line in self.since(first).iter().filter(|line| wanted(line)) {
            tail.extend_from_slice(line.as_bytes());
            tail.push(b'\n');
        }
        tail.split_off(tail.len().saturating_sub(MAX_TAIL))
    }
}
