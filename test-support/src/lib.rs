//! What the tests of several packages share: a function's process under a Runtime API whose every
//! byte a test decides, and the corpora of the fuzzers.
//!
//! What does not come as a test expects panics, and so fails the test.
#![allow(clippy::missing_panics_doc, reason = "said once, above")]

mod corpus;
mod function;
mod mutation;
mod request;

pub use corpus::replay;
pub use function::{Function, command, own_test};
pub use mutation::damaged;
pub use request::{REGISTERED, Request, event};

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that must happen, on however slow a machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The values of `RUNTIME_API_PIPELINING`.
pub const PIPELINING: [&str; 2] = ["on", "off"];

/// Waits until this returns something, which `what` names, for as long as [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut happens: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(happened) = happens() {
            return happened;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
