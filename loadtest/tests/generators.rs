//! Generators: this executable as a Lambda function, in one emulator, loads the function in another.

use std::future::ready;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::emulator::{Emulator, Settings};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{
    BOUND, Ended, InvokeApi, assert_contains, emulator, file, held_back, loadtest, refused, right,
    run, scratch, signal, start, wait, within,
};

struct Generators {
    runtime: Runtime,
    emulator: Emulator,
}

impl Generators {
    /// Several generators are invocations of one process: the emulator has one environment.
    fn start(concurrency: u16) -> Self {
        Self::start_with(concurrency, |_| ())
    }

    fn start_with(concurrency: u16, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(env!("CARGO_BIN_EXE_loadtest"));
        settings.function_name = "generator".into();
        settings.max_concurrency = concurrency;
        settings.timeout = Duration::from_mins(15);
        set(&mut settings);
        let runtime = Runtime::new().unwrap();
        let emulator = emulator(&runtime, settings);
        Self { runtime, emulator }
    }

    /// A load on `target`, sent by three generators.
    fn command(&self, target: &str, flags: &str) -> Command {
        loadtest(&format!(
            "--endpoint-url {target} -o json --generators 3 --generator-function generator \
             --generator-endpoint-url http://{} {flags}",
            self.emulator.invoke_address()
        ))
    }

    fn run(&self, target: &str, flags: &str) -> Ended {
        run(&mut self.command(target, flags))
    }

    /// The reply, and whether it is an error.
    fn invoke(&self, event: &Value) -> (Value, bool) {
        let reply = self.emulator.invoke(event.to_string());
        let reply = within(&self.runtime, "a reply", reply).unwrap();
        let json = serde_json::from_slice(&reply.payload).unwrap();
        (json, reply.function_error)
    }

    fn end(self) {
        within(&self.runtime, "the end", self.emulator.terminate());
    }
}

/// On a slow machine, generators may start late as well.
fn is_lateness(problem: &str) -> bool {
    problem.contains("started ") && problem.ends_with(" s late")
}

/// What is wrong with each generator but that it started late.
fn problems(report: &Value) -> Vec<Option<&str>> {
    let parts = report["parts"].as_array().unwrap().iter();
    let problems = parts.map(|part| part["problem"].as_str());
    problems
        .map(|problem| problem.filter(|problem| !is_lateness(problem)))
        .collect()
}

fn passed(ended: &Ended) -> Value {
    let report = ended.report();
    let violations = report["violations"].as_array().unwrap();
    let mut violations = violations.iter().filter_map(Value::as_str);
    assert!(violations.all(is_lateness), "{ended:?}");
    report
}

/// How many requests were right or unsent.
fn requests(report: &Value) -> u64 {
    let outcomes = &report["outcomes"];
    outcomes["ok"].as_u64().unwrap() + outcomes["unsent"].as_u64().unwrap()
}

