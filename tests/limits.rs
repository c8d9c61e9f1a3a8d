//! The function's process with too little of something, or with less than a process usually has.

use crate::support::{Function, event};
use nix::sys::signal::Signal;
use serde_json::Value;

const REPLY: &[u8] = br#"{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{\"n\": 1, \"sequence\": [0, 1]}"}"#;

/// Starts the function from a shell that has run this, with four workers.
fn start(shell: &str) -> Function {
    Function::start_from_shell(shell, &[("AWS_LAMBDA_MAX_CONCURRENCY", "4")])
}

/// Asserts that it serves and exits at a signal; returns what it has logged.
fn assert_serves(mut function: Function) -> Vec<String> {
    for _ in 0..8 {
        assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
    }
    function.signal(Signal::SIGTERM);
    let (status, lines) = function.wait();
    assert_eq!(status.code(), Some(0), "{lines:?}");
    lines
}

#[test]
fn serves_with_its_standard_streams_closed() {
    let function = start("exec <&- >&- 2>&-");
    assert_eq!(assert_serves(function), [""; 0]);
}

#[test]
fn exits_at_signals_that_its_parent_ignores() {
    let function = start("trap '' TERM INT");
    assert_eq!(assert_serves(function), [""; 0]);
}

#[test]
fn serves_on_one_cpu() {
    // As a thread that cannot be started leaves it: all workers on one.
    let function = start("taskset -p -c 0 $$ >&2 || true");
    assert_serves(function);
}

#[test]
fn serves_with_as_many_workers_as_it_has_file_descriptors_for() {
    let function = start("ulimit -n 16");
    for line in assert_serves(function) {
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "WARN", "{line}");
    }
}

#[test]
fn says_in_one_line_that_it_cannot_start() {
    let mut function = start("ulimit -n 5");
    let (status, lines) = function.wait();
    assert_eq!(status.code(), Some(1));
    let [line] = &lines[..] else {
        panic!("{lines:?}");
    };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["fields"]["message"], "cannot start");
}

#[test]
fn reports_an_event_for_which_it_has_no_memory() {
    // In KiB. It needs 5 MB for itself, and an event of 6 MB gets 33 MiB.
    let function = start("ulimit -v 20000");
    let large = format!(r#"{{"n": 1, "ignored": "{}"}}"#, "x".repeat(6_000_000));
    for _ in 0..4 {
        function.poll().respond(event("a", &large));
        let post = function.post();
        assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/a/error");
        let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(diagnostic["errorMessage"], "out of memory");
        post.accept();
    }
    assert_serves(function);
}
