//! Heap allocations of the whole loop, counted in a process of its own.

mod support;

use std::env;
use std::num::NonZeroU16;
use std::sync::Arc;

use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::worker::Workers;
use support::Function;
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const WORKERS: NonZeroU16 = NonZeroU16::new(4).unwrap();
const COUNT: &[u8] = b"\"count\"";

/// Is the function where a test starts it as a process.
#[tokio::test]
#[ignore = "the process that the tests below start"]
async fn process_that_counts() {
    let Ok(runtime_api) = env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    let _profiler = dhat::Profiler::builder().testing().build();
    let workers = Workers::new(&runtime_api, WORKERS, true, |payload: &[u8]| {
        if payload == COUNT {
            eprintln!("{}", dhat::HeapStats::get().total_blocks);
        }
        Reply::from(event::parse(payload))
    });
    Arc::new(workers).run::<TcpStream>(0, 1).await;
}

/// How many allocations `invocations` of this event cost, once every worker has had it.
fn allocations(payload: &str, invocations: u64) -> u64 {
    let function = Function::start_test("process_that_counts", &[]);
    let count = || {
        function.invoke(COUNT);
        loop {
            if let Ok(count) = function.line().parse::<u64>() {
                return count;
            }
        }
    };
    // From now on, the workers take turns.
    let polls: Vec<_> = (0..WORKERS.get()).map(|_| function.poll()).collect();
    for poll in polls {
        poll.dispatch("warm-up", payload);
        function.post().accept();
    }
    for _ in 0..100 * WORKERS.get() {
        function.invoke(payload);
    }
    for _ in 0..100 * WORKERS.get() {
        count();
    }
    for _ in 0..10 {
        function.connections();
        let before = count();
        for _ in 0..invocations {
            function.invoke(payload);
        }
        let after = count();
        // On a slow machine, a connection may stall for 1 s. Its worker opens another, which allocates.
        if function.connections() == 0 {
            return after - before;
        }
    }
    panic!("connections do not last");
}

#[test]
fn a_direct_event_costs_none() {
    for payload in [
        r#"{"n": 0}"#,
        r#"{"n": 1000}"#,
        r#"{"n": -1}"#,
        r#"{"n": 1e5, "other": "x"}"#,
        "{}",
        "",
    ] {
        assert_eq!(allocations(payload, 2000), 0, "for {payload}");
    }
}

#[test]
fn an_http_event_costs_five_at_most() {
    let event = include_str!("events/function_url.json");
    let with_body = include_str!("events/http_api.json")
        .replace(r#""n": "10""#, r#""m": "10""#)
        .replacen('{', r#"{"body": "{\"n\": 10}", "#, 1);
    for payload in [event, &with_body] {
        let per_invocation = allocations(payload, 2000).div_ceil(2000);
        assert!(per_invocation <= 5, "{per_invocation} for {payload}");
    }
}
