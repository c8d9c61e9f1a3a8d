//! A local execution environment of Lambda Managed Instances.
//!
//! It runs a function's binary as Managed Instances do (one process, up to
//! `AWS_LAMBDA_MAX_CONCURRENCY` invocations at once), serves it the Runtime API, and serves callers
//! the Invoke API and a function URL; a browser gets a console at the Invoke API's address.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use emulator::{Emulator, Settings};
//!
//! let emulator = Emulator::start(Settings::new(emulator::build_function()?)).await?;
//! let reply = emulator.invoke(r#"{"n": 10}"#).await?;
//! assert!(!reply.function_error);
//! emulator.terminate().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`Emulator::inject`] makes its Runtime API fail in the ways that [`Fault`] lists, to see what a
//! function makes of it.
//!
//! What it leaves out: scaling, IAM and signatures, retries of asynchronous events, versions other
//! than `$LATEST.PUBLISHED`. Account and Region are always 123456789012 and us-east-1.
//!
//! `RIE` in comments is AWS's Runtime Interface Emulator, whose mode for Managed Instances is the
//! reference for what the real service does not document:
//! <https://github.com/aws/aws-lambda-runtime-interface-emulator>.

mod body;
mod console;
mod emulator;
mod environment;
mod faults;
mod function;
mod function_url;
mod invocations;
mod invoke_api;
mod logs;
mod runtime_api;

pub use emulator::{Emulator, Settings};
pub use environment::StartError;
pub use faults::Fault;
pub use function::{BuildError, build_function};
pub use invocations::{InvokeError, Reply};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The largest payload of an event or a reply, in bytes: 6 MB.
pub(crate) const MAX_PAYLOAD: usize = 6 * 1024 * 1024;

/// What somebody else wrote, as a part of one log line.
fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(1_000).map(visible).collect()
}

/// No critical section of this crate can panic half-way, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
