//! One worker's connection to the [Runtime API].
//!
//! A poll can be pipelined: it travels with the reply before it, right behind it on the connection
//! ([RFC 9112 §9.3.2]). The Runtime API then has the poll as soon as it has taken the reply, and an
//! invocation costs one write and often one read.
//!
//! [Runtime API]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
//! [RFC 9112 §9.3.2]: https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2

use std::fmt::Write;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use std::{iter, mem};

use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::{debug, error, info, warn};
use smallvec::SmallVec;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::http::{STALL_LIMIT, Socket, Stream, in_time, invalid, is_timeout};
use crate::log::excerpt;
use crate::{Invocation, Reply};

pub(crate) const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// In bytes. AWS's are 36, and it has to fit into a log line.
const MAX_REQUEST_ID_LEN: usize = 256;
/// In bytes. The limit of an event is 6 MB.
const MAX_EVENT_LEN: usize = (6 * 1024 + 64) * 1024;
/// How long the last attempt to post may stand still, and how long its connection then stays open
/// if there is no response in time. A worker can have 30 of these: it spends 2 s on each.
const LATE_LIMIT: Duration = Duration::from_mins(1);
/// After so many pipelined polls in a row that got no response, the process sends polls on their
/// own.
const MAX_DROPPED_POLLS: u32 = 2;
/// In bytes, of what is logged of the body that says why the Runtime API refused something.
pub(crate) const MAX_REFUSAL_LEN: usize = 1024;

/// A connection that opens when it is needed and keeps its buffers.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    authority: Arc<str>,
    stream: Option<Stream<S>>,
    poll: Poll,
    /// How many pipelined polls in a row have got no response, up to the last that was sent.
    unanswered_polls: u32,
    poll_request: String,
    post_request: String,
    refusal: Vec<u8>,
}

/// Whether polls are sent, and how.
#[derive(Debug)]
pub(crate) struct Polling {
    /// Whether they are pipelined.
    pub(crate) pipelines: AtomicBool,
    pub(crate) is_draining: AtomicBool,
}

impl Polling {
    pub(crate) fn may_poll(&self) -> bool {
        !self.is_draining.load(Relaxed)
    }

    fn may_pipeline(&self) -> bool {
        self.pipelines.load(Relaxed) && self.may_poll()
    }
}

/// Where the poll on a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    None,
    Sent,
    Pipelined,
    /// It was pipelined, and the response to the post before it is still due.
    BehindLateResponse,
    /// The response to it has come where that to the post was due.
    OutOfOrder,
}

impl<S: Socket> Connection<S> {
    /// `authority` is the `host:port` of `AWS_LAMBDA_RUNTIME_API`.
    pub(crate) fn new(authority: Arc<str>) -> Self {
        let poll_request = format!(
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\
             host: {authority}\r\n\
             user-agent: {USER_AGENT}\r\n\r\n"
        );
        Self {
            authority,
            stream: None,
            poll: Poll::None,
            unanswered_polls: 0,
            poll_request,
            post_request: String::new(),
            refusal: Vec::with_capacity(MAX_REFUSAL_LEN),
        }
    }

    /// Whether an event has arrived that [`next`](Self::next) has not returned yet.
    pub(crate) fn has_event(&self) -> bool {
        self.poll == Poll::OutOfOrder
    }

    /// Receives the next event into `invocation`, which is empty. Waits for as long as the connection
    /// lives. Polls for it unless a poll is under way; returns `false` if it may not.
    /// `set_in_flight` hears whether an event has begun.
    ///
    /// # Errors
    ///
    /// If the Runtime API cannot be reached, a new connection ends without a response, or the
    /// response is not a whole event. The caller is told if its request id has been received.
    pub(crate) async fn next(
        &mut self,
        invocation: &mut Invocation,
        polling: &Polling,
        set_in_flight: impl Fn(bool),
    ) -> io::Result<bool> {
        let received = self.receive(invocation, polling, set_in_flight).await;
        if let Err(problem) = &received
            && !invocation.request_id.is_empty()
        {
            warn!(requestId = invocation.request_id, %problem, "the event is unreadable");
            let diagnostic = Diagnostic {
                error_type: "Runtime.UnreadableEvent".to_owned(),
                error_message: problem.to_string(),
            };
            self.post(invocation, Err(diagnostic), || false).await;
        }
        received
    }

