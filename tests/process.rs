//! How the process starts, and how it ends at SIGTERM and SIGINT.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Function, SHUTDOWN_LINES, event};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_millis(400);
/// What a busy machine may need beyond the limit to start and reap processes.
const TOLERANCE: Duration = Duration::from_millis(300);

#[test]
fn says_what_it_is_outside_lambda() {
    let output = Command::new(emulator::build_function().unwrap())
        .env_clear()
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "fibonacci-generator is an AWS Lambda function and runs where AWS_LAMBDA_RUNTIME_API is set; \
         try it with: cargo local invoke '{\"n\": 10}'\n"
    );
}

#[test]
fn says_in_one_line_that_it_cannot_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody_listens = listener.local_addr().unwrap().to_string();
    drop(listener);
    for runtime_api in [&*nobody_listens, "nonsense", ""] {
        let output = Command::new(emulator::build_function().unwrap())
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .output()
            .unwrap();
        assert!(!output.status.success());
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let line: Value = serde_json::from_str(&printed).expect(&printed);
        assert_eq!(line["level"], "ERROR");
    }
}

#[test]
fn has_one_worker_where_no_concurrency_is_given() {
    for environment in [&[][..], &[("AWS_LAMBDA_MAX_CONCURRENCY", "1")]] {
        let function = Function::start_with(environment);
        function.invoke("{}");
        let _poll = function.poll();
        function.assert_no_poll_for(Duration::from_millis(100));
    }
}

#[test]
fn warns_of_an_unusable_concurrency_and_takes_it_for_one() {
    for value in ["", "0", "-1", "1.5", "many", "65536"] {
        let function = Function::start_with(&[("AWS_LAMBDA_MAX_CONCURRENCY", value)]);
        let line = function.json_line();
        assert_eq!(line["level"], "WARN");
        assert_eq!(
            line["fields"]["message"],
            "AWS_LAMBDA_MAX_CONCURRENCY is unusable and counts as 1"
        );
        function.invoke("{}");
    }
}

/// Signals and waits until the process has taken notice.
fn begin_shutdown(function: &Function, signal: Signal) -> Instant {
    let begun = Instant::now();
    function.signal(signal);
    assert_eq!(function.line(), format!("[runtime] {signal} received"));
    assert_eq!(function.line(), SHUTDOWN_LINES[1]);
    begun
}

#[test]
fn exits_at_once_where_nothing_is_in_hand() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for workers in [1, 8] {
            let mut function = Function::start(workers);
            let polls: Vec<_> = (0..workers).map(|_| function.poll()).collect();
            let begun = begin_shutdown(&function, signal);
            let (status, lines) = function.wait();
            assert_eq!(status.code(), Some(0));
            assert_eq!(lines, [SHUTDOWN_LINES[2]]);
            assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
            drop(polls);
        }
    }
}

#[test]
fn answers_what_is_in_hand_and_what_still_arrives() {
    let mut function = Function::start(3);
    let polls = [function.poll(), function.poll(), function.poll()];
    let event = event("in-hand", r#"{"n": 1}"#);
    polls[0].answer(&event[..20]);
    polls[1].dispatch("in-post", r#"{"n": 1}"#);
    let in_post = function.post();

    begin_shutdown(&function, Signal::SIGTERM);
    polls[2].dispatch("late", r#"{"n": 1}"#);
    let late = function.post();
    assert_eq!(
        late.line,
        "POST /2018-06-01/runtime/invocation/late/response"
    );
    late.accept();
    in_post.accept();
    polls[0].answer(&event[20..]);
    let in_hand = function.post();
    assert_eq!(
        in_hand.line,
        "POST /2018-06-01/runtime/invocation/in-hand/response"
    );
    in_hand.accept();

    let (status, lines) = function.wait();
    function.assert_no_poll_for(Duration::from_millis(100));
    assert_eq!(status.code(), Some(0));
    assert_eq!(lines, [SHUTDOWN_LINES[2]]);
}

#[test]
fn retries_a_post_while_it_shuts_down() {
    let mut function = Function::start(1);
    function.poll().dispatch("a", r#"{"n": 1}"#);
    let post = function.post();
    begin_shutdown(&function, Signal::SIGTERM);
    post.close();
    function.post().accept();
    let (status, _) = function.wait();
    function.assert_no_poll_for(Duration::from_millis(100));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn exits_after_the_limit_whatever_is_in_hand() {
    let mut function = Function::start(2);
    let polls = [function.poll(), function.poll()];
    polls[0].answer("HTTP/1.1 200 OK\r\n");
    polls[1].dispatch("a", r#"{"n": 1}"#);
    let _unanswered = function.post();
    let begun = begin_shutdown(&function, Signal::SIGTERM);
    let (status, lines) = function.wait();
    let taken = begun.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!((LIMIT..LIMIT + TOLERANCE).contains(&taken), "{taken:?}");
    let warning = lines
        .iter()
        .find_map(|line| serde_json::from_str(line).ok());
    let warning: Value = warning.expect("a line in JSON");
    assert_eq!(
        warning["fields"]["message"],
        "shutting down with invocations unanswered"
    );
}
