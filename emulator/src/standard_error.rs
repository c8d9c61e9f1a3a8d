//! Standard error that blocks nobody, even if no one reads it.

use std::io::{self, Write};
use std::mem::take;
use std::sync::{Condvar, Mutex, Once, PoisonError};
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

struct Queue {
    waiting: Vec<u8>,
    dropped_lines: usize,
    /// Whether the thread is writing what it took from the queue.
    is_writing: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    waiting: Vec::new(),
    dropped_lines: 0,
    is_writing: false,
});
static CHANGED: Condvar = Condvar::new();
static THREAD: Once = Once::new();

impl StandardError {
    /// Waits until everything is written, for `limit` at most.
    pub fn flush_within(self, limit: Duration) {
        let is_unwritten = |queue: &mut Queue| queue.is_writing || !queue.waiting.is_empty();
        // What is not written by then is lost.
        let _ = CHANGED.wait_timeout_while(lock(&QUEUE), limit, is_unwritten);
    }
}

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Without the thread, the queue fills up and the rest is dropped.
        THREAD.call_once(|| drop(thread::Builder::new().spawn(write_forever)));
        let mut queue = lock(&QUEUE);
        if queue.dropped_lines > 0 || queue.waiting.len() + bytes.len() > MAX_WAITING {
            queue.dropped_lines += bytes.split_inclusive(|&byte| byte == b'\n').count();
        } else {
            queue.waiting.extend_from_slice(bytes);
        }
        CHANGED.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_forever() {
    loop {
        let is_empty = |queue: &mut Queue| queue.waiting.is_empty() && queue.dropped_lines == 0;
        let queue = CHANGED.wait_while(lock(&QUEUE), is_empty);
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        let (mut bytes, dropped) = (take(&mut queue.waiting), take(&mut queue.dropped_lines));
        queue.is_writing = true;
        drop(queue);
        if dropped > 0 {
            let note = format!(
                "cargo local: {dropped} lines are missing here: standard error was not read\n"
            );
            bytes.extend_from_slice(note.as_bytes());
        }
        // If standard error is closed or its disk is full, there is nowhere to say so.
        let _ = io::stderr().write_all(&bytes);
        lock(&QUEUE).is_writing = false;
        CHANGED.notify_all();
    }
}