    async fn receive(
        &mut self,
        invocation: &mut Invocation,
        polling: &Polling,
        set_in_flight: impl Fn(bool),
    ) -> io::Result<bool> {
        loop {
            if self.poll == Poll::None && !self.send_poll(polling).await? {
                return Ok(false);
            }
            let Some(mut stream) = self.stream.take() else {
                continue; // it was closed, and the poll is sent again
            };
            let poll = mem::replace(&mut self.poll, Poll::None);
            match stream.response_begins().await {
                Ok(()) if poll == Poll::Pipelined => self.unanswered_polls = 0,
                Ok(()) => {}
                Err(_) if poll != Poll::Sent || stream.has_responded => {
                    self.stop_pipelining_if_useless(polling);
                    continue;
                }
                Err(problem) => return Err(problem),
            }
            set_in_flight(true);
            let head = stream.receive_head(|name, value| invocation.take_header(name, value));
            let head = head.await?;
            let is_event = head.status == 200 && !invocation.request_id.is_empty();
            if poll == Poll::BehindLateResponse && !is_event {
                // This is the late response. The reply has been posted again meanwhile.
                stream.use_head(&head);
                invocation.clear();
                if head.keeps_alive {
                    self.keep(stream, Poll::Pipelined);
                } else {
                    self.stop_pipelining_if_useless(polling);
                }
                set_in_flight(false);
                continue;
            }
            if poll != Poll::Sent {
                self.unanswered_polls = 0;
            }
            if head.status != 200 {
                return Err(invalid(format!("HTTP status {}", head.status)));
            }
            if invocation.request_id.is_empty() {
                return Err(invalid("no usable Lambda-Runtime-Aws-Request-Id"));
            }
            stream
                .receive_event(&head, invocation, MAX_EVENT_LEN)
                .await?;
            let is_in_order = matches!(poll, Poll::Sent | Poll::Pipelined);
            if is_in_order && head.keeps_alive && !stream.has_unused() {
                self.stream = Some(stream);
            }
            return Ok(true);
        }
    }

