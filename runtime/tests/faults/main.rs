//! What goes wrong around the function costs neither a worker nor a reply: faults, a machine that
//! stands still, shutdowns under load. With a handler that awaits nothing and with one that awaits.

#[path = "../handlers/mod.rs"]
mod handlers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use std::{env, iter};

use emulator::{Emulator, Fault, InvokeError, Reply as Invoked, Settings};
use handlers::{HANDLERS, reply};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use test_support::{PATIENCE, PIPELINING, own_test};
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

/// Is the function in a process that a test starts.
#[test]
fn function() {
    handlers::run(|| unreachable!());
}

/// A kind of process.
#[derive(Clone, Copy, Debug)]
struct Mode {
    handler: &'static str,
    pipelining: &'static str,
    workers: u16,
}

/// Every kind of process with so many workers.
fn modes(workers: u16) -> impl Iterator<Item = Mode> {
    HANDLERS.into_iter().flat_map(move |handler| {
        PIPELINING.map(|pipelining| Mode {
            handler,
            pipelining,
            workers,
        })
    })
}

/// Nothing is throttled or timed out because it is slow.
async fn start(mode: Mode, change: impl FnOnce(&mut Settings)) -> Arc<Emulator> {
    // The connections of all functions that run side by side end in this process.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();

    let function = own_test("function");
    let mut settings = Settings::new(function.get_program());
    settings.arguments = function.get_args().map(ToOwned::to_owned).collect();
    settings.environment = vec![
        ("HANDLER".into(), mode.handler.into()),
        ("RUNTIME_API_PIPELINING".into(), mode.pipelining.into()),
    ];
    settings.max_concurrency = mode.workers;
    settings.queue = 2_000;
    settings.return_limit = PATIENCE;
    settings.timeout = PATIENCE;
    change(&mut settings);
    let emulator = Emulator::start(settings).await.unwrap();
    all_poll(&emulator, mode).await;
    Arc::new(emulator)
}

async fn all_poll(emulator: &Emulator, mode: Mode) {
    let all_poll = emulator.wait_for_polls(|polls| polls == usize::from(mode.workers));
    within("all workers' polls", all_poll).await;
    assert!(emulator.most_polls() <= usize::from(mode.workers));
}

/// Events of all sizes.
fn payload(n: usize) -> String {
    let len = [10, 100, 1_000, 10_000, 100_000][n % 5];
    format!("\"{n}{}\"", "x".repeat(len))
}

#[track_caller]
fn assert_is_reply(invoked: &Invoked, payload: &str) {
    let replied = String::from_utf8_lossy(&invoked.payload);
    let is_right = invoked.payload == reply(payload);
    assert!(is_right, "{replied:.200} to {payload:.20}");
}

/// Waits for something that must happen, which `what` names.
async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let happens = timeout(PATIENCE, happens).await;
    happens.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

type Invocations = JoinSet<(String, Result<Invoked, InvokeError>)>;

/// Begins to invoke the function this often at once.
fn invoke(emulator: &Arc<Emulator>, callers: usize) -> Invocations {
    let invocations = (0..callers).map(|n| {
        let (emulator, payload) = (Arc::clone(emulator), payload(n));
        async move {
            let invoked = emulator.invoke(payload.clone()).await;
            (payload, invoked)
        }
    });
    invocations.collect()
}

/// Every caller gets the right reply.
async fn assert_replies(invocations: Invocations) {
    for (payload, invoked) in within("every caller's reply", invocations.join_all()).await {
        let invoked = invoked.unwrap();
        assert!(!invoked.function_error, "{invoked:?}");
        assert_is_reply(&invoked, &payload);
    }
}

/// Asserts that a caller got the right reply, or an error that says what became of it. The log tells
/// of every reply that could not be delivered, with its request id.
async fn assert_is_explained(emulator: &Emulator, payload: &str, invoked: Invoked) {
    if !invoked.function_error {
        assert_is_reply(&invoked, payload);
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
        other => panic!("{other} to {payload:.20}"),
    }
}

/// After each of these faults, all workers poll again, and every caller gets a reply or an
/// explanation. That they poll within a second is for the worker model to say, on a clock that no
/// busy machine delays.
async fn survive(mode: Mode, faults: Vec<Vec<Fault>>) {
    let emulator = start(mode, |settings| {
        // A reply that is lost costs its caller this long. One that is late is explained as well.
        settings.timeout = Duration::from_millis(250);
        let debug = ("AWS_LAMBDA_LOG_LEVEL".into(), "DEBUG".into());
        settings.environment.push(debug);
    })
    .await;
    for faults in faults {
        emulator.inject(faults.clone());
        // A fault of a poll happens at the poll after the next.
        for _ in 0..3 {
            let invocations = invoke(&emulator, mode.workers.min(8).into());
            for (payload, invoked) in within("every caller's reply", invocations.join_all()).await {
                match invoked {
                    // No worker has seen the event, because all were still on their way back.
                    Err(InvokeError::TooManyRequests) => {}
                    invoked => assert_is_explained(&emulator, &payload, invoked.unwrap()).await,
                }
            }
        }
        within(&format!("{faults:?}"), emulator.wait_for_faults()).await;
        all_poll(&emulator, mode).await;
    }
}

