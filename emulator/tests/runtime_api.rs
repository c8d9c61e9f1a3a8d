//! The Runtime API, spoken by the test itself in place of a function.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Answer, Gate, answer, http, invoke, payload, request, start, workers};
use emulator::{Emulator, Reply, Settings};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use uuid::Uuid;

const NEXT: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1";

/// A function of which the test is the worker.
struct Function {
    emulator: Arc<Emulator>,
    runtime_api: SocketAddr,
    /// The open poll.
    poll: Option<TcpStream>,
    _process: BufReader<TcpStream>,
}

impl Function {
    async fn start(mut settings: Settings) -> Self {
        let gate = Gate::new().await;
        settings
            .environment
            .push(("BEHAVIOUR".into(), gate.address().to_string().into()));
        let (emulator, (runtime_api, poll, process)) = tokio::join!(start(settings), async {
            let mut process = BufReader::new(gate.entered().await);
            let mut address = String::new();
            process.read_line(&mut address).await.unwrap();
            let runtime_api = address.trim().parse().unwrap();
            (runtime_api, request(runtime_api, NEXT, b"").await, process)
        });
        Self {
            emulator: Arc::new(emulator),
            runtime_api,
            poll: Some(poll),
            _process: process,
        }
    }

    /// Gives the function an event.
    fn call(&self, event: &'static str) -> JoinHandle<Reply> {
        let emulator = Arc::clone(&self.emulator);
        tokio::spawn(async move { emulator.invoke(event).await.unwrap() })
    }

    /// Takes the event, by the poll that is open or by another.
    async fn next(&mut self) -> Answer {
        let mut poll = match self.poll.take() {
            Some(poll) => poll,
            None => request(self.runtime_api, NEXT, b"").await,
        };
        answer(&mut poll).await
    }

    /// Answers an event: `what` is `response` or `error`.
    async fn post(&self, what: &str, event: &Answer, body: &[u8]) -> (u16, String) {
        let id = event.header("lambda-runtime-invocation-id").unwrap();
        self.post_attempt(what, event, id, body).await
    }

    async fn post_attempt(
        &self,
        what: &str,
        event: &Answer,
        id: &str,
        body: &[u8],
    ) -> (u16, String) {
        let request_id = event.header("lambda-runtime-aws-request-id").unwrap();
        let answer = http(
            self.runtime_api,
            &format!(
                "POST /2018-06-01/runtime/invocation/{request_id}/{what} HTTP/1.1
                 lambda-runtime-invocation-id: {id}"
            ),
            body,
        )
        .await;
        (answer.status, answer.text().trim().to_owned())
    }
}

fn refusal(error_type: &str, message: &str) -> String {
    json!({ "errorMessage": message, "errorType": error_type }).to_string()
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis()
}

