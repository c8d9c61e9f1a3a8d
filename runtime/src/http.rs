//! As much of HTTP/1.1 as a client of the Runtime API needs ([RFC 9112]): responses whose bodies
//! have a `Content-Length` or come in chunks.
//!
//! Anything else is an error, after which the connection is not used again. What receives has no
//! deadline. Whoever sets one with [`in_time`] can call [`Stream::receive_head`] and
//! [`Stream::receive_start`] again, which go on where they were.
//!
//! [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112

use std::error::Error;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::pin;
use std::time::Duration;

use lambda_runtime::tracing::warn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Invocation;
use crate::back_off::BackOff;

/// How long a connection that should move may stand still.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(1);
/// tokio's shortest timer that always waits for the runtime to look at its sockets.
const ONE_LOOK: Duration = Duration::from_millis(1);
/// In bytes.
const MAX_HEAD_LEN: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// In bytes, of the buffer that receives heads and small bodies.
const READ_LEN: usize = 8 * 1024;
/// The buffer of bodies up to this many bytes is kept; a larger one gets a mapping of its own.
pub(crate) const MAX_KEPT_CAPACITY: usize = 64 * 1024;
/// The capacity in bytes for a larger body. glibc serves an allocation of more than 32 MiB with
/// mmap, so that freeing it returns all of it to the kernel. Untouched pages cost nothing.
const MAPPED_CAPACITY: usize = 33 * 1024 * 1024;

/// What a connection runs over: TCP, and a pipe in tests.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Sized + Unpin + 'static {
    /// Connects to a `host:port`.
    async fn connect(authority: &str) -> io::Result<Self>;
}

impl Socket for TcpStream {
    async fn connect(authority: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(authority).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    socket: S,
    received: Vec<u8>,
    /// How many bytes of `received` have been used.
    used: usize,
    /// What is missing of the last response.
    body: Body,
    /// Whether a response has been received on this connection.
    pub(crate) has_responded: bool,
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct Head {
    /// In bytes.
    len: usize,
    pub(crate) status: u16,
    /// Whether the server will go on to the next request on this connection.
    pub(crate) keeps_alive: bool,
    body: Body,
}

/// What is missing of a body.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// So many bytes.
    Len(usize),
    /// So many bytes of a chunk, the end of its line, and more chunks.
    Chunk(usize),
    ChunkSize,
    /// Lines up to an empty one.
    Trailers,
    UntilClose,
}

impl Body {
    const NONE: Self = Self::Len(0);
}

impl<S: Socket> Stream<S> {
    pub(crate) async fn open(authority: &str) -> io::Result<Self> {
        Ok(Self {
            socket: in_time(S::connect(authority)).await?,
            received: Vec::new(),
            used: 0,
            body: Body::NONE,
            has_responded: false,
        })
    }

    /// Connects, however often that takes, to post for this invocation, or for the extension. Logs the
    /// first failure.
    pub(crate) async fn open_at_last(authority: &str, request_id: Option<&str>) -> Self {
        let mut back_off = BackOff::default();
        let mut is_first = true;
        loop {
            match Self::open(authority).await {
                Ok(stream) => return stream,
                Err(problem) if is_first && request_id.is_some() => {
                    warn!(requestId = request_id, %problem, "cannot connect to post; retrying");
                }
                Err(problem) if is_first => {
                    warn!(%problem, "cannot connect for the extension; retrying");
                }
                Err(_) => {}
            }
            is_first = false;
            back_off.wait().await;
        }
    }

    /// Whether bytes have been received that no response has used yet.
    pub(crate) fn has_unused(&self) -> bool {
        self.used < self.received.len()
    }

