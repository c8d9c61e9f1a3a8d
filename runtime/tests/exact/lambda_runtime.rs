//! What `lambda_runtime` 1.5.0's own loop does. That this one does not is shown here or in `wire.rs`.
//!
//! These are the reasons for a loop of our own (DESIGN.md): where one of these tests fails, a
//! reason is gone.

use std::future::pending;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, thread};

use lambda_runtime::{LambdaEvent, service_fn, tracing};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use test_support::{Function, event, wait_for};

/// A function on their loop, in the process that a test starts.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run() -> ExitCode {
    tracing::init_default_subscriber();
    // A test ends the process when it has seen what it wanted to see.
    lambda_runtime::spawn_graceful_shutdown_handler(pending).await;
    let handler =
        service_fn(async |event: LambdaEvent<Value>| Ok::<_, lambda_runtime::Error>(event.payload));
    lambda_runtime::run_concurrent(handler).await.unwrap();
    ExitCode::SUCCESS
}

fn start(handler: &str, max_concurrency: &str) -> Function {
    crate::start(handler, &[("AWS_LAMBDA_MAX_CONCURRENCY", max_concurrency)])
}

#[test]
fn retries_a_refused_poll_without_a_pause() {
    const REFUSALS: usize = 80;
    let theirs = start("theirs", "8");
    theirs.poll().close();
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        let refused = &refused;
        scope.spawn(move || {
            while refused.fetch_add(1, Relaxed) < REFUSALS {
                theirs.poll().close();
            }
        });
        let ours = start("direct", "8");
        let begun = Instant::now();
        for _ in 0..REFUSALS {
            ours.poll().close();
        }
        // The pauses of ours alone are 5 + 10 + 20 + 40 + 80 + 4 × 125 ms at least.
        assert!(begun.elapsed() >= Duration::from_millis(655));
        assert!(refused.load(Relaxed) >= REFUSALS, "{refused:?}");
    });
}

#[test]
fn panics_at_an_event_without_its_headers() {
    let theirs = start("theirs", "2");
    let other = theirs.poll();
    (theirs.poll()).respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    theirs.assert_no_poll_for(Duration::from_secs(1));
    drop(other);
}

#[test]
fn loses_a_worker_to_a_post_that_breaks() {
    let mut theirs = start("theirs", "1");
    theirs.poll().dispatch("a", "{}");
    theirs.post().close();
    // It was the only one.
    assert!(!theirs.wait().0.success());
}

#[test]
fn goes_on_polling_after_sigterm() {
    let theirs = start("theirs", "2");
    let polls = [theirs.poll(), theirs.poll()];
    theirs.signal(Signal::SIGTERM);
    wait_for("their handler of SIGTERM", || {
        theirs.line().contains("in progress").then_some(())
    });
    polls[1].dispatch("late", "{}");
    theirs.post().accept();
    theirs.poll();

    let environment = [
        ("AWS_LAMBDA_LOG_LEVEL", "DEBUG"),
        ("RUNTIME_API_PIPELINING", "off"),
    ];
    let mut ours = crate::start("direct", &environment);
    ours.poll().dispatch("in-flight", "{}");
    let post = ours.post();
    ours.signal(Signal::SIGTERM);
    wait_for("our handler of SIGTERM", || {
        (ours.json_line()["fields"]["message"] == "draining").then_some(())
    });
    post.accept();
    assert_eq!(ours.wait().0.code(), Some(0));
    ours.assert_no_poll_for(Duration::ZERO);
}

#[test]
fn leaks_the_trace_id_of_every_invocation_in_sequential_mode() {
    const INVOCATIONS: u64 = 10_000;
    let growth_per_invocation = |function: Function| {
        let mut invoke = |n: u64| {
            let event = String::from_utf8(event(&n.to_string(), "{}")).unwrap();
            let trace_id = format!("Root=1-{n:08x}-0123456789abcdef01234567;Sampled=0");
            let header = format!("\r\nLambda-Runtime-Trace-Id: {trace_id}\r\n");
            function.poll().respond(event.replacen("\r\n", &header, 1));
            function.post().accept();
        };
        (0..2_000).for_each(&mut invoke);
        let before = resident_bytes(function.pid());
        (2_000..2_000 + INVOCATIONS).for_each(&mut invoke);
        (resident_bytes(function.pid()) - before) / INVOCATIONS
    };
    let theirs = growth_per_invocation(start("theirs", "1"));
    let ours = growth_per_invocation(start("direct", "1"));
    assert!(theirs >= 64, "{theirs} bytes per invocation");
    // Code that runs for the first time is mapped, 64 KiB at a time.
    assert!(ours <= 16, "ours: {ours} bytes per invocation");
}

fn resident_bytes(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let (_, resident) = status.split_once("VmRSS:").unwrap();
    let kib: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    kib * 1024
}
