//! The console, in a browser and without.

use std::fs;

use std::sync::Arc;

use crate::support::browser::open;
use crate::support::{
    Gate, Response, all_poll, call, function, http, request, start, within, workers,
};
use emulator::{Emulator, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::task::JoinSet;

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
            assert_eq!(
                browser.text("#log pre").await,
                "no line has this request ID"
            );
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
    assert!(outcome.starts_with("Of 64 at once, "), "{outcome}");
    assert!(outcome.ends_with(" were throttled, 0 failed."), "{outcome}");
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
        .wait("$('#state').textContent === 'The function is running.'")
        .await;
    let outcome = browser.invoke(r#"{"exit": 1}"#).await;
    assert_eq!(outcome, "The function failed: Runtime.ExitError");
    browser
        .wait("/^The function is running. It ended at .* and was started again.$/.test($('#state').textContent)")
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
    assert!(outcome.starts_with("No response: "), "{outcome}");

    browser.call("Page.enable", json!({})).await;
    let emulator = start(settings).await;
    // It has another number of workers.
    within("the page to load again", async {
        while browser.next_message().await["method"] != "Page.loadEventFired" {}
    })
    .await;
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
        function: { name, workers }, seconds: 0.25, pid: n % 7, missing: n % 3, busy: n % 9, invocations: n, total: 0,
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
    assert!(html.lines().count() < 400);
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
    let (held, ()) = tokio::join!(call(&emulator, gate.event()), async {
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
    assert!(!held.function_error);
    emulator.terminate().await;
}

#[tokio::test]
async fn ends_with_a_page_open() {
    let emulator = start(function()).await;
    let mut page = Live::open(&emulator).await;
    page.next().await;
    within("the emulator to end", emulator.terminate()).await;
    let rest = &mut Vec::new();
    let end = page.0.read_to_end(rest);
    within("the end of the stream", end).await.unwrap();
}

async fn get(emulator: &Emulator, path: &str) -> Response {
    let head = format!("GET {path} HTTP/1.1");
    http(emulator.invoke_address(), &head, b"").await
}

#[tokio::test]
async fn lists_the_last_invocations() {
    let emulator = start(workers(2)).await;
    let none = get(&emulator, "/console/invocations").await;
    assert_eq!(none.json(), json!({ "invocations": [] }));
    let first = call(&emulator, r#"{"log": "first"}"#).await;
    let second = call(&emulator, r#"{"fail": "second"}"#).await;
    let listed = get(&emulator, "/console/invocations").await.json();
    let listed = listed["invocations"].as_array().unwrap();
    let member = |name: &str| {
        let values = listed.iter().map(|one| one[name].clone());
        values.collect::<Vec<_>>()
    };
    let ids = [second.request_id, first.request_id].map(|id| json!(id.to_string()));
    assert_eq!(member("requestId"), ids);
    assert_eq!(member("functionError"), [true, false]);
    let events = [r#"{"fail": "second"}"#, r#"{"log": "first"}"#];
    assert_eq!(member("event"), events);
    for one in listed {
        assert!(one["duration"].as_f64().unwrap() > 0.0);
        assert!(one["connection"].as_u64().unwrap() > 0);
        assert!(one["ended"].as_u64().unwrap() > 1_700_000_000_000);
    }

    let whole = get(
        &emulator,
        &format!("/console/invocations/{}", first.request_id),
    )
    .await;
    let whole = whole.json();
    assert_eq!(
        (&whole["event"], &whole["reply"]),
        (&json!(r#"{"log": "first"}"#), &json!("null"))
    );
    let line = json!({ "requestId": first.request_id.to_string(), "message": "first" });
    assert_eq!(whole["log"], json!([line.to_string()]));
    let id = "156cb537-e2d4-11e8-9b34-d36013741fb9";
    let unknown = get(&emulator, &format!("/console/invocations/{id}")).await;
    assert_eq!(unknown.status, 404);
    emulator.terminate().await;
}

/// However the lines of invocations that follow each other closely come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_the_log_of_one_invocation_from_the_next() {
    let mut settings = workers(1);
    settings.queue = 4;
    let emulator = Arc::new(start(settings).await);
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let emulator = Arc::clone(&emulator);
        callers.spawn(async move {
            for number in 0..10 {
                let text = format!("{number} of caller {caller}");
                let reply = call(&emulator, json!({ "log": text }).to_string()).await;
                let path = format!("/console/invocations/{}", reply.request_id);
                let log = get(&emulator, &path).await.json()["log"].take();
                let id = reply.request_id.to_string();
                let line = json!({ "requestId": id, "message": text });
                assert_eq!(log, json!([line.to_string()]));
            }
        });
    }
    callers.join_all().await;
}

#[tokio::test]
async fn keeps_no_more_than_50_invocations_and_16_mb() {
    let emulator = start(workers(2)).await;
    for number in 0..60 {
        call(&emulator, json!({ "echo": number }).to_string()).await;
    }
    let count = async || {
        let listed = get(&emulator, "/console/invocations").await;
        listed.json()["invocations"].as_array().unwrap().len()
    };
    assert_eq!(count().await, 50);
    let large = json!({ "echo": "x".repeat(5_000_000) }).to_string();
    let last = call(&emulator, &*large).await;
    assert!(count().await > 1);
    call(&emulator, &*large).await;
    // Each takes 10 MB.
    assert_eq!(count().await, 1);
    let path = format!("/console/invocations/{}", last.request_id);
    assert_eq!(get(&emulator, &path).await.status, 404);
    let newest = get(&emulator, "/console/invocations").await.json();
    let newest = newest["invocations"][0].clone();
    assert_eq!(newest["event"].as_str().unwrap().len(), 200);
    let path = format!(
        "/console/invocations/{}",
        newest["requestId"].as_str().unwrap()
    );
    assert_eq!(get(&emulator, &path).await.json()["event"], large);
    emulator.terminate().await;
}

#[tokio::test]
async fn serves_what_can_be_read_only_to_its_own_page() {
    let emulator = start(workers(2)).await;
    let address = emulator.invoke_address();
    let port = address.port();
    let status = async |line: &str, headers: &str| {
        let head = format!("{line} HTTP/1.1\n{headers}");
        let mut connection = request(address, &head, br#"{"echo": 1}"#).await;
        let mut first = [0; 12];
        let read = connection.read_exact(&mut first);
        within("a response", read).await.unwrap();
        String::from_utf8_lossy(&first[9..]).into_owned()
    };
    for line in [
        "GET /",
        "GET /console/live",
        "GET /console/invocations",
        "POST /console/burst",
        "GET /2015-03-31/functions/function",
        "GET /2015-03-31/functions/function/configuration",
        "GET /2015-03-31/functions/",
    ] {
        for (headers, expected) in [
            (String::new(), "200"),
            (format!("host: localhost:{port}"), "200"),
            ("host: localhost".to_owned(), "200"),
            ("host: 192.168.1.7:9000".to_owned(), "200"),
            ("host: [::1]:9000".to_owned(), "200"),
            (format!("origin: http://{address}"), "200"),
            (
                "host: localhost:80\norigin: http://localhost:80".to_owned(),
                "200",
            ),
            ("host: attacker.example".to_owned(), "403"),
            (
                "host: attacker.example\norigin: http://attacker.example".to_owned(),
                "403",
            ),
            ("host: localhost.attacker.example".to_owned(), "403"),
            ("host:".to_owned(), "403"),
            ("origin: http://attacker.example".to_owned(), "403"),
            ("origin: null".to_owned(), "403"),
            (format!("origin: https://{address}"), "403"),
            ("origin: http://127.0.0.1:1".to_owned(), "403"),
        ] {
            assert_eq!(status(line, &headers).await, expected, "{line} {headers}");
        }
    }
    emulator.terminate().await;
}

/// Looks at the page as it is on a desktop's and on a phone's screen. With `SCREENSHOTS=DIRECTORY`
/// it saves pictures there.
#[tokio::test]
#[ignore = "needs Chromium"]
async fn shows_the_last_invocations_on_every_screen() {
    let (emulator, mut browser) = open(fibonacci_generator()).await;
    for event in [r#"{"n": 10}"#, "{}", r#"{"n": 1000}"#] {
        browser.invoke(event).await;
    }
    let long = json!({ "n": 3, "padding": "x".repeat(2_000) }).to_string();
    browser.invoke(&long).await;
    for (name, width, height) in [("desktop", 1280, 900), ("phone", 360, 740)] {
        browser.resize(width, height).await;
        browser
            .wait("document.querySelectorAll('#last > li').length >= 4")
            .await;
        // Nothing sticks out.
        let fits = "document.documentElement.scrollWidth <= innerWidth && [...document
            .querySelectorAll('section *')].every((one) => one.getBoundingClientRect().right
                <= one.closest('section').getBoundingClientRect().right)";
        assert_eq!(browser.value(fits).await, true, "{name}");
        let touchable = "[...document.querySelectorAll('button, summary')]
            .every((one) => one.getBoundingClientRect().height >= 44)";
        browser
            .value("document.querySelectorAll('details').forEach((one) => { one.open = false })")
            .await;
        assert_eq!(browser.value(touchable).await, true, "{name}");
        browser
            .value("document.querySelector('#last details').open = true")
            .await;
        browser
            .wait("document.querySelector('#last details button')")
            .await;
        assert_eq!(browser.value(fits).await, true, "{name}, unfolded");
        if let Ok(directory) = std::env::var("SCREENSHOTS") {
            browser.screenshot(&format!("{directory}/{name}.png")).await;
        }
    }
    emulator.terminate().await;
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn sends_an_invocation_again() {
    let (emulator, mut browser) = open(fibonacci_generator()).await;
    browser.invoke(r#"{"n": 3}"#).await;
    browser.invoke(r#"{"n": -1}"#).await;
    browser
        .wait("document.querySelectorAll('#last > li').length === 2")
        .await;
    let rows = "[...document.querySelectorAll('#last summary')].map((row) => row.innerText)";
    let rows = browser.value(rows).await;
    let row = |index: usize| rows[index].as_str().unwrap().to_owned();
    assert!(
        row(0).contains("status 400") && row(0).contains(r#"{"n": -1}"#),
        "{rows}"
    );
    assert!(
        row(1).contains("status 200") && row(1).contains(r#"{"n": 3}"#),
        "{rows}"
    );
    browser
        .value("document.querySelector('#last > li:nth-child(2) summary').click()")
        .await;
    browser
        .wait("document.querySelector('#last > li:nth-child(2) button')")
        .await;
    let unfolded = browser.text("#last > li:nth-child(2)").await;
    for part in [
        "Request ID",
        r#"{"n": 3}"#,
        r#"\"sequence\": [0, 1, 1, 2]"#,
        "no line has this request ID",
    ] {
        assert!(unfolded.contains(part), "no {part} in {unfolded}");
    }
    browser.click("#last > li:nth-child(2) button").await;
    assert_eq!(
        browser.text("#outcome").await,
        "The function replied with status 200."
    );
    assert_eq!(browser.text("#reply").await, "0\n1\n1\n2");
    // It is listed as another one, and the one that was unfolded stays so.
    browser
        .wait("document.querySelectorAll('#last > li').length === 3")
        .await;
    let open = "document.querySelector('#last > li:nth-child(3) details').open";
    assert_eq!(browser.value(open).await, true);
    emulator.terminate().await;
}
