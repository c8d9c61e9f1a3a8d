//! The report, as JSON and as a page.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::support::{
    InvokeApi, assert_contains, metrics, right, run, scratch, service_error, throttled,
};

#[test]
fn the_json_report_keeps_its_shape() {
    let api = InvokeApi::start(async |invocation| match invocation.number {
        0 => Response::default(),
        1 => service_error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
        _ => right(invocation).await,
    });
    let file = scratch("shape.json");
    fs::write(&file, "an older and longer report".repeat(100_000)).unwrap();

    let ended = run(api.command("-n 50 --n 3 -o json -O").arg(&file));

    assert_eq!(ended.stdout, "", "the report is in the file");
    let report: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(report["version"], 3);
    let members = |kind: &str, names: &str| -> Value {
        let names = names.split(' ');
        names.map(|name| (name.to_owned(), json!(kind))).collect()
    };
    let numbers = |names: &str| members("number", names);
    let outcomes = numbers("ok throttled function_error wrong_reply transport unsent");
    let mut expected = json!({
        "runs": ["string"],
        "interrupted": "boolean",
        "violations": ["string"],
        "outcomes": outcomes,
        "warm_up_outcomes": outcomes,
        "latency_microseconds": numbers("min p50 p90 p95 p99 p99_9 p99_99 max"),
        "percentiles": [numbers("percentile microseconds")],
        "intervals": [{
            "ok": "number", "throttled": "number", "failed": "number",
            "p50_microseconds": "number", "p99_microseconds": "number",
            "max_microseconds": "number", "histogram": "string",
        }],
        "wrong_replies": [{
            "event": "string", "offset": "number",
            "expected": "string", "received": "string",
        }],
        "errors": [{"message": "string", "count": "number"}],
        "parts": [],
    });
    for (kind, names) in [
        (
            "string",
            "function_name endpoint events compared command_line latency_measured_from histogram",
        ),
        (
            "number",
            "version concurrency started_unix_ms elapsed_seconds cpu_seconds reply_bytes",
        ),
        ("number", "achieved_rate_per_second verified_per_second"),
        (
            "number",
            "throttled_percent interval_ms cpu_microseconds_per_request",
        ),
        (
            "null",
            "qualifier capacity_provider due requested_rate_per_second cloudwatch dollars_outside_region",
        ),
    ] {
        let members = members(kind, names).as_object().unwrap().clone();
        expected.as_object_mut().unwrap().extend(members);
    }
    assert_eq!(shape(&report), expected);
}

/// The types in a JSON value; of an array, the type of its first element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(elements) => elements.iter().take(1).map(shape).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
    }
}

