//! One worker's connection to the [Runtime API].
//!
//! A poll can travel with the reply before it, right behind it on the connection (HTTP pipelining,
//! [RFC 9112 §9.3.2]). The Runtime API then has the poll as soon as it has taken the reply, and an
//! invocation costs one write and often one read.
//!
//! [Runtime API]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
//! [RFC 9112 §9.3.2]: https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2

use std::fmt::Write;
use std::io::{self, IoSlice};
use std::mem;
use std::sync::Arc;

use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::{debug, error, warn};

use crate::http::{MAX_KEPT_CAPACITY, Socket, Stream, invalid};
use crate::log::excerpt;
use crate::reply::Reply;

pub(crate) const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// In bytes. AWS's are 36, and it has to fit into a log line.
const MAX_REQUEST_ID_LEN: usize = 256;
/// In bytes. The limit of an event is 6 MB.
const MAX_EVENT_LEN: usize = (6 * 1024 + 64) * 1024;
/// In bytes, of the body that says why the Runtime API refused something.
pub(crate) const MAX_REFUSAL_LEN: usize = 4 * 1024;

/// An event, and what is needed to reply to it.
#[derive(Debug, Default)]
pub struct Invocation {
    request_id: String,
    /// The header line that tells one attempt at an invocation from another, to be sent back. It
    /// may be empty.
    echoed_header: String,
    payload: Vec<u8>,
}

impl Invocation {
    /// Names the invocation in logs and to the Runtime API. Empty if none was received.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The event, as it was received.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Empties it for the next invocation. The buffer of a large event is released.
    pub fn clear(&mut self) {
        self.request_id.clear();
        self.echoed_header.clear();
        empty(&mut self.payload);
    }
}

/// A connection that opens when it is needed and keeps its buffers.
#[derive(Debug)]
pub struct Connection<S> {
    authority: Arc<str>,
    stream: Option<Stream<S>>,
    poll: Poll,
    dropped_polls: u32,
    poll_request: String,
    post_request: String,
    refusal: Vec<u8>,
}

/// Where the poll on a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    None,
    Sent,
    /// It was sent with the reply before it.
    SentAhead,
}

impl<S: Socket> Connection<S> {
    /// `authority` is the `host:port` of `AWS_LAMBDA_RUNTIME_API`.
    #[must_use]
    pub fn new(authority: Arc<str>) -> Self {
        let poll_request = format!(
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\
             host: {authority}\r\n\
             user-agent: {USER_AGENT}\r\n\r\n"
        );
        Self {
            authority,
            stream: None,
            poll: Poll::None,
            dropped_polls: 0,
            poll_request,
            post_request: String::new(),
            refusal: Vec::new(),
        }
    }

