//! The function's process, and independent ways to its replies.

pub(crate) mod event_reading;
pub(crate) mod terms;

use std::env;
use std::process::Command;

use test_support::Function;

/// The function as Cargo builds it for tests, or the executable that `BOOTSTRAP` names, such as what
/// ships.
pub(crate) fn command() -> Command {
    let built = env!("CARGO_BIN_EXE_fibonacci-generator");
    test_support::command(env::var_os("BOOTSTRAP").unwrap_or(built.into()))
}

/// Starts the function, with one worker.
pub(crate) fn start() -> Function {
    Function::start(command())
}
