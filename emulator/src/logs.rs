//! What the function prints.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::yield_now;
use uuid::Uuid;

use crate::lock::lock;
use crate::standard_error::StandardError;

/// Lines are kept up to this many bytes. The oldest are dropped first.
const MAX_RETAINED: usize = 4 * 1024 * 1024;

/// How many bytes of lines without a request id the console shows.
const MAX_OUTPUT: usize = 2 * MAX_LINE;

/// How many request ids are known. A line with an older one counts as a line without.
const MAX_REQUEST_IDS: usize = 10_000;

/// A line of more bytes is split.
const MAX_LINE: usize = 64 * 1024;

/// The memory that a line takes in addition to its bytes, roughly.
const LINE_OVERHEAD: usize = 48;

/// How many bytes to read from a pipe at once: an eighth of what it holds on Linux.
const READ_SIZE: usize = 8 * 1024;

/// The lines that the function printed, to standard output and standard error alike.
#[derive(Default)]
pub(crate) struct Logs {
    lines: Mutex<Lines>,
    /// How many lines there have been.
    count: watch::Sender<u64>,
    pipes: Mutex<Vec<Arc<Pipe>>>,
    /// Whether to copy each line to standard error.
    echo: AtomicBool,
}

#[derive(Default)]
struct Lines {
    all: Kept,
    /// Those that name no invocation.
    nameless: Kept,
    /// Of invocations, oldest first.
    request_ids: VecDeque<Uuid>,
}

impl Lines {
    /// Whether a line names no invocation.
    fn is_nameless(&self, line: &str) -> bool {
        // It is usually one of the newest.
        !request_ids(line).any(|id| self.request_ids.iter().rev().any(|known| *known == id))
    }
}

/// The last lines.
#[derive(Default)]
struct Kept {
    lines: VecDeque<Arc<str>>,
    bytes: usize,
    forgotten: u64,
}

impl Kept {
    fn push(&mut self, line: Arc<str>, most: usize) {
        self.bytes += line.len() + LINE_OVERHEAD;
        self.lines.push_back(line);
        while self.bytes > most
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len() + LINE_OVERHEAD;
            self.forgotten += 1;
        }
    }

    fn count(&self) -> u64 {
        self.forgotten + self.lines.len() as u64
    }
}

/// The emulator's end of the function's standard output or standard error.
struct Pipe {
    receiver: pipe::Receiver,
    /// The beginning of a line that is not complete yet.
    partial: Mutex<Vec<u8>>,
    /// The execution environment of the process that prints here.
    environment: u64,
    /// How many callers of [`Logs::drain`] wait for this pipe.
    drains: AtomicUsize,
}

impl Logs {
    pub(crate) fn new(echo: bool) -> Self {
        Self {
            echo: echo.into(),
            ..Self::default()
        }
    }

    /// Copies what there is of unfinished lines to standard error, and nothing after it.
    pub(crate) fn stop_echo(&self) {
        if self.echo.swap(false, Ordering::Relaxed) {
            for line in self.unfinished() {
                echo(&line);
            }
        }
    }

    /// Drops the pipes of an execution environment that has ended.
    pub(crate) fn detach(&self, environment: u64) {
        self.drain();
        lock(&self.pipes).retain(|pipe| pipe.environment != environment);
    }

    /// Takes in `fd`, a pipe that a process prints to. What this returns reads from it until it ends.
    pub(crate) fn attach(
        self: &Arc<Self>,
        fd: OwnedFd,
        environment: u64,
    ) -> io::Result<impl Future<Output = ()> + use<>> {
        let pipe = Arc::new(Pipe {
            receiver: pipe::Receiver::from_owned_fd(fd)?,
            partial: Mutex::default(),
            environment,
            drains: AtomicUsize::new(0),
        });
        lock(&self.pipes).push(Arc::clone(&pipe));
        let logs = Arc::clone(self);
        Ok(async move {
            while pipe.receiver.readable().await.is_ok() {
                // Whoever drains the pipe comes first: the lock alone would not let them in.
                if pipe.drains.load(Ordering::Relaxed) == 0 {
                    match logs.read(&pipe, |buffer| pipe.receiver.try_read(buffer)) {
                        Ok(0) => break,
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                        _ => {}
                    }
                }
                // A function that prints without pause is always readable.
                yield_now().await;
            }
        })
    }

