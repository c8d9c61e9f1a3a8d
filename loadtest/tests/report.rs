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
    let outcomes = "{function_error:0, ok:0, throttled:0, transport:0, unsent:0, wrong_reply:0}";
    let expected = [
        "achieved_rate_per_second:0, capacity_provider:null, cloudwatch:null, command_line:text",
        "compared:text, concurrency:0, cpu_microseconds_per_request:0, cpu_seconds:0",
        "dollars_outside_region:null, due:null, elapsed_seconds:0, endpoint:text",
        "errors:[{count:0, message:text}], events:text, function_name:text, histogram:text",
        "interrupted:false, interval_ms:0",
        "intervals:[{failed:0, histogram:text, max_microseconds:0, ok:0, p50_microseconds:0, p99_microseconds:0, throttled:0}]",
        "latency_measured_from:text",
        "latency_microseconds:{max:0, min:0, p50:0, p90:0, p95:0, p99:0, p99_99:0, p99_9:0}",
        &format!("outcomes:{outcomes}"),
        "parts:[], percentiles:[{microseconds:0, percentile:0}], qualifier:null, reply_bytes:0",
        "requested_rate_per_second:null, runs:[text], started_unix_ms:0, throttled_percent:0",
        "verified_per_second:0, version:0, violations:[text]",
        &format!("warm_up_outcomes:{outcomes}"),
        "wrong_replies:[{event:text, expected:text, offset:0, received:text}]",
    ];
    assert_eq!(shape(&report), format!("{{{}}}", expected.join(", ")));
}

/// The types in a JSON value; of an array, the type of its first element.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "false".to_owned(),
        Value::Number(_) => "0".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(elements) => format!("[{}]", elements.first().map_or(String::new(), shape)),
        Value::Object(members) => {
            let mut members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{name}:{}", shape(value)))
                .collect();
            members.sort();
            format!("{{{}}}", members.join(", "))
        }
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
fn the_page_draws_the_report_without_a_network() {
    let api = InvokeApi::start(async |invocation| match invocation.number % 10 {
        0 => throttled(),
        _ => right(invocation).await,
    });
    let page = scratch("report.html");
    let mut command = api.command("-d 2s -r 100 --ramp 1s -c 4 --html");
    run(command.arg(&page)).passed();
    let mut html = fs::read_to_string(&page).unwrap();
    let is_self_contained = !html.contains("src=") && !html.contains("href=");
    assert!(is_self_contained, "loads something");
    let (plain, _) = draw("plain", &html, 1280);
    let has_parts = plain.contains("What CloudWatch saw") || plain.contains("Reports merged");
    assert!(!has_parts, "{plain}");

    let parts = json!([
        {"name": "generator 1 of 2", "requests": 10, "problem": null},
        {"name": "generator 2 of 2", "requests": 0, "problem": "throttled: TooManyRequestsException"},
    ]);
    for (name, empty, value) in [("cloudwatch", "null", &metrics()), ("parts", "[]", &parts)] {
        let empty = format!(r#""{name}":{empty}"#);
        assert!(html.contains(&empty), "{html}");
        html = html.replace(&empty, &format!(r#""{name}":{value}"#));
    }
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
        let points = requested.split('L');
        let heights: Vec<f64> = points
            .map(|point| point.split_once(',').unwrap().1.parse().unwrap())
            .collect();
        assert!(heights.len() >= 18, "{heights:?}");
        let is_rising = heights[0] > heights[5] && heights[5] > heights[10];
        let is_level = (heights[11] - heights[17]).abs() < 0.1;
        assert!(is_rising && is_level, "{heights:?}");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let year = since.as_secs() / 31_556_952 + 1970;
        for text in [
            r#"aria-label="Throughput [/s]""#,
            "aria-valuetext=\"0%, latency ",
            ", requested 0 /s\"",
            "cargo loadtest -d 2s -r 100 --ramp 1s -c 4 --html ",
            "compared: every byte, with the table",
            "Passed: every reply that came was right.",
            "µs per request",
            &format!("started {year}-"),
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
