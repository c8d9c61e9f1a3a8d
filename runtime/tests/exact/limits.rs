//! The function's process with too little of something, or with less than a process usually has.

use std::env;

use nix::sys::signal::Signal;
use serde_json::Value;
use test_support::{Function, event, own_test};

use crate::{HANDLERS, reply};

/// Then it has one thread for all workers.
const ONE_CPU: &str = "taskset -p -c 0 $$ >/dev/null 2>&1";

/// Starts the function from a shell that has run this, with four workers.
fn start(handler: &str, shell: &str) -> Function {
    let function = own_test("function");
    let mut command = test_support::command("sh");
    command
        .env("PATH", env::var_os("PATH").unwrap())
        .env("AWS_LAMBDA_MAX_CONCURRENCY", "4")
        .env("HANDLER", handler)
        .args(["-c", &format!("{shell}\nexec \"$0\" \"$@\"")])
        .arg(function.get_program())
        .args(function.get_args());
    Function::start(command)
}

/// Asserts that it serves and exits at a signal; returns what it has logged.
fn assert_serves(mut function: Function) -> Vec<String> {
    for _ in 0..8 {
        assert_eq!(function.invoke("1"), reply("1"));
    }
    function.signal(Signal::SIGTERM);
    let (status, lines) = function.wait();
    assert_eq!(status.code(), Some(0), "{lines:?}");
    lines
}

#[test]
fn serves_with_less_than_a_process_usually_has() {
    let closed_streams = "exec <&- >&- 2>&-";
    let ignored_signals = "trap '' TERM INT";
    for shell in [closed_streams, ignored_signals, ONE_CPU] {
        for handler in HANDLERS {
            let function = start(handler, shell);
            assert_eq!(assert_serves(function), [""; 0], "{shell}");
        }
    }
}

#[test]
fn serves_with_as_many_workers_as_it_has_file_descriptors_for() {
    for handler in HANDLERS {
        let function = start(handler, &format!("{ONE_CPU}; ulimit -n 16"));
        for line in assert_serves(function) {
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["level"], "WARN", "{line}");
        }
    }
}

#[test]
fn says_in_one_line_that_it_cannot_start() {
    let mut function = start("direct", "ulimit -n 5");
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
    // In KiB. It needs some 20 MiB for itself, and an event of 6 MB gets 33 MiB.
    let function = start("direct", "ulimit -v 40000");
    let large = format!("\"{}\"", "x".repeat(6_000_000));
    for request_id in ["a", "b", "c", "d"] {
        function.poll().respond(event(request_id, &large));
        let post = function.post();
        assert_eq!(post.posted(), (request_id, "error"));
        let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(diagnostic["errorMessage"], "out of memory");
        post.accept();
    }
    assert_serves(function);
}
