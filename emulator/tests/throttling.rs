//! When callers are throttled, and when not.

use std::sync::Arc;
use std::time::Duration;

use crate::support::worker::Function;
use crate::support::{
    Gate, all_poll, call, call_from_each, hold, payload, spawn_call, start, start_workers, within,
    workers,
};
use emulator::{Emulator, InvokeError, Settings};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn is_throttled<T>(outcome: &Result<T, InvokeError>) -> bool {
    matches!(outcome, Err(InvokeError::TooManyRequests))
}

/// A caller is refused without waiting.
async fn refuses_at_once(emulator: &Emulator) {
    let refused = tokio::select! {
        biased;
        refused = emulator.invoke("{}") => refused,
        () = std::future::ready(()) => panic!("it waits"),
    };
    assert!(is_throttled(&refused));
}

#[tokio::test]
async fn refuses_an_event_at_once_when_all_workers_are_busy() {
    let emulator = start_workers(2).await;
    let held = [hold(&emulator).await, hold(&emulator).await];
    refuses_at_once(&emulator).await;
    for held in held {
        assert!(!held.release().await.function_error);
    }
}

#[tokio::test]
async fn holds_as_many_events_as_the_queue_is_long() {
    let settings = Settings {
        queue: 1,
        ..workers(2)
    };
    let emulator = start(settings).await;
    let held = [hold(&emulator).await, hold(&emulator).await];
    let (queued, ()) = tokio::join!(biased; call(&emulator, r#"{"echo": 1}"#), async {
        refuses_at_once(&emulator).await;
        for held in held {
            assert!(!held.release().await.function_error);
        }
    });
    assert_eq!(&queued.payload[..], b"1");
}

#[tokio::test]
async fn serves_ten_thousand_callers_at_once() {
    const WAITING: usize = 5_000;
    let settings = Settings {
        queue: WAITING,
        // Events in the queue wait as long as an invocation may take.
        timeout: Duration::from_mins(20),
        ..workers(2)
    };
    let emulator = start(settings).await;
    let held = [hold(&emulator).await, hold(&emulator).await];
    let mut callers = JoinSet::new();
    for number in 0..10_000 {
        let emulator = Arc::clone(&emulator);
        let event = json!({ "echo": number }).to_string();
        callers.spawn(async move { emulator.invoke(event).await });
    }
    for _ in 0..10_000 - WAITING {
        let refused = within("a caller to be refused", callers.join_next()).await;
        assert!(is_throttled(&refused.unwrap().unwrap()));
    }
    drop(held);
    while let Some(reply) = within("a queued event's reply", callers.join_next()).await {
        assert!(!reply.unwrap().unwrap().function_error);
    }
}

#[tokio::test]
async fn forgets_the_event_of_a_caller_that_goes_away_while_it_waits() {
    let settings = Settings {
        queue: 1,
        ..workers(1)
    };
    let emulator = start(settings).await;
    let held = hold(&emulator).await;
    let mut waiting = Box::pin(emulator.invoke(r#"{"log": "dropped"}"#));
    tokio::select! {
        biased;
        reply = &mut waiting => panic!("no worker is free: {reply:?}"),
        () = std::future::ready(()) => {}
    }
    refuses_at_once(&emulator).await;
    drop(waiting);
    let (kept, busy) = tokio::join!(biased; call(&emulator, r#"{"log": "kept"}"#), held.release());
    assert!(!busy.function_error && !kept.function_error);
    let lines = emulator.lines();
    assert!(lines.iter().any(|line| line.contains("kept")));
    assert!(!lines.iter().any(|line| line.contains("dropped")));
}

#[tokio::test]
async fn never_throttles_as_many_callers_as_there_are_workers() {
    for count in [1, 8] {
        let emulator = start_workers(count).await;
        call_from_each(&emulator, count, 500).join_all().await;
        assert!(emulator.most_polls() <= usize::from(count));
    }
}

/// From the first poll on, with workers that have not polled yet.
#[tokio::test]
async fn never_throttles_as_many_callers_as_there_are_workers_that_start() {
    for _ in 0..5 {
        let emulator = start(workers(16)).await;
        call_from_each(&emulator, 16, 10).join_all().await;
    }
}

/// A worker that takes its time between its reply and its next poll.
#[tokio::test]
async fn waits_for_a_worker_that_has_replied_and_not_polled() {
    let (mut function, first, event) = Function::start_invoked().await;
    function.reply(&event, b"1").await;
    first.await.unwrap();
    for _ in 0..3 {
        let next = function.call("{}");
        // The event is in line before the poll comes.
        tokio::task::yield_now().await;
        let event = function.next().await;
        function.reply(&event, b"2").await;
        assert_eq!(&next.await.unwrap().payload[..], b"2");
    }
}

#[tokio::test]
async fn gives_up_on_a_worker_that_does_not_poll_in_time() {
    const LIMIT: Duration = Duration::from_millis(200);
    let limit = |settings: &mut Settings| settings.return_limit = LIMIT;
    let mut function = Function::start_with(limit, async |_| {}).await;
    let first = function.call("1");
    let event = function.next().await;
    let replied = Instant::now();
    function.reply(&event, b"2").await;
    first.await.unwrap();
    let waits = within("the event to be refused", function.emulator.invoke("{}"));
    assert!(is_throttled(&waits.await));
    assert!(replied.elapsed() >= LIMIT);
    // Now the worker counts as gone, and others are refused at once.
    refuses_at_once(&function.emulator).await;
}

#[tokio::test]
async fn does_not_count_a_worker_that_is_late_as_free() {
    let settings = Settings {
        timeout: Duration::from_secs(1),
        ..workers(2)
    };
    let emulator = start(settings).await;
    let gate = Gate::new().await;
    let (late, inside) = tokio::join!(call(&emulator, gate.event()), gate.entered());
    let reason = "Error: Task timed out after 1.00 seconds";
    let expected = json!({
        "errorType": "Sandbox.Timedout",
        "errorMessage": format!("RequestId: {} {reason}", late.request_id),
    });
    assert_eq!((late.function_error, payload(&late)), (true, expected));
    // Its worker is still busy, so there is room for one event, not for two.
    let second = spawn_call(&emulator, gate.event());
    let second_inside = gate.entered().await;
    assert!(is_throttled(&emulator.invoke("{}").await));
    drop((inside, second_inside));
    second.await.unwrap();
    all_poll(&emulator, 2).await;
}
