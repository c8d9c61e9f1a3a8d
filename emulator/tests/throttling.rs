//! When callers are throttled, and when not.

use std::sync::Arc;
use std::time::Duration;

use crate::support::worker::Function;
use crate::support::{
    Gate, all_poll, call, function, payload, start, start_workers, within, workers,
};
use emulator::{Emulator, InvokeError, Settings};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn is_throttled<T>(outcome: &Result<T, InvokeError>) -> bool {
    matches!(outcome, Err(InvokeError::TooManyRequests))
}

#[tokio::test]
async fn refuses_an_event_at_once_when_all_workers_are_busy() {
    let emulator = start_workers(2).await;
    let gate = Gate::new().await;
    let busy = async { tokio::join!(call(&emulator, gate.event()), call(&emulator, gate.event())) };
    let ((first, second), ()) = tokio::join!(busy, async {
        let inside = (gate.entered().await, gate.entered().await);
        let refused = tokio::select! {
            biased;
            refused = emulator.invoke("{}") => refused,
            () = std::future::ready(()) => panic!("it waits"),
        };
        assert!(is_throttled(&refused));
        drop(inside);
    });
    assert!(!first.function_error && !second.function_error);
}

#[tokio::test]
async fn holds_as_many_events_as_the_queue_is_long() {
    let mut settings = workers(2);
    settings.queue = 1;
    let emulator = Arc::new(start(settings).await);
    let gate = Gate::new().await;
    let mut busy = JoinSet::new();
    for _ in 0..2 {
        let (emulator, event) = (Arc::clone(&emulator), gate.event());
        busy.spawn(async move { call(&emulator, event).await });
    }
    let inside = [gate.entered().await, gate.entered().await];
    let (queued, refused) = tokio::join!(biased; call(&emulator, r#"{"echo": 1}"#), async {
        let refused = emulator.invoke(r#"{"echo": 2}"#).await;
        drop(inside);
        refused
    });
    assert!(is_throttled(&refused));
    assert_eq!(&queued.payload[..], b"1");
    for reply in busy.join_all().await {
        assert!(!reply.function_error);
    }
}

#[tokio::test]
async fn serves_ten_thousand_callers_at_once() {
    const WAITING: usize = 5_000;
    let mut settings = workers(2);
    settings.queue = WAITING;
    // Events in the queue wait as long as an invocation may take.
    settings.timeout = Duration::from_mins(20);
    let emulator = Arc::new(start(settings).await);
    let gate = Gate::new().await;
    let mut callers = JoinSet::new();
    let mut call = |event: String| {
        let emulator = Arc::clone(&emulator);
        callers.spawn(async move { emulator.invoke(event).await });
    };
    call(gate.event());
    call(gate.event());
    let inside = [gate.entered().await, gate.entered().await];
    for number in 0..10_000 {
        call(json!({ "echo": number }).to_string());
    }
    for _ in 0..10_000 - WAITING {
        let refused = within("a caller to be refused", callers.join_next()).await;
        assert!(is_throttled(&refused.unwrap().unwrap()));
    }
    drop(inside);
    while let Some(reply) = within("a queued event's reply", callers.join_next()).await {
        assert!(!reply.unwrap().unwrap().function_error);
    }
}

#[tokio::test]
async fn forgets_the_event_of_a_caller_that_goes_away_while_it_waits() {
    let mut settings = workers(1);
    settings.queue = 1;
    let emulator = start(settings).await;
    let gate = Gate::new().await;
    let (busy, kept) = tokio::join!(call(&emulator, gate.event()), async {
        let inside = gate.entered().await;
        let mut waiting = Box::pin(emulator.invoke(r#"{"log": "dropped"}"#));
        tokio::select! {
            biased;
            reply = &mut waiting => panic!("no worker is free: {reply:?}"),
            () = std::future::ready(()) => {}
        }
        assert!(is_throttled(&emulator.invoke("{}").await));
        drop(waiting);
        let (kept, ()) = tokio::join!(biased; call(&emulator, r#"{"log": "kept"}"#), async {
            drop(inside);
        });
        kept
    });
    assert!(!busy.function_error && !kept.function_error);
    let lines = emulator.lines();
    assert!(lines.iter().any(|line| line.contains("kept")));
    assert!(!lines.iter().any(|line| line.contains("dropped")));
}

/// As many callers as workers, each of which sends its next event as soon as it has the reply to the
/// last one.
async fn run_callers(emulator: Arc<Emulator>, callers: u16, calls: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let emulator = Arc::clone(&emulator);
        tasks.spawn(async move {
            for number in 0..calls {
                let reply = call(&emulator, json!({ "echo": number }).to_string()).await;
                assert_eq!(payload(&reply), number);
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn never_throttles_as_many_callers_as_there_are_workers() {
    for count in [1, 8] {
        let emulator = start_workers(count).await;
        run_callers(Arc::clone(&emulator), count, 500).await;
        assert!(emulator.most_polls() <= usize::from(count));
    }
}

/// From the first poll on, with workers that have not polled yet.
#[tokio::test]
async fn never_throttles_as_many_callers_as_there_are_workers_that_start() {
    for _ in 0..5 {
        let emulator = Arc::new(start(workers(16)).await);
        run_callers(emulator, 16, 10).await;
    }
}

/// A worker that takes its time between its reply and its next poll.
#[tokio::test]
async fn waits_for_a_worker_that_has_replied_and_not_polled() {
    let mut function = Function::start(workers(1)).await;
    for _ in 0..3 {
        let first = function.call("1");
        let event = function.next().await;
        assert_eq!(function.post("response", &event, b"2").await.0, 202);
        first.await.unwrap();
        let second = function.call("3");
        // The event is in line before the poll comes.
        tokio::task::yield_now().await;
        let event = function.next().await;
        assert_eq!(function.post("response", &event, b"4").await.0, 202);
        assert_eq!(&second.await.unwrap().payload[..], b"4");
    }
}

#[tokio::test]
async fn gives_up_on_a_worker_that_does_not_poll_in_time() {
    let mut settings = workers(1);
    settings.return_limit = Duration::from_millis(200);
    let mut function = Function::start(settings).await;
    let first = function.call("1");
    let event = function.next().await;
    let replied = Instant::now();
    assert_eq!(function.post("response", &event, b"2").await.0, 202);
    first.await.unwrap();
    let waits = within("the event to be refused", function.emulator.invoke("{}"));
    assert!(is_throttled(&waits.await));
    assert!(replied.elapsed() >= Duration::from_millis(200));
    // Now the worker counts as gone, and others are refused at once.
    let refused = tokio::select! {
        biased;
        refused = function.emulator.invoke("{}") => refused,
        () = std::future::ready(()) => panic!("it waits"),
    };
    assert!(is_throttled(&refused));
}

#[tokio::test]
async fn does_not_count_a_worker_that_is_late_as_free() {
    let mut settings: Settings = function();
    settings.max_concurrency = 2.try_into().ok();
    settings.timeout = Duration::from_secs(1);
    let emulator = start(settings).await;
    let gate = Gate::new().await;
    let (late, inside) = tokio::join!(call(&emulator, gate.event()), gate.entered());
    let expected = json!({
        "errorType": "Sandbox.Timedout",
        "errorMessage": format!(
            "RequestId: {} Error: Task timed out after 1.00 seconds", late.request_id
        ),
    });
    assert_eq!((late.function_error, payload(&late)), (true, expected));
    // Its worker is still busy, so there is room for one event, not for two.
    let (_second, ()) = tokio::join!(call(&emulator, gate.event()), async {
        let _inside = gate.entered().await;
        assert!(is_throttled(&emulator.invoke("{}").await));
    });
    drop(inside);
    all_poll(&emulator, 2).await;
}
