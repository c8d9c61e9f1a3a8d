//! Standard error: lines for a person, and one line that changes while the load tester works.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

const REFRESH: Duration = Duration::from_millis(125);

/// Writes one line to standard error. Unlike `eprintln`, it does not panic if that is closed.
pub(crate) fn say(text: &str) {
    let text = printable(text);
    let words: Vec<_> = text.split_whitespace().collect();
    let _ = writeln!(io::stderr(), "{}", words.join(" "));
}

/// Replaces control characters, line breaks among them, which a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The first 300 characters of a text, which may be long.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Removes the line when it is dropped.
pub(crate) struct Display(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Display {
    /// Shows what `line` returns, or as much of it as the terminal is wide. Does nothing unless standard
    /// error is a terminal.
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
            let write = |text: String| io::stderr().write_all(text.as_bytes());
            while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                // Without automatic wrapping (DECAWM), the terminal cuts the line off at its edge.
                let _ = write(format!("\r\x1b[K\x1b[?7l{}\x1b[?7h", line()));
            }
            let _ = write("\r\x1b[K".to_owned());
        });
        Some(Self(Some((stop, thread))))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}
