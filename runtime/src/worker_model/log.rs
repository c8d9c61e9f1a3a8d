//! The lines that the function logs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use lambda_runtime::tracing::Dispatch;
use lambda_runtime::tracing::dispatcher::{self, DefaultGuard};
use lambda_runtime::tracing::subscriber::filter::LevelFilter;
use lambda_runtime::tracing::subscriber::fmt;
use lambda_runtime::tracing::subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

/// Writes what this thread logs, up to the drop of the result. Every test in which something logs needs
/// it: while only one thread listens, tracing asks the thread that logs a line first whether anybody
/// wants it, and remembers the answer for all.
pub(crate) fn listen(writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) -> DefaultGuard {
    let subscriber = fmt()
        .without_time()
        .with_ansi(false)
        .with_max_level(LevelFilter::DEBUG)
        .with_writer(writer);
    dispatcher::set_default(&Dispatch::new(subscriber.finish()))
}

impl Log {
    pub(super) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// How many lines contain this text, and name this invocation, or none.
    pub(super) fn count(&self, request_id: Option<&str>, text: &str) -> usize {
        let log = self.0.lock().unwrap();
        let lines = str::from_utf8(&log).unwrap().lines();
        let is_about = |line: &str| match request_id {
            Some(id) => line.contains(&format!("requestId=\"{id}\"")),
            None => !line.contains("requestId"),
        };
        lines
            .filter(|line| line.contains(text) && is_about(line))
            .count()
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
