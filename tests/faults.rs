//! What goes wrong around the function costs neither a worker nor an answer.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::{self, Function};
use emulator::{Emulator, Fault, Reply as Answer, Settings};
use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

const FAULTS: [Fault; 12] = [
    Fault::PollReset,
    Fault::PollStatus(403),
    Fault::PollStatus(500),
    Fault::EventWithoutHeaders,
    Fault::EventHeadCut,
    Fault::EventBodyCut,
    Fault::PostReset,
    Fault::PostBodyReset,
    Fault::PostStatus(400),
    Fault::PostStatus(500),
    Fault::PostResponseReset,
    Fault::PostResponseCut,
];

async fn start(workers: u16, change: impl FnOnce(&mut Settings)) -> Arc<Emulator> {
    let function = tokio::task::spawn_blocking(|| emulator::build_function().unwrap());
    let mut settings = Settings::new(function.await.unwrap());
    settings.max_concurrency = NonZeroU16::new(workers);
    settings.queue = 2_000;
    change(&mut settings);
    let emulator = Emulator::start(settings).await.unwrap();
    emulator
        .wait_for_polls(|polls| polls == usize::from(workers))
        .await;
    Arc::new(emulator)
}

fn expected(payload: &str) -> Vec<u8> {
    Reply::from(event::parse(payload.as_bytes()))
        .slices()
        .concat()
}

