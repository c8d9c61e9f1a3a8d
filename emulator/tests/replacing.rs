//! A running function that is replaced by another, on request and with `--watch`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::support::{
    Gate, all_poll, call, closed, executable, function, line, payload, scratch, start,
    start_workers, within, workers,
};
use emulator::Emulator;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::task::JoinSet;

/// The test function under another name.
fn copy(name: &str) -> PathBuf {
    let path = scratch(name);
    let _ = fs::remove_file(&path);
    fs::hard_link(function().bootstrap, &path).unwrap();
    path
}

async fn replace(emulator: &Emulator, bootstrap: PathBuf) {
    let replaced = within("the replacement", emulator.replace(bootstrap)).await;
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
    let gate = Gate::new().await;
    let held = tokio::spawn({
        let (emulator, event) = (Arc::clone(&emulator), gate.event());
        async move { call(&emulator, event).await }
    });
    let inside = gate.entered().await;
    let before = task_root(&emulator).await;
    replace(&emulator, copy("replacement")).await;
    assert_ne!(emulator.pid(), Some(old));
    // All of its workers, not one less for the invocation on the old one.
    all_poll(&emulator, 2).await;
    assert_ne!(task_root(&emulator).await, before);
    let alive = Pid::from_raw(old.cast_signed());
    assert!(kill(alive, None).is_ok(), "the old function has gone");
    drop(inside);
    assert_eq!(&held.await.unwrap().payload[..], b"null");
    // It ends as soon as it is done.
    within("the old function to end", async {
        while kill(alive, None).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn loses_no_event_under_load() {
    let emulator = start_workers(4).await;
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let emulator = Arc::clone(&emulator);
        callers.spawn(async move {
            for number in 0..300 {
                let reply = call(&emulator, json!({ "echo": number }).to_string()).await;
                assert_eq!(payload(&reply), number);
            }
        });
    }
    for number in 0..3 {
        replace(&emulator, copy(&format!("under-load-{number}"))).await;
    }
    callers.join_all().await;
    all_poll(&emulator, 4).await;
}

#[tokio::test]
async fn keeps_the_old_function_if_the_new_one_does_not_start() {
    let emulator = start(workers(2)).await;
    let old = emulator.pid();
    let missing = within("the refusal", emulator.replace("/no/such/bootstrap")).await;
    assert!(missing.is_err());
    let script = executable("ends-at-once", "#!/bin/sh\nexit 3\n");
    let failed = within("the refusal", emulator.replace(script)).await;
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("before its first poll"), "{error}");
    assert_eq!(emulator.pid(), old);
    assert_eq!(&call(&emulator, r#"{"echo": 1}"#).await.payload[..], b"1");
}

#[tokio::test]
async fn tells_the_callers_of_an_old_function_that_crashes() {
    let emulator = start_workers(2).await;
    let old = emulator.pid().unwrap();
    let gate = Gate::new().await;
    let held = tokio::spawn({
        let (emulator, event) = (Arc::clone(&emulator), gate.event());
        async move { call(&emulator, event).await }
    });
    let inside = gate.entered().await;
    replace(&emulator, copy("after-a-crash")).await;
    let new = emulator.pid();
    kill(Pid::from_raw(old.cast_signed()), Signal::SIGKILL).unwrap();
    let reply = held.await.unwrap();
    assert_eq!(payload(&reply)["errorType"], "Runtime.ExitError");
    closed(inside).await;
    // The new one is not concerned.
    assert_eq!(&call(&emulator, r#"{"echo": 1}"#).await.payload[..], b"1");
    assert_eq!(emulator.pid(), new);
}

#[tokio::test]
async fn starts_the_new_function_again_if_that_crashes() {
    let emulator = start_workers(2).await;
    replace(&emulator, copy("crashes-later")).await;
    let root = task_root(&emulator).await;
    let crash = call(&emulator, r#"{"exit": 1}"#).await;
    assert!(crash.function_error);
    assert_eq!(task_root(&emulator).await, root);
    call(&emulator, r#"{"log": "still here"}"#).await;
    line(&emulator, "still here").await;
}

/// The current one ends again and again, so that nothing runs beside the new one.
#[tokio::test]
async fn replaces_a_function_that_cannot_be_started_again() {
    let flag = scratch("started-once");
    let _ = fs::remove_file(&flag);
    let script = format!(
        "#!/bin/sh\n[ -e {0} ] && exit 3\ntouch {0}\nexec {1}\n",
        flag.display(),
        function().bootstrap.display()
    );
    let mut settings = workers(2);
    settings.bootstrap = executable("starts-once", &script);
    let emulator = start(settings).await;
    assert!(call(&emulator, r#"{"exit": 1}"#).await.function_error);
    // Those who wait are told that it does not start.
    let failed = call(&emulator, "{}").await;
    assert_eq!(payload(&failed)["errorType"], "Runtime.ExitError");
    let missing = within("the refusal", emulator.replace("/no/such/bootstrap")).await;
    assert!(missing.is_err());
    replace(&emulator, copy("starts-always")).await;
    assert_eq!(&call(&emulator, r#"{"echo": 1}"#).await.payload[..], b"1");
}