/// Most of the time somebody waits for a time-out, so eight functions suffer side by side.
async fn survives_every_fault_and_every_pair(workers: u16) {
    let singles = FAULTS.map(|fault| vec![fault]);
    let pairs = FAULTS.into_iter().flat_map(|a| FAULTS.map(|b| vec![a, b]));
    let all: Vec<_> = singles.into_iter().chain(pairs).collect();
    let mut functions = JoinSet::new();
    for mode in modes(workers) {
        for faults in all.chunks(all.len().div_ceil(2)) {
            functions.spawn(survive(mode, faults.to_vec()));
        }
    }
    functions.join_all().await;
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
async fn keeps_no_memory_for_events_of_6_mb_at_once() {
    for mode in modes(8) {
        let emulator = start(mode, |_| {}).await;
        assert_replies(invoke(&emulator, 100)).await;
        let before = emulator.resident_bytes().unwrap();
        let payload = format!("\"do not copy {}\"", "x".repeat(6 * 1024 * 1024 - 16));
        let invoked = iter::repeat_n((Arc::clone(&emulator), payload), 16)
            .map(|(emulator, payload)| async move { emulator.invoke(payload).await.unwrap() });
        let invoked = invoked.collect::<JoinSet<_>>().join_all();
        for invoked in within("every caller's reply", invoked).await {
            assert_eq!(invoked.payload, "[null]");
        }
        all_poll(&emulator, mode).await;
        let released = async {
            while emulator.resident_bytes().unwrap() > before + 4 * 1024 * 1024 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        within("the release of their buffers", released).await;
    }
}

/// SIGTERM while callers go on.
async fn shut_down(mode: Mode) {
    for _ in 0..10 {
        let emulator = start(mode, |_| {}).await;
        let is_over = Arc::new(AtomicBool::new(false));
        let callers = 0..2 * usize::from(mode.workers);
        let callers: JoinSet<()> = callers
            .map(|n| call(Arc::clone(&emulator), Arc::clone(&is_over), n))
            .collect();
        let pid = emulator.pid().unwrap();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
        within("another process", emulator.wait_for_restart(pid)).await;
        is_over.store(true, Relaxed);
        within("every caller's reply", callers.join_all()).await;
    }
}

/// Invokes until it is over. Gets the right reply each time, or an error that explains itself, or
/// Lambda's for a process that has exited with status 0.
async fn call(emulator: Arc<Emulator>, is_over: Arc<AtomicBool>, first: usize) {
    for n in first.. {
        let payload = payload(n);
        let invoked = emulator.invoke(payload.clone()).await.unwrap();
        let said = String::from_utf8_lossy(&invoked.payload);
        let is_exit = said.contains("Runtime exited without providing a reason");
        if !(is_exit && said.contains("Runtime.ExitError")) {
            assert_is_explained(&emulator, &payload, invoked).await;
        }
        if is_over.load(Relaxed) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shuts_down_under_load() {
    for workers in [1, 8, 64] {
        let shutdowns: JoinSet<_> = modes(workers).map(shut_down).collect();
        shutdowns.join_all().await;
    }
}

/// Stops the process at a random moment while it works, for 0.5 to 3 s. `STOPS` says how often.
async fn stand_still(mode: Mode) {
    const CALLERS: usize = 20;
    let stops = env::var("STOPS").map_or(3, |stops| stops.parse().unwrap());
    let emulator = start(mode, |_| {}).await;
    let pid = emulator.pid().unwrap();
    let function = Pid::from_raw(pid.cast_signed());
    for _ in 0..stops {
        let invocations = invoke(&emulator, CALLERS);
        sleep(Duration::from_millis(20).mul_f64(fastrand::f64())).await;
        kill(function, Signal::SIGSTOP).unwrap();
        sleep(Duration::from_millis(fastrand::u64(500..3_000))).await;
        kill(function, Signal::SIGCONT).unwrap();
        assert_replies(invocations).await;
    }
    all_poll(&emulator, mode).await;
    assert_eq!(emulator.pid(), Some(pid));
    println!("{mode:?}: {stops} stops, {} invocations", stops * CALLERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_nothing_while_it_stands_still() {
    let functions: JoinSet<_> = modes(8).map(stand_still).collect();
    functions.join_all().await;
}
