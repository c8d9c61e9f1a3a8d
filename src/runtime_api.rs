//! One worker's connection to the [Runtime API].
//!
//! The HTTP of it is no more than the Runtime API speaks: `Content-Length` and chunked bodies.
//! Whatever else arrives closes the connection, and the next request opens a new one.
//!
//! [Runtime API]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

use std::error::Error;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::{debug, error, warn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::reply::Reply;

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
/// For how long a connection may make no progress where some is due.
const STALL_LIMIT: Duration = Duration::from_secs(1);
const MAX_HEAD_LEN: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// An event's limit is 6 MB.
const MAX_BODY_LEN: usize = (6 * 1024 + 64) * 1024;
/// A body buffer that grew larger is given back after its invocation.
const MAX_KEPT_CAPACITY: usize = 64 * 1024;
/// What such a buffer gets. Above 32 MiB, glibc always maps it and gives all of it back when it is
/// freed; pages that are not touched cost nothing.
const MAPPED_CAPACITY: usize = 33 * 1024 * 1024;
const READ_LEN: usize = 8 * 1024;

/// An event that waits for a reply.
#[derive(Debug, Default)]
pub struct Invocation {
    request_id: String,
    /// The header line that distinguishes attempts at a request, to be sent back; may be empty.
    echoed_header: String,
    payload: Vec<u8>,
}

impl Invocation {
    /// What names the invocation in logs and to the Runtime API; empty where none was received.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The event as it came.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// What a connection runs over: TCP, and a pipe in tests.
pub trait Socket: AsyncRead + AsyncWrite + Send + Sized + Unpin {
    /// Connects to this `host:port`.
    fn connect(authority: &str) -> impl Future<Output = io::Result<Self>> + Send;
}

impl Socket for TcpStream {
    async fn connect(authority: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(authority).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

/// A connection that is opened when it is needed, with buffers that are kept.
#[derive(Debug)]
pub struct Connection<S> {
    authority: Arc<str>,
    stream: Option<Stream<S>>,
    next_request: String,
    post_request: String,
    post_answer: Vec<u8>,
}

impl<S: Socket> Connection<S> {
    /// `authority` is the `host:port` of `AWS_LAMBDA_RUNTIME_API`.
    #[must_use]
    pub fn new(authority: Arc<str>) -> Self {
        let next_request = format!(
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\
             host: {authority}\r\n\
             user-agent: {USER_AGENT}\r\n\r\n"
        );
        Self {
            authority,
            stream: None,
            next_request,
            post_request: String::new(),
            post_answer: Vec::new(),
        }
    }

    /// Connects to the Runtime API where that is not done.
    ///
    /// # Errors
    ///
    /// If the Runtime API cannot be reached.
    pub async fn open(&mut self) -> io::Result<()> {
        self.stream = Some(Stream::reuse_or_open(self.stream.take(), &self.authority).await?);
        Ok(())
    }

    /// Forgets the last invocation, asks for the next and waits, however long, until it begins to
    /// arrive.
    ///
    /// # Errors
    ///
    /// If the Runtime API cannot be reached.
    pub async fn next(&mut self, invocation: &mut Invocation) -> io::Result<()> {
        invocation.request_id.clear();
        invocation.echoed_header.clear();
        empty(&mut invocation.payload);

        let mut stream = Stream::reuse_or_open(self.stream.take(), &self.authority).await?;
        stream
            .send(&mut [IoSlice::new(self.next_request.as_bytes())])
            .await?;
        stream.receive_more().await?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Receives the invocation that [`next`](Self::next) saw arrive.
    ///
    /// # Errors
    ///
    /// If it is not a whole event. The invocation then has its request ID if that was received.
    pub async fn receive(&mut self, invocation: &mut Invocation) -> io::Result<()> {
        let mut stream = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let head = stream
            .receive_head(|name, value| {
                if name.eq_ignore_ascii_case("lambda-runtime-aws-request-id") {
                    // It becomes part of a path.
                    if value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
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
        stream.receive_body(&head, &mut invocation.payload).await?;
        self.stream = stream.if_reusable();
        Ok(())
    }

    /// Posts the reply to an invocation; logs it where that cannot be done.
    pub async fn respond(&mut self, invocation: &Invocation, reply: &Reply) {
        self.post("response", "", invocation, reply.slices()).await;
    }

    /// Posts why there is no reply to an invocation; logs it where that cannot be done.
    pub async fn fail(&mut self, invocation: &Invocation, diagnostic: &Diagnostic) {
        let body = serde_json::to_vec(diagnostic).unwrap_or_default();
        let error_type = "lambda-runtime-function-error-type: unhandled\r\n";
        self.post("error", error_type, invocation, [&body, b"", b""])
            .await;
    }

    async fn post(
        &mut self,
        resource: &str,
        header: &str,
        invocation: &Invocation,
        body: [&[u8]; 3],
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

        // The Runtime API takes one answer per invocation, so that posting again is safe.
        for is_retry in [false, true] {
            let problem = match self.exchange(body).await {
                Ok(200..300) => return,
                Ok(status @ 400..500) => {
                    if is_retry && matches!(status, 400 | 410) {
                        debug!(
                            requestId = request_id,
                            status, "{resource} perhaps delivered"
                        );
                    } else {
                        let answer = String::from_utf8_lossy(&self.post_answer);
                        warn!(requestId = request_id, status, %answer, "{resource} refused");
                    }
                    return;
                }
                Ok(status) => {
                    self.stream = None;
                    format!("HTTP status {status}")
                }
                Err(error) => error.to_string(),
            };
            if is_retry {
                error!(requestId = request_id, problem, "{resource} lost");
            } else {
                debug!(requestId = request_id, problem, "{resource} posted again");
            }
        }
    }

    /// Posts the prepared request and returns the status of the answer.
    async fn exchange(&mut self, body: [&[u8]; 3]) -> io::Result<u16> {
        let mut stream = Stream::reuse_or_open(self.stream.take(), &self.authority).await?;
        let [head, prefix, tail] = body.map(IoSlice::new);
        stream
            .send(&mut [
                IoSlice::new(self.post_request.as_bytes()),
                head,
                prefix,
                tail,
            ])
            .await?;
        let head = stream.receive_head(|_, _| ()).await?;
        empty(&mut self.post_answer);
        // The status says it all; an answer that is cut short costs no more than the connection.
        if stream
            .receive_body(&head, &mut self.post_answer)
            .await
            .is_ok()
        {
            self.stream = stream.if_reusable();
        }
        Ok(head.status)
    }
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > MAX_KEPT_CAPACITY {
        *buffer = Vec::new();
    }
}

/// An open connection, as a client of HTTP/1.1.
#[derive(Debug)]
struct Stream<S> {
    socket: S,
    received: Vec<u8>,
    /// How much of `received` has been used.
    used: usize,
    may_be_reused: bool,
}

struct Head {
    status: u16,
    body: Body,
    keeps_alive: bool,
}

enum Body {
    Len(usize),
    Chunked,
    UntilClose,
}

impl<S: Socket> Stream<S> {
    async fn reuse_or_open(open: Option<Self>, authority: &str) -> io::Result<Self> {
        if let Some(stream) = open {
            return Ok(stream);
        }
        Ok(Self {
            socket: in_time(S::connect(authority)).await?,
            received: Vec::new(),
            used: 0,
            may_be_reused: true,
        })
    }

    /// Returns the stream if another request may be sent on it.
    fn if_reusable(self) -> Option<Self> {
        (self.may_be_reused && self.used == self.received.len()).then_some(self)
    }

    async fn send(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match in_time(self.socket.write_vectored(slices)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut slices, written),
            }
        }
        Ok(())
    }

    async fn receive_head(&mut self, mut on_header: impl FnMut(&str, &str)) -> io::Result<Head> {
        loop {
            if let Some((len, head)) = Head::parse(self.unused(), &mut on_header)? {
                self.used += len;
                self.may_be_reused = head.keeps_alive;
                return Ok(head);
            }
            self.receive_more_in_time().await?;
        }
    }

    /// Appends the body to `body`.
    async fn receive_body(&mut self, head: &Head, body: &mut Vec<u8>) -> io::Result<()> {
        match head.body {
            Body::Len(len) => self.receive_data(len, body).await,
            Body::Chunked => loop {
                match self.receive_chunk_size().await? {
                    0 => {
                        // Trailers, then an empty line.
                        while self.receive_line().await? > 0 {}
                        return Ok(());
                    }
                    len => self.receive_data(len, body).await?,
                }
                if self.receive_line().await? > 0 {
                    return Err(invalid("a chunk that is longer than its size"));
                }
            },
            Body::UntilClose => Err(invalid("neither a Content-Length nor chunks")),
        }
    }

    async fn receive_data(&mut self, len: usize, body: &mut Vec<u8>) -> io::Result<()> {
        if len > MAX_BODY_LEN - body.len() {
            return Err(invalid(format!("a body of more than {MAX_BODY_LEN} bytes")));
        }
        let end = body.len() + len;
        if end > MAX_KEPT_CAPACITY {
            body.reserve_exact(MAPPED_CAPACITY - body.len());
        } else {
            body.reserve(len);
        }
        let available = self.unused().len().min(len);
        body.extend_from_slice(&self.unused()[..available]);
        self.used += available;
        while body.len() < end {
            let missing = (end - body.len()) as u64;
            let mut rest = (&mut self.socket).take(missing);
            if in_time(rest.read_buf(body)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    async fn receive_chunk_size(&mut self) -> io::Result<usize> {
        loop {
            match httparse::parse_chunk_size(self.unused()) {
                // httparse takes a line without a digit for the last chunk.
                Ok(httparse::Status::Complete((len, size)))
                    if self.unused()[0].is_ascii_hexdigit() =>
                {
                    self.used += len;
                    return usize::try_from(size).map_err(invalid);
                }
                Ok(httparse::Status::Partial) => self.receive_more_in_time().await?,
                _ => return Err(invalid("not the size of a chunk")),
            }
        }
    }

    /// Receives a line and returns its length without the CRLF.
    async fn receive_line(&mut self) -> io::Result<usize> {
        loop {
            if let Some(len) = self.unused().windows(2).position(|pair| pair == b"\r\n") {
                self.used += len + 2;
                return Ok(len);
            }
            self.receive_more_in_time().await?;
        }
    }

    fn unused(&self) -> &[u8] {
        &self.received[self.used..]
    }

    async fn receive_more_in_time(&mut self) -> io::Result<()> {
        if self.unused().len() > MAX_HEAD_LEN {
            return Err(invalid("a head or a line without an end"));
        }
        in_time(self.receive_more()).await
    }

    async fn receive_more(&mut self) -> io::Result<()> {
        self.received.drain(..self.used);
        self.used = 0;
        if self.received.len() == self.received.capacity() {
            self.received.reserve(READ_LEN);
        }
        match self.socket.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Head {
    /// Parses a response's head and tells its length, `None` if there is only a part of it.
    fn parse(
        bytes: &[u8],
        on_header: &mut impl FnMut(&str, &str),
    ) -> io::Result<Option<(usize, Self)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(len) = response.parse(bytes).map_err(invalid)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or_default();
        if status < 200 {
            return Err(invalid(format!("HTTP status {status}")));
        }
        let mut body = if status == 204 {
            Body::Len(0)
        } else {
            Body::UntilClose
        };
        let mut keeps_alive = response.version == Some(1);
        for header in response.headers {
            // What is not UTF-8 is nothing that is looked for.
            let value = str::from_utf8(header.value).unwrap_or_default();
            if header.name.eq_ignore_ascii_case("content-length") {
                body = match (body, value.parse()) {
                    (Body::UntilClose, Ok(len)) if !value.starts_with('+') => Body::Len(len),
                    _ => return Err(invalid("an unusable Content-Length")),
                };
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                body = match body {
                    Body::UntilClose if value.eq_ignore_ascii_case("chunked") => Body::Chunked,
                    _ => return Err(invalid("an unusable Transfer-Encoding")),
                };
            } else if header.name.eq_ignore_ascii_case("connection") {
                let mut options = value.split(',').map(str::trim);
                keeps_alive &= !options.any(|option| option.eq_ignore_ascii_case("close"));
            } else {
                on_header(header.name, value);
            }
        }
        let head = Self {
            status,
            body,
            keeps_alive,
        };
        Ok(Some((len, head)))
    }
}

async fn in_time<T>(progress: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STALL_LIMIT, progress).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no progress for 1 s",
        ))
    })
}

fn invalid(problem: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
