//! The function's connections to the Runtime API. Their numbers tell workers apart, and a fault can
//! break them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::http::accept;
use crate::lock::lock;

/// Accepts connections that can be made to break, and numbers them from 1.
pub(crate) struct BreakableListener {
    pub(crate) tcp: TcpListener,
    pub(crate) accepted: u64,
    pub(crate) open: Arc<OpenConnections>,
}

/// The connections of a function that somebody else starts. Nothing but their end shows that it has
/// ended.
#[derive(Default)]
pub(crate) struct OpenConnections {
    count: AtomicUsize,
    /// Whether all have been closed.
    all_closed: AtomicBool,
}

impl OpenConnections {
    /// Whether there was a moment since the last call at which all had been closed. There may be new ones
    /// by now.
    pub(crate) fn were_all_closed(&self) -> bool {
        self.all_closed.swap(false, Ordering::Relaxed)
    }
}

impl Listener for BreakableListener {
    type Io = BreakableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BreakableStream, SocketAddr) {
        let (tcp, address) = accept(&self.tcp).await;
        self.accepted += 1;
        self.open.count.fetch_add(1, Ordering::Relaxed);
        let connection = Connection {
            number: self.accepted,
            breakage: Arc::new(Mutex::new(Breakage::None)),
        };
        let open = Arc::clone(&self.open);
        let stream = BreakableStream {
            tcp,
            connection,
            open,
        };
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection of the function to the Runtime API.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) number: u64,
    breakage: Arc<Mutex<Breakage>>,
}

/// What happens to a connection at the next write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breakage {
    None,
    /// The connection is reset.
    Reset,
    /// A quarter of the response is written, and nothing after it: a part of the head, because the
    /// body is short.
    CutInHead,
    /// The response's head is written, and nothing after it.
    CutAfterHead,
    /// The response is written, and nothing after it.
    CutAfterResponse,
    /// It has happened: nothing is read or written any more.
    Broken,
}

impl Connection {
    pub(crate) fn break_with(&self, breakage: Breakage) {
        *lock(&self.breakage) = breakage;
    }

    pub(crate) fn is_broken(&self) -> bool {
        *lock(&self.breakage) == Breakage::Broken
    }
}

impl Connected<IncomingStream<'_, BreakableListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, BreakableListener>) -> Self {
        stream.io().connection.clone()
    }
}

pub(crate) struct BreakableStream {
    tcp: TcpStream,
    connection: Connection,
    open: Arc<OpenConnections>,
}

impl Drop for BreakableStream {
    fn drop(&mut self) {
        if self.open.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.open.all_closed.store(true, Ordering::Relaxed);
        }
    }
}

impl BreakableStream {
    /// How many of these bytes to write now.
    fn writable(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut breakage = lock(&self.connection.breakage);
        let length = match *breakage {
            Breakage::None => return Ok(bytes.len()),
            Breakage::Broken => return Err(io::ErrorKind::BrokenPipe.into()),
            Breakage::Reset => {
                *breakage = Breakage::Broken;
                // The kernel then sends a reset instead of an end.
                self.tcp.set_zero_linger()?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Breakage::CutInHead => bytes.len() / 4,
            Breakage::CutAfterHead => {
                let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
                end.map_or(bytes.len(), |end| end + 4)
            }
            // The response to a post is small enough for one write.
            Breakage::CutAfterResponse => bytes.len(),
        };
        *breakage = Breakage::Broken;
        Ok(length)
    }
}

impl AsyncRead for BreakableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        if self.connection.is_broken() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for BreakableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = self.writable(bytes)?;
        Pin::new(&mut self.tcp).poll_write(context, &bytes[..length])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
