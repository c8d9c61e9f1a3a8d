//! The console, in a browser and without.

use std::fs;

use crate::support::browser::open;
use crate::support::{Gate, all_poll, call, function, http, request, start, within, workers};
use emulator::{Emulator, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

fn fibonacci_generator() -> Settings {
    Settings::new(emulator::build_function().unwrap())
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_what_the_function_replies_to_each_example() {
    let (emulator, mut browser) = open(fibonacci_generator()).await;
    let count = browser.value("EXAMPLES.length").await.as_u64().unwrap();
    let mut outcomes = Vec::new();
    for index in 0..count {
        let choose = format!("example.value = {index}; example.onchange()");
        browser.value(&choose).await;
        browser.click("button.main").await;
        outcomes.push(browser.text("#outcome").await);
        if index == 0 {
            assert_eq!(
                browser.text("#reply").await,
                "0\n1\n1\n2\n3\n5\n8\n13\n21\n34\n55"
            );
            assert_eq!(browser.text("#log pre").await, "nothing was logged");
        }
    }
    let status = |status| format!("The function replied with status {status}.");
    let mut expected = [
        200, 200, 200, 200, 400, 400, 400, 400, 0, 200, 200, 200, 400,
    ]
    .map(status);
    expected[8] = "400 InvalidRequestContentException".to_owned();
    assert_eq!(outcomes, expected);
    assert!(browser.text("#reply").await.contains("must be an integer"));
    emulator.terminate().await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_a_burst_fill_the_workers() {
    let (emulator, mut browser) = open(fibonacci_generator()).await;
    browser
        .wait("$('#counts').textContent === '8 polling, 0 busy, 0 gone'")
        .await;
    browser
        .value(
            "globalThis.seen = []; event.value = '{\"n\": 1000}';
            new MutationObserver(() => seen.push($('#counts').textContent))
                .observe($('#counts'), { childList: true })",
        )
        .await;
    browser.click("#burst").await;
    let outcome = browser.text("#outcome").await;
    assert!(outcome.starts_with("Of 64 at once "), "{outcome}");
    assert!(outcome.ends_with(" throttled, 0 failed."), "{outcome}");
    browser
        .wait("seen.some((counts) => counts.includes('8 busy'))")
        .await;
    for (plot, moves) in [
        (0, true),
        (1, true),
        (2, true),
        (3, true),
        (4, false),
        (5, true),
    ] {
        let has_moved = format!("PLOTS[{plot}].values.some((value) => value > 0)");
        assert_eq!(browser.value(&has_moved).await, moves, "plot {plot}");
    }
    browser
        .wait("$('#counts').textContent === '8 polling, 0 busy, 0 gone'")
        .await;
    emulator.terminate().await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn goes_on_after_the_function_has_crashed() {
    let (emulator, mut browser) = open(workers(2)).await;
    browser
        .wait("$('#state').textContent === 'The function runs.'")
        .await;
    let outcome = browser.invoke(r#"{"exit": 1}"#).await;
    assert_eq!(outcome, "The function failed: Runtime.ExitError");
    browser
        .wait("/^The function runs. It ended at .* and was started again.$/.test($('#state').textContent)")
        .await;
    browser
        .wait("$('#counts').textContent === '2 polling, 0 busy, 0 gone'")
        .await;
    assert_eq!(
        browser.invoke(r#"{"echo": 1}"#).await,
        "The function replied."
    );
    emulator.terminate().await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn says_that_there_is_no_emulator_and_finds_the_next_one() {
    let (emulator, mut browser) = open(workers(2)).await;
    let mut settings = workers(3);
    settings.invoke_address = emulator.invoke_address();
    emulator.terminate().await;
    browser
        .wait("$('#state').textContent.startsWith('No live data')")
        .await;
    let outcome = browser.invoke("{}").await;
    assert!(outcome.starts_with("No answer: "), "{outcome}");

    browser.call("Page.enable", json!({})).await;
    let emulator = start(settings).await;
    // It has another number of workers.
    while browser.next_message().await["method"] != "Page.loadEventFired" {}
    browser
        .wait("$('#counts').textContent === '3 polling, 0 busy, 0 gone'")
        .await;
    assert_eq!(
        browser.invoke(r#"{"echo": 1}"#).await,
        "The function replied."
    );
    emulator.terminate().await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_what_is_sent_as_text_and_not_all_of_it() {
    let (emulator, mut browser) = open(function()).await;
    let html = "<img src=x onerror=alert(1)>";
    let outcome = browser.invoke(&json!({ "echo": html }).to_string()).await;
    assert_eq!(outcome, "The function replied.");
    assert_eq!(browser.text("#reply").await, format!("{html:?}"));
    browser.invoke(&json!({ "log": html }).to_string()).await;
    assert!(browser.text("#log pre").await.contains(html));
    browser.invoke(&json!({ "fail": html }).to_string()).await;
    assert!(browser.text("#reply").await.contains(html));
    assert_eq!(browser.value("document.images.length").await, 0);

    browser.invoke(r#"{"large": 6000000}"#).await;
    let reply = browser.text("#reply").await;
    assert!(
        reply.ends_with("(6,000,000 characters in all)"),
        "{}",
        reply.len()
    );
    browser
        .value("event.value = `{\"echo\": \"${'x'.repeat(6 << 20)}\"}`")
        .await;
    browser.click("button.main").await;
    assert_eq!(
        browser.text("#outcome").await,
        "413 RequestTooLargeException"
    );
    emulator.terminate().await;
}

/// An hour of messages, as fast as the page takes them.
#[tokio::test]
#[ignore = "needs Chromium"]
async fn keeps_no_more_of_an_hour_than_of_a_minute() {
    let (emulator, mut browser) = open(function()).await;
    let an_hour = "for (let n = 0; n < 4 * 3600; n++) update({
        function: { name, workers }, seconds: 0.25, pid: n % 7, missing: n % 3, busy: n % 9, invocations: n,
        p50: n % 5 ? n : null, p99: n, throttled: n, functionErrors: n, rss: 1e6 + n })";
    browser.value(an_hour).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        browser.value(an_hour).await;
        browser.call("HeapProfiler.collectGarbage", json!({})).await;
        let heap = browser.call("Runtime.getHeapUsage", json!({})).await;
        let nodes = browser.value("document.querySelectorAll('*').length").await;
        kept.push((heap["usedSize"].as_f64().unwrap(), nodes));
    }
    assert_eq!(kept[0].1, kept[1].1);
    // Less than 35 bytes a message, which is no object; the engine's own heap moves by some.
    assert!(kept[1].0 - kept[0].0 < 500_000.0, "{kept:?}");
    assert_eq!(browser.value("PLOTS[0].values.length").await, 240);
    emulator.terminate().await;
}

#[tokio::test]
async fn serves_one_page_that_needs_nothing_else() {
    let mut settings = function();
    settings.function_name = "</script>".to_owned();
    let emulator = start(settings).await;
    let page = http(emulator.invoke_address(), "GET / HTTP/1.1", b"").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    let html = page.text();
    assert!(html.lines().count() < 300);
    assert!(html.contains(r#"{"name":"\u003c/script>","workers":8}"#));
    assert!(
        !html
            .replace("http://www.w3.org/2000/svg", "")
            .contains("://")
    );
    emulator.terminate().await;
}

#[tokio::test]
async fn offers_every_documented_event() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let html = include_str!("../src/console.html");
    let events: Vec<_> = (readme.split("```json event\n").skip(1))
        .map(|block| block.split("\n```").next().unwrap())
        .collect();
    assert!(events.len() >= 8, "{events:?}");
    for event in events {
        let quoted = [format!("'{event}'"), format!("\"{event}\"")];
        assert!(quoted.iter().any(|event| html.contains(event)), "{event}");
    }
}

#[tokio::test]
async fn reports_a_burst() {
    let emulator = start(workers(2)).await;
    let head = "POST /console/burst HTTP/1.1";
    let burst = http(emulator.invoke_address(), head, br#"{"echo": 1}"#).await;
    let outcomes = burst.json();
    let count = |outcome: &str| outcomes[outcome].as_u64().unwrap();
    assert!(count("replies") >= 2, "{outcomes}");
    assert_eq!(count("replies") + count("throttled"), 64);
    let failed = http(emulator.invoke_address(), head, br#"{"fail": "no"}"#).await;
    assert!(failed.json()["functionErrors"].as_u64().unwrap() >= 2);
    let refused = http(emulator.invoke_address(), head, b"not JSON").await;
    assert_eq!(refused.status, 400);
    emulator.terminate().await;
}

/// The messages of an open page, one after the other.
struct Live(BufReader<tokio::net::TcpStream>);

impl Live {
    async fn open(emulator: &Emulator) -> Self {
        let head = "GET /console/live HTTP/1.1";
        Self(BufReader::new(
            request(emulator.invoke_address(), head, b"").await,
        ))
    }

    async fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            let read = within("a message of the console", self.0.read_line(&mut line)).await;
            assert_ne!(read.unwrap(), 0, "the stream ends");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn sends_a_few_messages_a_second_whatever_the_load() {
    let emulator = start(workers(2)).await;
    let mut pages = [Live::open(&emulator).await, Live::open(&emulator).await];
    for page in &mut pages {
        page.next().await;
    }
    let begun = std::time::Instant::now();
    let (mut invocations, mut messages) = (0, 0);
    for _ in 0..500 {
        call(&emulator, r#"{"echo": 1}"#).await;
    }
    while invocations < 500 {
        let message = pages[0].next().await;
        assert_eq!(message["pid"], emulator.pid().unwrap());
        assert!(message["rss"].as_u64().unwrap() > 100_000);
        invocations += message["invocations"].as_u64().unwrap();
        messages += 1;
    }
    assert_eq!(invocations, 500);
    assert!(f64::from(messages - 1) <= 10.0 * begun.elapsed().as_secs_f64());
    pages[1].next().await;
    emulator.terminate().await;
}

#[tokio::test]
async fn counts_from_when_a_page_is_opened() {
    let emulator = start(workers(1)).await;
    call(&emulator, r#"{"echo": 1}"#).await;
    let mut page = Live::open(&emulator).await;
    let message = page.next().await;
    assert_eq!(message["invocations"], 0);
    assert_eq!(message["p50"], Value::Null);
    call(&emulator, r#"{"fail": "no"}"#).await;
    while page.next().await["functionErrors"] != 1 {}
    emulator.terminate().await;
}

#[tokio::test]
async fn misses_a_worker_that_does_not_poll_whatever_the_others_do() {
    let mut settings = workers(3);
    settings.environment = vec![("AWS_LAMBDA_MAX_CONCURRENCY".into(), "2".into())];
    let emulator = start(settings).await;
    all_poll(&emulator, 2).await;
    let gate = Gate::new().await;
    let (held, ()) = tokio::join!(emulator.invoke(gate.event()), async {
        let inside = gate.entered().await;
        let mut page = Live::open(&emulator).await;
        // Between its reply and its next poll a worker is missing, too.
        let mut missing = Vec::new();
        for _ in 0..4 {
            call(&emulator, r#"{"echo": 1}"#).await;
            missing.push(page.next().await["missing"].as_u64());
        }
        assert_eq!(missing.into_iter().min(), Some(Some(1)));
        drop(inside);
    });
    assert!(!held.unwrap().function_error);
    emulator.terminate().await;
}

#[tokio::test]
async fn ends_at_once_with_a_page_open() {
    let emulator = start(function()).await;
    let mut page = Live::open(&emulator).await;
    page.next().await;
    let begun = std::time::Instant::now();
    emulator.terminate().await;
    let taken = begun.elapsed();
    assert!(taken.as_millis() < 900, "{taken:?}");
    page.0.read_to_end(&mut Vec::new()).await.unwrap();
}
