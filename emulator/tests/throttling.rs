//! When callers are throttled, and when not.

use std::sync::Arc;
use std::time::Duration;

use crate::console::sample;
use crate::support::worker::{Function, time_out};
use crate::support::{all_poll, call_from_each, hold, is_full, start, start_with, within, workers};
use emulator::{InvokeError, Settings};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[tokio::test]
async fn holds_as_many_events_as_the_queue_is_long_and_refuses_others_at_once() {
    for (queue, callers) in [(0, 1), (1, 2), (5_000, 10_000)] {
        let emulator = start_with(2, |settings| {
            settings.queue = queue;
            // Events in the queue wait as long as an invocation may take.
            settings.timeout = Duration::from_mins(20);
        })
        .await;
        let held = [hold(&emulator).await, hold(&emulator).await];
        let mut waiting = JoinSet::new();
        for number in 0..callers {
            let emulator = Arc::clone(&emulator);
            let event = json!({ "echo": number }).to_string();
            waiting.spawn(async move { emulator.invoke(event).await });
        }
        for _ in 0..callers - queue {
            let refused = within("a caller to be refused", waiting.join_next()).await;
            let refused = refused.unwrap().unwrap();
            assert!(matches!(refused, Err(InvokeError::TooManyRequests)));
        }
        assert!(is_full(&emulator).await);
        drop(held);
        while let Some(reply) = within("a queued event's reply", waiting.join_next()).await {
            assert!(!reply.unwrap().unwrap().function_error);
        }
    }
}

/// From the first poll on, with workers that have not polled yet.
#[tokio::test]
async fn never_throttles_as_many_callers_as_there_are_workers() {
    for (count, calls) in [(1, 500), (8, 500)].into_iter().chain([(16, 10); 5]) {
        let emulator = start(workers(count)).await;
        call_from_each(&emulator, count, calls).join_all().await;
        assert!(emulator.most_polls() <= usize::from(count));
    }
}

/// Workers that take their time between their reply and their next poll.
#[tokio::test]
async fn waits_for_a_worker_that_has_replied_until_it_does_not_poll_in_time() {
    const LIMIT: Duration = Duration::from_millis(200);
    let mut function = Function::start().await;
    for _ in 0..4 {
        function.serve().await;
    }
    let limit = |settings: &mut Settings| settings.return_limit = LIMIT;
    let mut function = Function::start_with(limit, async |_| {}).await;
    let replies = Instant::now();
    function.serve().await;
    let refused = within("the event to be refused", function.emulator.invoke("{}")).await;
    assert!(matches!(refused, Err(InvokeError::TooManyRequests)));
    assert!(replies.elapsed() >= LIMIT);
    // Now the worker counts as gone, and others are refused at once.
    assert!(is_full(&function.emulator).await);
}

/// One of two: exactly one place is left.
#[tokio::test]
async fn counts_a_worker_that_has_timed_out_as_gone_until_it_polls() {
    let mut function = Function::start_workers(2).await;
    let late = function.call("1");
    function.next().await;
    function.poll().await;
    all_poll(&function.emulator, 1).await;
    time_out(late).await;
    let in_time = function.call("2");
    let event = function.next().await;
    sample(&function.emulator, "a worker gone", |sample| {
        sample["busy"] == 1 && sample["gone"] == 1
    })
    .await;
    assert!(is_full(&function.emulator).await);
    function.poll().await;
    sample(&function.emulator, "no worker gone", |one| one["gone"] == 0).await;
    function.serve().await;
    // Between its reply and its next poll, it counts as free.
    function.serve().await;
    function.reply(&event, b"3").await;
    assert_eq!(&in_time.await.unwrap().payload[..], b"3");
}