    /// Sends a poll. Returns `false` if it may not. There is no connection afterwards if the Runtime
    /// API has closed one that was kept.
    async fn send_poll(&mut self, polling: &Polling) -> io::Result<bool> {
        if !polling.may_poll() {
            return Ok(false);
        }
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => Stream::open(&self.authority).await?,
        };
        if !polling.may_poll() {
            return Ok(false); // the drain began while it connected
        }
        let poll = IoSlice::new(self.poll_request.as_bytes());
        match stream.send(&mut [poll], STALL_LIMIT).await {
            Ok(()) => self.keep(stream, Poll::Sent),
            Err(_) if stream.has_responded => {}
            Err(problem) => return Err(problem),
        }
        Ok(true)
    }

    /// Posts the reply to an invocation, or why there is none, and the next poll with it
    /// if polls are pipelined. Logs what cannot be delivered.
    pub(crate) async fn respond(
        &mut self,
        invocation: &Invocation,
        result: Result<Reply, Diagnostic>,
        polling: &Polling,
    ) {
        self.post(invocation, result, || polling.may_pipeline())
            .await;
        self.stop_pipelining_if_useless(polling);
    }

    async fn post(
        &mut self,
        invocation: &Invocation,
        result: Result<Reply, Diagnostic>,
        may_pipeline: impl Fn() -> bool,
    ) {
        let (resource, header, body) = match result {
            Ok(reply) => ("response", "", reply),
            Err(diagnostic) => (
                "error",
                "lambda-runtime-function-error-type: unhandled\r\n",
                serde_json::to_vec(&diagnostic).unwrap_or_default().into(),
            ),
        };
        let (request_id, echoed_header) = (&invocation.request_id, &invocation.echoed_header);
        let authority = &self.authority;
        let content_length = body.len();
        self.post_request.clear();
        let _ = write!(
            self.post_request,
            "POST /2018-06-01/runtime/invocation/{request_id}/{resource} HTTP/1.1\r\n\
             host: {authority}\r\n\
             user-agent: {USER_AGENT}\r\n\
             {header}\
             {echoed_header}\
             content-length: {content_length}\r\n\r\n"
        );

        // The Runtime API accepts one post per invocation, so posting again is safe.
        for is_retry in [false, true] {
            let stream = self.connect_to_post(request_id).await;
            let posted = self.exchange(stream, &body, is_retry, &may_pipeline);
            let problem = match posted.await {
                Ok(200..300) => return,
                Ok(status @ 400..500) => {
                    if is_retry && matches!(status, 400 | 410) {
                        debug!(
                            requestId = request_id,
                            status, "{resource} may have been delivered already"
                        );
                    } else {
                        let refusal = excerpt(&self.refusal);
                        warn!(requestId = request_id, status, %refusal, "{resource} refused");
                    }
                    return;
                }
                Ok(status) => {
                    if self.poll == Poll::None {
                        self.stream = None;
                    }
                    format!("HTTP status {status}")
                }
                Err(error) => error.to_string(),
            };
            if is_retry {
                error!(
                    requestId = request_id,
                    problem, "could not deliver the {resource}"
                );
            } else {
                debug!(
                    requestId = request_id,
                    problem, "posting the {resource} again"
                );
            }
        }
    }

    /// A connection for a post. An attempt to connect that fails has sent nothing, so it is repeated
    /// until one succeeds.
    async fn connect_to_post(&mut self, request_id: &str) -> Stream<S> {
        // A poll that is under way keeps its connection; the post then takes another one.
        if self.poll == Poll::None
            && let Some(stream) = self.stream.take()
        {
            return stream;
        }
        Stream::open_at_last(&self.authority, Some(request_id)).await
    }

    /// Posts the prepared request and returns the status of the response.
    async fn exchange(
        &mut self,
        mut stream: Stream<S>,
        body: &Reply,
        is_retry: bool,
        may_pipeline: impl Fn() -> bool,
    ) -> io::Result<u16> {
        let is_extra = self.poll != Poll::None;
        let is_pipelined = !is_retry && may_pipeline();
        let poll_request = is_pipelined.then_some(self.poll_request.as_bytes());
        let mut slices: SmallVec<[IoSlice<'_>; 5]> = iter::once(self.post_request.as_bytes())
            .chain(body.slices())
            .chain(poll_request)
            .map(IoSlice::new)
            .collect();
        let stall_limit = if is_retry { LATE_LIMIT } else { STALL_LIMIT };
        let sent = stream.send(&mut slices, stall_limit).await;
        drop(slices);
        if let Err(problem) = sent {
            // A server may refuse a post before it has read all of it.
            if !is_timeout(&problem)
                && let Ok(head) = in_time(stream.receive_head(|_, _| ())).await
            {
                stream.use_head(&head);
                self.refusal.clear();
                let _ = in_time(stream.receive_start(&mut self.refusal)).await;
                return Ok(head.status);
            }
            return Err(problem);
        }
        self.unanswered_polls += u32::from(is_pipelined);

        let mut has_request_id = false;
        let head = stream.receive_head(|name, _| has_request_id |= is_request_id(name));
        let head = match in_time(head).await {
            Err(problem) if is_pipelined && is_timeout(&problem) => {
                self.keep(stream, Poll::BehindLateResponse);
                return Err(problem);
            }
            Err(problem) if is_retry && is_timeout(&problem) => {
                // A slow server may yet take the post, unless it sees that its client is gone.
                let response = async move { stream.response_begins().await };
                spawn_local(timeout(LATE_LIMIT, response));
                return Err(problem);
            }
            head => head?,
        };
        if has_request_id && head.status == 200 {
            if !is_extra {
                self.unanswered_polls = 0;
                self.keep(stream, Poll::OutOfOrder);
            }
            return Err(invalid("an event instead of a response"));
        }
        stream.use_head(&head);
        self.refusal.clear();
        let goes_on = match in_time(stream.receive_start(&mut self.refusal)).await {
            Ok(()) => is_pipelined || !stream.has_unused(),
            Err(problem) => is_pipelined && is_timeout(&problem),
        };
        if !is_extra && goes_on && head.keeps_alive {
            let poll = if is_pipelined {
                Poll::Pipelined
            } else {
                Poll::None
            };
            self.keep(stream, poll);
        }
        Ok(head.status)
    }

    fn stop_pipelining_if_useless(&self, polling: &Polling) {
        let is_under_way = matches!(self.poll, Poll::Pipelined | Poll::BehindLateResponse);
        let dropped = self.unanswered_polls.saturating_sub(is_under_way.into());
        if dropped >= MAX_DROPPED_POLLS && polling.pipelines.swap(false, Relaxed) {
            info!("the Runtime API drops pipelined polls; sending them on their own");
        }
    }

    fn keep(&mut self, stream: Stream<S>, poll: Poll) {
        self.stream = Some(stream);
        self.poll = poll;
    }
}

impl Invocation {
    /// Keeps what the reply must repeat.
    fn take_header(&mut self, name: &str, value: &str) {
        if is_request_id(name) {
            // It becomes part of a path.
            let is_usable = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if value.len() <= MAX_REQUEST_ID_LEN && value.chars().all(is_usable) {
                value.clone_into(&mut self.request_id);
            }
        } else if name.eq_ignore_ascii_case("lambda-runtime-invocation-id") {
            self.echoed_header.clear();
            let _ = write!(
                self.echoed_header,
                "lambda-runtime-invocation-id: {value}\r\n"
            );
        }
    }
}

fn is_request_id(name: &str) -> bool {
    name.eq_ignore_ascii_case("lambda-runtime-aws-request-id")
}
