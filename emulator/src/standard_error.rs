//! Standard error that blocks nobody, even if no one reads it.

use std::io::{self, Write};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::lock::lock;

/// Output that is not yet written is kept up to this many bytes.
const MAX_WAITING: usize = 1024 * 1024;

/// Writes to standard error through a queue, so that a write never blocks or fails.
///
/// A thread empties the queue. If standard error is not read, the queue fills up to 1 MiB; what does
/// not fit then is dropped, and the number of dropped lines is written as soon as there is room.
#[derive(Clone, Copy, Debug)]
pub struct StandardError;

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    dropped_lines: usize,
    /// Whether the thread is writing what it took from the queue.
    writing: bool,
}

static QUEUE: LazyLock<Queue> = LazyLock::new(|| {
    // Without the thread, the queue fills up and the rest is dropped.
    let _ = thread::Builder::new()
        .name("standard error".to_owned())
        .spawn(|| QUEUE.write_forever());
    Queue::default()
});

impl StandardError {
    /// Waits until everything is written, for `limit` at most.
    pub fn flush_within(self, limit: Duration) {
        let unwritten = |state: &mut State| state.writing || !state.waiting.is_empty();
        let state = lock(&QUEUE.state);
        // What is not written by then is lost.
        let _ = QUEUE.changed.wait_timeout_while(state, limit, unwritten);
    }
}

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = lock(&QUEUE.state);
        if state.dropped_lines > 0 || state.waiting.len() + bytes.len() > MAX_WAITING {
            state.dropped_lines += bytes.split_inclusive(|&byte| byte == b'\n').count();
        } else {
            state.waiting.extend_from_slice(bytes);
        }
        QUEUE.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn write_forever(&self) {
        loop {
            let mut state = lock(&self.state);
            while state.waiting.is_empty() && state.dropped_lines == 0 {
                state = (self.changed.wait(state)).unwrap_or_else(PoisonError::into_inner);
            }
            let mut bytes = std::mem::take(&mut state.waiting);
            let dropped = std::mem::take(&mut state.dropped_lines);
            state.writing = true;
            drop(state);
            if dropped > 0 {
                let note = format!(
                    "cargo local: {dropped} lines are missing here: standard error was not read\n"
                );
                bytes.extend_from_slice(note.as_bytes());
            }
            // If standard error is closed or its disk is full, there is nowhere to say so.
            let _ = io::stderr().write_all(&bytes);
            lock(&self.state).writing = false;
            self.changed.notify_all();
        }
    }
}