#[test]
fn three_generators_send_one_load_and_make_one_report() {
    let function = InvokeApi::start(right);
    let generators = Generators::start(6);
    let page = scratch("generators.html");
    let ten = file("shared-event", r#"{"n": 10}"#);
    let flags = format!("-r 100 -d 1s -c 6 --event {ten} --expect-status 200");
    let scheduled = start(&mut generators.command(&function.url(), &flags));
    let flags = "-n 1000 -c 7 -w 10 --n 0..=1000 --html";
    let closed = run(generators.command(&function.url(), flags).arg(&page));
    let scheduled = wait(scheduled);

    let closed = passed(&closed);
    assert_eq!(closed["outcomes"]["ok"], 1_000);
    assert_eq!(closed["warm_up_outcomes"]["ok"], 10);
    assert_eq!(closed["concurrency"], 7);
    assert_eq!(problems(&closed), [None, None, None]);
    let sent = [0, 1, 2].map(|index| &closed["parts"][index]["requests"]);
    assert_eq!(sent, [334, 333, 333]);
    let page = std::fs::read_to_string(page).unwrap();
    assert_contains(&page, "generator 3 of 3");

    let scheduled = passed(&scheduled);
    assert_eq!(scheduled["due"]["requests"], 100);
    assert_eq!(scheduled["requested_rate_per_second"], 100.0);
    assert_eq!(requests(&scheduled), 100);
    assert_eq!(scheduled["compared"], "statusCode, with 200");
    generators.end();
}

#[test]
fn names_a_generator_that_was_throttled_and_reports_the_others() {
    let api = InvokeApi::start(right);
    let generators = Generators::start(2);

    let ended = generators.run(&api.url(), "-n 300 -c 3").failed();

    let report = ended.report();
    assert_eq!(report["outcomes"]["ok"], 200);
    assert_eq!(api.invocations(), 200);
    let problems: Vec<_> = problems(&report).into_iter().flatten().collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let throttled = "throttled: TooManyRequestsException";
    assert!(problems[0].starts_with(throttled), "{problems:?}");
    assert_contains(&ended.stderr, &format!("of 3: {throttled}"));
    generators.end();
}

/// Each of them waits until the one before it has replied.
#[test]
fn names_generators_that_started_late() {
    let api = InvokeApi::start(right);
    let generators = Generators::start_with(1, |settings| settings.queue = 2);

    let ended = generators.run(&api.url(), "-d 1200ms -r 50 -c 3");

    let report = ended.failed().report();
    let parts = report["parts"].as_array().unwrap().iter();
    let late = parts.filter(|part| part["problem"].as_str().is_some_and(is_lateness));
    assert!(late.count() >= 2, "{report}");
    assert_eq!(requests(&report), 60);
    generators.end();
}

#[test]
fn names_generators_that_failed() {
    let (api, arrivals, _release) = held_back();
    let generators = Generators::start(3);

    let child = start(&mut generators.command(&api.url(), "-d 10m -c 3"));
    arrivals.recv_timeout(BOUND).expect("the generators send");
    signal("-9", generators.emulator.pid().unwrap());

    let report = wait(child).failed().report();
    assert_eq!(report["outcomes"]["ok"], 0);
    for problem in problems(&report) {
        let has_failed = problem.is_some_and(|problem| problem.starts_with("failed: "));
        assert!(has_failed, "{report}");
    }
    generators.end();
}

/// A generator with a timeout of 72 s sends for the first 10 s of them, however late it starts.
#[test]
fn names_generators_whose_timeout_came_before_they_had_sent_everything() {
    let api = InvokeApi::start(async |invocation| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        right(invocation).await
    });
    let generators = Generators::start_with(3, |settings| {
        settings.timeout = Duration::from_secs(72);
    });

    let ended = generators.run(&api.url(), "-n 1000000000 -c 3");

    let report = ended.failed().report();
    for problem in problems(&report) {
        let problem = problem.expect("every generator has a problem");
        // On a machine that stalled until then, it has not sent anything.
        let is_timeout = problem.ends_with("its timeout came before it had sent everything")
            || problem.ends_with("the generator's timeout is too short to send anything");
        assert!(is_timeout, "{report}");
    }
    assert_eq!(report["outcomes"]["ok"], api.invocations());
    generators.end();
}

fn unix_ms(time: SystemTime) -> u64 {
    let time = time.duration_since(UNIX_EPOCH).unwrap();
    time.as_millis().try_into().unwrap()
}

/// The share of a load that a coordinator sends.
fn share(api: &InvokeApi, start: SystemTime) -> Value {
    let start = unix_ms(start);
    json!({
        "version": 4, "sent_unix_ms": start, "start_unix_ms": start,
        "function_name": "fibonacci-generator", "qualifier": null, "endpoint_url": api.url(),
        "events": {"n": {"start": 3, "end": 7}}, "warm_up": 2,
        "load": {"concurrency": 2, "requests": 20, "duration": null, "schedule": null},
    })
}

#[test]
fn a_generator_refuses_what_is_no_share() {
    let api = InvokeApi::start(right);
    let generators = Generators::start(1);
    let share = share(&api, SystemTime::now());
    let ahead = share["sent_unix_ms"].as_u64().unwrap() + 3_600_000;

    let is_none = "this function takes shares of a load";
    let no_events = "the share has no valid events";
    let given = json!({"given": {"events": [], "expect_status": null}});
    let schedule = |rate: u32| {
        let ramp = Duration::ZERO;
        json!({"rate_per_second": rate, "ramp": ramp, "first": 0, "step": 1})
    };
    for (pointer, value, complaint) in [
        ("/version", json!(1), "the share is of version 1, the"),
        ("/sent_unix_ms", json!(ahead), "the generator's clock is 3"),
        ("/events/n/end", json!(1001), no_events),
        ("/events/n/end", json!(2), no_events),
        ("/events", given, no_events),
        ("/load/concurrency", json!(0), is_none),
        ("/load/schedule", schedule(0), "--rate 0 leaves nothing"),
        // As many requests per second would take gigabytes.
        ("/load/schedule", schedule(u32::MAX), "4294967295 is more"),
        ("/load/duration", json!(Duration::ZERO), "--duration 0"),
        ("/endpoint_url", json!("nowhere"), "is not a URL"),
        ("", json!({"n": 10}), is_none),
        ("", json!("text"), is_none),
    ] {
        let mut bad = share.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let (reply, is_error) = generators.invoke(&bad);
        assert!(is_error, "{reply}");
        assert_contains(&reply.to_string(), complaint);
    }
    assert_eq!(api.invocations(), 0);
    generators.end();
}

