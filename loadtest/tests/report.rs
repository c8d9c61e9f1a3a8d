//! The report, as JSON and as a page.

use std::process::Command;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::support::{InvokeApi, right, run, scratch, service_error, stdout, throttled};

#[test]
fn the_json_report_keeps_its_shape() {
    let api = InvokeApi::start(async |invocation| match invocation.number {
        0 => Response::default(),
        1 => service_error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
        _ => right(invocation).await,
    });
    let file = scratch("shape.json");

    let flags = ["-n", "50", "-r", "1000", "--n", "3", "-o", "json", "-O"];
    let output = run(api.command(&flags).arg(&file));

    assert_eq!(stdout(&output), "", "the report is in the file");
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(report["version"], 1);
    let outcomes = json!({
        "ok": "number", "throttled": "number", "function_error": "number",
        "wrong_reply": "number", "transport": "number", "unsent": "number",
    });
    assert_eq!(
        shape(&report),
        json!({
            "version": "number",
            "runs": ["string"],
            "function_name": "string",
            "qualifier": "null",
            "endpoint": "string",
            "capacity_provider": "null",
            "events": "string",
            "concurrency": "number",
            "retry": "boolean",
            "interrupted": "boolean",
            "violations": ["string"],
            "started_unix_ms": "number",
            "elapsed_seconds": "number",
            "due": {"requests": "number", "time": {"secs": "number", "nanos": "number"}},
            "requested_rate_per_second": "number",
            "achieved_rate_per_second": "number",
            "verified_per_second": "number",
            "outcomes": outcomes,
            "throttled_percent": "number",
            "retries": "number",
            "warm_up_outcomes": outcomes,
            "latency_measured_from": "string",
            "latency_microseconds": {
                "min": "number", "mean": "number", "p50": "number", "p90": "number",
                "p95": "number", "p99": "number", "p99_9": "number", "p99_99": "number",
                "max": "number",
            },
            "histogram": "string",
            "percentiles": [{"percentile": "number", "microseconds": "number"}],
            "interval_ms": "number",
            "intervals": [{
                "start_seconds": "number", "length_seconds": "number",
                "ok": "number", "throttled": "number", "failed": "number",
                "p50_microseconds": "number", "p99_microseconds": "number",
                "max_microseconds": "number", "histogram": "string",
            }],
            "wrong_replies": [{
                "n": "number", "event": "string", "offset": "number",
                "expected": "string", "received": "string",
            }],
            "errors": [{"message": "string", "count": "number"}],
            "load_tester_cpu": {"seconds": "number", "microseconds_per_request": "number"},
            "parts": [],
            "cloudwatch": "null",
        })
    );
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
#[ignore = "needs Chromium"]
fn the_page_draws_its_charts_without_a_network() {
    let api = InvokeApi::start(async |invocation| match invocation.number % 10 {
        0 => throttled(),
        _ => right(invocation).await,
    });
    let page = scratch("report.html");
    let mut command = api.command(&["-d", "2s", "-r", "100", "-c", "4", "--html"]);
    let output = run(command.arg(&page));
    assert!(output.status.success(), "{output:?}");

    let html = std::fs::read_to_string(&page).unwrap();
    assert!(
        !html.contains("src=") && !html.contains("href="),
        "loads something"
    );
    let profile = scratch("chromium");
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
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()));
    let dom = stdout(&run(&mut chromium));

    assert_eq!(dom.matches("<svg ").count(), 4, "{dom}");
    // The curve; verified, requested; p50, p99, max; throttled, failed.
    assert_eq!(dom.matches("<path d=\"M").count(), 8, "{dom}");
    assert!(!dom.contains("NaN"), "{dom}");
    assert!(
        dom.contains("Passed: every reply that came was right."),
        "{dom}"
    );
}
