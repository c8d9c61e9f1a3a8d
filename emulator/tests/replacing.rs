//! A running function that is replaced by another, on request and with `--watch`.

use std::fs;

use crate::support::{
    all_poll, call, call_from_each, closed, function, function_after, hold, payload, scratch,
    signal, start_with, start_workers, within,
};
use emulator::Emulator;
use nix::sys::signal::Signal;

/// Replaces the function by a copy of this name.
async fn replace(emulator: &Emulator, name: &str) {
    let copy = scratch(name);
    fs::hard_link(function().bootstrap, &copy).unwrap();
    let replaced = within("the replacement", emulator.replace(copy)).await;
    replaced.expect("it starts");
}

async fn task_root(emulator: &Emulator) -> String {
    let reply = call(emulator, r#"{"environment": {}}"#).await;
    let root = &payload(&reply)["LAMBDA_TASK_ROOT"];
    root.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn gives_events_to_the_new_function_and_lets_the_old_one_finish() {
    let emulator = start_workers(2).await;
    let old = emulator.pid().unwrap();
    let held = hold(&emulator).await;
    let before = task_root(&emulator).await;
    replace(&emulator, "replacement").await;
    assert_ne!(emulator.pid(), Some(old));
    // All of its workers, not one less for the invocation on the old one.
    all_poll(&emulator, 2).await;
    assert_ne!(task_root(&emulator).await, before);
    let is_alive = || fs::exists(format!("/proc/{old}")).unwrap();
    assert!(is_alive(), "the old function has gone");
    assert_eq!(&held.release().await.payload[..], b"null");
    // It ends as soon as it is done.
    within("the old function to end", async {
        while is_alive() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn loses_no_event_under_load() {
    let emulator = start_workers(4).await;
    let callers = call_from_each(&emulator, 4, 300);
    for number in 0..3 {
        replace(&emulator, &format!("under-load-{number}")).await;
    }
    callers.join_all().await;
    all_poll(&emulator, 4).await;
}

#[tokio::test]
async fn tells_the_callers_of_an_old_function_that_crashes_and_starts_the_new_one_again() {
    let emulator = start_workers(2).await;
    let old = emulator.pid().unwrap();
    let held = hold(&emulator).await;
    replace(&emulator, "after-a-crash").await;
    let new = emulator.pid();
    signal(old, Signal::SIGKILL);
    let reply = held.reply.await.unwrap();
    assert_eq!(payload(&reply)["errorType"], "Runtime.ExitError");
    closed(held.inside).await;
    // The new one is not concerned.
    let root = task_root(&emulator).await;
    assert_eq!(emulator.pid(), new);
    assert!(call(&emulator, r#"{"exit": 1}"#).await.function_error);
    assert_eq!(task_root(&emulator).await, root);
}

/// The current one ends again and again, so that nothing runs beside the new one.
#[tokio::test]
async fn replaces_a_function_that_cannot_be_started_again() {
    let flag = scratch("started-once");
    let script = format!("[ -e {0} ] && exit 3\ntouch {0}", flag.display());
    let bootstrap = function_after("starts-once", &script);
    let emulator = start_with(2, |it| it.bootstrap = bootstrap).await;
    assert!(call(&emulator, r#"{"exit": 1}"#).await.function_error);
    // Those who wait are told that it does not start.
    let failed = call(&emulator, "{}").await;
    assert_eq!(payload(&failed)["errorType"], "Runtime.ExitError");
    let refused = emulator.replace("/no/such/bootstrap");
    within("the refusal", refused).await.unwrap_err();
    replace(&emulator, "starts-always").await;
    assert_eq!(&call(&emulator, r#"{"echo": 1}"#).await.payload[..], b"1");
}
