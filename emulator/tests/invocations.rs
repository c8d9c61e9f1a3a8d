//! Invocations from end to end, without HTTP between the test and the emulator.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use crate::support::worker::Function;
use crate::support::{
    all_poll, call, cases, closed, function, hold, line, payload, scratch, signal, start,
    start_with, start_workers, terminate, within,
};
use emulator::{Emulator, InvokeError, Settings};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::test]
async fn passes_on_any_json_and_refuses_what_is_none() {
    let emulator = start(function()).await;
    assert_eq!(&call(&emulator, "").await.payload[..], b"{}");
    let nested = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    // The function's own parser refuses both; they got that far.
    for payload in [nested.as_str(), r#"{"a": "\ud800"}"#] {
        assert!(call(&emulator, payload).await.function_error);
    }
    for payload in [
        &b"{"[..],
        b"{} {}",
        b"\xff",
        b"\"\xff\"",
        b"NaN",
        b"01",
        b"\xef\xbb\xbf{}",
    ] {
        let error = emulator.invoke(payload).await.unwrap_err();
        let is_invalid = matches!(error, InvokeError::InvalidRequestContent(_));
        assert!(is_invalid, "{payload:?}: {error}");
    }
}

#[tokio::test]
async fn keeps_64_invocations_apart_that_are_in_flight_at_once() {
    let emulator = start_workers(64).await;
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(hold(&emulator).await);
    }
    let mut ids = HashSet::new();
    // Out of order.
    while let Some(invocation) = held.pop() {
        let reply = invocation.release().await;
        assert!(!reply.function_error);
        ids.insert(reply.request_id);
    }
    assert_eq!(ids.len(), 64);
    all_poll(&emulator, 64).await;
    assert_eq!(emulator.most_polls(), 64);
}

#[tokio::test]
async fn reports_a_crash_to_everyone_in_flight_and_starts_the_function_again() {
    let emulator = start_workers(3).await;
    let first = emulator.pid().unwrap();
    let in_flight = hold(&emulator).await;
    let culprit = call(&emulator, r#"{"exit": 3}"#).await;
    for reply in [culprit, in_flight.reply.await.unwrap()] {
        let reason = "Error: Runtime exited with error: exit status 3";
        let message = format!("RequestId: {} {reason}", reply.request_id);
        let expected = json!({ "errorType": "Runtime.ExitError", "errorMessage": message });
        assert_eq!((reply.function_error, payload(&reply)), (true, expected));
    }
    // The next caller waits for the new process.
    let reply = call(&emulator, r#"{"echo": 1}"#).await;
    assert_eq!(&reply.payload[..], b"1");
    assert_ne!(emulator.pid(), Some(first));
    all_poll(&emulator, 3).await;
}

#[tokio::test]
async fn tells_every_caller_when_the_function_is_killed_under_load() {
    let emulator = start_workers(8).await;
    let caller = |emulator: Arc<Emulator>| async move {
        for number in 0..300 {
            let event = json!({ "echo": number }).to_string();
            match within("a reply", emulator.invoke(event)).await {
                Ok(reply) if reply.function_error => {
                    assert_eq!(payload(&reply)["errorType"], "Runtime.ExitError");
                }
                Ok(reply) => assert_eq!(payload(&reply), number),
                // The process was killed between a reply and the next poll.
                Err(InvokeError::TooManyRequests) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let callers: JoinSet<_> = (0..8).map(|_| caller(Arc::clone(&emulator))).collect();
    for _ in 0..3 {
        let current = match emulator.pid() {
            Some(current) => current,
            None => within("the restart", emulator.wait_for_restart(0)).await,
        };
        signal(current, Signal::SIGKILL);
        within("another restart", emulator.wait_for_restart(current)).await;
    }
    callers.join_all().await;
    all_poll(&emulator, 8).await;
    assert!(emulator.most_polls() <= 8);
}

/// Settings for a shell that runs this script, in which `"$0"` is the test function.
fn shell(script: &str) -> Settings {
    let function = function();
    Settings {
        arguments: vec!["-c".into(), script.into(), function.bootstrap.into()],
        bootstrap: "/bin/sh".into(),
        ..function
    }
}

/// SIGTERM is for functions with an extension only, as the test function is without a `BEHAVIOUR`.
#[tokio::test]
async fn terminates_in_order_or_kills() {
    // The shell ignores the signal, and goes on when its child has ended.
    let mut deaf = shell("trap '' TERM; \"$0\" & wait; sleep 600");
    deaf.termination_grace = Duration::from_millis(600);
    let in_order = start(function()).await;
    let not_heeded = start(deaf).await;
    let without_extension = Function::start().await;
    let killed = (None, Some(Signal::SIGKILL as i32));
    for (what, emulator, expected) in [
        ("in order", in_order, (Some(0), None)),
        ("SIGTERM is not heeded", not_heeded, killed),
        ("no extension", without_extension.emulator, killed),
    ] {
        let status = terminate(emulator).await;
        assert_eq!((status.code(), status.signal()), expected, "{what}");
    }
}

/// The children of a shell that ends at once have the time to end in order.
#[tokio::test]
async fn sends_sigterm_to_every_process_of_a_function_with_an_extension() {
    let marker = scratch("child-has-ended");
    let child = format!(
        "trap 'echo > {}; exit' TERM; echo ready; while :; do sleep 1; done",
        marker.display()
    );
    let emulator = start(shell(&format!("sh -c \"{child}\" & \"$0\""))).await;
    line(&emulator, "ready").await;
    terminate(emulator).await;
    assert!(marker.exists());
}

/// The shell ends when its child does, and only then.
#[tokio::test]
async fn leaves_no_process_behind_when_dropped() {
    let emulator = start(shell("trap '' TERM; \"$0\"; true")).await;
    let held = hold(&emulator).await;
    held.reply.abort();
    assert!(held.reply.await.is_err());
    drop(Arc::into_inner(emulator).expect("nobody else has it"));
    closed(held.inside).await;
}

#[tokio::test]
async fn gives_the_function_the_environment_of_a_managed_instance() {
    let table = ("TABLE".into(), "fibonacci".into());
    let emulator = start_with(5, |it| it.environment = vec![table]).await;
    let environment = payload(&call(&emulator, r#"{"environment": {}}"#).await);
    let table = "
AWS_LAMBDA_MAX_CONCURRENCY => 5
AWS_LAMBDA_INITIALIZATION_TYPE => lambda-managed-instances
AWS_LAMBDA_LOG_FORMAT => JSON
AWS_LAMBDA_FUNCTION_NAME => function
AWS_LAMBDA_FUNCTION_VERSION => $LATEST.PUBLISHED
AWS_LAMBDA_FUNCTION_MEMORY_SIZE => 2048
AWS_REGION => us-east-1
AWS_XRAY_CONTEXT_MISSING => LOG_ERROR
AWS_XRAY_DAEMON_ADDRESS => 127.0.0.1:2000
LD_LIBRARY_PATH => /var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib
_HANDLER => bootstrap
TZ => :UTC
TABLE => fibonacci
";
    for (name, value) in cases(table) {
        assert_eq!(environment[name], value, "{name}");
    }
    assert!(environment.get("CARGO").is_none());
}
