//! What `lambda_runtime` 1.5.0's own loop does, and this function's does not.
//!
//! These are the reasons for a loop of our own (DESIGN.md): where one of these tests fails, a
//! reason is gone.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Function, Request, event};
use lambda_runtime::{LambdaEvent, service_fn};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Is the function where a test starts it as a process.
#[tokio::test]
#[ignore = "the process that the tests below start"]
async fn process_with_their_loop() {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return;
    }
    lambda_runtime::tracing::init_default_subscriber();
    lambda_runtime::spawn_graceful_shutdown_handler(|| tokio::time::sleep(Duration::from_secs(1)))
        .await;
    let handler =
        service_fn(async |event: LambdaEvent<Value>| Ok::<_, lambda_runtime::Error>(event.payload));
    lambda_runtime::run_concurrent(handler).await.unwrap();
}

fn start_theirs(max_concurrency: &str) -> Function {
    let concurrency = [("AWS_LAMBDA_MAX_CONCURRENCY", max_concurrency)];
    Function::start_test("lambda_runtime::process_with_their_loop", &concurrency)
}

fn start_ours(max_concurrency: &str) -> Function {
    Function::start_with(&[("AWS_LAMBDA_MAX_CONCURRENCY", max_concurrency)])
}

fn with_client_context(client_context: &str) -> String {
    let header = format!("\r\nLambda-Runtime-Client-Context: {client_context}\r\n");
    let event = String::from_utf8(event("id", "{}")).unwrap();
    event.replacen("\r\n", &header, 1)
}

#[test]
fn loses_a_worker_to_a_client_context_that_it_cannot_parse() {
    for client_context in [r#"{"custom":{"a":1}}"#, "not JSON"] {
        let theirs = start_theirs("2");
        let polls = [theirs.poll(), theirs.poll()];
        polls[0].respond(with_client_context(client_context));
        theirs.assert_no_poll_for(Duration::from_secs(1));
        // The other worker is alive; the caller of the first waits for ever.
        polls[1].dispatch("id", "{}");
        assert!(theirs.post().line.ends_with("/response"));

        let ours = start_ours("2");
        for _ in 0..500 {
            ours.poll().respond(with_client_context(client_context));
            ours.post().accept();
        }
        let _polls = [ours.poll(), ours.poll()];
    }
}

#[test]
fn retries_a_refused_poll_without_a_pause() {
    /// Refuses polls until one worker has been refused ten times on average; returns how long that
    /// took.
    fn time_of_refusals(function: &Function) -> Duration {
        let begun = Instant::now();
        for _ in 0..80 {
            function.poll().close();
        }
        begun.elapsed()
    }
    let theirs = thread::spawn(|| time_of_refusals(&start_theirs("8")));
    let ours = thread::spawn(|| time_of_refusals(&start_ours("8")));
    let (theirs, ours) = (theirs.join().unwrap(), ours.join().unwrap());
    // The pauses of ours alone are 5 + 10 + 20 + 40 + 80 + 4 × 125 ms at least.
    assert!(ours >= Duration::from_millis(655), "{ours:?}");
    assert!(theirs < ours, "{theirs:?}, ours {ours:?}");
}

#[test]
fn panics_at_an_event_without_its_headers() {
    let respond = |poll: Request| poll.respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let theirs = start_theirs("2");
    let other = theirs.poll();
    respond(theirs.poll());
    theirs.assert_no_poll_for(Duration::from_secs(1));
    drop(other);

    let ours = start_ours("2");
    let _other = ours.poll();
    respond(ours.poll());
    ours.poll();
}

#[test]
fn goes_on_polling_after_sigterm() {
    let theirs = start_theirs("2");
    let polls = [theirs.poll(), theirs.poll()];
    theirs.signal(Signal::SIGTERM);
    while !theirs.line().contains("in progress") {}
    polls[1].dispatch("late", "{}");
    theirs.post().accept();
    theirs.poll();

    let mut ours = Function::start_with(&[
        ("AWS_LAMBDA_LOG_LEVEL", "DEBUG"),
        ("RUNTIME_API_PIPELINING", "off"),
    ]);
    ours.poll().dispatch("in-flight", "{}");
    let post = ours.post();
    ours.signal(Signal::SIGTERM);
    assert_eq!(ours.json_line()["fields"]["message"], "draining");
    post.accept();
    assert_eq!(ours.wait().0.code(), Some(0));
    ours.assert_no_poll_for(Duration::from_millis(200));
}

#[test]
fn leaks_the_trace_id_of_every_invocation_in_sequential_mode() {
    const INVOCATIONS: u64 = 20_000;
    let growth_per_invocation = |function: Function| {
        let mut invoke = |n: u64| {
            let trace_id = format!(
                "\r\nLambda-Runtime-Trace-Id: Root=1-{n:08x}-0123456789abcdef01234567;Sampled=0\r\n"
            );
            let event = String::from_utf8(event("id", "{}")).unwrap();
            function
                .poll()
                .respond(event.replacen("\r\n", &trace_id, 1));
            function.post().accept();
        };
        (0..2_000).for_each(&mut invoke);
        let before = resident_bytes(function.pid());
        (2_000..2_000 + INVOCATIONS).for_each(&mut invoke);
        (resident_bytes(function.pid()) - before) / INVOCATIONS
    };
    let theirs = growth_per_invocation(start_theirs("1"));
    let ours = growth_per_invocation(start_ours("1"));
    assert!(theirs >= 64, "{theirs} bytes per invocation");
    assert!(ours <= 4, "ours: {ours} bytes per invocation");
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