/// Events of all sizes of reply, and invalid ones.
fn payload(n: usize) -> String {
    match n % 8 {
        0 => "{}".to_owned(),
        1 => r#"{"n": 1000}"#.to_owned(),
        _ => format!(r#"{{"n": {}}}"#, n % 1000),
    }
}

/// Invokes the function this often at once; panics unless every caller gets an answer.
async fn invoke(emulator: &Arc<Emulator>, callers: usize) -> Vec<(String, Answer)> {
    let mut answers = JoinSet::new();
    for n in 0..callers {
        let emulator = Arc::clone(emulator);
        answers.spawn(async move {
            let payload = payload(n);
            let answer = emulator.invoke(payload.clone()).await.unwrap();
            (payload, answer)
        });
    }
    timeout(support::PATIENCE, answers.join_all())
        .await
        .expect("nobody hangs")
}

/// Asserts that an answer is the right reply, or an error that says what became of it. A reply that
/// could not be delivered has to be in the log, with its request id.
fn assert_answered(emulator: &Emulator, payload: &str, answer: &Answer) {
    if !answer.function_error {
        assert_eq!(answer.payload, expected(payload), "to {payload}");
        return;
    }
    let error: Value = serde_json::from_slice(&answer.payload).unwrap();
    match error["errorType"].as_str().unwrap() {
        "Runtime.UnreadableEvent" => {}
        "Sandbox.Timedout" => {
            let request_id = answer.request_id.to_string();
            let is_told = |line: &str| {
                let told = [" refused", " lost", " perhaps delivered"];
                line.contains(&request_id) && told.iter().any(|word| line.contains(word))
            };
            let lines = emulator.lines();
            assert!(
                lines.iter().any(|line| is_told(line)),
                "{request_id}: {lines:?}"
            );
        }
        other => panic!("{other} to {payload}"),
    }
}

async fn survives_every_fault_and_every_pair(workers: u16) {
    let emulator = start(workers, |settings| {
        settings.timeout = Duration::from_secs(1);
        settings.environment = vec![("AWS_LAMBDA_LOG_LEVEL".into(), "DEBUG".into())];
    })
    .await;
    let singles = FAULTS.map(|fault| vec![fault]);
    let pairs = FAULTS.into_iter().flat_map(|a| FAULTS.map(|b| vec![a, b]));
    for faults in singles.into_iter().chain(pairs) {
        emulator.inject(faults.clone());
        // A fault of a poll happens at the poll after the next.
        for _ in 0..3 {
            for (payload, answer) in invoke(&emulator, 2 * usize::from(workers)).await {
                assert_answered(&emulator, &payload, &answer);
            }
        }
        let happened = timeout(support::PATIENCE, emulator.wait_for_faults());
        assert!(happened.await.is_ok(), "{faults:?} did not happen");
        let all_poll = emulator.wait_for_polls(|polls| polls == usize::from(workers));
        let within_a_second = timeout(Duration::from_secs(1), all_poll).await;
        assert!(within_a_second.is_ok(), "a worker is lost to {faults:?}");
        assert!(emulator.most_polls() <= usize::from(workers), "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_survives_every_fault_and_every_pair() {
    survives_every_fault_and_every_pair(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_workers_survive_every_fault_and_every_pair() {
    survives_every_fault_and_every_pair(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_workers_survive_every_fault_and_every_pair() {
    survives_every_fault_and_every_pair(64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_a_thousand_callers_at_once_on_eight_workers() {
    let emulator = start(8, |_| ()).await;
    for (payload, answer) in invoke(&emulator, 1_000).await {
        assert_eq!(answer.payload, expected(&payload));
    }
    assert!(emulator.most_polls() <= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_events_of_6_mb_at_once() {
    let emulator = start(8, |_| ()).await;
    let payload = format!(
        r#"{{"ignored": "{}", "n": 7}}"#,
        "x".repeat(6 * 1024 * 1024 - 30)
    );
    let mut answers = JoinSet::new();
    for _ in 0..16 {
        let (emulator, payload) = (Arc::clone(&emulator), payload.clone());
        answers.spawn(async move { emulator.invoke(payload).await.unwrap() });
    }
    for answer in answers.join_all().await {
        assert_eq!(answer.payload, expected(r#"{"n": 7}"#));
    }
    emulator.wait_for_polls(|polls| polls == 8).await;
}

#[test]
fn answers_invocations_with_a_hostile_client_context() {
    let function = Function::start(8);
    for n in 0..1_000 {
        let client_context = [r#"{"custom":{"a":1}}"#, "not JSON", "[", ""][n % 4];
        let event = String::from_utf8(support::event("id", "{}")).unwrap();
        let header = format!("\r\nLambda-Runtime-Client-Context: {client_context}\r\n");
        function.poll().answer(event.replacen("\r\n", &header, 1));
        let post = function.post();
        assert_eq!(post.body, expected("{}"));
        post.accept();
    }
    let _polls: Vec<_> = (0..8).map(|_| function.poll()).collect();
}

/// SIGTERM while callers go on: each gets the right reply, or Lambda's error for a process that has
/// exited, with status 0.
async fn shuts_down_under_load(workers: u16) {
    const TIMES: usize = 100;
    /// For what a busy machine needs to wake up and to tell.
    const TOLERANCE: Duration = Duration::from_millis(300);
    let mut slowest = Duration::ZERO;
    let mut exit_errors = 0;
    for _ in 0..TIMES {
        let emulator = start(workers, |_| ()).await;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for n in 0..2 * usize::from(workers) {
            let (emulator, is_over) = (Arc::clone(&emulator), Arc::clone(&is_over));
            callers.spawn(async move {
                let mut errors = Vec::new();
                for n in n.. {
                    let payload = payload(n);
                    let answer = emulator.invoke(payload.clone()).await.unwrap();
                    if answer.function_error {
                        errors.push(answer);
                    } else {
                        assert_eq!(answer.payload, expected(&payload));
                    }
                    if is_over.load(Relaxed) {
                        break;
                    }
                }
                errors
            });
        }
        let begun = Instant::now();
        let pid = emulator.pid().unwrap().cast_signed();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        emulator
            .wait_for_line(|line| line.contains("shutdown completed"))
            .await;
        slowest = slowest.max(begun.elapsed());
        is_over.store(true, Relaxed);
        let errors = timeout(support::PATIENCE, callers.join_all())
            .await
            .expect("nobody hangs");
        for answer in errors.into_iter().flatten() {
            let error: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(error["errorType"], "Runtime.ExitError");
            let message = error["errorMessage"].as_str().unwrap();
            assert!(
                message.ends_with("Runtime exited without providing a reason"),
                "{message}"
            );
            exit_errors += 1;
        }
    }
    println!(
        "{workers} workers: {TIMES} shutdowns, the slowest in {slowest:?}, {exit_errors} callers \
         whose event had not been read"
    );
    assert!(
        slowest < Duration::from_millis(400) + TOLERANCE,
        "{slowest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shuts_down_one_worker_under_load() {
    shuts_down_under_load(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shuts_down_eight_workers_under_load() {
    shuts_down_under_load(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shuts_down_sixty_four_workers_under_load() {
    shuts_down_under_load(64).await;
}