#[test]
fn no_text_of_a_report_ends_the_script_of_its_page() {
    const TEXT: &str = "</script><!--<script>{{report}}";
    let api = InvokeApi::start(async |invocation| {
        let error = [("x-amz-function-error", "Unhandled")];
        match invocation.number {
            0 => (error, TEXT).into_response(),
            _ => right(invocation).await,
        }
    });
    let (page, plain) = (scratch("hostile.html"), scratch("plain.html"));
    run(api.command("-n 2 --html").arg(&page));
    run(api.command("-n 2 --html").arg(&plain));

    let [page, plain] = [page, plain].map(|path| fs::read_to_string(path).unwrap());
    for tag in ["<script", "</script", "<!--"] {
        let count = |page: &str| page.matches(tag).count();
        assert_eq!(count(&page), count(&plain), "{tag}");
    }
    let json = page.split(r#"id="report">"#).nth(1).unwrap();
    let (json, _) = json.split_once("</script>").unwrap();
    let report: Value = serde_json::from_str(json).unwrap();
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(message.ends_with(TEXT), "{message}");
}

/// What the page's script has drawn, and whether it is wider than the window.
fn draw(name: &str, html: &str, width: u16) -> (String, bool) {
    let page = scratch(&format!("{name}-{width}.html"));
    // Presses a key on every chart.
    let probe = "<script>document.querySelectorAll('svg').forEach((chart) => chart.onkeydown(new KeyboardEvent('keydown', { key: 'Home' })));
        document.body.dataset.wider = document.documentElement.scrollWidth > innerWidth</script>";
    fs::write(&page, html.replace("</body>", &format!("{probe}</body>"))).unwrap();
    let profile = scratch(&format!("{name}-{width}"));
    let mut chromium = Command::new("chromium");
    chromium
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--dump-dom"])
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()));
    let dom = run(&mut chromium).stdout;
    let is_wider = dom.contains(r#"data-wider="true""#);
    assert!(is_wider || dom.contains(r#"data-wider="false""#), "{dom}");
    let (main, _) = dom.split_once("</main>").expect("the page is drawn");
    (main.to_owned(), is_wider)
}

#[test]
#[ignore = "needs Chromium"]
fn the_page_draws_its_charts_without_a_network() {
    let api = InvokeApi::start(async |invocation| match invocation.number % 10 {
        0 => throttled(),
        _ => right(invocation).await,
    });
    let page = scratch("report.html");
    let mut command = api.command("-d 2s -r 100 --ramp 1s -c 4 --html");
    run(command.arg(&page)).passed();
    let html = fs::read_to_string(&page).unwrap();
    assert!(
        !html.contains("src=") && !html.contains("href="),
        "loads something"
    );

    for width in [390, 1280] {
        let (dom, is_wider) = draw("charts", &html, width);
        assert!(!is_wider, "wider than {width} pixels");
        assert_eq!(dom.matches("<svg ").count(), 4, "{dom}");
        // The curve; verified, requested; p50, p99, max; throttled, failed.
        assert_eq!(dom.matches("<path d=\"M").count(), 8, "{dom}");
        assert!(!dom.contains("NaN"), "{dom}");
        // The schedule rises, and stays at its rate.
        let (requested, _) = dom.split_once(r#"" fill="none" stroke="var(--b)" stroke-width="2" stroke-linejoin="round" stroke-dasharray="5 4""#).unwrap();
        let (_, requested) = requested.rsplit_once("d=\"M").unwrap();
        let heights: Vec<_> = requested
            .split('L')
            .map(|point| point.split_once(',').unwrap().1)
            .collect();
        assert!(heights.len() >= 18, "{heights:?}");
        let height = |index: usize| heights[index].parse::<f64>().unwrap();
        assert!(
            height(0) > height(5) && height(5) > height(10),
            "{heights:?}"
        );
        assert!((height(11) - height(17)).abs() < 0.1, "{heights:?}");
        for text in [
            r#"aria-label="Throughput [/s]""#,
            "aria-valuetext=\"0%, latency ",
            ", requested 0 /s\"",
            "cargo loadtest -d 2s -r 100 --ramp 1s -c 4 --html ",
            "compared: every byte, with the table",
            "Passed: every reply that came was right.",
            "µs per request",
        ] {
            assert_contains(&dom, text);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let year = since.as_secs() / 31_556_952 + 1970;
        assert_contains(&dom, &format!("started {year}-"));
        assert!(
            !dom.contains("What CloudWatch saw") && !dom.contains("Reports merged"),
            "{dom}"
        );
    }
}

#[test]
#[ignore = "needs Chromium"]
fn the_page_shows_what_cloudwatch_saw_and_which_reports_are_missing() {
    let page = scratch("whole-report.html");
    run(InvokeApi::start(right).command("-n 10 --html").arg(&page)).passed();
    let parts = json!([
        {"name": "generator 1 of 2", "requests": 10, "problem": null},
        {"name": "generator 2 of 2", "requests": 0, "problem": "throttled: TooManyRequestsException"},
    ]);
    let mut html = fs::read_to_string(&page).unwrap();
    for (name, empty, value) in [("cloudwatch", "null", &metrics()), ("parts", "[]", &parts)] {
        let empty = format!(r#""{name}":{empty}"#);
        assert!(html.contains(&empty), "{html}");
        html = html.replace(&empty, &format!(r#""{name}":{value}"#));
    }

    for width in [390, 1280] {
        let (dom, is_wider) = draw("cloudwatch", &html, width);
        assert!(!is_wider, "wider than {width} pixels");
        for text in [
            "17.4 µs",
            "$0.31",
            "<dt>for CPU</dt><dd class=\"\">50</dd>",
            "2026-11-25 14:10 to 2026-11-25 14:20 UTC",
            "missing: MemoryThrottles, DiskThrottles",
            "<td class=\"bad\">throttled: TooManyRequestsException</td>",
        ] {
            assert_contains(&dom, text);
        }
    }
}