#[test]
fn refuses_generators_that_cannot_send_the_load() {
    let api = InvokeApi::start(right);
    let generators = Generators::start_with(1, |settings| {
        settings.timeout = Duration::from_secs(70);
    });

    for (flags, complaint) in [
        ("-c 2", "--concurrency leaves nothing for some"),
        ("-c 3 -n 2", "--requests leaves nothing for"),
        ("-c 3 -r 1 -d 2s", "--rate leaves nothing"),
        (
            "-c 3 -d 5s",
            "takes 5s, and a generator with a timeout of 70 s can send for 4s",
        ),
        ("-c 3 -n 36000 -r 10", "the load takes 1h, and"),
        // The last request is due after 5 s.
        ("-c 3 -d 1h -n 50 -r 10", "the load takes 5s, and"),
        ("-c 3 --function-name nobody", "ResourceNotFoundException"),
    ] {
        refused(&mut generators.command(&api.url(), flags), complaint);
    }
    let mut too_long =
        api.command("--generators 1 --generator-function fibonacci-generator -d 14m");
    refused(
        &mut too_long,
        "takes 14m, and a generator with a timeout of 900 s can send for 13m 54s",
    );
    let mut unknown = api.command("--generators 1 --generator-function nobody");
    refused(&mut unknown, "--generator-function: ");
    assert_eq!(api.invocations(), 0);
    generators.end();
}

/// Expects that a run ends in one line and without a report.
fn merges_nothing(api: &InvokeApi, complaint: &str) {
    let flags = "-o json --generators 1 --generator-function fibonacci-generator";
    let ended = api.run(flags).failed();
    assert_eq!(ended.stdout, "");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("invoking "), "{lines:?}");
    assert_contains(lines[1], "generator 1 of 1: its ");
    assert_contains(lines[1], complaint);
}

#[test]
fn the_reply_of_a_generator_is_a_report_or_nothing_is_merged() {
    // The function itself, in place of a generator.
    let no_report = "not a report of the load tester";
    merges_nothing(&InvokeApi::start(right), no_report);
    let longest = json!({"Timeout": u64::MAX});
    merges_nothing(&InvokeApi::describe(&longest, right), no_report);

    let api = InvokeApi::start(right);
    let generators = Generators::start(1);
    let mut share = share(&api, SystemTime::now());
    let start = share["sent_unix_ms"].as_u64().unwrap() + 400;
    share["start_unix_ms"] = start.into();
    let (report, is_error) = generators.invoke(&share);
    generators.end();

    assert!(!is_error, "{report}");
    let started = report["started_unix_ms"].as_u64().unwrap();
    // The system may adjust its clock in between.
    assert!(started + 10 >= start, "{started} is before {start}");
    assert_eq!(report["outcomes"]["ok"], 20);
    assert_eq!(report["warm_up_outcomes"]["ok"], 2);
    assert_eq!(report["events"], "n = 3..=7");
    for (pointer, value, complaint) in [
        ("/replied_unix_ms", json!(u64::MAX), "its clock is at least"),
        ("/replied_unix_ms", json!(null), "its reply is not a load"),
        ("/version", json!(7), "not a report of the load tester"),
        (
            "/histogram",
            json!("SElTVA=="),
            "not a report of the load tester: a histogram: cut short",
        ),
    ] {
        let mut report = report.clone();
        *report.pointer_mut(pointer).unwrap() = value;
        let reply = report.to_string();
        merges_nothing(
            &InvokeApi::start(move |_| ready(reply.clone().into_response())),
            complaint,
        );
    }
}
