//! A line on the terminal that changes while the load tester works.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

const REFRESH: Duration = Duration::from_millis(125);

/// Removes the line when it is dropped.
pub(crate) struct Display {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Shows what `line` returns: fewer than 80 characters. Does nothing unless standard error is a
    /// terminal.
    pub(crate) fn start(
        is_quiet: bool,
        mut line: impl FnMut() -> String + Send + 'static,
    ) -> Option<Self> {
        if is_quiet || !io::stderr().is_terminal() {
            return None;
        }
        let (stop, stopped) = mpsc::channel();
        // A thread, because Ctrl-S on the terminal blocks every write to it.
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                let _ = write!(io::stderr(), "\r{}\x1b[K", line());
            }
            let _ = write!(io::stderr(), "\r\x1b[K");
        });
        Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
