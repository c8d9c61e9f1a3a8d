//! As much of HTTP/1.1 as a client of the Runtime API needs ([RFC 9112]): responses whose bodies
//! have a `Content-Length` or come in chunks.
//!
//! Anything else is an error, after which the connection is not used again.
//!
//! [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112

use std::error::Error;
use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection that should move and does not is closed after this time.
const STALL_LIMIT: Duration = Duration::from_secs(1);
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
pub trait Socket: AsyncRead + AsyncWrite + Send + Sized + Unpin {
    /// Connects to a `host:port`.
    ///
    /// # Errors
    ///
    /// If nothing listens there.
    fn connect(authority: &str) -> impl Future<Output = io::Result<Self>> + Send;
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
    has_responded: bool,
}

/// The head of a response.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether the server will go on to the next request on this connection.
    pub(crate) keeps_alive: bool,
    body: Body,
}

enum Body {
    Len(usize),
    Chunked,
    UntilClose,
}

impl<S: Socket> Stream<S> {
    pub(crate) async fn open(authority: &str) -> io::Result<Self> {
        Ok(Self {
            socket: in_time(S::connect(authority)).await?,
            received: Vec::new(),
            used: 0,
            has_responded: false,
        })
    }

    /// Whether a response has been received on this connection.
    pub(crate) fn has_responded(&self) -> bool {
        self.has_responded
    }

    /// Whether bytes have been received that no response has used yet.
    pub(crate) fn has_unused(&self) -> bool {
        self.used < self.received.len()
    }

    pub(crate) async fn send(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match in_time(self.socket.write_vectored(slices)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut slices, written),
            }
        }
        Ok(())
    }

    /// Waits, without a deadline, until a response begins.
    pub(crate) async fn response_begins(&mut self) -> io::Result<()> {
        if self.has_unused() {
            return Ok(());
        }
        self.receive_more().await
    }

    /// Receives the head of a response and calls `on_header` with the name and value of each of its
    /// headers that this module does not use.
    pub(crate) async fn receive_head(
        &mut self,
        mut on_header: impl FnMut(&str, &str),
    ) -> io::Result<Head> {
        loop {
            let Some((len, head)) = Head::parse(self.unused(), &mut on_header)? else {
                self.receive_more_in_time().await?;
                continue;
            };
            self.used += len;
            if let Some(head) = head {
                self.has_responded = true;
                return Ok(head);
            }
        }
    }

    /// Appends the body to `body`, which takes up to `max_len` bytes.
    pub(crate) async fn receive_body(
        &mut self,
        head: &Head,
        body: &mut Vec<u8>,
        max_len: usize,
    ) -> io::Result<()> {
        match head.body {
            Body::Len(len) => self.receive_data(len, body, max_len).await,
            Body::Chunked => loop {
                match self.receive_chunk_size().await? {
                    0 => {
                        // Trailers, then an empty line.
                        while self.receive_line().await? > 0 {}
                        return Ok(());
                    }
                    len => self.receive_data(len, body, max_len).await?,
                }
                if self.receive_line().await? > 0 {
                    return Err(invalid("a chunk that is longer than its size"));
                }
            },
            Body::UntilClose => Err(invalid("neither a Content-Length nor chunks")),
        }
    }

    async fn receive_data(
        &mut self,
        len: usize,
        body: &mut Vec<u8>,
        max_len: usize,
    ) -> io::Result<()> {
        if len > max_len - body.len() {
            // The start of a refusal is worth logging.
            let start = self.unused().len().min(max_len - body.len());
            body.extend_from_slice(&self.unused()[..start]);
            return Err(invalid(format!("a body of more than {max_len} bytes")));
        }
        let end = body.len() + len;
        if end > MAX_KEPT_CAPACITY {
            body.try_reserve_exact(MAPPED_CAPACITY - body.len())?;
        } else {
            body.try_reserve(len)?;
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
                // httparse takes a line without digits for a size of 0, the last chunk.
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
    /// Parses a head and returns its length with it, or `None` if `bytes` hold only part of one. An
    /// interim response ([RFC 9110 §15.2](https://www.rfc-editor.org/rfc/rfc9110#section-15.2)) has no
    /// head that matters.
    fn parse(
        bytes: &[u8],
        on_header: &mut impl FnMut(&str, &str),
    ) -> io::Result<Option<(usize, Option<Self>)>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(len) = response.parse(bytes).map_err(invalid)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or_default();
        if matches!(status, 100 | 102..200) {
            return Ok(Some((len, None)));
        }
        if status < 200 {
            return Err(invalid(format!("HTTP status {status}")));
        }
        let mut body = Body::UntilClose;
        let mut keeps_alive = response.version == Some(1);
        for header in response.headers {
            // A value that is not UTF-8 is as good as none.
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
        if status == 204 {
            // It has no body, whatever its headers say.
            body = Body::Len(0);
        }
        let head = Self {
            status,
            keeps_alive,
            body,
        };
        Ok(Some((len, Some(head))))
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

pub(crate) fn invalid(problem: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
