//! The function's connections to the Runtime API, which a fault can break.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::http::accept;
use crate::lock::lock;

/// The connections of a function. Nothing but their end shows that one has ended that somebody else
/// starts.
#[derive(Default)]
pub(crate) struct Connections {
    open: AtomicUsize,
    /// Whether all have been closed.
    all_closed: AtomicBool,
}

impl Connections {
    /// Serves a router for ever. Its handlers find the [`Connection`] among the extensions.
    pub(crate) async fn serve(self: &Arc<Self>, listener: &TcpListener, router: &Router) {
        loop {
            let (tcp, _) = accept(listener).await;
            self.open.fetch_add(1, Ordering::Relaxed);
            let stream = BreakableStream {
                tcp,
                connection: Connection::default(),
                all: Arc::clone(self),
            };
            let service = router.clone().layer(Extension(stream.connection.clone()));
            let service = TowerToHyperService::new(service);
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    }

    /// Whether there was a moment since the last call at which all had been closed. There may be new ones
    /// by now.
    pub(crate) fn were_all_closed(&self) -> bool {
        self.all_closed.swap(false, Ordering::Relaxed)
    }
}

/// A connection of the function to the Runtime API.
#[derive(Clone, Default)]
pub(crate) struct Connection(Arc<Mutex<Breakage>>);

/// What happens to a connection at the next write.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Breakage {
    #[default]
    None,
    Reset,
    /// A quarter of the response is written, and nothing after it: a part of the head, because the
    /// body is short.
    CutInHead,
    CutAfterHead,
    CutAfterResponse,
    /// It has happened: nothing is read or written any more.
    Broken,
}

impl Connection {
    pub(crate) fn break_with(&self, breakage: Breakage) {
        *lock(&self.0) = breakage;
    }

    pub(crate) fn is_broken(&self) -> bool {
        *lock(&self.0) == Breakage::Broken
    }
}

struct BreakableStream {
    tcp: TcpStream,
    connection: Connection,
    all: Arc<Connections>,
}

impl Drop for BreakableStream {
    fn drop(&mut self) {
        if self.all.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all.all_closed.store(true, Ordering::Relaxed);
        }
    }
}

impl BreakableStream {
    /// How many of these bytes to write now.
    fn writable(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut breakage = lock(&self.connection.0);
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