    /// Reads what the function has printed up to now. What it printed before a reply must be here
    /// when the reply is, but tokio may not know yet that a pipe is readable: this asks the pipe.
    pub(crate) fn drain(&self) {
        for pipe in &*lock(&self.pipes) {
            pipe.drains.fetch_add(1, Ordering::Relaxed);
            // Not more than a pipe holds: a function that prints faster than this reads would keep it
            // here for ever.
            for _ in 0..8 {
                let read = |buffer: &mut [u8]| Ok(nix::unistd::read(&pipe.receiver, buffer)?);
                if !matches!(self.read(pipe, read), Ok(1..)) {
                    break;
                }
            }
            pipe.drains.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Reads once from a pipe.
    fn read(
        &self,
        pipe: &Pipe,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut partial = lock(&pipe.partial);
        let mut buffer = [0; READ_SIZE];
        let length = read(&mut buffer)?;
        if length == 0 && !partial.is_empty() {
            self.push(&std::mem::take(&mut *partial));
        }
        for piece in buffer[..length].split_inclusive(|&byte| byte == b'\n') {
            partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || partial.len() >= MAX_LINE {
                self.push(&partial);
                partial.clear();
            }
        }
        Ok(length)
    }

    fn push(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line: Arc<str> = line.trim_end_matches(['\n', '\r']).into();
        if self.echo.load(Ordering::Relaxed) {
            echo(&line);
        }
        let mut lines = lock(&self.lines);
        if lines.is_nameless(&line) {
            lines.nameless.push(Arc::clone(&line), MAX_OUTPUT);
        }
        lines.all.push(line, MAX_RETAINED);
        self.count.send_replace(lines.all.count());
    }

    /// Notes that lines with this request id belong to an invocation.
    pub(crate) fn expect(&self, request_id: Uuid) {
        let mut lines = lock(&self.lines);
        lines.request_ids.push_back(request_id);
        if lines.request_ids.len() > MAX_REQUEST_IDS {
            lines.request_ids.pop_front();
        }
    }

    /// How many lines there have been.
    pub(crate) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// The lines from number `first` on, as far as they are kept.
    pub(crate) fn since(&self, first: u64) -> Vec<Arc<str>> {
        let lines = lock(&self.lines);
        let skipped = usize::try_from(first.saturating_sub(lines.all.forgotten));
        let kept = lines.all.lines.iter().skip(skipped.unwrap_or(usize::MAX));
        kept.cloned().collect()
    }

    /// The lines that name an invocation, as far as they are kept. Nothing else tells whose a line is:
    /// workers print side by side, and what one printed may be read after its reply.
    pub(crate) fn of(&self, request_id: Uuid) -> Vec<Arc<str>> {
        self.drain();
        let mut lines = self.since(0);
        lines.extend(self.unfinished());
        lines.retain(|line| request_ids(line).any(|id| id == request_id));
        lines
    }

    /// The last lines that name no invocation.
    pub(crate) fn output(&self) -> Vec<Arc<str>> {
        let mut unfinished = self.unfinished();
        let lines = lock(&self.lines);
        unfinished.retain(|line| lines.is_nameless(line));
        let nameless = lines.nameless.lines.iter().cloned();
        nameless.chain(unfinished).collect()
    }

    /// How many lines there have been that name no invocation, and how many bytes are not a line yet:
    /// whenever [`output`](Self::output) changes, so do these.
    pub(crate) fn output_count(&self) -> (u64, usize) {
        let unfinished = self.unfinished().iter().map(|line| line.len()).sum();
        (lock(&self.lines).nameless.count(), unfinished)
    }

    /// What has been printed without the end of a line.
    fn unfinished(&self) -> Vec<Arc<str>> {
        let pipes = lock(&self.pipes);
        let partial = pipes.iter().map(|pipe| lock(&pipe.partial).clone());
        (partial.filter(|partial| !partial.is_empty()))
            .map(|partial| String::from_utf8_lossy(&partial).into())
            .collect()
    }

    /// The first line that `wanted` accepts, among those kept and those to come.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> Arc<str> {
        let mut counts = self.count.subscribe();
        let mut first = 0;
        loop {
            let count = *counts.borrow_and_update();
            if let Some(line) = self.since(first).into_iter().find(|line| wanted(line)) {
                return line;
            }
            first = count;
            // The sender is ours, so this cannot fail.
            let _ = counts.changed().await;
        }
    }
}

/// Copies a line to standard error.
fn echo(line: &str) {
    // It never fails.
    let _ = StandardError.write(format!("{line}\n").as_bytes());
}

/// What may be request ids in a line: its UUIDs.
fn request_ids(line: &str) -> impl Iterator<Item = Uuid> {
    let dashes = line.match_indices('-');
    dashes.filter_map(|(dash, _)| {
        let first = dash.checked_sub(8)?;
        Uuid::try_parse(line.get(first..first + 36)?).ok()
    })
}

/// Makes one line of a caller's or a function's text, to be part of a message.
pub(crate) fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(1_000).map(visible).collect()
}
