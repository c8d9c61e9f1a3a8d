//! Handlers for `lambda_runtime`'s loop, on that one and on this.

use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::future::{Ready, pending, ready};
use std::panic::panic_any;
use std::process::{ExitCode, exit};
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use lambda_http::{Adapter, Request, RequestExt};
use lambda_runtime::streaming::{Body, Response, channel};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, Service, service_fn, tracing};
use lmi_runtime::Invocation;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use test_support::{Function, event, own_test};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Barrier;
use tokio::task::yield_now;
use tower::Layer;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::timeout::Timeout;

/// Runs a service on the loop that `LOOP` names.
macro_rules! run {
    ($service:expr) => {
        if env::var("LOOP").unwrap() == "ours" {
            lmi_runtime::run(lmi_runtime::service($service))
        } else {
            Runtime::new().unwrap().block_on(async {
                tracing::init_default_subscriber();
                lambda_runtime::run_concurrent($service).await.unwrap();
                ExitCode::SUCCESS
            })
        }
    };
}

/// Is the function in a process that a test starts.
#[test]
fn function() {
    let Ok(handler) = env::var("HANDLER") else {
        return;
    };
    let code = match &*handler {
        "acts" => run!(service_fn(act)),
        "is reluctant" => run!(Reluctant::default()),
        "times out" => run!(Timeout::new(service_fn(wait), Duration::from_millis(10))),
        "waits its turn" => run!(GlobalConcurrencyLimitLayer::new(1).layer(service_fn(act))),
        "speaks HTTP" => run!(Adapter::from(service_fn(greet))),
        "streams" => run!(service_fn(stream)),
        "meets" => run!(service_fn(meet)),
        "is within a runtime" => within_a_runtime(),
        _ => panic!("no such handler: {handler}"),
    };
    exit(i32::from(code != ExitCode::SUCCESS));
}

#[derive(Deserialize)]
enum Event {
    /// Replies with the value and what came with the event.
    Echo(Value),
    Fail(String),
    Panic,
    PanicLater {
        messages: Vec<String>,
    },
    PanicWithout,
    Log,
    /// Replies with what JSON cannot express.
    Unserializable,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Json(Value),
    Unserializable(HashMap<[u8; 1], u8>),
}

#[derive(Debug)]
struct Failure(String);

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self {
            error_type: "Own.Type".to_owned(),
            error_message: failure.0,
        }
    }
}

async fn act(event: LambdaEvent<Event>) -> Result<Reply, Failure> {
    match event.payload {
        Event::Echo(value) => return Ok(Reply::Json(json!([value, event.context]))),
        Event::Fail(message) => return Err(Failure(message)),
        Event::Panic => panic!("on purpose"),
        Event::PanicLater { messages } => {
            yield_now().await;
            panic!("{messages:?}");
        }
        Event::PanicWithout => panic_any(0),
        Event::Log => {
            tracing::info!(step = 1, "begins");
            yield_now().await;
            tracing::info_span!("inner", depth = 2).in_scope(|| tracing::warn!("ends"));
        }
        Event::Unserializable => return Ok(Reply::Unserializable(HashMap::from([([1], 1)]))),
    }
    Ok(Reply::Json(Value::Null))
}

/// Becomes ready when it is asked for the second time, but fails to for its third invocation. It
/// counts how often it is asked.
#[derive(Clone, Default)]
struct Reluctant(u8);

impl Service<LambdaEvent<Value>> for Reluctant {
    type Response = Value;
    type Error = &'static str;
    type Future = Ready<Result<Value, &'static str>>;

    fn poll_ready(&mut self, task: &mut Context) -> Poll<Result<(), &'static str>> {
        self.0 += 1;
        match self.0 {
            1 | 3 => {
                task.waker().wake_by_ref();
                Poll::Pending
            }
            5 => Poll::Ready(Err("reluctant")),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, event: LambdaEvent<Value>) -> Self::Future {
        assert!([2, 4, 6].contains(&self.0));
        ready(Ok(event.payload))
    }
}

async fn wait(_: LambdaEvent<Value>) -> Result<Value, Error> {
    pending().await
}

async fn greet(request: Request) -> Result<String, Infallible> {
    let trace_id = request.headers().get("x-amzn-trace-id");
    Ok(format!(
        "{} {:?} {:?} {trace_id:?}",
        request.raw_http_path(),
        request.query_string_parameters(),
        request.lambda_context(),
    ))
}

async fn stream(_: LambdaEvent<Value>) -> Result<Response<Body>, Error> {
    Ok(Response::from(channel().1))
}