    /// Sends all of this, each part within the limit after the one before it.
    pub(crate) async fn send(
        &mut self,
        mut slices: &mut [IoSlice<'_>],
        stall_limit: Duration,
    ) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match within(stall_limit, self.socket.write_vectored(slices)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut slices, written),
            }
        }
        Ok(())
    }

    /// Waits until a response begins.
    pub(crate) async fn response_begins(&mut self) -> io::Result<()> {
        // What may be missing of the response before.
        self.receive_start(&mut Vec::new()).await?;
        if self.has_unused() {
            return Ok(());
        }
        self.receive_more().await
    }

    /// Receives the head of a response and calls `on_header` with the name and value of each of its
    /// headers that this module does not use. The head stays where it is until
    /// [`use_head`](Self::use_head).
    pub(crate) async fn receive_head(
        &mut self,
        mut on_header: impl FnMut(&str, &str),
    ) -> io::Result<Head> {
        loop {
            match Head::parse(self.unused(), &mut on_header)? {
                None => self.receive_more().await?,
                // An interim response (RFC 9110 §15.2).
                Some(head) if head.status < 200 => self.used += head.len,
                Some(head) => return Ok(head),
            }
        }
    }

    /// Turns to the body that follows this head.
    pub(crate) fn use_head(&mut self, head: &Head) {
        self.used += head.len;
        self.body = head.body;
        self.has_responded = true;
    }

    /// Receives an event, of up to `max_len` bytes, whose head has been received. One that has arrived
    /// whole is not copied.
    pub(crate) async fn receive_event(
        &mut self,
        head: &Head,
        invocation: &mut Invocation,
        max_len: usize,
    ) -> io::Result<()> {
        let start = self.used;
        self.use_head(head);
        let is_whole = matches!(self.body, Body::Len(len) if len == self.unused().len());
        if is_whole && self.unused().len() <= max_len {
            invocation.head = start..self.used;
            invocation.short_payload = self.used..self.received.len();
            mem::swap(&mut invocation.buffer, &mut self.received);
            self.used = 0;
            self.body = Body::NONE;
            return Ok(());
        }
        let head = &self.received[start..self.used];
        invocation.buffer.extend_from_slice(head);
        invocation.head = 0..head.len();
        self.receive_body(&mut invocation.long_payload, max_len)
            .await
    }

    /// Appends the body to `body`, which takes up to `max_len` bytes.
    async fn receive_body(&mut self, body: &mut Vec<u8>, max_len: usize) -> io::Result<()> {
        loop {
            let len = self.receive_framing().await?;
            if len == 0 {
                return Ok(());
            }
            if len > max_len - body.len() {
                return Err(invalid(format!("a body of more than {max_len} bytes")));
            }
            if body.len() + len > MAX_KEPT_CAPACITY {
                body.try_reserve_exact(MAPPED_CAPACITY - body.len())?;
            } else {
                body.try_reserve(len)?;
            }
            let available = self.received[self.used..].chain(&mut self.socket);
            if available.take(len as u64).read_to_end(body).await? < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.used = self.received.len().min(self.used + len);
            self.note_received(len);
        }
    }

    /// Receives the rest of a body, of which `start` takes the first bytes, up to its capacity.
    pub(crate) async fn receive_start(&mut self, start: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let missing = self.receive_framing().await?;
            if missing == 0 {
                return Ok(());
            }
            if !self.has_unused() {
                self.receive_more().await?;
            }
            let available = self.unused().len().min(missing);
            let kept = available.min(start.capacity() - start.len());
            start.extend_from_slice(&self.unused()[..kept]);
            self.used += available;
            self.note_received(available);
        }
    }

    /// Receives what frames the body's next bytes. Returns how many there are up to the next frame;
    /// none at the end of the body.
    async fn receive_framing(&mut self) -> io::Result<usize> {
        loop {
            match self.body {
                Body::Chunk(0) => {
                    if self.receive_line().await? > 0 {
                        return Err(invalid("a chunk that is longer than its size"));
                    }
                    self.body = Body::ChunkSize;
                }
                Body::Len(missing) | Body::Chunk(missing) => return Ok(missing),
                Body::ChunkSize => {
                    self.body = match self.receive_chunk_size().await? {
                        0 => Body::Trailers,
                        len => Body::Chunk(len),
                    }
                }
                Body::Trailers => {
                    if self.receive_line().await? == 0 {
                        self.body = Body::NONE;
                    }
                }
                Body::UntilClose => return Err(invalid("neither a Content-Length nor chunks")),
            }
        }
    }

    fn note_received(&mut self, len: usize) {
        if let Body::Len(missing) | Body::Chunk(missing) = &mut self.body {
            *missing -= len;
        }
    }

    async fn receive_chunk_size(&mut self) -> io::Result<usize> {
        loop {
            match httparse::parse_chunk_size(self.unused()) {
                // httparse takes a line without digits for a size of 0, the last chunk.
                Ok(httparse::Status::Complete((len, size)))
                    if self.unused()[0].is_ascii_hexdigit() =>
                {
                    self.used += len;
                    return usize::try_from(size).map_err(invalid);
                }
                Ok(httparse::Status::Partial) => self.receive_more().await?,
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
            self.receive_more().await?;
        }
    }

    fn unused(&self) -> &[u8] {
        &self.received[self.used..]
    }

    async fn receive_more(&mut self) -> io::Result<()> {
        if self.unused().len() > MAX_HEAD_LEN {
            return Err(invalid("a head or a line without an end"));
        }
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
    /// The head at the start of these bytes, if it is there as a whole. The headers of an interim
    /// response are not looked at.
    fn parse(bytes: &[u8], on_header: &mut impl FnMut(&str, &str)) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(len) = response.parse(bytes).map_err(invalid)? else {
            return Ok(None);
        };
        let mut head = Self {
            len,
            status: response.code.unwrap_or_default(),
            keeps_alive: response.version == Some(1),
            body: Body::UntilClose,
        };
        if matches!(head.status, 100 | 102..200) {
            return Ok(Some(head));
        }
        if head.status < 200 {
            return Err(invalid(format!("HTTP status {}", head.status)));
        }
        for header in response.headers {
            // A value that is not UTF-8 is as good as none.
            let value = str::from_utf8(header.value).unwrap_or_default();
            if header.name.eq_ignore_ascii_case("content-length") {
                head.body = match (head.body, value.parse()) {
                    (Body::UntilClose, Ok(len)) if !value.starts_with('+') => Body::Len(len),
                    _ => return Err(invalid("an unusable Content-Length")),
                };
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                head.body = match head.body {
                    Body::UntilClose if value.eq_ignore_ascii_case("chunked") => Body::ChunkSize,
                    _ => return Err(invalid("an unusable Transfer-Encoding")),
                };
            } else if header.name.eq_ignore_ascii_case("connection") {
                let mut options = value.split(',').map(str::trim);
                head.keeps_alive &= !options.any(|option| option.eq_ignore_ascii_case("close"));
            } else {
                on_header(header.name, value);
            }
        }
        if head.status == 204 {
            // It has no body, whatever its headers say.
            head.body = Body::NONE;
        }
        Ok(Some(head))
    }
}

/// The names and values of a head's headers, of those whose values are UTF-8.
pub(crate) fn headers(head: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let _ = response.parse(head); // it has been parsed before
    headers.into_iter().filter_map(|header| {
        let value = str::from_utf8(header.value).ok()?;
        (!header.name.is_empty()).then_some((header.name, value))
    })
}

/// Ends what takes longer than 1 s.
pub(crate) async fn in_time<T>(happens: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    within(STALL_LIMIT, happens).await
}

/// Ends what takes longer.
///
/// If the process stood still meanwhile, the deadline has elapsed whatever has arrived. So the
/// runtime then looks at its sockets once more, and what they hold counts.
async fn within<T>(limit: Duration, happens: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut happens = pin!(happens);
    for limit in [limit, ONE_LOOK] {
        if let Ok(result) = timeout(limit, &mut happens).await {
            return result;
        }
    }
    let problem = format!("no progress for {} s", limit.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, problem))
}

pub(crate) fn is_timeout(problem: &io::Error) -> bool {
    problem.kind() == io::ErrorKind::TimedOut
}

pub(crate) fn invalid(problem: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