    /// Whether a poll has been sent whose response has not begun.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.poll != Poll::None
    }

    /// How many polls in a row, up to the last, were sent with a reply and got no response.
    #[must_use]
    pub fn dropped_polls(&self) -> u32 {
        self.dropped_polls
    }

    /// Connects to the Runtime API, unless that has been done.
    ///
    /// # Errors
    ///
    /// If the Runtime API cannot be reached.
    pub async fn open(&mut self) -> io::Result<()> {
        self.stream = Some(self.reuse_or_open().await?);
        Ok(())
    }

    /// Sends a poll. It may turn out that the Runtime API has closed a connection that was kept, and
    /// no poll is under way.
    ///
    /// # Errors
    ///
    /// If the Runtime API cannot be reached.
    pub async fn poll(&mut self) -> io::Result<()> {
        let mut stream = self.reuse_or_open().await?;
        let poll = IoSlice::new(self.poll_request.as_bytes());
        match stream.send(&mut [poll]).await {
            Ok(()) => {
                self.stream = Some(stream);
                self.poll = Poll::Sent;
                Ok(())
            }
            Err(_) if stream.has_responded() => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Waits, without a deadline, until the response to the poll begins.
    ///
    /// Returns `false` if no poll is under way (any more), because the Runtime API has closed a
    /// connection that was kept. That is no failure: send the poll again.
    ///
    /// # Errors
    ///
    /// If a new connection ends without a response.
    pub async fn event_begins(&mut self) -> io::Result<bool> {
        let Some(mut stream) = self.stream.take_if(|_| self.poll != Poll::None) else {
            return Ok(false);
        };
        let poll = mem::replace(&mut self.poll, Poll::None);
        match stream.response_begins().await {
            Ok(()) => {
                self.stream = Some(stream);
                if poll == Poll::SentAhead {
                    self.dropped_polls = 0;
                }
                Ok(true)
            }
            Err(_) if stream.has_responded() => {
                self.dropped_polls += u32::from(poll == Poll::SentAhead);
                Ok(false)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Receives the invocation that [`event_begins`](Self::event_begins) saw begin into one that is
    /// empty.
    ///
    /// # Errors
    ///
    /// If the response is not a whole event. The invocation then has its request id if that was
    /// received.
    pub async fn receive(&mut self, invocation: &mut Invocation) -> io::Result<()> {
        let mut stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let head = stream
            .receive_head(|name, value| {
                if name.eq_ignore_ascii_case("lambda-runtime-aws-request-id") {
                    // It becomes part of a path.
                    let is_usable = |c: char| c.is_ascii_alphanumeric() || c == '-';
                    if value.len() <= MAX_REQUEST_ID_LEN && value.chars().all(is_usable) {
                        value.clone_into(&mut invocation.request_id);
                    }
                } else if name.eq_ignore_ascii_case("lambda-runtime-invocation-id") {
                    let header = &mut invocation.echoed_header;
                    header.clear();
                    let _ = write!(header, "lambda-runtime-invocation-id: {value}\r\n");
                }
            })
            .await?;
        if head.status != 200 {
            return Err(invalid(format!("HTTP status {}", head.status)));
        }
        if invocation.request_id.is_empty() {
            return Err(invalid("no usable Lambda-Runtime-Aws-Request-Id"));
        }
        stream
            .receive_body(&head, &mut invocation.payload, MAX_EVENT_LEN)
            .await?;
        if head.keeps_alive && !stream.has_unused() {
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Posts the reply to an invocation, and the next poll with it if `polls_ahead`. Logs a reply
    /// that cannot be delivered.
    pub async fn respond(&mut self, invocation: &Invocation, reply: &Reply, polls_ahead: bool) {
        self.post("response", "", invocation, reply.slices(), polls_ahead)
            .await;
    }

    /// Posts why there is no reply to an invocation, and the next poll with it if `polls_ahead`.
    /// Logs an error that cannot be delivered.
    pub async fn fail(
        &mut self,
        invocation: &Invocation,
        diagnostic: &Diagnostic,
        polls_ahead: bool,
    ) {
        let body = serde_json::to_vec(diagnostic).unwrap_or_default();
        let body = [&*body, b"", b""];
        let error_type = "lambda-runtime-function-error-type: unhandled\r\n";
        self.post("error", error_type, invocation, body, polls_ahead)
            .await;
    }

    async fn post(
        &mut self,
        resource: &str,
        header: &str,
        invocation: &Invocation,
        body: [&[u8]; 3],
        polls_ahead: bool,
    ) {
        let Invocation {
            request_id,
            echoed_header,
            ..
        } = invocation;
        let authority = &self.authority;
        let content_length: usize = body.iter().map(|slice| slice.len()).sum();
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
            let polls_ahead = polls_ahead && !is_retry;
            let posted = self.exchange(body, polls_ahead).await;
            if polls_ahead && !self.is_polling() {
                self.dropped_polls += 1;
            }
            let problem = match posted {
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
                    if !self.is_polling() {
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

    /// Posts the prepared request and returns the status of the response.
    async fn exchange(&mut self, body: [&[u8]; 3], polls_ahead: bool) -> io::Result<u16> {
        // A poll that is under way keeps its connection; the post then takes another one.
        let keeps_stream = !self.is_polling();
        let mut stream = if keeps_stream {
            self.reuse_or_open().await?
        } else {
            Stream::open(&self.authority).await?
        };
        let poll_request = if polls_ahead { &*self.poll_request } else { "" };
        let [head, prefix, tail] = body.map(IoSlice::new);
        stream
            .send(&mut [
                IoSlice::new(self.post_request.as_bytes()),
                head,
                prefix,
                tail,
                IoSlice::new(poll_request.as_bytes()),
            ])
            .await?;
        let head = stream.receive_head(|_, _| ()).await?;
        empty(&mut self.refusal);
        // Only the status matters. If the body does not arrive whole, we drop the connection.
        let is_whole = stream
            .receive_body(&head, &mut self.refusal, MAX_REFUSAL_LEN)
            .await
            .is_ok();
        if keeps_stream && is_whole && head.keeps_alive && (polls_ahead || !stream.has_unused()) {
            self.stream = Some(stream);
            if polls_ahead {
                self.poll = Poll::SentAhead;
            }
        }
        Ok(head.status)
    }

    async fn reuse_or_open(&mut self) -> io::Result<Stream<S>> {
        match self.stream.take() {
            Some(stream) => Ok(stream),
            None => Stream::open(&self.authority).await,
        }
    }
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > MAX_KEPT_CAPACITY {
        *buffer = Vec::new();
    }
}
