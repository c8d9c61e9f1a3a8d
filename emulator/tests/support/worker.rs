//! A function of which the test is the worker: it speaks to the Runtime API itself.

use std::net::SocketAddr;
use std::sync::Arc;

use emulator::{Emulator, Reply, Settings};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time;

use super::{
    Gate, PATIENCE, Response, behaving, http, payload, request, response, spawn_call, start, within,
};

pub(crate) const NEXT: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1";

pub(crate) struct Function {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) runtime_api: SocketAddr,
    /// The open poll.
    pub(crate) poll: Option<TcpStream>,
    _process: BufReader<TcpStream>,
}

/// Where the Runtime API is, as the function's process tells. It ends with the connection.
pub(crate) async fn runtime_api(gate: &Gate) -> (SocketAddr, BufReader<TcpStream>) {
    let mut process = BufReader::new(gate.entered().await);
    let mut address = String::new();
    let told = process.read_line(&mut address);
    within("the Runtime API's address", told).await.unwrap();
    (address.trim().parse().unwrap(), process)
}

impl Function {
    /// Starts a process that leaves the Runtime API to the test, and polls for its one worker.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}, async |_| {}).await
    }

    /// Changes the settings, and does something with the Runtime API before the first poll.
    pub(crate) async fn start_with(
        change: impl FnOnce(&mut Settings),
        before: impl AsyncFnOnce(SocketAddr),
    ) -> Self {
        let gate = Gate::new().await;
        let mut settings = behaving(gate.address());
        change(&mut settings);
        let (emulator, (runtime_api, poll, process)) = tokio::join!(start(settings), async {
            let (address, process) = runtime_api(&gate).await;
            before(address).await;
            (address, request(address, NEXT, b"").await, process)
        });
        Self {
            emulator,
            runtime_api,
            poll: Some(poll),
            _process: process,
        }
    }

    /// Starts one that has an event, whose caller waits.
    pub(crate) async fn start_invoked() -> (Self, JoinHandle<Reply>, Response) {
        // Its callers must wait longer.
        let limit = |settings: &mut Settings| settings.timeout = PATIENCE / 2;
        let mut function = Self::start_with(limit, async |_| {}).await;
        let call = function.call("{}");
        let event = function.next().await;
        (function, call, event)
    }

    /// Starts one whose event has timed out.
    pub(crate) async fn start_timed_out() -> (Self, Response) {
        let (function, call, event) = Self::start_invoked().await;
        time::pause();
        time::advance(PATIENCE / 2).await;
        time::resume();
        let reply = call.await.unwrap();
        let reason = "Error: Task timed out after 60.00 seconds";
        let message = format!("RequestId: {} {reason}", reply.request_id);
        let expected = json!({ "errorType": "Sandbox.Timedout", "errorMessage": message });
        assert_eq!((reply.function_error, payload(&reply)), (true, expected));
        (function, event)
    }

    /// Serves an invocation from end to end.
    pub(crate) async fn serve(&mut self) {
        let call = self.call("{}");
        let event = self.next().await;
        self.reply(&event, b"1").await;
        assert_eq!(&call.await.unwrap().payload[..], b"1");
    }

    /// Invokes the function.
    pub(crate) fn call(&self, event: impl Into<String>) -> JoinHandle<Reply> {
        spawn_call(&self.emulator, event)
    }

    /// Takes an event, by the poll that is open or by another.
    pub(crate) async fn next(&mut self) -> Response {
        let mut poll = match self.poll.take() {
            Some(poll) => poll,
            None => request(self.runtime_api, NEXT, b"").await,
        };
        response(&mut poll).await
    }

    /// Polls ahead of the next event.
    pub(crate) async fn poll(&mut self) {
        self.poll = Some(request(self.runtime_api, NEXT, b"").await);
    }

    /// Replies to an event.
    pub(crate) async fn reply(&self, event: &Response, body: &[u8]) {
        assert_eq!(self.post("response", event, body).await.0, 202);
    }

    /// Posts the outcome of an event. `what` is `response` or `error`.
    pub(crate) async fn post(&self, what: &str, event: &Response, body: &[u8]) -> (u16, String) {
        let id = event.header("lambda-runtime-invocation-id").unwrap();
        self.post_attempt(what, event, id, body).await
    }

    pub(crate) async fn post_attempt(
        &self,
        what: &str,
        event: &Response,
        id: &str,
        body: &[u8],
    ) -> (u16, String) {
        let request_id = event.header("lambda-runtime-aws-request-id").unwrap();
        let response = http(
            self.runtime_api,
            &format!(
                "POST /2018-06-01/runtime/invocation/{request_id}/{what} HTTP/1.1
                 lambda-runtime-invocation-id: {id}"
            ),
            body,
        )
        .await;
        (response.status, response.text().trim().to_owned())
    }
}

/// A connection that is kept open, on which requests may be sent ahead of responses.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await;
        Self {
            stream: stream.unwrap(),
            received: Vec::new(),
        }
    }

    /// Sends requests in one write.
    pub(crate) async fn send(&mut self, requests: &[String]) {
        let bytes = requests.concat();
        let sent = self.stream.write_all(bytes.as_bytes());
        within("requests to be read", sent).await.unwrap();
    }

    /// Replies to an event.
    pub(crate) async fn reply(&mut self, event: &Response, body: &str) -> Response {
        self.send(&[post_request(event, body)]).await;
        let accepted = self.receive().await.unwrap();
        assert_eq!(accepted.status, 202);
        accepted
    }

    /// Reads the next response, or `None` if the connection ends before it is whole.
    pub(crate) async fn receive(&mut self) -> Option<Response> {
        within("a response", async {
            loop {
                if let Some(length) = whole_response(&self.received) {
                    let rest = self.received.split_off(length);
                    return Some(Response::parse(std::mem::replace(&mut self.received, rest)));
                }
                match self.stream.read_buf(&mut self.received).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }
}

/// The length of the first response in these bytes, if it is whole.
fn whole_response(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.split("content-length: ").nth(1)?;
    let length: usize = length.split("\r\n").next()?.parse().ok()?;
    (bytes.len() >= end + length).then_some(end + length)
}

/// A request for a connection that is kept open.
pub(crate) fn kept_alive(head: &str, body: &str) -> String {
    let lines: Vec<_> = head.trim().lines().map(str::trim).collect();
    format!(
        "{}\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        lines.join("\r\n"),
        body.len()
    )
}

/// The request that posts a reply to an event.
pub(crate) fn post_request(event: &Response, body: &str) -> String {
    let request_id = event.header("lambda-runtime-aws-request-id").unwrap();
    let id = event.header("lambda-runtime-invocation-id").unwrap();
    kept_alive(
        &format!(
            "POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1
             lambda-runtime-invocation-id: {id}"
        ),
        body,
    )
}
