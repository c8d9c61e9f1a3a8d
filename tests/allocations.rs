//! Heap allocations of the whole loop, counted in a process of its own.

use std::env;
use std::process::{ExitCode, exit};

use fibonacci_generator::{event, reply};
use lmi_runtime::Invocation;
use test_support::{Function, own_test};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const WORKERS: usize = 4;
const COUNT: &[u8] = b"\"count\"";

/// Is the function in a process that a test starts.
#[test]
fn function() {
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return;
    }
    let _profiler = dhat::Profiler::builder().testing().build();
    let code = lmi_runtime::run(async |invocation: &Invocation| {
        if invocation.payload() == COUNT {
            println!("{}", dhat::HeapStats::get().total_blocks);
        }
        Ok::<_, lmi_runtime::Diagnostic>(reply::slices(event::parse(invocation.payload())))
    });
    exit(i32::from(code != ExitCode::SUCCESS));
}

/// How many allocations `invocations` of this event cost, once every worker has had it.
fn allocations(payload: &str, invocations: u64) -> u64 {
    let mut command = own_test("function");
    command.env("AWS_LAMBDA_MAX_CONCURRENCY", WORKERS.to_string());
    let function = Function::start(command);
    let count = || {
        function.invoke(COUNT);
        function.line().parse::<u64>().unwrap()
    };
    // From now on, the workers take turns.
    let polls: Vec<_> = (0..WORKERS).map(|_| function.poll()).collect();
    for (n, poll) in polls.iter().enumerate() {
        poll.dispatch(&n.to_string(), payload);
        function.post().accept();
    }
    for _ in 0..100 * WORKERS {
        function.invoke(payload);
    }
    for _ in 0..100 * WORKERS {
        count();
    }
    for _ in 0..10 {
        let _ = function.connections();
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
