//! Handlers for `lambda_runtime`'s loop, on that one and on this.

use std::collections::HashMap;
use std::convert::Infallible;
use std::env;
use std::future::{Ready, pending, ready};
use std::mem;
use std::panic::panic_any;
use std::process::{ExitCode, exit};
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
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
    let router = Router::new().route("/{name}", get("from axum"));
    let code = match &*handler {
        "acts" => run!(service_fn(act)),
        "fails" => run!(service_fn(fail)),
        "is reluctant" => run!(Reluctant::default()),
        "times out" => run!(Timeout::new(service_fn(wait), Duration::from_millis(10))),
        "waits its turn" => run!(GlobalConcurrencyLimitLayer::new(1).layer(service_fn(act))),
        "speaks HTTP" => run!(Adapter::from(service_fn(greet))),
        "is a router" => run!(service_fn(
            move |event| Adapter::from(router.clone()).call(event)
        )),
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
struct Failure {
    message: String,
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self {
            error_type: "Own.Type".to_owned(),
            error_message: failure.message,
        }
    }
}

async fn act(event: LambdaEvent<Event>) -> Result<Reply, Failure> {
    match event.payload {
        Event::Echo(value) => return Ok(Reply::Json(json!([value, event.context]))),
        Event::Fail(message) => return Err(Failure { message }),
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

async fn fail(event: LambdaEvent<String>) -> Result<(), Error> {
    Err(event.payload.parse::<u8>().unwrap_err().into())
}

/// Becomes ready when it is asked for the second time, but never for its third invocation.
#[derive(Clone, Default)]
struct Reluctant {
    is_asked: bool,
    calls: u8,
}

impl Service<LambdaEvent<Value>> for Reluctant {
    type Response = Value;
    type Error = &'static str;
    type Future = Ready<Result<Value, &'static str>>;

    fn poll_ready(&mut self, task: &mut Context) -> Poll<Result<(), &'static str>> {
        if self.calls == 2 {
            self.calls += 1;
            Poll::Ready(Err("reluctant"))
        } else if self.is_asked {
            Poll::Ready(Ok(()))
        } else {
            self.is_asked = true;
            task.waker().wake_by_ref();
            Poll::Pending
        }
    }

    fn call(&mut self, event: LambdaEvent<Value>) -> Self::Future {
        assert!(self.is_asked);
        self.is_asked = false;
        self.calls += 1;
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

/// What is sent: method and path, headers, and the body.
type Sent = (String, Vec<(String, String)>, String);

/// What a function on a loop sends for events, first all posts and then the polls, and what it logs.
fn record(on: &str, handler: &str, events: &[String]) -> (Vec<Sent>, Vec<Value>) {
    let mut function = start(on, handler, "2");
    let user_agent = match on {
        "ours" => concat!("lmi-runtime/", env!("CARGO_PKG_VERSION")),
        _ => "aws-lambda-rust/1.1.1",
    };
    let sent = |request: test_support::Request| {
        let mut headers = request.headers;
        headers.sort();
        for (name, value) in &mut headers {
            match &**name {
                "host" => value.clear(),
                // The one difference: each says what it is.
                "user-agent" => assert_eq!(mem::take(value), user_agent),
                _ => {}
            }
        }
        let body = String::from_utf8(request.body).unwrap();
        (request.line, headers, body)
    };
    let (mut posts, mut polls) = (Vec::new(), Vec::new());
    for event in events {
        let poll = function.poll();
        poll.respond(event);
        let post = function.post();
        post.accept();
        posts.push(sent(post));
        polls.push(sent(poll));
    }
    posts.extend(polls);
    function.signal(Signal::SIGKILL);
    let lines = function.wait().1.into_iter();
    let lines = lines.filter_map(|line| serde_json::from_str(&line).ok());
    (posts, lines.collect())
}

/// A line of `lambda_runtime`'s log without the span that it has for each worker.
fn without_worker(mut line: Value) -> Value {
    if let Some(spans) = line["spans"].as_array_mut() {
        spans.retain(|span| span["name"] != "worker");
    }
    line
}

/// A line of this loop's log without the request id that it has beside that of the span.
fn without_request_id(mut line: Value) -> Value {
    let request_id = line["fields"].as_object_mut().unwrap().remove("requestId");
    if let Some(request_id) = request_id {
        assert_eq!(request_id, line["span"]["requestId"]);
    }
    line
}

/// Asserts that both loops send the same for these events; returns that, and the log of both.
fn compare(handler: &str, events: &[String]) -> (Vec<Sent>, [Vec<Value>; 2]) {
    let (ours, our_log) = record("ours", handler, events);
    let (theirs, their_log) = record("theirs", handler, events);
    assert_eq!(ours, theirs);
    let our_log = our_log.into_iter().map(without_request_id);
    let their_log = their_log.into_iter().map(without_worker);
    (ours, [our_log.collect(), their_log.collect()])
}

fn events(payloads: &[&str]) -> Vec<String> {
    let numbered = (1..).zip(payloads);
    numbered
        .map(|(number, payload)| event_with("", &format!("event-{number}"), payload))
        .collect()
}

#[test]
fn gives_a_service_the_context_that_lambda_runtime_gives_it() {
    const CLIENT: &str = r#"{"installation_id":"i","appTitle":"t","app_version_name":"n","app_version_code":"c","app_package_name":"p"}"#;
    let headers = [
        String::new(),
        "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0\r\n".into(),
        "Lambda-Runtime-Aws-Tenant-Id: blue\r\nLAMBDA-RUNTIME-TRACE-ID: t\r\n".into(),
        "Lambda-Runtime-Client-Context: {}\r\nLambda-Runtime-Invocation-Id: 1\r\n".into(),
        "Lambda-Runtime-Client-Context:\r\nLambda-Runtime-Cognito-Identity:\r\n".into(),
        format!(
            "Lambda-Runtime-Client-Context: {{\"client\":{CLIENT},\"custom\":{{\"a\":\"b\"}}}}\r\n"
        ),
        "Lambda-Runtime-Cognito-Identity: \
         {\"cognitoIdentityId\":\"i\",\"cognitoIdentityPoolId\":\"p\"}\r\n"
            .into(),
    ];
    let mut events: Vec<_> = (1..)
        .zip(&headers)
        .map(|(number, headers)| {
            event_with(headers, &format!("event-{number}"), r#"{"Echo":[0,"é"]}"#)
        })
        .collect();
    events
        .push(event_with("", "no-arn", r#"{"Echo":null}"#).replace("Invoked-Function-Arn", "Arn"));
    let (posts, [our_log, their_log]) = compare("acts", &events);
    assert_eq!(our_log, their_log);
    assert_eq!(our_log, [Value::Null; 0]);

    let body = |index: usize| serde_json::from_str::<Value>(&posts[index].2).unwrap();
    assert_eq!(body(2)[1]["tenant_id"], "blue");
    assert_eq!(body(5)[1]["client_context"]["custom"]["a"], "b");
    assert_eq!(body(6)[1]["identity"]["identityId"], "i");
    assert_eq!(body(7)[1]["env_config"]["log_stream"], "stream");
}

#[test]
fn reports_and_logs_what_lambda_runtime_reports_and_logs() {
    let (posts, [our_log, their_log]) = compare(
        "acts",
        &events(&[
            "",
            "{",
            "1",
            "\"Nothing\"",
            r#"{"Echo":}"#,
            r#"{"PanicLater":{"messages":["a",1]}}"#,
            "\"Log\" and more",
            r#"{"Fail":"it is \"wrong\"\n"}"#,
        ]),
    );
    assert_eq!(our_log, their_log);
    assert_eq!(our_log.len(), 9);
    assert_eq!(our_log[7]["spans"][1]["depth"], 2);
    assert!(
        posts[5].2.contains("[PanicLater.messages[1]]"),
        "{}",
        posts[5].2
    );
    assert_eq!(
        posts[7].2,
        r#"{"errorType":"Own.Type","errorMessage":"it is \"wrong\"\n"}"#
    );

    let (posts, [our_log, their_log]) = compare("fails", &events(&[r#""256""#]));
    assert_eq!(our_log, their_log);
    assert!(posts[0].2.contains("number too large"), "{}", posts[0].2);
}

#[test]
fn reports_a_panic_as_lambda_runtime_does() {
    let (posts, [our_log, _]) = compare(
        "acts",
        &events(&[
            "\"Panic\"",
            r#"{"PanicLater":{"messages":["a"]}}"#,
            "\"PanicWithout\"",
        ]),
    );
    assert!(
        posts[1].2.contains(r#"Lambda panicked: [\"a\"]"#),
        "{}",
        posts[1].2
    );
    // It logs one line where `lambda_runtime` logs one and prints another.
    assert_eq!(our_log.len(), 3);
    assert_eq!(our_log[1]["fields"]["message"], r#"panicked: ["a"]"#);
    assert_eq!(our_log[1]["span"]["requestId"], "event-2");
}

#[test]
fn spans_have_the_fields_of_lambda_runtimes() {
    let trace = "Lambda-Runtime-Trace-Id: t\r\n";
    let tenant = "Lambda-Runtime-Aws-Tenant-Id: blue\r\n";
    let both = [trace, tenant].concat();
    let headers = [("trace", trace), ("tenant", tenant), ("both", &both)];
    let events = headers.map(|(name, headers)| event_with(headers, name, "\"Log\""));
    let (_, [our_log, their_log]) = compare("acts", &events);
    assert_eq!(our_log, their_log);
    let span = json!({
        "name": "Lambda runtime invoke", "requestId": "both", "xrayTraceId": "t", "tenantId": "blue",
    });
    assert_eq!(our_log[4]["span"], span);
}

#[test]
fn waits_until_a_service_is_ready() {
    let (posts, _) = compare("is reluctant", &events(&["1", "2"]));
    assert_eq!(posts[1].2, "2");
}

#[test]
fn layers_work() {
    let (posts, [our_log, their_log]) = compare("times out", &events(&["{}"]));
    assert_eq!(our_log, their_log);
    assert!(posts[0].2.contains("request timed out"), "{}", posts[0].2);
}

#[test]
fn lambda_http_works() {
    let payload = json!({
        "version": "2.0",
        "rawPath": "/ada",
        "rawQueryString": "n=1&n=2",
        "queryStringParameters": { "n": "1,2" },
        "headers": { "accept": "*/*" },
        "requestContext": { "http": { "method": "GET", "path": "/ada" } },
        "isBase64Encoded": false,
    });
    let trace_id = "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700\r\n";
    let mut events = events(&["{}"]);
    events.push(event_with(trace_id, "traced", &payload.to_string()));
    for (handler, body) in [("speaks HTTP", "/ada"), ("is a router", "from axum")] {
        let (posts, [our_log, their_log]) = compare(handler, &events);
        assert_eq!(our_log, their_log);
        assert!(posts[1].2.contains(body), "{}", posts[1].2);
    }
}

/// Asserts that `lambda_runtime` loses a worker to an event, and with its only one the process, and
/// that this loop does not. Returns the error and the log line.
fn costs_no_worker(handler: &str, event: &str) -> (Value, Value) {
    let mut theirs = start("theirs", handler, "1");
    for payload in [r#""1""#, r#""2""#] {
        theirs.invoke(payload);
    }
    theirs.poll().respond(event);
    assert!(!theirs.wait().0.success());
    fails(handler, event)
}

/// Invokes a service with an event that it cannot handle, and once more. Returns the error and the
/// log line.
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
    let lines = function.terminate();
    let line = lines
        .into_iter()
        .find(|line| line["fields"]["requestId"] == "fatal");
    (serde_json::from_slice(&post.body).unwrap(), line.unwrap())
}

#[test]
fn an_unusable_context_costs_no_worker() {
    for (headers, message) in [
        (
            "1\r\nLambda-Runtime-Client-Context: {\"custom\":{\"a\":1}}",
            "cannot read the client context: invalid type: integer `1`, expected a string at line \
             1 column 16",
        ),
        (
            "1\r\nLambda-Runtime-Client-Context: not JSON",
            "cannot read the client context: expected ident at line 1 column 2",
        ),
        (
            "1\r\nLambda-Runtime-Cognito-Identity: {}",
            "cannot read the Cognito identity: missing field `identityId` at line 1 column 2",
        ),
        ("soon", "no usable Lambda-Runtime-Deadline-Ms"),
    ] {
        let event = event_with("", "fatal", "{}").replace("4102444800000", headers);
        let (error, line) = costs_no_worker("speaks HTTP", &event);
        let error_type = "Runtime.LambdaContextUnmarshalError";
        assert_eq!(
            error,
            json!({ "errorType": error_type, "errorMessage": message })
        );
        assert_eq!(line["fields"]["message"], message);
    }
}

#[test]
fn a_reply_that_is_not_serializable_costs_no_worker() {
    let event = event_with("", "fatal", "\"Unserializable\"");
    let (error, line) = costs_no_worker("acts", &event);
    let message = "the reply is not serializable as JSON: key must be a string";
    assert_eq!(
        error,
        json!({ "errorType": "Runtime.MarshalError", "errorMessage": message })
    );
    assert_eq!(line["fields"]["message"], message);
}

#[test]
fn a_service_that_does_not_become_ready_costs_no_worker() {
    let (error, line) = costs_no_worker("is reluctant", &event_with("", "fatal", "3"));
    assert_eq!(
        error,
        json!({ "errorType": "&&str", "errorMessage": "reluctant" })
    );
    assert_eq!(line["fields"]["message"], "\"reluctant\"");
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
fn a_post_that_breaks_costs_no_worker() {
    let mut theirs = start("theirs", "acts", "1");
    theirs.poll().dispatch("a", r#"{"Echo":1}"#);
    theirs.post().close();
    assert!(!theirs.wait().0.success());

    let ours = start("ours", "acts", "1");
    ours.poll().dispatch("a", r#"{"Echo":1}"#);
    ours.post().close();
    ours.post().accept();
    ours.poll();
}

#[test]
fn refuses_to_stream() {
    let (error, line) = fails("streams", &event_with("", "fatal", "1"));
    let message = "lmi-runtime cannot stream; lambda_runtime can";
    assert_eq!(
        error,
        json!({ "errorType": "Runtime.StreamingNotSupported", "errorMessage": message })
    );
    assert_eq!(line["fields"]["message"], message);
}

#[test]
fn logs_the_start_of_a_long_error() {
    let message = "x".repeat(100_000);
    let event = event_with("", "fatal", &json!({ "Fail": message }).to_string());
    let (error, line) = fails("acts", &event);
    assert_eq!(error["errorMessage"], message);
    let logged = line["fields"]["message"].as_str().unwrap();
    assert!(logged.starts_with("Failure { message: \"xxx"), "{logged}");
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
