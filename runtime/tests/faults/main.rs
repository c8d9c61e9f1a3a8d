//! What goes wrong around the function costs neither a worker nor a reply.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::support::{self, PIPELINING};
use emulator::{Emulator, Fault, InvokeError, Reply as Invoked, Settings};
use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const FAULTS: [Fault; 14] = [
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
    Fault::PostClose,
    Fault::PollDiscarded,
];

/// The connections of all functions that run side by side end in this process.
fn allow_many_connections() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

async fn start(workers: u16, change: impl FnOnce(&mut Settings)) -> Arc<Emulator> {
    allow_many_connections();
    let function = tokio::task::spawn_blocking(|| emulator::build_function().unwrap());
    let mut settings = Settings::new(function.await.unwrap());
    settings.max_concurrency = NonZeroU16::new(workers);
    settings.queue = 2_000;
    change(&mut settings);
    let emulator = Emulator::start(settings).await.unwrap();
    let all_poll = emulator.wait_for_polls(|polls| polls == usize::from(workers));
    within("all workers' polls", all_poll).await;
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

/// Waits for something that must happen, which `what` names.
async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let happens = timeout(support::PATIENCE, happens).await;
    happens.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Invokes the function this often at once. Every caller gets a reply or an error.
async fn invoke(
    emulator: &Arc<Emulator>,
    callers: usize,
) -> Vec<(String, Result<Invoked, InvokeError>)> {
    let mut invoked = JoinSet::new();
    for n in 0..callers {
        let emulator = Arc::clone(emulator);
        invoked.spawn(async move {
            let payload = payload(n);
            let reply = emulator.invoke(payload.clone()).await;
            (payload, reply)
        });
    }
    within("every caller's reply", invoked.join_all()).await
}

/// Asserts that a caller got the right reply, or an error that says what became of it. The log tells
/// of every reply that could not be delivered, with its request id.
async fn assert_is_explained(
    emulator: &Emulator,
    payload: &str,
    invoked: Result<Invoked, InvokeError>,
) {
    let invoked = match invoked {
        Ok(invoked) => invoked,
        // On a slow machine, an event may wait for a worker for too long.
        Err(InvokeError::TooManyRequests) => return,
        Err(error) => panic!("{error} to {payload}"),
    };
    if !invoked.function_error {
        assert_eq!(invoked.payload, expected(payload), "to {payload}");
        return;
    }
    let error: Value = serde_json::from_slice(&invoked.payload).unwrap();
    match error["errorType"].as_str().unwrap() {
        "Runtime.UnreadableEvent" => {}
        "Sandbox.Timedout" => {
            let request_id = invoked.request_id.to_string();
            let explanation = emulator.wait_for_line(|line| {
                let explanations = [" refused", "could not deliver ", " delivered already"];
                line.contains(&request_id) && explanations.iter().any(|text| line.contains(text))
            });
            within(&format!("a line about {request_id}"), explanation).await;
        }
        other => panic!("{other} to {payload}"),
    }
}

/// After each of these faults, all workers poll again, and every caller gets a reply or an
/// explanation. That they poll within a second is for the worker model to say, on a clock that no
/// busy machine delays.
async fn survive(workers: u16, pipelining: &'static str, faults: Vec<Vec<Fault>>) {
    let emulator = start(workers, |settings| {
        settings.timeout = Duration::from_secs(2);
        settings.environment = vec![
            ("AWS_LAMBDA_LOG_LEVEL".into(), "DEBUG".into()),
            ("RUNTIME_API_PIPELINING".into(), pipelining.into()),
        ];
    })
    .await;
    for faults in faults {
        emulator.inject(faults.clone());
        // A fault of a poll happens at the poll after the next.
        for _ in 0..3 {
            for (payload, invoked) in invoke(&emulator, workers.into()).await {
                assert_is_explained(&emulator, &payload, invoked).await;
            }
        }
        within(&format!("{faults:?}"), emulator.wait_for_faults()).await;
        let all_poll = emulator.wait_for_polls(|polls| polls == usize::from(workers));
        within(&format!("all workers' polls after {faults:?}"), all_poll).await;
        assert!(emulator.most_polls() <= usize::from(workers), "{faults:?}");
    }
}

/// Most of the time somebody waits for a time-out, so several functions suffer side by side.
async fn survives_every_fault_and_every_pair(workers: u16, side_by_side: usize) {
    let singles = FAULTS.map(|fault| vec![fault]);
    let pairs = FAULTS.into_iter().flat_map(|a| FAULTS.map(|b| vec![a, b]));
    let all: Vec<_> = singles.into_iter().chain(pairs).collect();
    let mut functions = JoinSet::new();
    for pipelining in PIPELINING {
        for faults in all.chunks(all.len().div_ceil(side_by_side)) {
            functions.spawn(survive(workers, pipelining, faults.to_vec()));
        }
    }
    functions.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_survives_every_fault_and_every_pair() {
    survives_every_fault_and_every_pair(1, 45).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_workers_survive_every_fault_and_every_pair() {
    survives_every_fault_and_every_pair(8, 45).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_workers_survive_every_fault_and_every_pair() {
    survives_every_fault_and_every_pair(64, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_a_thousand_callers_at_once_on_eight_workers() {
    let emulator = start(8, |settings| settings.timeout = support::PATIENCE).await;
    for (payload, invoked) in invoke(&emulator, 1_000).await {
        assert_eq!(invoked.unwrap().payload, expected(&payload));
    }
    assert!(emulator.most_polls() <= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_events_of_6_mb_at_once_and_keeps_no_memory_for_them() {
    let emulator = start(8, |settings| settings.timeout = support::PATIENCE).await;
    let payload = format!(
        r#"{{"ignored": "{}", "n": 7}}"#,
        "x".repeat(6 * 1024 * 1024 - 30)
    );
    let mut invoked = JoinSet::new();
    for _ in 0..16 {
        let (emulator, payload) = (Arc::clone(&emulator), payload.clone());
        invoked.spawn(async move { emulator.invoke(payload).await });
    }
    for invoked in within("every caller's reply", invoked.join_all()).await {
        // An event that stalls for 1 s, on a slow machine, is given up.
        assert_is_explained(&emulator, r#"{"n": 7}"#, invoked).await;
    }
    let all_poll = emulator.wait_for_polls(|polls| polls == 8);
    within("all workers' polls", all_poll).await;
    let released = async {
        while emulator.resident_bytes().unwrap() > 8 * 1024 * 1024 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within("the release of their buffers", released).await;
}

/// SIGTERM while callers go on: each gets the right reply, or Lambda's error for a process that has
/// exited, with status 0.
async fn shut_down(workers: u16, pipelining: &'static str) {
    const TIMES: usize = 50;
    let mut exit_errors = 0;
    for _ in 0..TIMES {
        let emulator = start(workers, |settings| {
            settings.timeout = support::PATIENCE;
            settings.environment = vec![("RUNTIME_API_PIPELINING".into(), pipelining.into())];
        })
        .await;
        let is_over = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for n in 0..2 * usize::from(workers) {
            let (emulator, is_over) = (Arc::clone(&emulator), Arc::clone(&is_over));
            callers.spawn(async move {
                let mut errors = Vec::new();
                for n in n.. {
                    let payload = payload(n);
                    let invoked = emulator.invoke(payload.clone()).await.unwrap();
                    if invoked.function_error {
                        errors.push(invoked);
                    } else {
                        assert_eq!(invoked.payload, expected(&payload));
                    }
                    if is_over.load(Relaxed) {
                        break;
                    }
                }
                errors
            });
        }
        let pid = emulator.pid().unwrap();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
        within("another process", emulator.wait_for_restart(pid)).await;
        is_over.store(true, Relaxed);
        let errors = within("every caller's reply", callers.join_all()).await;
        for invoked in errors.into_iter().flatten() {
            let error: Value = serde_json::from_slice(&invoked.payload).unwrap();
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
        "{workers} workers, {TIMES} shutdowns, {exit_errors} callers whose event was not read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shuts_down_under_load() {
    let mut shutdowns = JoinSet::new();
    for workers in [1, 8, 64] {
        for pipelining in PIPELINING {
            shutdowns.spawn(shut_down(workers, pipelining));
        }
    }
    shutdowns.join_all().await;
}
