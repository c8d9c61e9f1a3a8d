//! The function's process, and independent ways to its replies.

pub(crate) mod event_reading;
pub(crate) mod terms;

use std::env;
use std::process::Command;
use std::sync::LazyLock;

use test_support::Function;

pub(crate) const REQUIRED: &str = "Input parameter 'n' is required";
pub(crate) const NOT_AN_INTEGER: &str = "Input must be an integer";
pub(crate) const NEGATIVE: &str = "Input must be a non-negative integer";
pub(crate) const TOO_LARGE: &str = "Input must not exceed 1000";
pub(crate) const NOT_JSON: &str = "Input must be valid JSON";

/// What an event asks for, or the message of a refusal.
pub(crate) type Expected = Result<usize, &'static str>;

/// The one right reply, byte for byte.
pub(crate) fn reply(expected: Expected) -> String {
    static TERMS: LazyLock<Vec<String>> = LazyLock::new(terms::terms);
    let (status, body) = match expected {
        Ok(n) => {
            let sequence = TERMS[..=n].join(", ");
            (200, format!(r#"\"n\": {n}, \"sequence\": [{sequence}]"#))
        }
        Err(message) => (400, format!(r#"\"error\": \"{message}\""#)),
    };
    format!(
        r#"{{"statusCode": {status}, "headers": {{"Content-Type": "application/json"}}, "body": "{{{body}}}"}}"#
    )
}

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

/// Asserts that the function replies so, and that the independent reading agrees.
#[track_caller]
pub(crate) fn assert_reply(function: &Function, payload: impl AsRef<[u8]>, expected: Expected) {
    let payload = payload.as_ref();
    let shown = String::from_utf8_lossy(&payload[..payload.len().min(4000)]);
    let replied = String::from_utf8(function.invoke(payload)).unwrap();
    assert!(replied == reply(expected), "{shown} got {replied:.200}");
    // That one needs stack for each level of nesting.
    if payload.len() < 100_000 {
        event_reading::check(payload);
    }
}
