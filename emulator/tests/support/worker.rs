//! A function of which the test is the worker: it speaks to the Runtime API itself.

use std::net::SocketAddr;
use std::sync::Arc;

use emulator::{Emulator, Reply, Settings};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, yield_now};
use tokio::time;

use super::{
    Connection, Gate, PATIENCE, Response, behaving, http, payload, request, request_bytes,
    response, spawn_call, start, within,
};

pub(crate) const NEXT: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1";

pub(crate) struct Function {
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) runtime_api: SocketAddr,
    /// The open poll.
    pub(crate) poll: Option<Connection>,
    _process: Connection,
}

/// Where the Runtime API is, as the function's process tells. It ends with the connection.
pub(crate) async fn runtime_api(gate: &Gate) -> (SocketAddr, Connection) {
    let mut process = gate.entered().await;
    let mut address = String::new();
    let told = process.read_line(&mut address);
    within("the Runtime API's address", told).await.unwrap();
    (address.trim().parse().unwrap(), process)
}

impl Function {
    /// Starts a process that leaves the Runtime API to the test, and polls for its one worker.
    pub(crate) async fn start() -> Self {
        Self::start_workers(1).await
    }

    /// Polls for one of so many workers.
    pub(crate) async fn start_workers(count: u16) -> Self {
        let workers = |settings: &mut Settings| settings.max_concurrency = count;
        Self::start_with(workers, async |_| {}).await
    }

    /// Changes the settings, and does something with the Runtime API before the first poll.
    pub(crate) async fn start_with(
        change: impl FnOnce(&mut Settings),
        before: impl AsyncFnOnce(SocketAddr),
    ) -> Self {
        let gate = Gate::new().await;
        let mut settings = behaving(gate.address());
        // Callers wait longer.
        settings.timeout = PATIENCE / 2;
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
        let mut function = Self::start().await;
        let call = function.call("{}");
        let event = function.next().await;
        (function, call, event)
    }

    /// Serves an invocation from end to end.
    pub(crate) async fn serve(&mut self) {
        let call = self.call("{}");
        // The event is in line before the poll comes.
        yield_now().await;
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
        let posted = http(self.runtime_api, &post_head(what, event), body).await;
        (posted.status, posted.text().trim().to_owned())
    }

    /// Sends a reply to an event and the next poll in one write.
    pub(crate) async fn reply_and_poll(
        &self,
        connection: &mut Connection,
        event: &Response,
        body: &str,
    ) {
        let poll = request_bytes(self.runtime_api, NEXT, b"");
        let requests = [self.reply_bytes(event, body), poll].concat();
        let sent = connection.write_all(&requests);
        within("requests to be read", sent).await.unwrap();
    }

    /// The bytes of a reply to an event.
    pub(crate) fn reply_bytes(&self, event: &Response, body: &str) -> Vec<u8> {
        let head = post_head("response", event);
        request_bytes(self.runtime_api, &head, body.as_bytes())
    }
}

/// The head of a request that posts the outcome of an event.
pub(crate) fn post_head(what: &str, event: &Response) -> String {
    let request_id = event.header("lambda-runtime-aws-request-id").unwrap();
    let id = event.header("lambda-runtime-invocation-id").unwrap();
    let line = format!("POST /2018-06-01/runtime/invocation/{request_id}/{what} HTTP/1.1");
    format!("{line}\nlambda-runtime-invocation-id: {id}")
}

/// Lets the time of a function's invocation run out.
pub(crate) async fn time_out(call: JoinHandle<Reply>) {
    time::pause();
    time::advance(PATIENCE / 2).await;
    time::resume();
    let reply = call.await.unwrap();
    let reason = "Error: Task timed out after 60.00 seconds";
    let message = format!("RequestId: {} {reason}", reply.request_id);
    let expected = json!({ "errorType": "Sandbox.Timedout", "errorMessage": message });
    assert_eq!((reply.function_error, payload(&reply)), (true, expected));
}