/// Waits until there are eight.
async fn meet(event: LambdaEvent<Value>) -> Result<Value, Infallible> {
    static BARRIER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(8));
    BARRIER.wait().await;
    Ok(event.payload)
}

#[tokio::main]
async fn within_a_runtime() -> ExitCode {
    // As a client's connections are, which it opened before.
    let outer = Handle::current();
    lmi_runtime::run(async move |_: &Invocation| {
        let reply = outer.spawn(async { yield_now().await });
        reply.await.map_err(|error| error.to_string())?;
        Ok::<_, String>("true")
    })
}

fn start(on: &str, handler: &str, max_concurrency: &str) -> Function {
    let mut command = own_test("function");
    command.envs([
        ("LOOP", on),
        ("HANDLER", handler),
        ("AWS_LAMBDA_MAX_CONCURRENCY", max_concurrency),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "group"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "stream"),
    ]);
    Function::start(command)
}

/// An event with these lines at the start of its head.
fn event_with(headers: &str, request_id: &str, payload: &str) -> String {
    let event = String::from_utf8(event(request_id, payload)).unwrap();
    event.replacen("\r\n", &format!("\r\n{headers}"), 1)
}

/// What a function on a loop sends for each event, the bodies of its posts apart, and what it logs.
fn record(on: &str, handler: &str, events: &[String]) -> (Vec<[Vec<String>; 2]>, Recorded) {
    let mut function = start(on, handler, "2");
    let user_agent = match on {
        "ours" => concat!("lmi-runtime/", env!("CARGO_PKG_VERSION")),
        _ => "aws-lambda-rust/1.1.1",
    };
    let head = |request: &test_support::Request| {
        // The one difference: each says what it is.
        assert_eq!(request.header("user-agent"), Some(user_agent));
        let others = request.headers.iter().map(|(name, value)| match &**name {
            "host" | "user-agent" => name.clone(),
            _ => format!("{name}: {value}"),
        });
        let mut head: Vec<_> = others.chain([request.line.clone()]).collect();
        head.sort();
        head
    };
    let (mut heads, mut bodies) = (Vec::new(), Vec::new());
    for event in events {
        let poll = function.poll();
        poll.respond(event);
        let post = function.post();
        post.accept();
        heads.push([head(&poll), head(&post)]);
        bodies.push(String::from_utf8(post.body).unwrap());
    }
    function.signal(Signal::SIGKILL);
    let lines = function.wait().1.into_iter();
    let log = lines.filter_map(|line| serde_json::from_str(&line).ok());
    let log = log.map(without_what_one_loop_adds).collect();
    (heads, Recorded { bodies, log })
}

struct Recorded {
    bodies: Vec<String>,
    log: Vec<Value>,
}

/// A line of the log without the span that `lambda_runtime` has for each worker, or the request id
/// that this loop has beside that of the span.
fn without_what_one_loop_adds(mut line: Value) -> Value {
    if let Some(spans) = line["spans"].as_array_mut() {
        spans.retain(|span| span["name"] != "worker");
    }
    let request_id = line["fields"].as_object_mut().unwrap().remove("requestId");
    if let Some(request_id) = request_id {
        assert_eq!(request_id, line["span"]["requestId"]);
    }
    line
}

/// Asserts that both loops send the same for these events; returns what each posts and logs.
fn record_both(handler: &str, events: &[String]) -> [Recorded; 2] {
    let (our_heads, ours) = record("ours", handler, events);
    let (their_heads, theirs) = record("theirs", handler, events);
    assert_eq!(our_heads, their_heads);
    assert_eq!(ours.bodies, theirs.bodies);
    [ours, theirs]
}

/// Asserts that both loops send and log the same for these events; returns that.
fn compare(handler: &str, events: &[String]) -> Recorded {
    let [ours, theirs] = record_both(handler, events);
    assert_eq!(ours.log, theirs.log);
    ours
}

/// Events with these headers and payloads.
fn events<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let numbered = (1..).zip(parts);
    numbered
        .map(|(number, (headers, payload))| {
            event_with(headers, &format!("event-{number}"), payload)
        })
        .collect()
}

