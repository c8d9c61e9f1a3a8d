//! The console, in a browser and without.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::support::browser::{Browser, open};
use crate::support::{
    Gate, Response, all_poll, call, cases, folder, function, function_after, get, hold, http,
    invoke, start, start_with, start_workers, terminate, within, workers,
};
use emulator::Emulator;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Asks as an open page does, until the samples have what is wanted.
async fn samples<T>(emulator: &Emulator, what: &str, wanted: impl Fn(&[Value]) -> Option<T>) -> T {
    within(what, async {
        loop {
            let message = get(emulator, "/console/live").await.json();
            if let Some(found) = wanted(message["samples"].as_array().unwrap()) {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// Waits until the last sample is as wanted.
pub(crate) async fn sample(
    emulator: &Emulator,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let last = |samples: &[Value]| samples.last().filter(|last| wanted(last)).cloned();
    samples(emulator, what, last).await
}

/// The whole of one of the last invocations.
async fn whole(emulator: &Emulator, request_id: &str) -> Response {
    get(emulator, &format!("/console/invocations/{request_id}")).await
}

async fn listed(emulator: &Emulator) -> Vec<Value> {
    let mut listed = get(emulator, "/console/invocations").await.json();
    serde_json::from_value(listed["invocations"].take()).unwrap()
}

#[tokio::test]
async fn serves_one_page_that_needs_nothing_else_and_has_the_events_in_a_folder() {
    let folder = folder("events");
    fs::write(folder.join("second.json"), "[]").unwrap();
    fs::write(folder.join("notes.txt"), "[]").unwrap();
    fs::write(folder.join("large.json"), "1".repeat(65 * 1024)).unwrap();
    symlink("/dev/zero", folder.join("endless.json")).unwrap();
    let emulator = start_with(8, |settings| {
        "</script>".clone_into(&mut settings.function_name);
        settings.events = Some(folder.clone());
    })
    .await;
    let page = get(&emulator, "/").await;
    assert_eq!(page.status, 200);
    let content_type = page.header("content-type");
    assert_eq!(content_type, Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let html = page.text();
    assert!(html.lines().count() < 450);
    let links = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!links.contains("://"));
    let name = r#""name":"\u003c/script>","workers":8"#;
    let function = format!(r#"{{"attached":false,"examples":[["second","[]"]],{name}}}"#);
    assert!(html.contains(&function));
    fs::write(folder.join("first.json"), "{}\n").unwrap();
    fs::write(folder.join("second-to-none.json"), "1").unwrap();
    let html = get(&emulator, "/").await.text();
    let in_order = r#""examples":[["first","{}"],["second-to-none","1"],["second","[]"]],"#;
    assert!(html.contains(in_order));
}

/// The console offers the events of this repository's function.
#[test]
fn every_documented_event_is_in_the_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let files = fs::read_dir(root.join("events")).unwrap();
    let kept: Vec<_> = files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let events: Vec<_> = (readme.split("```json event\n").skip(1))
        .map(|block| block.split("\n```").next().unwrap())
        .collect();
    assert!(events.len() >= 8, "{events:?}");
    for event in events {
        assert!(kept.iter().any(|kept| kept.trim_end() == event), "{event}");
    }
}

#[tokio::test]
async fn reports_a_burst() {
    let emulator = start_workers(2).await;
    let head = "POST /console/burst HTTP/1.1";
    let burst = http(emulator.invoke_address(), head, br#"{"echo": 1}"#).await;
    let outcomes = burst.json();
    let count = |outcome: &str| outcomes[outcome].as_u64().unwrap();
    assert!(count("replies") >= 2, "{outcomes}");
    assert_eq!(count("replies") + count("throttled"), 64);
    all_poll(&emulator, 2).await;
    let failed = http(emulator.invoke_address(), head, br#"{"fail": "no"}"#).await;
    assert!(failed.json()["functionErrors"].as_u64().unwrap() >= 2);
    let refused = http(emulator.invoke_address(), head, b"not JSON").await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn counts_every_invocation_once_whoever_asks() {
    let emulator = start_workers(2).await;
    for _ in 0..10 {
        call(&emulator, r#"{"echo": 1}"#).await;
        get(&emulator, "/console/live").await;
    }
    // Samples are kept for a minute.
    let total = |samples: &[Value]| {
        let counts = samples.iter().map(|one| one["invocations"].as_u64());
        counts.sum::<Option<u64>>().filter(|total| *total >= 10)
    };
    assert_eq!(samples(&emulator, "ten invocations", total).await, 10);
    assert_eq!(samples(&emulator, "the same ten", total).await, 10);
}

#[tokio::test]
async fn samples_durations_and_errors_and_the_memory_of_all_processes() {
    let child = "(head -c 30000000 /dev/zero | tail -c 30000000 | (sleep 1000; cat)) >/dev/null &";
    let bootstrap = function_after("with-a-child", child);
    let emulator = start_with(1, |it| it.bootstrap = bootstrap).await;
    let has_child = |sample: &Value| sample["memory"].as_u64() > Some(30_000_000);
    let idle = sample(&emulator, "the child's 30 MB", has_child).await;
    assert!(emulator.resident_bytes() > Some(30_000_000));
    assert_eq!(idle["p50"], Value::Null);
    call(&emulator, r#"{"fail": "no"}"#).await;
    let is_failed = |sample: &&Value| sample["functionErrors"] == 1;
    let failed = |samples: &[Value]| samples.iter().find(is_failed).cloned();
    let failed = samples(&emulator, "an error", failed).await;
    assert_eq!(failed["invocations"], 1);
    assert!(failed["p50"].as_f64().unwrap() > 0.0, "{failed}");
    assert_eq!(failed["p50"], failed["p99"]);
}

#[tokio::test]
async fn misses_a_worker_that_does_not_poll_whatever_the_others_do() {
    let mut settings = workers(3);
    settings.environment = vec![("AWS_LAMBDA_MAX_CONCURRENCY".into(), "2".into())];
    settings.return_limit = Duration::from_millis(100);
    let emulator = start(settings).await;
    all_poll(&emulator, 2).await;
    let _held = hold(&emulator).await;
    sample(&emulator, "one busy, one gone", |sample| {
        sample["busy"] == 1 && sample["gone"] == 1
    })
    .await;
}

#[tokio::test]
async fn lists_the_last_invocations_and_what_was_throttled_or_refused() {
    let emulator = start_workers(1).await;
    assert_eq!(listed(&emulator).await, [json!(null); 0]);
    let replied = invoke(&emulator, "", br#"{"log": "first"}"#).await;
    let failed = invoke(&emulator, "", br#"{"fail": "second"}"#).await;
    let held = hold(&emulator).await;
    let throttled = invoke(&emulator, "", b"{}").await;
    let refused = invoke(&emulator, "", b"{").await;
    let (url, large) = (emulator.function_url_address(), vec![b' '; 7 << 20]);
    let too_large = http(url, "POST / HTTP/1.1", &large).await;
    assert!(!held.release().await.function_error);
    let listed = listed(&emulator).await;
    assert_eq!(listed.len(), 6);
    let null = Value::Null;
    for (one, (response, event, error, function_error)) in listed[1..].iter().zip([
        (too_large, "", json!("RequestTooLargeException"), &null),
        (refused, "{", json!("InvalidRequestContentException"), &null),
        (throttled, "{}", json!("TooManyRequestsException"), &null),
        (failed, r#"{"fail": "second"}"#, null.clone(), &json!(true)),
        (replied, r#"{"log": "first"}"#, null.clone(), &json!(false)),
    ]) {
        let id = response.request_id();
        assert_eq!(
            (&one["requestId"], &one["event"]),
            (&json!(id), &json!(event))
        );
        assert_eq!(one["refused"]["type"], error);
        assert_eq!(one["functionError"], *function_error);
        assert!(one["ended"].as_u64().unwrap() > 1_700_000_000_000);
        let whole = whole(&emulator, id).await.json();
        assert_eq!(whole["event"], event);
        if error.is_null() {
            assert!(one["duration"].as_f64().unwrap() > 0.0);
            assert_eq!(whole["reply"], response.text());
        } else {
            assert_eq!(one["refused"]["status"], response.status);
            assert!(whole["refused"]["message"].is_string());
        }
    }
    let unknown = whole(&emulator, "156cb537-e2d4-11e8-9b34-d36013741fb9").await;
    assert_eq!(unknown.status, 404);
}

/// However the lines of invocations that follow each other closely come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_the_log_of_one_invocation_from_the_next() {
    let emulator = start_with(1, |it| it.queue = 4).await;
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let emulator = std::sync::Arc::clone(&emulator);
        callers.spawn(async move {
            for number in 0..10 {
                let text = format!("{number} of caller {caller}");
                let reply = call(&emulator, json!({ "log": text }).to_string()).await;
                let id = reply.request_id.to_string();
                let log = whole(&emulator, &id).await.json()["log"].take();
                let line = json!({ "requestId": id, "message": text });
                assert_eq!(log, json!([line.to_string()]));
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test]
async fn shows_the_lines_without_a_request_id() {
    let emulator = start_workers(2).await;
    let other = "156cb537-e2d4-11e8-9b34-d36013741fb9";
    call(&emulator, json!({ "log": other }).to_string()).await;
    call(&emulator, r#"{"lines": 2}"#).await;
    for _ in 0..3 {
        call(&emulator, json!({ "log": "x".repeat(60_000) }).to_string()).await;
    }
    let lines = emulator.lines();
    let output = get(&emulator, "/console/output").await.json()["lines"].take();
    let output: Vec<String> = serde_json::from_value(output).unwrap();
    let mut without: Vec<_> = lines.iter().map(ToString::to_string).collect();
    without.retain(|line| !line.contains("requestId"));
    // Not more than 128 KB of them.
    assert!(without.ends_with(&output));
    assert!(output.len() < without.len());
    let message = get(&emulator, "/console/live").await.json();
    assert_eq!(message["printed"], json!([without.len(), 0]));
    // Those of invocations do not push them out.
    let known = call(&emulator, "{}").await.request_id;
    let log = json!({ "log": format!("{known} {}", "x".repeat(60_000)) }).to_string();
    for _ in 0..40 {
        call(&emulator, log.clone()).await;
    }
    let later = get(&emulator, "/console/output").await.json();
    assert_eq!(later["lines"], json!(output));
}

#[tokio::test]
async fn shows_what_is_printed_without_the_end_of_a_line() {
    let bootstrap = function_after("loads", "printf 'loading'");
    let emulator = start_with(1, |it| it.bootstrap = bootstrap).await;
    let log = json!({ "log": "hello" }).to_string();
    let until_invoked = get(&emulator, "/console/output").await;
    assert_eq!(until_invoked.json()["lines"], json!(["loading"]));
    let message = get(&emulator, "/console/live").await.json();
    assert_eq!(message["printed"], json!([0, "loading".len()]));
    // The rest of that line, which the function prints, has a request id.
    call(&emulator, log).await;
    let whole = get(&emulator, "/console/output").await;
    assert_eq!(whole.json()["lines"], json!([r#"{"message":"hello"}"#]));
}

#[tokio::test]
async fn keeps_no_more_than_50_invocations_of_a_kind_and_16_mb() {
    let emulator = start(workers(2)).await;
    call(&emulator, r#"{"fail": "no"}"#).await;
    invoke(&emulator, "", b"not JSON").await;
    for number in 0..60 {
        call(&emulator, json!({ "echo": number }).to_string()).await;
    }
    assert_eq!(listed(&emulator).await.len(), 52);
    let large = json!({ "echo": "x".repeat(5_000_000) }).to_string();
    let last = call(&emulator, &*large).await;
    assert!(listed(&emulator).await.len() > 1);
    call(&emulator, &*large).await;
    // Each takes 10 MB.
    let listed = listed(&emulator).await;
    assert_eq!(listed.len(), 1);
    let gone = whole(&emulator, &last.request_id.to_string()).await;
    assert_eq!(gone.status, 404);
    assert_eq!(listed[0]["event"].as_str().unwrap().len(), 200);
    let newest = whole(&emulator, listed[0]["requestId"].as_str().unwrap()).await;
    assert_eq!(newest.json()["event"], large);
}

#[tokio::test]
async fn serves_what_can_be_read_only_to_its_own_page() {
    let emulator = start(workers(2)).await;
    let address = emulator.invoke_address();
    let table = "
 => 200
host: localhost:PORT => 200
host: localhost => 200
host: 192.168.1.7:9000 => 200
host: [::1]:9000 => 200
origin: http://127.0.0.1:PORT => 200
host: localhost:80, origin: http://localhost:80 => 200
host: attacker.example => 403
host: attacker.example, origin: http://attacker.example => 403
host: localhost.attacker.example => 403
host: => 403
origin: http://attacker.example => 403
origin: null => 403
origin: https://127.0.0.1:PORT => 403
origin: http://127.0.0.1:1 => 403";
    let table = table.replace("PORT", &address.port().to_string());
    for line in [
        "GET /",
        "GET /console/live",
        "GET /console/invocations",
        "GET /console/output",
        "POST /console/burst",
        "GET /2015-03-31/functions/function",
        "GET /2015-03-31/functions/function/configuration",
        "GET /2015-03-31/functions/",
    ] {
        for (headers, status) in cases(&table) {
            let head = format!("{line} HTTP/1.1\n{}", headers.replace(", ", "\n"));
            let response = http(address, &head, br#"{"echo": 1}"#).await;
            assert_eq!(response.status.to_string(), status, "{line} {headers}");
        }
    }
}

const REPLIED: &str = "The function replied.";

/// Waits for the counts of workers that the page shows.
async fn counts(browser: &mut Browser, counts: &str) {
    let shown = format!(
        "[...$('#counts').children].map((one) => one.textContent).join(', ') === '{counts}'"
    );
    browser.wait(&shown).await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn names_an_example_until_its_event_is_edited() {
    let folder = folder("example");
    fs::write(folder.join("good morning.json"), r#"{"echo": 1}"#).unwrap();
    let mut settings = function();
    settings.events = Some(folder);
    let (_emulator, mut browser) = open(settings).await;
    let chosen = "$('#example').selectedOptions[0].textContent";
    assert_eq!(browser.value(chosen).await, "good morning");
    assert_eq!(browser.value("event.value").await, r#"{"echo": 1}"#);
    browser.enter(r#"{"echo": 2}"#).await;
    assert_eq!(browser.value(chosen).await, "Your own event");
    browser.enter("{}").await;
    assert_eq!(browser.value(chosen).await, "Any function: empty object");
    let examples = browser.value("EXAMPLES.map((one) => one[1])").await;
    for (number, example) in examples.as_array().unwrap().iter().enumerate() {
        serde_json::from_str::<Value>(example.as_str().unwrap()).unwrap();
        let choose = format!("example.value = {number}; example.onchange()");
        browser.value(&choose).await;
        browser.click("button.main").await;
        assert_eq!(browser.text("#outcome").await, REPLIED);
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_a_burst_fill_the_workers() {
    let (_emulator, mut browser) = open(function()).await;
    counts(&mut browser, "0 busy, 8 polling, 0 gone").await;
    let gate = Gate::new().await;
    browser.enter(&gate.event()).await;
    browser.value("$('#burst').click()").await;
    let mut inside = Vec::new();
    for _ in 0..8 {
        inside.push(gate.entered().await);
    }
    counts(&mut browser, "8 busy, 0 polling, 0 gone").await;
    drop(inside);
    browser.wait("!$('#burst').ariaDisabled").await;
    let outcome = "Of 64 at once, 8 got a reply, 56 were throttled, 0 failed.";
    assert_eq!(browser.text("#outcome").await, outcome);
    // Neither good nor bad.
    assert_eq!(browser.value("outcome.className").await, "warn");
    for part in ["replied 8", "throttled 56"] {
        browser.wait_for_text("#charts", part).await;
    }
    counts(&mut browser, "0 busy, 8 polling, 0 gone").await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn goes_on_after_the_function_has_crashed_and_with_another_emulator() {
    let (emulator, mut browser) = open(workers(2)).await;
    let first = emulator.pid().unwrap();
    let state = format!("$('#state').textContent === 'The function runs as process {first}.'");
    browser.wait(&state).await;
    let outcome = browser.invoke(r#"{"exit": 1}"#).await;
    assert_eq!(outcome, "The function failed: Runtime.ExitError");
    let second = within("another process", emulator.wait_for_restart(first)).await;
    let state = format!(
        "/^The function runs as process {second}. It was started at [:0-9]+ in place of process {first}.$/
            .test($('#state').textContent)"
    );
    browser.wait(&state).await;
    counts(&mut browser, "0 busy, 2 polling, 0 gone").await;
    assert_eq!(browser.invoke(r#"{"echo": 1}"#).await, REPLIED);

    let mut settings = workers(3);
    settings.invoke_address = emulator.invoke_address();
    terminate(emulator).await;
    browser.wait_for_text("#state", "No live data").await;
    counts(&mut browser, "").await;
    let outcome = browser.invoke("{}").await;
    assert!(outcome.starts_with("No response: "), "{outcome}");

    browser.call("Page.enable", json!({})).await;
    let _emulator = start(settings).await;
    // It has another number of workers.
    within("the page to load again", async {
        while browser.next_message().await["method"] != "Page.loadEventFired" {}
    })
    .await;
    counts(&mut browser, "0 busy, 3 polling, 0 gone").await;
    assert_eq!(browser.invoke(r#"{"echo": 1}"#).await, REPLIED);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_a_function_that_somebody_else_starts() {
    let mut settings = workers(2);
    settings.attach = Some(([127, 0, 0, 1], 0).into());
    let (emulator, mut browser) = open(settings).await;
    counts(&mut browser, "0 busy, 0 polling, 2 gone").await;
    let state = "Start the function: nobody has polled yet.";
    assert_eq!(browser.text("#state").await, state);
    let mut process = tokio::process::Command::new(function().bootstrap);
    process.envs(emulator.variables().iter().cloned());
    let process = process.kill_on_drop(true).spawn().unwrap();
    counts(&mut browser, "0 busy, 2 polling, 0 gone").await;
    assert_eq!(browser.text("#state").await, "The function is attached.");
    browser.invoke(r#"{"lines": 1}"#).await;
    let elsewhere = "The function prints to the terminal in which it was started.";
    assert_eq!(browser.text("#details [aria-label=Log]").await, elsewhere);
    assert_eq!(browser.text("#silent").await, elsewhere);
    drop(process);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn works_in_many_tabs_and_rests_in_hidden_ones() {
    let (emulator, mut browser) = open(workers(2)).await;
    let url = format!("http://{}/", emulator.invoke_address());
    let mut tabs = Vec::new();
    for _ in 0..8 {
        tabs.push(browser.open_tab(&url).await);
    }
    counts(&mut browser, "0 busy, 2 polling, 0 gone").await;
    assert_eq!(browser.invoke(r#"{"echo": 1}"#).await, REPLIED);
    let requests = "performance.getEntriesByName(`${location.origin}/console/live`).length";
    let visible = std::mem::replace(&mut browser.session, tabs.pop().unwrap());
    browser.wait("document.hidden").await;
    let asked = browser.value(requests).await.as_u64().unwrap();
    let hidden = std::mem::replace(&mut browser.session, visible);
    let more = browser.value(requests).await.as_u64().unwrap() + 10;
    browser.wait(&format!("{requests} >= {more}")).await;
    browser.session = hidden;
    // One may have been on its way.
    let now = browser.value(requests).await.as_u64().unwrap();
    assert!(now <= asked + 1, "{asked} and {now}");
    browser.call("Page.bringToFront", json!({})).await;
    browser.wait(&format!("{requests} > {now}")).await;
}

/// As text, with JSON indented and every digit kept. It never says that nothing was logged when
/// something was.
#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_what_is_sent_as_text_and_not_all_of_it() {
    let (_emulator, mut browser) = open(workers(1)).await;
    let html = "<img src=x onerror=alert(1)>";
    let body = r#"{"n": 12345678901234567890.10, "list": [], "text": "a, {b: \"c\"}"}"#;
    let indented_body = "{\n  \"n\": 12345678901234567890.10,\n  \"list\": [],\n  \"text\": \"a, {b: \\\"c\\\"}\"\n}";
    let reply = json!({ "statusCode": 404, "body": body });
    let indented = serde_json::to_string_pretty(&reply).unwrap();
    let with_status = json!({ "raw": reply.to_string() });
    let elsewhere = "So far, no line of the last 4 MB has this request ID. Lines without one are under \
                     “Output without a request ID”.";
    let too_large = "Request must be smaller than";
    let failed = "The function failed: ";
    let status_404 = "The function replied with status 404.";
    let mut shown = async |event: Value, outcome: &str, what: &str, text: &str| {
        let said = browser.invoke(&event.to_string()).await;
        assert!(said.starts_with(outcome), "{said}");
        let whole = browser.text(&format!("#details [aria-label={what}]")).await;
        assert!(whole.contains(text), "{whole:.1000}");
        assert_eq!(browser.value("document.images.length").await, 0);
    };
    let quoted = format!("{html:?}");
    shown(json!({ "echo": html }), REPLIED, "Reply", &quoted).await;
    shown(json!({ "fail": html }), failed, "Reply", html).await;
    shown(json!({ "log": html }), REPLIED, "Log", html).await;
    shown(json!({ "lines": 1 }), REPLIED, "Log", elsewhere).await;
    shown(with_status.clone(), status_404, "Body", indented_body).await;
    shown(with_status, status_404, "Reply", &indented).await;
    let cut = "(6,000,000 characters in all)";
    shown(json!({ "large": 6_000_000 }), REPLIED, "Reply", cut).await;
    let large = "x".repeat(6 << 20);
    let refused = "413 RequestTooLargeException";
    shown(json!({ "echo": large }), refused, "Response", too_large).await;
    browser.wait_for_text("#lines", html).await;
    browser.wait_for_text("#lines", "line 0 of 1").await;
    let pretty = "pretty('{\"a\": 1') + pretty('[1,[2 , {}]]')";
    let expected = "{\"a\": 1[\n  1,\n  [\n    2,\n    {}\n  ]\n]";
    assert_eq!(browser.value(pretty).await, expected);
}

/// The texts of two labels do not touch, and nothing sticks out of its section.
const FITS: &str = "(() => {
    const box = (one) => { const range = new Range(); range.selectNodeContents(one); return range.getBoundingClientRect(); };
    const labels = [...document.querySelectorAll('h2, h3, small, #counts span, .chart span')].filter((one) => one.innerText).map((one) => [one.innerText, box(one)]);
    for (const [a, one] of labels) for (const [b, other] of labels)
        if (one !== other && one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom)
            return `${a} overlaps ${b}`;
    for (const one of document.querySelectorAll('section *'))
        if (one.getBoundingClientRect().right > one.closest('section').getBoundingClientRect().right + 5 && !one.closest('pre')) return `${one.outerHTML} sticks out`;
    return document.documentElement.scrollWidth <= innerWidth ? 'fits' : 'too wide';
})()";

/// Looks at the page on a desktop's and on a phone's screen, in every kind of colours.
#[tokio::test]
#[ignore = "needs Chromium"]
async fn fits_every_screen() {
    let mut settings = function();
    settings.function_name = "a-rather-long-name-of-a-function-that-does-not-fit-on-a-phone".into();
    let (_emulator, mut browser) = open(settings).await;
    let long = json!("x".repeat(2_000)).to_string();
    for event in [
        r#"{"echo": {"n": 10}}"#,
        r#"{"fail": "no"}"#,
        r#"{"lines": 3}"#,
        "{",
        &long,
        r#"{"log": "here"}"#,
    ] {
        browser.invoke(event).await;
    }
    counts(&mut browser, "0 busy, 8 polling, 0 gone").await;
    // Much is going on, and from now on nothing changes.
    let busy = "get('/console/live').then((message) => {
        const ended = Date.now();
        message.samples = Array.from({ length: 60 }, (_, n) => ({ ended: ended - 1000 * (59 - n), busy: 3, gone: 1,
            invocations: 11160 + 300 * Math.sin(n / 5), functionErrors: n % 20 ? 0 : 300, throttled: 2000 + 50 * n,
            p50: 200 + n, p99: 20000 + 500 * n, memory: 3.4e6 + 1e4 * n }));
        const drawn = update(message);
        update = () => {};
        return drawn })";
    browser.value(busy).await;
    for (name, width) in [("desktop", 1280), ("phone", 390)] {
        let screen = json!({
            "width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        let resize = "Emulation.setDeviceMetricsOverride";
        browser.call(resize, screen).await;
        for (feature, mode) in [
            ("prefers-color-scheme", "light"),
            ("prefers-color-scheme", "dark"),
            ("forced-colors", "active"),
        ] {
            let features = json!({ "features": [{ "name": feature, "value": mode }] });
            browser.call("Emulation.setEmulatedMedia", features).await;
            let fold =
                "document.querySelectorAll('details').forEach((one) => { one.open = false })";
            browser.value(fold).await;
            assert_eq!(browser.value(FITS).await, "fits", "{name}, {mode}");
            let touchable = "[...document.querySelectorAll('button, select, summary')]
                .every((one) => one.getBoundingClientRect().height >= 44)";
            assert_eq!(browser.value(touchable).await, true, "{name}, {mode}");
            browser.value("$('#last details').open = true; 0").await;
            browser.wait("$('#last details button')").await;
            let fits = browser.value(FITS).await;
            assert_eq!(fits, "fits", "{name}, {mode}, unfolded");
        }
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn draws_a_single_invocation_large_enough_to_see_and_keeps_nothing() {
    let (_emulator, mut browser) = open(workers(1)).await;
    browser.invoke(r#"{"echo": 1}"#).await;
    for curve in [".dots path:first-child", ".dots path:last-child"] {
        let is_drawn = format!("$('{curve}').getAttribute('d')");
        browser.wait(&is_drawn).await;
        let width = format!("parseFloat(getComputedStyle($('{curve}')).strokeWidth) >= 5");
        assert_eq!(browser.value(&width).await, true);
    }
    let bar = "$('svg path').getBoundingClientRect()";
    let is_seen = format!("{bar}.width >= 3 && {bar}.height >= 3");
    browser.wait(&is_seen).await;
    let labels = browser.text(".chart").await;
    assert!(labels.contains("replied 1"), "{labels}");
    // Times under the axis, a minute apart.
    let times = "[...$('.times').children].map((one) => one.textContent)";
    let times = browser.value(times).await;
    assert_eq!(times.as_array().unwrap().len(), 3, "{times}");
    let count = "get('/console/live').then((message) => {
        for (let n = 0; n < 1000; n++) update(message);
        return document.querySelectorAll('*').length })";
    let first = browser.value(count).await;
    assert_eq!(browser.value(count).await, first);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_more_workers_than_fit_side_by_side() {
    let mut settings = workers(1600);
    settings.environment = vec![("AWS_LAMBDA_MAX_CONCURRENCY".into(), "2".into())];
    settings.return_limit = Duration::from_millis(100);
    let (_emulator, mut browser) = open(settings).await;
    counts(&mut browser, "0 busy, 2 polling, 1,598 gone").await;
    let shares = "[...$('#workers').children]
        .map((one) => one.getBoundingClientRect().width / $('#workers').clientWidth)";
    let shares = browser.value(shares).await;
    let share = |index: usize| shares[index].as_f64().unwrap();
    assert!((share(1) / share(0) - 799.0).abs() < 40.0, "{shares}");
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn lists_failures_apart_and_sends_an_invocation_again() {
    let (_emulator, mut browser) = open(function()).await;
    browser.invoke(r#"{"echo": "first"}"#).await;
    browser.invoke(r#"{"fail": "no"}"#).await;
    browser.invoke(r#"{"raw": "{\"statusCode\": 404}"}"#).await;
    browser.invoke("not JSON").await;
    browser.wait("$('#last').children.length === 4").await;
    let refused = "400 InvalidRequestContentException";
    let all = format!("{refused},status 404,failed,replied");
    for (kind, expected) in [
        ("failed", "status 404,failed"),
        ("refused", refused),
        ("", &*all),
    ] {
        let choose = format!("filter.value = '{kind}'; filter.onchange()");
        browser.value(&choose).await;
        let rows = "[...document.querySelectorAll('#last > li:not([hidden]) .good, #last > li:not([hidden]) .bad')]
            .filter((one) => one.checkVisibility()).map((one) => one.textContent).join()";
        assert_eq!(browser.value(rows).await, expected);
    }
    let (first, refused) = ("#last > li:last-child", "#last > li");
    for row in [first, refused] {
        browser.value(&format!("$('{row} summary').click()")).await;
    }
    let reason = "Could not parse request body into json";
    browser.wait_for_text(refused, reason).await;
    for part in ["Request ID", "\"echo\": \"first\"", "Reply", "no line"] {
        browser.wait_for_text(first, part).await;
    }
    browser.click(&format!("{first} button")).await;
    assert_eq!(browser.text("#outcome").await, REPLIED);
    assert_eq!(browser.value("event.value").await, r#"{"echo": "first"}"#);
    let reply = browser.text("#details [aria-label=Reply]").await;
    assert_eq!(reply, "\"first\"");
    // It is listed as another one, and the one that was unfolded stays so.
    browser.wait("$('#last').children.length === 5").await;
    let is_open = format!("$('{first} details').open");
    assert_eq!(browser.value(&is_open).await, true);
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn copies_an_event_as_a_command() {
    let (emulator, mut browser) = open(function()).await;
    let event = r#"{"echo": "it's \"$HOME\""}"#;
    browser.enter(event).await;
    let address = emulator.invoke_address();
    let url = format!("http://{address}/2015-03-31/functions/function/invocations");
    let command = format!(r#"curl {url} --data-raw '{{"echo": "it'\''s \"$HOME\""}}'"#);
    browser.value("globalThis.copied = ''").await;
    for (clipboard, shown) in [
        ("{ writeText: (text) => { copied = text } }", "copied"),
        // Without a clipboard, the command is there to be selected.
        ("undefined", "$('form pre')?.innerText"),
    ] {
        let define = format!(
            "Object.defineProperty(navigator, 'clipboard', {{ value: {clipboard}, configurable: true }}); 0"
        );
        browser.value(&define).await;
        browser.value("$('#curl').click()").await;
        browser
            .wait(&format!("{shown} === {}", json!(command)))
            .await;
    }
}