#[tokio::test]
async fn gives_an_event_with_its_headers_and_takes_the_response() {
    let mut function = Function::start(workers(1)).await;
    let before = now_ms();
    let call = function.call(r#"{"n": 10}"#);
    let event = function.next().await;
    assert_eq!((event.status, &*event.text()), (200, r#"{"n": 10}"#));
    let header = |name| event.header(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(header("content-type"), "application/json");
    let request_id: Uuid = header("lambda-runtime-aws-request-id").parse().unwrap();
    let _: Uuid = header("lambda-runtime-invocation-id").parse().unwrap();
    let deadline: u128 = header("lambda-runtime-deadline-ms").parse().unwrap();
    assert!((before + 10_000..=now_ms() + 10_000).contains(&deadline));
    assert_eq!(
        header("lambda-runtime-invoked-function-arn"),
        "arn:aws:lambda:us-east-1:123456789012:function:function"
    );
    assert!(header("lambda-runtime-trace-id").starts_with("Root=1-"));
    assert!(event.header("lambda-runtime-client-context").is_none());

    let posted = function.post("response", &event, b"[1]").await;
    assert_eq!(posted, (202, r#"{"status":"OK"}"#.to_owned()));
    let reply = call.await.unwrap();
    assert_eq!(
        (reply.request_id, &reply.payload[..]),
        (request_id, &b"[1]"[..])
    );
}

#[tokio::test]
async fn passes_an_error_on_as_it_is() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    let body = br#"{"errorType":"Oh","errorMessage":"no","stackTrace":[]}"#;
    assert_eq!(function.post("error", &event, body).await.0, 202);
    let reply = call.await.unwrap();
    assert_eq!(
        (reply.function_error, &reply.payload[..]),
        (true, &body[..])
    );
}

#[tokio::test]
async fn refuses_a_second_response() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    let refused = (400, refusal("InvalidRequestID", "Invalid request ID"));
    assert_eq!(function.post("response", &event, b"2").await, refused);
    assert_eq!(function.post("error", &event, b"2").await, refused);
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn refuses_the_answer_to_an_unknown_invocation() {
    let function = Function::start(workers(1)).await;
    for id in ["nonsense", "156cb537-e2d4-11e8-9b34-d36013741fb9", "%ff"] {
        let head = format!("POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1");
        assert_eq!(
            http(function.runtime_api, &head, b"{}").await.status,
            400,
            "{id}"
        );
    }
}

#[tokio::test]
async fn refuses_the_answer_of_another_attempt() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    for id in ["nonsense", "156cb537-e2d4-11e8-9b34-d36013741fb9"] {
        assert_eq!(
            function.post_attempt("response", &event, id, b"1").await.0,
            400,
            "{id}"
        );
    }
    assert_eq!(function.post("response", &event, b"2").await.0, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"2");
}

#[tokio::test]
async fn tells_a_late_answer_from_an_unknown_one() {
    let mut settings = workers(1);
    settings.timeout = Duration::from_millis(200);
    let mut function = Function::start(settings).await;
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(
        payload(&call.await.unwrap())["errorType"],
        "Sandbox.Timedout"
    );
    let late = (410, refusal("InvokeTimeout", "Invoke timeout"));
    assert_eq!(function.post("response", &event, b"1").await, late);
    assert_eq!(function.post("response", &event, b"1").await.0, 400);
}

#[tokio::test]
async fn refuses_a_response_that_is_too_large() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    let body = vec![b'1'; 6 * 1024 * 1024 + 101];
    let message = "Exceeded maximum allowed payload size (6291556 bytes).";
    let refused = (413, refusal("RequestEntityTooLarge", message));
    assert_eq!(function.post("response", &event, &body).await, refused);
    assert_eq!(
        payload(&call.await.unwrap())["errorType"],
        "Function.ResponseSizeTooLarge"
    );
}

#[tokio::test]
async fn takes_a_response_again_that_broke_off() {
    let mut function = Function::start(workers(1)).await;
    let call = function.call("{}");
    let event = function.next().await;
    let id = event.header("lambda-runtime-aws-request-id").unwrap();
    let path = format!("/2018-06-01/runtime/invocation/{id}/response");
    let mut broken = TcpStream::connect(function.runtime_api).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: here\r\ncontent-length: 100\r\n\r\nonly this");
    broken.write_all(head.as_bytes()).await.unwrap();
    broken.shutdown().await.unwrap();
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn hands_no_event_to_a_client_that_has_gone_away() {
    let mut function = Function::start(workers(2)).await;
    let mut second = request(function.runtime_api, NEXT, b"").await;
    function.emulator.wait_for_polls(|polls| polls == 2).await;
    drop(function.poll.take());
    function.emulator.wait_for_polls(|polls| polls == 1).await;
    let call = function.call("{}");
    let event = answer(&mut second).await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert_eq!(&call.await.unwrap().payload[..], b"1");
}

#[tokio::test]
async fn gives_a_worker_back_that_polls_instead_of_answering_late() {
    let mut settings = workers(1);
    settings.timeout = Duration::from_millis(200);
    let mut function = Function::start(settings).await;
    let call = function.call("{}");
    let _lost = function.next().await;
    assert_eq!(
        payload(&call.await.unwrap())["errorType"],
        "Sandbox.Timedout"
    );
    function.poll = Some(request(function.runtime_api, NEXT, b"").await);
    function.emulator.wait_for_polls(|polls| polls == 1).await;
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert!(!call.await.unwrap().function_error);
    // Between its answer and its next poll a worker counts as free.
    let call = function.call("{}");
    let event = function.next().await;
    assert_eq!(function.post("response", &event, b"1").await.0, 202);
    assert!(!call.await.unwrap().function_error);
}

#[tokio::test]
async fn decodes_the_client_context_for_the_function() {
    let mut function = Function::start(workers(1)).await;
    for (json, expected) in [
        (r#"{"custom":{"a":1}}"#, r#"{"custom":{"a":1}}"#),
        ("{\r\n \"client\": {}}", "{   \"client\": {}}"),
        ("not JSON at all", "not JSON at all"),
    ] {
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, json);
        let emulator = Arc::clone(&function.emulator);
        let call = tokio::spawn(async move {
            invoke(
                &emulator,
                &format!("x-amz-client-context: {encoded}"),
                b"{}",
            )
            .await
        });
        let event = function.next().await;
        assert_eq!(
            event.header("lambda-runtime-client-context"),
            Some(expected)
        );
        function.post("response", &event, b"1").await;
        assert_eq!(call.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn registers_an_extension() {
    let function = Function::start(workers(1)).await;
    let head = "POST /2020-01-01/extension/register HTTP/1.1
                lambda-extension-name: helper";
    let answer = http(function.runtime_api, head, br#"{"events":[]}"#).await;
    assert_eq!(answer.status, 200);
    let _: Uuid = answer
        .header("lambda-extension-identifier")
        .unwrap()
        .parse()
        .unwrap();
    let expected = json!({
        "functionName": "function",
        "functionVersion": "$LATEST.PUBLISHED",
        "handler": "bootstrap",
        "accountId": "123456789012",
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn knows_no_other_paths() {
    let function = Function::start(workers(1)).await;
    for head in [
        "GET / HTTP/1.1",
        "POST /2018-06-01/runtime/invocation/next HTTP/1.1",
    ] {
        assert_eq!(
            http(function.runtime_api, head, b"").await.status,
            404,
            "{head}"
        );
    }
}
