//! The load tester itself, against an Invoke API that misbehaves as each test wants.

use std::future::Future;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fibonacci_generator::{event, reply::Reply};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// An Invoke API for one function, `fibonacci-generator`, on a port of its own.
struct InvokeApi {
    address: SocketAddr,
    calls: Arc<Calls>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Calls {
    invocations: AtomicU64,
    descriptions: AtomicU64,
}

impl InvokeApi {
    /// Answers the invocation of each number, from 0, as `answer` says.
    fn start<A, F>(answer: A) -> Self
    where
        A: Fn(u64, Bytes) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let calls = Arc::new(Calls::default());
        let invoke = {
            let calls = Arc::clone(&calls);
            move |UrlPath(name): UrlPath<String>, headers: HeaderMap, payload: Bytes| async move {
                if name != "fibonacci-generator" {
                    return service_error(StatusCode::NOT_FOUND, "ResourceNotFoundException");
                }
                if headers
                    .get("x-amz-invocation-type")
                    .is_some_and(|kind| kind == "DryRun")
                {
                    return StatusCode::NO_CONTENT.into_response();
                }
                answer(calls.invocations.fetch_add(1, Ordering::Relaxed), payload).await
            }
        };
        let configuration = async |State(calls): State<Arc<Calls>>| {
            calls.descriptions.fetch_add(1, Ordering::Relaxed);
            let arn = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:fleet";
            json!({"CapacityProviderConfig": {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": arn}}})
                .to_string()
        };
        let capacity_provider = async |UrlPath(name): UrlPath<String>| {
            json!({"CapacityProvider": {
                "CapacityProviderArn": format!("arn:aws:lambda:us-east-1:123456789012:capacity-provider:{name}"),
                "State": "Active",
                "InstanceRequirements": {"Architectures": ["arm64"]},
                "CapacityProviderScalingConfig": {"MaxVCpuCount": 12},
            }})
            .to_string()
        };
        let router = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .route(
                "/2015-03-31/functions/{name}/configuration",
                get(configuration),
            )
            .route(
                "/2025-11-30/capacity-providers/{name}",
                get(capacity_provider),
            )
            .with_state(Arc::clone(&calls));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("0.0.0.0:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(axum::serve(listener, router).into_future());
        Self {
            address,
            calls,
            _runtime: runtime,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.address.port())
    }

    fn invocations(&self) -> u64 {
        self.calls.invocations.load(Ordering::Relaxed)
    }

    /// Runs the load tester against this Invoke API.
    fn load(&self, flags: &[&str]) -> Output {
        self.command(flags).output().unwrap()
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = loadtest(&["--endpoint-url", &self.url()]);
        command.args(flags);
        command
    }
}

/// The load tester, where nothing of AWS is configured.
fn loadtest(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(flags)
        .env_clear()
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

fn right_reply(payload: &[u8]) -> Vec<u8> {
    Reply::from(event::parse(payload)).slices().concat()
}

async fn right(_: u64, payload: Bytes) -> Response {
    right_reply(&payload).into_response()
}

fn service_error(status: StatusCode, kind: &str) -> Response {
    let message = json!({"Message": format!("{kind} of the test")}).to_string();
    (status, [("x-amzn-errortype", kind)], message).into_response()
}

fn throttled() -> Response {
    service_error(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no JSON report ({error}): {output:?}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn passes_where_every_reply_is_right() {
    let api = InvokeApi::start(right);

    let output = api.load(&["-n", "500", "-c", "4", "--n", "0..=1000"]);

    assert!(output.status.success(), "{output:?}");
    assert_eq!(api.invocations(), 500);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ok  500 (100.00 %)"), "{text}");
    assert!(text.contains("latency in ms, from sending"), "{text}");
    assert!(!text.contains("failed:"), "{text}");
}

#[test]
fn expects_what_the_function_answers_to_a_mix_of_events() {
    let runtime = Runtime::new().unwrap();
    let bootstrap = emulator::build_function().unwrap();
    let mut settings = emulator::Settings::new(bootstrap);
    settings.queue = 8;
    let emulator = runtime
        .block_on(emulator::Emulator::start(settings))
        .unwrap();
    let url = format!("http://{}", emulator.invoke_address());

    for events in [&["--mix"][..], &["--n", "0..=1000"]] {
        let output = loadtest(&["-n", "2000", "-c", "8", "-w", "16", "-o", "json"])
            .args(["--endpoint-url", &url])
            .args(events)
            .output()
            .unwrap();

        assert!(output.status.success(), "{output:?}");
        assert_eq!(report(&output)["outcomes"]["ok"], 2000);
        assert_eq!(report(&output)["warm_up_outcomes"]["ok"], 16);
    }
    runtime.block_on(emulator.terminate());
}

#[test]
fn finds_one_wrong_digit_in_100_000_replies() {
    let api = InvokeApi::start(async |number, payload| {
        let mut reply = right_reply(&payload);
        if number == 77_777 {
            let last_digit = reply.len() - br#"]}"}"#.len() - 1;
            reply[last_digit] ^= 1;
        }
        reply.into_response()
    });

    let output = api.load(&["-n", "100000", "-c", "8", "--n", "90", "-o", "json"]);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("wrong replies: 1"), "{output:?}");
    let report = report(&output);
    assert_eq!(report["outcomes"]["ok"], 99_999);
    assert_eq!(report["outcomes"]["wrong_reply"], 1);
    let wrong = &report["wrong_replies"][0];
    assert_eq!(wrong["n"], 90);
    assert_eq!(wrong["event"], r#"{"n": 90}"#);
    // F(90) = 2880067194370816120
    let offset = right_reply(br#"{"n": 90}"#).len() - br#"0]}"}"#.len();
    assert_eq!(wrong["offset"], offset);
    assert_eq!(wrong["expected"], r#"0]}"}"#);
    assert_eq!(wrong["received"], r#"1]}"}"#);
}

#[test]
fn a_wrong_reply_while_warming_up_fails_the_run_too() {
    let api = InvokeApi::start(async |number, payload: Bytes| {
        if number == 0 {
            Response::default()
        } else {
            right(number, payload).await
        }
    });

    let output = api.load(&["-w", "5", "-n", "20"]);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(r#"wrong reply to {"n": 10} at offset 0"#),
        "{text}"
    );
    assert!(text.contains("failed: wrong replies: 1"), "{text}");
    assert!(text.contains("ok  20 (100.00 %)"), "{text}");
}

#[test]
fn counts_throttles_and_fails_over_the_share_allowed() {
    let api = InvokeApi::start(async |number, payload| match number % 4 {
        0 => throttled(),
        _ => right(number, payload).await,
    });
    let load = |flags: &[&str]| api.load(&[&["-n", "100", "-o", "json"], flags].concat());

    let output = load(&[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(&output)["outcomes"]["throttled"], 25);
    assert_eq!(report(&output)["outcomes"]["ok"], 75);
    assert_eq!(report(&output)["throttled_percent"], 25.0);

    assert!(load(&["--max-throttled", "25%"]).status.success());
    let output = load(&["--max-throttled", "24.9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("throttled: 25.00 %, more than --max-throttled 24.9"),
        "{output:?}"
    );
}

#[test]
fn retries_what_was_throttled_and_counts_the_retries() {
    let api = InvokeApi::start(async |number, payload| match number % 2 {
        0 => throttled(),
        _ => right(number, payload).await,
    });

    let output = api.load(&["-n", "10", "--retry", "--max-throttled", "0", "-o", "json"]);

    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(&output)["outcomes"]["ok"], 10);
    assert_eq!(report(&output)["retries"], 10);
    assert_eq!(api.invocations(), 20);
}

#[test]
fn gives_up_on_what_is_throttled_ten_times() {
    let api = InvokeApi::start(async |_, _| throttled());

    let output = api.load(&["-n", "1", "--retry", "-o", "json"]);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(report(&output)["outcomes"]["throttled"], 1);
    assert_eq!(report(&output)["retries"], 9);
    assert_eq!(api.invocations(), 10);
    assert!(stderr(&output).contains("no reply was right"), "{output:?}");
}

#[test]
fn tells_function_errors_from_transport_errors() {
    let api = InvokeApi::start(async |number, payload| match number {
        3 => {
            let message = r#"{"errorType": "Unhandled", "errorMessage": "boom"}"#;
            ([("x-amz-function-error", "Unhandled")], message).into_response()
        }
        5 => service_error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
        // Cut short: less than the length announced.
        7 => {
            let chunks = [Ok("{"), Err("cut")];
            let cut = Body::from_stream(futures_util::stream::iter(chunks));
            ([("content-length", "100")], cut).into_response()
        }
        _ => right(number, payload).await,
    });

    let output = api.load(&["-n", "20", "-o", "json"]);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    assert_eq!(report["outcomes"]["ok"], 17);
    assert_eq!(report["outcomes"]["function_error"], 1);
    assert_eq!(report["outcomes"]["transport"], 2);
    let errors = report["errors"].to_string();
    assert!(errors.contains("boom"), "{errors}");
    assert!(errors.contains("ServiceException of the test"), "{errors}");
    assert_eq!(
        report["violations"],
        json!(["function errors: 1", "transport errors: 2"])
    );
}

/// One reply takes a second; those that were due meanwhile waited for it.
#[test]
fn requests_that_were_due_during_a_stall_count_their_wait() {
    let start = || {
        InvokeApi::start(async |number, payload| {
            if number == 50 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            right(number, payload).await
        })
    };
    let p99 = |output: &Output| {
        report(output)["latency_microseconds"]["p99"]
            .as_u64()
            .unwrap()
    };

    let output = start().load(&["-n", "200", "-r", "100", "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(&output)["latency_measured_from"], "due");
    assert!(p99(&output) > 900_000, "{}", p99(&output));

    let output = start().load(&["-n", "200", "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(&output)["latency_measured_from"], "sending");
    assert!(p99(&output) < 900_000, "{}", p99(&output));
}

/// From the first reply on, the only caller waits for a reply until the run is over.
#[test]
fn requests_that_were_due_and_never_sent_count_their_wait() {
    let api = InvokeApi::start(async |number, payload| {
        if number > 0 {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        right(number, payload).await
    });

    let output = api.load(&["-r", "100", "-d", "1s", "--max-p99", "500ms", "-o", "json"]);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    assert_eq!(report["outcomes"]["ok"], 2);
    assert_eq!(report["outcomes"]["unsent"], 98);
    assert!(
        report["latency_microseconds"]["p50"].as_u64() > Some(2_000_000),
        "{report}"
    );
    assert!(
        stderr(&output).contains("more than --max-p99 500ms"),
        "{output:?}"
    );
}

#[test]
fn sends_at_the_rate_requested() {
    let api = InvokeApi::start(right);

    let output = api.load(&["-r", "200", "-d", "2s", "-c", "20", "-o", "json"]);

    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    assert_eq!(report["requested_rate_per_second"], 200.0);
    let sent = report["outcomes"]["ok"].as_u64().unwrap();
    let unsent = report["outcomes"]["unsent"].as_u64().unwrap();
    assert_eq!(sent + unsent, 400);
    assert_eq!(api.invocations(), sent);
    let achieved = report["achieved_rate_per_second"].as_f64().unwrap();
    assert!(achieved <= 200.0, "{achieved}");
}

#[test]
fn the_rate_rises_during_a_ramp() {
    let (arrived, arrivals) = mpsc::channel();
    let arrived = Arc::new(Mutex::new(arrived));
    let api = InvokeApi::start(move |number, payload| {
        arrived.lock().unwrap().send(Instant::now()).unwrap();
        right(number, payload)
    });

    let output = api.load(&[
        "-r", "100", "--ramp", "2s", "-d", "3s", "-c", "20", "-o", "json",
    ]);

    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    let unsent = report["outcomes"]["unsent"].as_u64().unwrap();
    assert_eq!(api.invocations() + unsent, 200);
    let arrivals: Vec<Instant> = arrivals.try_iter().collect();
    let first_second = arrivals
        .iter()
        .filter(|arrival| arrival.duration_since(arrivals[0]) < Duration::from_secs(1))
        .count();
    // 25 are due; without the ramp it would be 100.
    assert!(first_second < 75, "{first_second}");
}

#[test]
fn a_signal_ends_the_run_which_finishes_what_was_sent_and_reports() {
    let (arrived, arrivals) = mpsc::channel();
    let arrived = Arc::new(Mutex::new(arrived));
    let (release, released) = watch::channel(false);
    let api = InvokeApi::start(move |number, payload| {
        arrived.lock().unwrap().send(()).unwrap();
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            right(number, payload).await
        }
    });
    for (signal, rate) in [("-INT", &[][..]), ("-INT", &["-r", "100"]), ("-TERM", &[])] {
        release.send_replace(false);
        let before = api.invocations();
        let mut child = api
            .command(&[&["-d", "1h", "-c", "2", "-o", "json"], rate].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        arrivals.recv().unwrap();
        send(signal, &child);
        release.send_replace(true);

        let mut stdout = Vec::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut stdout)
            .unwrap();
        assert!(child.wait().unwrap().success());
        let report: Value = serde_json::from_slice(&stdout).unwrap();
        assert_eq!(report["interrupted"], true);
        assert_eq!(report["outcomes"]["ok"], api.invocations() - before);
        arrivals.try_iter().for_each(drop);
    }
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn fails_when_the_99th_percentile_takes_too_long() {
    let api = InvokeApi::start(right);

    assert!(api.load(&["-n", "50", "--max-p99", "1m"]).status.success());
    let output = api.load(&["-n", "50", "--max-p99", "1us"]);

    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ms, more than --max-p99 1us"), "{text}");
}

#[test]
fn the_json_report_keeps_its_shape() {
    let api = InvokeApi::start(async |number, payload| match number {
        0 => Response::default(),
        1 => service_error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
        _ => right(number, payload).await,
    });
    let file = scratch("shape.json");

    let output = api
        .command(&["-n", "50", "-r", "1000", "--n", "3", "-o", "json", "-O"])
        .arg(&file)
        .output()
        .unwrap();

    assert_eq!(output.stdout, b"", "the report is in the file");
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let outcomes = json!({
        "ok": "number", "throttled": "number", "function_error": "number",
        "wrong_reply": "number", "transport": "number", "unsent": "number",
    });
    assert_eq!(
        shape(&report),
        json!({
            "function_name": "string",
            "qualifier": "null",
            "endpoint": "string",
            "capacity_provider": "null",
            "events": "string",
            "concurrency": "number",
            "retry": "boolean",
            "interrupted": "boolean",
            "violations": ["string"],
            "elapsed_seconds": "number",
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
            "percentiles": [{"percentile": "number", "microseconds": "number"}],
            "intervals": [{
                "start_seconds": "number", "length_seconds": "number",
                "ok": "number", "throttled": "number", "failed": "number",
                "p50_microseconds": "number", "p99_microseconds": "number",
                "max_microseconds": "number",
            }],
            "wrong_replies": [{
                "n": "number", "event": "string", "offset": "number",
                "expected": "string", "received": "string",
            }],
            "errors": [{"message": "string", "count": "number"}],
        })
    );
}

/// The types in a JSON value; of an array those of its first element.
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
fn refuses_contradictory_flags_in_one_line() {
    let api = InvokeApi::start(right);
    for (flags, complaint) in [
        (&["--n", "5", "--mix"][..], "cannot be used with '--mix'"),
        (&["--ramp", "5m"], "--rate"),
        (&["--ramp", "5m", "-r", "10"], "before the --ramp"),
        (&["-d", "0s"], "--duration 0"),
        (&["-n", "0"], "'0'"),
        (&["-c", "0"], "'0'"),
        (&["-r", "0"], "1..=100000"),
        (&["--n", "0..=1001"], "up to 1000"),
        (&["--n", "7..=3"], "up to 1000"),
        (&["--n", "ten"], "up to 1000"),
        (&["--max-throttled", "101"], "0 to 100"),
        (
            &["--endpoint-url", "localhost:9000"],
            "http://127.0.0.1:9000",
        ),
        (
            &["--endpoint-url", "http://127.0.0.1:99999"],
            "http://127.0.0.1:9000",
        ),
        (&["--html", "x", "-O", "x"], "the same file"),
        (&["-O", "/nowhere/report"], "/nowhere/report"),
    ] {
        refused(&mut api_first(&api, flags), complaint);
    }
    assert_eq!(api.invocations(), 0);
}

/// The API's URL, unless the flags have one.
fn api_first(api: &InvokeApi, flags: &[&str]) -> Command {
    if flags.contains(&"--endpoint-url") {
        loadtest(flags)
    } else {
        api.command(flags)
    }
}

#[test]
fn refuses_a_function_that_is_not_there() {
    let api = InvokeApi::start(right);

    refused(
        &mut api.command(&["--function-name", "fibonacci"]),
        "ResourceNotFoundException",
    );
    assert_eq!(api.invocations(), 0);
}

#[test]
fn refuses_to_start_where_nothing_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);

    refused(
        &mut loadtest(&["--endpoint-url", &url]),
        "is the emulator running?",
    );
}

#[test]
fn refuses_to_start_without_credentials_or_a_region() {
    refused(&mut loadtest(&[]), "no AWS region");
    refused(
        loadtest(&[]).env("AWS_REGION", "eu-central-1"),
        "no AWS credentials",
    );
}

#[test]
fn refuses_a_region_that_does_not_exist() {
    let mut command = loadtest(&[]);
    command
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret");

    refused(
        command.env("AWS_REGION", "eu-nowhere-1"),
        "Lambda in eu-nowhere-1",
    );
    refused(command.env("AWS_REGION", "no where"), "Lambda in no where");
}

fn refused(command: &mut Command, complaint: &str) {
    let output = command.output().unwrap();
    let stderr = stderr(&output);
    assert!(!output.status.success(), "{command:?}");
    assert!(stderr.contains(complaint), "{command:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
    assert_eq!(output.stdout, b"", "{command:?}");
}

/// 0.0.0.0 reaches this machine and is no loopback address.
#[test]
fn describes_the_capacity_provider_and_the_cost_before_a_run_on_aws() {
    let api = InvokeApi::start(right);
    let url = format!("http://0.0.0.0:{}", api.address.port());

    let output = loadtest(&[
        "-r", "1000", "-d", "1s", "-n", "20", "-w", "5", "-o", "json",
    ])
    .args(["--endpoint-url", &url])
    .env("AWS_REGION", "us-east-1")
    .env("AWS_ACCESS_KEY_ID", "id")
    .env("AWS_SECRET_ACCESS_KEY", "secret")
    .output()
    .unwrap();

    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        stderr(&output),
        "capacity provider fleet: Active, arm64, at most 12 vCPUs\n\
         cost: $0.00 for 25 requests at most\n"
    );
    assert_eq!(report(&output)["capacity_provider"]["max_vcpus"], 12);
}

#[test]
fn asks_a_local_endpoint_for_no_description() {
    let api = InvokeApi::start(right);

    assert!(api.load(&["-n", "1"]).status.success());

    assert_eq!(api.calls.descriptions.load(Ordering::Relaxed), 0);
}

#[test]
#[ignore = "needs Chromium"]
fn the_page_draws_its_charts_without_a_network() {
    let api = InvokeApi::start(async |number, payload| match number % 10 {
        0 => throttled(),
        _ => right(number, payload).await,
    });
    let page = scratch("report.html");
    let output = api
        .command(&["-d", "2s", "-r", "100", "-c", "4", "--html"])
        .arg(&page)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");

    let html = std::fs::read_to_string(&page).unwrap();
    assert!(
        !html.contains("src=") && !html.contains("href="),
        "loads something"
    );
    let profile = scratch("chromium");
    let dom = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8(dom.stdout).unwrap();

    assert_eq!(dom.matches("<svg ").count(), 4, "{dom}");
    // The curve; verified, requested; p50, p99, max; throttled, failed.
    assert_eq!(dom.matches("<path d=\"M").count(), 8, "{dom}");
    assert!(!dom.contains("NaN"), "{dom}");
    assert!(
        dom.contains("Passed: every reply that came was right."),
        "{dom}"
    );
}
