//! Invocations from end to end, without HTTP between the test and the emulator.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Gate, function, payload, start, workers};
use emulator::{InvokeError, Reply};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("process ids fit"))
}

fn error_type(reply: &Reply) -> Value {
    assert!(reply.function_error);
    payload(reply)["errorType"].clone()
}

#[tokio::test]
async fn replies_with_what_the_function_answers() {
    let emulator = start(function()).await;
    let reply = emulator.invoke(r#"{"echo": [1, "two"]}"#).await.unwrap();
    assert_eq!(&reply.payload[..], br#"[1,"two"]"#);
    assert!(!reply.function_error);
}

#[tokio::test]
async fn gives_an_empty_payload_as_an_empty_object() {
    let emulator = start(function()).await;
    assert_eq!(&emulator.invoke("").await.unwrap().payload[..], b"{}");
}

#[tokio::test]
async fn refuses_a_payload_that_is_not_json() {
    let emulator = start(function()).await;
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
        assert!(
            matches!(error, InvokeError::InvalidRequestContent(_)),
            "{payload:?}: {error}"
        );
    }
}

#[tokio::test]
async fn passes_json_of_any_depth_and_lone_surrogates() {
    let emulator = start(function()).await;
    let nested = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    // The function's own parser refuses both; they got that far.
    for payload in [nested.as_str(), r#"{"a": "\ud800"}"#] {
        assert!(
            emulator
                .invoke(payload.to_owned())
                .await
                .unwrap()
                .function_error
        );
    }
}

#[tokio::test]
async fn passes_payloads_of_6_mb_and_no_more() {
    let emulator = start(function()).await;
    let largest = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
    let reply = emulator.invoke(largest.clone()).await.unwrap();
    assert_eq!(reply.payload, largest);
    let error = emulator.invoke(largest + " ").await.unwrap_err();
    assert!(matches!(error, InvokeError::RequestTooLarge(_)), "{error}");
}

#[tokio::test]
async fn reports_what_the_function_reports() {
    let emulator = start(function()).await;
    let reply = emulator
        .invoke(r#"{"fail": "no such luck"}"#)
        .await
        .unwrap();
    assert!(reply.function_error);
    assert_eq!(payload(&reply)["errorMessage"], "no such luck");
    let reply = emulator.invoke(r#"{"panic": "oh"}"#).await.unwrap();
    assert!(reply.function_error);
    assert!(
        payload(&reply)["errorMessage"]
            .as_str()
            .unwrap()
            .contains("oh")
    );
}

#[tokio::test]
async fn reports_a_reply_that_is_too_large() {
    let emulator = start(function()).await;
    let limit = 6 * 1024 * 1024 + 100;
    let reply = emulator
        .invoke(json!({ "large": limit }).to_string())
        .await
        .unwrap();
    assert_eq!((reply.function_error, reply.payload.len()), (false, limit));
    let reply = emulator
        .invoke(json!({ "large": limit + 1 }).to_string())
        .await
        .unwrap();
    assert_eq!(error_type(&reply), "Function.ResponseSizeTooLarge");
    emulator.wait_for_polls(|polls| polls == 8).await;
}

#[tokio::test]
async fn keeps_64_invocations_apart_that_are_in_flight_at_once() {
    let emulator = Arc::new(start(workers(64)).await);
    emulator.wait_for_polls(|polls| polls == 64).await;
    let gate = Gate::new().await;
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let (emulator, event) = (Arc::clone(&emulator), gate.event());
            tokio::spawn(async move { emulator.invoke(event).await.unwrap() })
        })
        .collect();
    let mut inside = Vec::new();
    for _ in 0..64 {
        inside.push(gate.entered().await);
    }
    // Out of order.
    while let Some(invocation) = inside.pop() {
        drop(invocation);
    }
    let mut ids = HashSet::new();
    for call in calls {
        let reply = call.await.unwrap();
        assert!(!reply.function_error);
        ids.insert(reply.request_id);
    }
    assert_eq!(ids.len(), 64);
    emulator.wait_for_polls(|polls| polls == 64).await;
    assert_eq!(emulator.most_polls(), 64);
}

#[tokio::test]
async fn refuses_an_event_when_all_workers_are_busy() {
    let emulator = start(workers(2)).await;
    let gate = Gate::new().await;
    let (first, second) = (emulator.invoke(gate.event()), emulator.invoke(gate.event()));
    let third = async {
        let inside = (gate.entered().await, gate.entered().await);
        let third = emulator.invoke("{}").await;
        drop(inside);
        third
    };
    let (first, second, third) = tokio::join!(first, second, third);
    assert!(!first.unwrap().function_error);
    assert!(!second.unwrap().function_error);
    assert!(matches!(third, Err(InvokeError::TooManyRequests)));
}

#[tokio::test]
async fn holds_as_many_events_as_the_queue_is_long() {
    let mut settings = workers(2);
    settings.queue = 1;
    let emulator = Arc::new(start(settings).await);
    let gate = Gate::new().await;
    let call = |event: String| {
        let emulator = Arc::clone(&emulator);
        tokio::spawn(async move { emulator.invoke(event).await })
    };
    let busy = [call(gate.event()), call(gate.event())];
    let inside = [gate.entered().await, gate.entered().await];
    let (queued, refused) = tokio::join!(biased; emulator.invoke(r#"{"echo": 1}"#), async {
        let refused = emulator.invoke(r#"{"echo": 2}"#).await;
        drop(inside);
        refused
    });
    assert!(matches!(refused, Err(InvokeError::TooManyRequests)));
    assert_eq!(&queued.unwrap().payload[..], b"1");
    for call in busy {
        assert!(!call.await.unwrap().unwrap().function_error);
    }
}

#[tokio::test]
async fn bears_ten_thousand_callers_at_once() {
    const WAITING: usize = 5_000;
    let mut settings = workers(2);
    settings.queue = WAITING;
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
        let refused = callers.join_next().await.unwrap().unwrap();
        assert!(matches!(refused, Err(InvokeError::TooManyRequests)));
    }
    drop(inside);
    for answered in callers.join_all().await {
        assert!(!answered.unwrap().function_error);
    }
}

#[tokio::test]
async fn forgets_the_event_of_a_caller_that_goes_away_while_it_waits() {
    let mut settings = workers(1);
    settings.queue = 1;
    let emulator = start(settings).await;
    let gate = Gate::new().await;
    let (busy, kept) = tokio::join!(emulator.invoke(gate.event()), async {
        let inside = gate.entered().await;
        let mut waiting = Box::pin(emulator.invoke(r#"{"log": "dropped"}"#));
        tokio::select! {
            biased;
            reply = &mut waiting => panic!("no worker is free: {reply:?}"),
            () = std::future::ready(()) => {}
        }
        let refused = emulator.invoke("{}").await;
        assert!(matches!(refused, Err(InvokeError::TooManyRequests)));
        drop(waiting);
        let (kept, ()) = tokio::join!(biased; emulator.invoke(r#"{"log": "kept"}"#), async {
            drop(inside);
        });
        kept
    });
    assert!(!busy.unwrap().function_error);
    assert!(!kept.unwrap().function_error);
    let lines = emulator.lines();
    assert!(lines.iter().any(|line| line.contains("kept")));
    assert!(!lines.iter().any(|line| line.contains("dropped")));
}

#[tokio::test]
async fn never_refuses_as_many_callers_as_there_are_workers() {
    let emulator = Arc::new(start(workers(8)).await);
    emulator.wait_for_polls(|polls| polls == 8).await;
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let emulator = Arc::clone(&emulator);
            tokio::spawn(async move {
                for number in 0..500 {
                    let reply = emulator.invoke(json!({ "echo": number }).to_string()).await;
                    assert_eq!(payload(&reply.unwrap()), number);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(emulator.most_polls() <= 8);
}

#[tokio::test]
async fn times_out_while_the_worker_goes_on() {
    let mut settings = workers(2);
    settings.timeout = Duration::from_secs(1);
    let emulator = start(settings).await;
    let gate = Gate::new().await;
    let (reply, inside) = tokio::join!(emulator.invoke(gate.event()), gate.entered());
    let reply = reply.unwrap();
    let expected = json!({
        "errorType": "Sandbox.Timedout",
        "errorMessage": format!(
            "RequestId: {} Error: Task timed out after 1.00 seconds", reply.request_id
        ),
    });
    assert_eq!((reply.function_error, payload(&reply)), (true, expected));
    // Its worker is still busy, so there is room for one event, not for two.
    let (second, third) = tokio::join!(emulator.invoke(gate.event()), async {
        let inside = gate.entered().await;
        let third = emulator.invoke("{}").await;
        drop(inside);
        third
    });
    assert!(!second.unwrap().function_error);
    assert!(matches!(third, Err(InvokeError::TooManyRequests)));
    drop(inside);
    emulator.wait_for_polls(|polls| polls == 2).await;
}

#[tokio::test]
async fn reports_a_crash_to_everyone_in_flight_and_starts_the_function_again() {
    let emulator = Arc::new(start(workers(3)).await);
    let first = emulator.pid().unwrap();
    let gate = Gate::new().await;
    let in_flight = tokio::spawn({
        let (emulator, event) = (Arc::clone(&emulator), gate.event());
        async move { emulator.invoke(event).await.unwrap() }
    });
    let _inside = gate.entered().await;
    let culprit = emulator.invoke(r#"{"exit": 3}"#).await.unwrap();
    for reply in [culprit, in_flight.await.unwrap()] {
        let message = format!(
            "RequestId: {} Error: Runtime exited with error: exit status 3",
            reply.request_id
        );
        let expected = json!({ "errorType": "Runtime.ExitError", "errorMessage": message });
        assert_eq!((reply.function_error, payload(&reply)), (true, expected));
    }
    // The next caller waits for the new process.
    assert_eq!(
        &emulator.invoke(r#"{"echo": 1}"#).await.unwrap().payload[..],
        b"1"
    );
    assert_ne!(emulator.pid(), Some(first));
    emulator.wait_for_polls(|polls| polls == 3).await;
}

#[tokio::test]
async fn answers_every_caller_when_the_function_is_killed_under_load() {
    let emulator = Arc::new(start(workers(8)).await);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let emulator = Arc::clone(&emulator);
            tokio::spawn(async move {
                for number in 0..300 {
                    match emulator.invoke(json!({ "echo": number }).to_string()).await {
                        Ok(reply) if reply.function_error => {
                            assert_eq!(error_type(&reply), "Runtime.ExitError");
                        }
                        Ok(reply) => assert_eq!(payload(&reply), number),
                        // Those of a process that was killed between an answer and the next poll.
                        Err(InvokeError::TooManyRequests) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let current = match emulator.pid() {
            Some(current) => current,
            None => emulator.wait_for_restart(0).await,
        };
        kill(pid(current), Signal::SIGKILL).unwrap();
        emulator.wait_for_restart(current).await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
    emulator.wait_for_polls(|polls| polls == 8).await;
    assert!(emulator.most_polls() <= 8);
}

#[tokio::test]
async fn terminates_the_function_in_order() {
    let emulator = start(function()).await;
    let status = emulator.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn kills_a_function_that_does_not_heed_sigterm() {
    let mut settings = function();
    // The shell ignores the signal; its child is not told.
    let script = "trap '' TERM; \"$0\" & wait; wait";
    settings.arguments = vec![
        "-c".into(),
        script.into(),
        settings.bootstrap.clone().into(),
    ];
    settings.bootstrap = "/bin/sh".into();
    let emulator = start(settings).await;
    let status = emulator.terminate().await.unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
}

#[tokio::test]
async fn leaves_no_process_behind_when_dropped() {
    let emulator = start(function()).await;
    let process = emulator.pid().unwrap();
    let gate = Gate::new().await;
    // The connection ends when the process does.
    let mut settings = function();
    settings
        .environment
        .push(("BEHAVIOUR".into(), gate.address().to_string().into()));
    settings.init_timeout = Duration::from_millis(200);
    drop(emulator);
    let error = emulator::Emulator::start(settings).await.unwrap_err();
    assert!(
        error.to_string().contains("did not ask for an event"),
        "{error}"
    );
    let mut connection = gate.entered().await;
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut rest)
        .await
        .unwrap();
    let gone = kill(pid(process), None);
    assert!(gone.is_err(), "the process lives on");
}

#[tokio::test]
async fn keeps_the_lines_that_the_function_prints() {
    let emulator = start(function()).await;
    let reply = emulator.invoke(r#"{"log": "here"}"#).await.unwrap();
    let line = json!({ "requestId": reply.request_id.to_string(), "message": "here" });
    assert_eq!(
        *emulator.wait_for_line(|line| line.contains("here")).await,
        *line.to_string()
    );
    assert_eq!(
        emulator
            .lines()
            .iter()
            .filter(|line| line.contains("here"))
            .count(),
        2
    );
}

#[tokio::test]
async fn gives_the_function_the_environment_of_a_managed_instance() {
    let mut settings = workers(5);
    settings
        .environment
        .push(("TABLE".into(), "fibonacci".into()));
    let emulator = start(settings).await;
    let environment = payload(&emulator.invoke(r#"{"environment": {}}"#).await.unwrap());
    for (name, value) in [
        ("AWS_LAMBDA_MAX_CONCURRENCY", "5"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances"),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        ("AWS_LAMBDA_FUNCTION_NAME", "function"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST.PUBLISHED"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048"),
        ("AWS_REGION", "us-east-1"),
        ("_HANDLER", "bootstrap"),
        ("TZ", ":UTC"),
        ("TABLE", "fibonacci"),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    assert!(environment.get("CARGO").is_none());
}

#[tokio::test]
async fn gives_the_function_the_environment_of_ordinary_lambda_without_concurrency() {
    let mut settings = function();
    settings.max_concurrency = None;
    let emulator = start(settings).await;
    let environment = payload(&emulator.invoke(r#"{"environment": {}}"#).await.unwrap());
    assert_eq!(environment["AWS_LAMBDA_INITIALIZATION_TYPE"], "on-demand");
    assert!(environment.get("AWS_LAMBDA_MAX_CONCURRENCY").is_none());
}
