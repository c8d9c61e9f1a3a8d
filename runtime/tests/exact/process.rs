//! How the process starts, and how it ends at SIGTERM and SIGINT.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use test_support::{Function, event};
use tokio::net::TcpSocket;

use crate::{in_every_mode, start, take_line, with_workers};

/// After this time the process exits, whatever is in flight.
const DRAIN_LIMIT: Duration = Duration::from_millis(400);
/// How long a test looks for a poll that must not come.
const A_WHILE: Duration = Duration::from_millis(100);

/// A function outside Lambda.
fn outside_lambda() -> Command {
    let mut command = crate::command("direct", &[]);
    command.env_remove("AWS_LAMBDA_RUNTIME_API");
    command
}

#[test]
fn says_what_it_is_outside_lambda() {
    let output = outside_lambda().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let what = said.trim_start_matches(|c| c != ' ');
    assert_eq!(
        what,
        " is an AWS Lambda function and runs where AWS_LAMBDA_RUNTIME_API is set; \
         try it with: cargo local\n"
    );
    assert!(said.starts_with("exact-"), "{said}");

    // Nobody reads it.
    let (_, writer) = io::pipe().unwrap();
    let mut command = outside_lambda();
    command.stdout(Stdio::null()).stderr(writer);
    assert_eq!(command.status().unwrap().code(), Some(1));
}

/// Lambda's Runtime API is there before the function, but a container may start in any order.
#[test]
fn keeps_trying_to_reach_the_runtime_api() {
    // What is bound and does not listen refuses connections, and nobody else gets its port.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refuses = bound.local_addr().unwrap();
    for runtime_api in [&*refuses.to_string(), "nonsense", ""] {
        let function = start("direct", &[("AWS_LAMBDA_RUNTIME_API", runtime_api)]);
        let message = "cannot register an extension, so Lambda will not send SIGTERM";
        take_line(&function, "WARN", message);
        let message = "cannot get an invocation from the Runtime API; retrying";
        take_line(&function, "WARN", message);
        // On a slow machine, failures can be far enough apart to belong to two outages.
        for line in function.terminate() {
            assert_eq!(line["fields"]["message"], message);
        }
    }
}

#[test]
fn has_one_worker_unless_a_valid_concurrency_is_given() {
    let invalid = ["", "0", "-1", "1.5", "many", "65536"].map(Some);
    for value in [None, Some("1")].into_iter().chain(invalid) {
        let variable = value.map(|value| ("AWS_LAMBDA_MAX_CONCURRENCY", value));
        let function = start("direct", variable.as_slice());
        if value.is_some_and(|value| value != "1") {
            let message = "AWS_LAMBDA_MAX_CONCURRENCY is invalid; using 1";
            take_line(&function, "WARN", message);
        }
        function.invoke("{}");
        let _poll = function.poll();
        function.assert_no_poll_for(A_WHILE);
        assert_eq!(function.terminate(), [] as [Value; 0]);
    }
}

#[test]
fn warns_of_an_invalid_pipelining_and_uses_on() {
    for value in ["", "OFF", "false"] {
        let function = start("direct", &[("RUNTIME_API_PIPELINING", value)]);
        let message = "RUNTIME_API_PIPELINING is invalid; using on";
        take_line(&function, "WARN", message);
        function.poll().dispatch("a", "{}");
        assert!(function.post().is_followed);
    }
}

#[test]
fn logs_at_the_level_that_lambda_sets_whatever_rust_log_says() {
    let warning = "AWS_LAMBDA_MAX_CONCURRENCY is invalid; using 1";
    for (level, logged) in [
        ("FATAL", &[][..]),
        ("ERROR", &[]),
        ("WARN", &[warning]),
        ("", &[warning]),
        ("debug", &[warning, "starting", "draining"]),
    ] {
        let environment = [
            ("AWS_LAMBDA_LOG_LEVEL", level),
            ("AWS_LAMBDA_MAX_CONCURRENCY", "many"),
            ("RUST_LOG", "trace,foo=bar=baz"),
        ];
        let function = start("direct", &environment);
        function.poll();
        let lines = function.terminate();
        let messages: Vec<_> = lines
            .iter()
            .map(|line| &line["fields"]["message"])
            .collect();
        assert_eq!(messages, logged, "{level}");
        if let Some(starting) = lines.get(1) {
            assert_eq!(starting["fields"]["workers"], 1);
            assert_eq!(starting["fields"]["threads"], 1);
            assert_eq!(starting["fields"]["pipelines"], true);
        }
    }
}

#[test]
fn exits_at_a_signal_if_nothing_is_in_flight() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for workers in [1, 8] {
            in_every_mode(with_workers(workers), |function, _| {
                let _polls: Vec<_> = (0..workers).map(|_| function.poll()).collect();
                exits_at(signal, function);
            });
        }
        let function = Function::start_unregistered(crate::command("direct", &[]));
        let _registration = function.extension_request();
        exits_at(signal, function);
    }
}

fn exits_at(signal: Signal, mut function: Function) {
    function.signal(signal);
    let (status, lines) = function.wait();
    assert_eq!(status.code(), Some(0));
    assert_eq!(lines, [""; 0]);
}

/// The worker model says when each of these is due. Here they happen while the process is stopped,
/// so that it meets all of them at once.
#[test]
fn handles_what_is_in_flight_and_what_still_arrives() {
    in_every_mode(with_workers(3), |mut function, pipelining| {
        let polls = [function.poll(), function.poll(), function.poll()];
        let in_flight = event("in-flight", "1");
        polls[1].dispatch("posted", "1");
        let posted = function.post();
        function.while_stopped(|| {
            polls[0].respond(&in_flight[..20]);
            function.signal(Signal::SIGTERM);
            polls[2].dispatch("late", "1");
            posted.accept();
            if pipelining == "on" {
                // This poll came with the reply, before the signal.
                function.poll().dispatch("last", "1");
            }
            polls[0].respond(&in_flight[20..]);
        });

        let mut expected = vec!["in-flight"];
        expected.extend((pipelining == "on").then_some("last"));
        expected.push("late");
        let mut replied: Vec<_> = (expected.iter())
            .map(|_| {
                let post = function.post();
                post.accept();
                post.posted().0.to_owned()
            })
            .collect();
        replied.sort();
        assert_eq!(replied, expected);
        assert_eq!(function.wait().0.code(), Some(0));
    });
}

#[test]
fn exits_after_400_ms_whatever_is_in_flight() {
    in_every_mode(with_workers(2), |function, _| {
        let polls = [function.poll(), function.poll()];
        let begun = Instant::now();
        function.while_stopped(|| {
            function.signal(Signal::SIGTERM);
            polls[0].respond("HTTP/1.1 200 OK\r\n");
            polls[1].dispatch("a", "1");
        });
        let _not_accepted = function.post();
        let message = "shutting down with invocations in flight";
        let line = take_line(&function, "WARN", message);
        assert!(begun.elapsed() >= DRAIN_LIMIT, "{:?}", begun.elapsed());
        assert_eq!(line["in_flight"], 2);
        assert_eq!(function.terminate(), [] as [Value; 0]);
    });
}