#[test]
fn gives_a_service_the_context_that_lambda_runtime_gives_it() {
    const CLIENT: &str = r#"Lambda-Runtime-Client-Context: {"client":{"installation_id":"i","appTitle":"t","app_version_name":"n","app_version_code":"c","app_package_name":"p"},"custom":{"a":"b"}}"#;
    let headers = [
        "",
        "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0\r\n",
        "Lambda-Runtime-Aws-Tenant-Id: blue\r\nLAMBDA-RUNTIME-TRACE-ID: t\r\n",
        "Lambda-Runtime-Client-Context: {}\r\nLambda-Runtime-Invocation-Id: 1\r\n",
        "Lambda-Runtime-Client-Context:\r\nLambda-Runtime-Cognito-Identity:\r\n",
        &format!("{CLIENT}\r\n"),
        "Lambda-Runtime-Cognito-Identity: \
         {\"cognitoIdentityId\":\"i\",\"cognitoIdentityPoolId\":\"p\"}\r\n",
        "No-Arn: 1\r\n",
    ];
    let mut events = events(headers.map(|headers| (headers, r#"{"Echo":[0,"é"]}"#)));
    events[7] = events[7].replace("Invoked-Function-Arn", "Arn");
    let ours = compare("acts", &events);
    assert_eq!(ours.log, [Value::Null; 0]);

    let body = |index: usize| serde_json::from_str::<Value>(&ours.bodies[index]).unwrap();
    assert_eq!(body(2)[1]["tenant_id"], "blue");
    assert_eq!(body(5)[1]["client_context"]["custom"]["a"], "b");
    assert_eq!(body(6)[1]["identity"]["identityId"], "i");
    assert_eq!(body(7)[1]["env_config"]["log_stream"], "stream");
}

#[test]
fn reports_and_logs_what_lambda_runtime_reports_and_logs() {
    let trace = "Lambda-Runtime-Trace-Id: t\r\n";
    let tenant = "Lambda-Runtime-Aws-Tenant-Id: blue\r\n";
    let ours = compare(
        "acts",
        &events([
            ("", r#"{"PanicLater":{"messages":["a",1]}}"#),
            ("", r#"{"Fail":"it is \"wrong\"\n"}"#),
            (&[trace, tenant].concat(), "\"Log\""),
            (trace, "\"Log\""),
            (tenant, "\"Log\""),
            ("", "\"Log\" and more"),
            ("", ""),
            ("", "{"),
            ("", "1"),
            ("", "\"Nothing\""),
            ("", r#"{"Echo":}"#),
        ]),
    );
    let [path, failure, ..] = &ours.bodies[..] else {
        panic!("{:?}", ours.bodies);
    };
    assert!(path.contains("[PanicLater.messages[1]]"), "{path}");
    let expected = r#"{"errorType":"Own.Type","errorMessage":"it is \"wrong\"\n"}"#;
    assert_eq!(failure, expected);
    assert_eq!(ours.log.len(), 15);
    let span = json!({
        "name": "Lambda runtime invoke", "requestId": "event-3", "xrayTraceId": "t", "tenantId": "blue",
    });
    assert_eq!(ours.log[2]["span"], span);
    assert_eq!(ours.log[3]["spans"][1]["depth"], 2);
}

#[test]
fn reports_a_panic_as_lambda_runtime_does() {
    let [ours, _] = record_both(
        "acts",
        &events([
            ("", "\"Panic\""),
            ("", r#"{"PanicLater":{"messages":["a"]}}"#),
            ("", "\"PanicWithout\""),
        ]),
    );
    let body = &ours.bodies[1];
    assert!(body.contains(r#"Lambda panicked: [\"a\"]"#), "{body}");
    // It logs one line where `lambda_runtime` logs one and prints another.
    assert_eq!(ours.log.len(), 3);
    assert_eq!(ours.log[1]["fields"]["message"], r#"panicked: ["a"]"#);
    assert_eq!(ours.log[1]["span"]["requestId"], "event-2");
}

#[test]
fn runs_what_lambda_runtime_runs() {
    let http = json!({
        "version": "2.0",
        "rawPath": "/ada",
        "rawQueryString": "n=1&n=2",
        "queryStringParameters": { "n": "1,2" },
        "headers": { "accept": "*/*" },
        "requestContext": { "http": { "method": "GET", "path": "/ada" } },
        "isBase64Encoded": false,
    })
    .to_string();
    let traced = "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700\r\n";
    for (handler, last_event, says) in [
        ("is reluctant", ("", r#""2""#), r#""2""#),
        ("times out", ("", "{}"), "request timed out"),
        ("speaks HTTP", (traced, &http), "/ada"),
    ] {
        let ours = compare(handler, &events([("", r#""x""#), last_event]));
        assert!(
            ours.bodies[1].contains(says),
            "{handler}: {:?}",
            ours.bodies
        );
    }
}

/// Invokes a service, then with an event that it cannot handle, and once more. Returns the error and
/// the message of the log line.
fn fails(handler: &str, event: &str) -> (Value, Value) {
    let function = start("ours", handler, "1");
    for payload in [r#""1""#, r#""2""#] {
        function.invoke(payload);
    }
    function.poll().respond(event);
    let post = function.post();
    post.accept();
    assert_eq!(post.posted(), ("fatal", "error"));
    function.invoke(r#""3""#);
    let mut lines = function.terminate().into_iter();
    let line = lines.find(|line| line["fields"]["requestId"] == "fatal");
    let message = line.unwrap()["fields"]["message"].take();
    (serde_json::from_slice(&post.body).unwrap(), message)
}

/// Asserts that `lambda_runtime` loses its only worker to an event, and with it the process, and that
/// this loop reports and logs it.
fn costs_no_worker(handler: &str, event: &str, error_type: &str, message: &str) {
    let mut theirs = start("theirs", handler, "1");
    for payload in [r#""1""#, r#""2""#] {
        theirs.invoke(payload);
    }
    theirs.poll().respond(event);
    assert!(!theirs.wait().0.success());

    let (error, logged) = fails(handler, event);
    let expected = json!({ "errorType": error_type, "errorMessage": message });
    assert_eq!(error, expected);
    assert_eq!(logged.as_str().unwrap().trim_matches('"'), message);
}

#[test]
fn an_unusable_context_costs_no_worker() {
    let context = "1\r\nLambda-Runtime-Client-Context: ";
    let identity = "1\r\nLambda-Runtime-Cognito-Identity: ";
    for (deadline, rest, message) in [
        ("soon", "", "no usable Lambda-Runtime-Deadline-Ms"),
        (
            context,
            r#"{"custom":{"a":1}}"#,
            "cannot read the client context: \
             invalid type: integer `1`, expected a string at line 1 column 16",
        ),
        (
            context,
            "not JSON",
            "cannot read the client context: expected ident at line 1 column 2",
        ),
        (
            identity,
            "{}",
            "cannot read the Cognito identity: missing field `identityId` at line 1 column 2",
        ),
    ] {
        let headers = [deadline, rest].concat();
        let event = event_with("", "fatal", "{}").replace("4102444800000", &headers);
        let error_type = "Runtime.LambdaContextUnmarshalError";
        costs_no_worker("speaks HTTP", &event, error_type, message);
    }
}

#[test]
fn a_reply_that_is_not_serializable_costs_no_worker() {
    let event = event_with("", "fatal", "\"Unserializable\"");
    let message = "the reply is not serializable as JSON: key must be a string";
    costs_no_worker("acts", &event, "Runtime.MarshalError", message);
}

#[test]
fn a_service_that_does_not_become_ready_costs_no_worker() {
    let event = event_with("", "fatal", "3");
    costs_no_worker("is reluctant", &event, "&&str", "reluctant");
}

#[test]
fn an_unusable_payload_keeps_nothing_from_other_workers() {
    let function = start("ours", "waits its turn", "2");
    let [first, second] = [function.poll(), function.poll()];
    first.dispatch("a", "1");
    let post = function.post();
    assert_eq!(post.posted(), ("a", "error"));
    post.accept();
    second.dispatch("b", r#"{"Echo": 1}"#);
    assert_eq!(function.post().posted(), ("b", "response"));
}

#[test]
fn refuses_to_stream() {
    let (error, logged) = fails("streams", &event_with("", "fatal", "1"));
    let message = "lmi-runtime cannot stream; lambda_runtime can";
    let expected = json!({ "errorType": "Runtime.StreamingNotSupported", "errorMessage": message });
    assert_eq!(error, expected);
    assert_eq!(logged, message);
}

#[test]
fn logs_the_start_of_a_long_error() {
    let message = "x".repeat(100_000);
    let event = event_with("", "fatal", &json!({ "Fail": message }).to_string());
    let (error, logged) = fails("acts", &event);
    assert_eq!(error["errorMessage"], message);
    let logged = logged.as_str().unwrap();
    assert!(logged.starts_with("Failure(\"xxx"), "{logged}");
    assert!(logged.len() < 4096);
}

#[test]
fn eight_handlers_are_in_flight_at_once() {
    let function = start("ours", "meets", "8");
    let polls: Vec<_> = (0..8).map(|_| function.poll()).collect();
    for (number, poll) in polls.iter().enumerate() {
        poll.dispatch(&format!("event-{number}"), number.to_string());
    }
    for _ in 0..8 {
        let post = function.post();
        post.accept();
        let body = str::from_utf8(&post.body).unwrap();
        assert_eq!(post.posted(), (&*format!("event-{body}"), "response"));
    }
}

#[test]
fn runs_within_a_runtime() {
    let function = start("ours", "is within a runtime", "8");
    assert_eq!(function.invoke("{}"), b"true");
    let _ = function.terminate();
}
