//! Faults of the Runtime API, to see how a function copes with them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::lock::lock;

/// What goes wrong, once, with a request to the Runtime API.
///
/// No fault loses an event: a request that follows a fault on a connection that the fault breaks is
/// not served, and an event that does not reach its poll goes to another poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection of a poll is reset at once.
    PollReset,
    /// A poll gets a response with this status at once.
    PollStatus(u16),
    /// A poll gets an event without the headers of the Runtime API. The event itself goes to another
    /// poll.
    EventWithoutHeaders,
    /// The response to a poll breaks off in its head. The event goes to another poll.
    EventHeadCut,
    /// The response to a poll breaks off after its head, so that the function knows the request id.
    /// The invocation stays with that function.
    EventBodyCut,
    /// The connection is reset before a reply or error is read.
    PostReset,
    /// The connection is reset while a reply or error is read.
    PostBodyReset,
    /// A reply or error gets a response with this status and is not accepted. The connection lives.
    PostStatus(u16),
    /// A reply or error is accepted; then the connection is reset.
    PostResponseReset,
    /// A reply or error is accepted; then the response breaks off in its head.
    PostResponseCut,
    /// A reply or error is accepted. The response says `Connection: close`, and whatever follows on
    /// the connection, such as the next poll, is discarded.
    PostClose,
    /// A reply or error is accepted, and the response says nothing unusual. Then the connection is
    /// closed, and whatever follows on it, such as the next poll, is discarded.
    PollDiscarded,
}

impl Fault {
    pub(crate) fn is_of_poll(self) -> bool {
        matches!(self, Self::PollReset | Self::PollStatus(_))
    }

    pub(crate) fn is_of_event(self) -> bool {
        matches!(
            self,
            Self::EventWithoutHeaders | Self::EventHeadCut | Self::EventBodyCut
        )
    }

    pub(crate) fn is_of_post(self) -> bool {
        !self.is_of_poll() && !self.is_of_event()
    }
}

/// The faults that are still to happen.
pub(crate) struct Faults {
    faults: Mutex<VecDeque<Fault>>,
    left: watch::Sender<usize>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            faults: Mutex::default(),
            left: watch::Sender::new(0),
        }
    }

    pub(crate) fn inject(&self, new: impl IntoIterator<Item = Fault>) {
        let mut faults = lock(&self.faults);
        faults.extend(new);
        self.left.send_replace(faults.len());
    }

    /// Removes and returns the oldest fault of a kind, for it to happen now.
    pub(crate) fn take(&self, is_of_kind: impl Fn(Fault) -> bool) -> Option<Fault> {
        if *self.left.borrow() == 0 {
            return None;
        }
        let mut faults = lock(&self.faults);
        let place = faults.iter().position(|fault| is_of_kind(*fault))?;
        let fault = faults.remove(place);
        self.left.send_replace(faults.len());
        fault
    }

    /// How many faults are still to happen.
    pub(crate) fn left(&self) -> watch::Receiver<usize> {
        self.left.subscribe()
    }
}

/// Accepts connections that can be made to break, and numbers them from 1.
pub(crate) struct BreakableListener {
    tcp: TcpListener,
    accepted: u64,
}

impl BreakableListener {
    pub(crate) fn new(tcp: TcpListener) -> Self {
        Self { tcp, accepted: 0 }
    }
}

impl Listener for BreakableListener {
    type Io = BreakableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BreakableStream, SocketAddr) {
        let (tcp, address) = Listener::accept(&mut self.tcp).await;
        // Without it, a large event may wait for a delayed acknowledgement.
        let _ = tcp.set_nodelay(true);
        self.accepted += 1;
        let connection = Connection {
            number: self.accepted,
            breakage: Arc::new(Mutex::new(Breakage::None)),
        };
        (BreakableStream { tcp, connection }, address)
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
    /// A quarter of the response's head is written, and nothing after it.
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
}

impl BreakableStream {
    /// How many of the `available` bytes to write now. They begin with `start`.
    fn writable(&self, start: &[u8], available: usize) -> io::Result<usize> {
        let mut breakage = lock(&self.connection.breakage);
        let length = match *breakage {
            Breakage::None => return Ok(available),
            Breakage::Broken => return Err(io::ErrorKind::BrokenPipe.into()),
            Breakage::Reset => {
                *breakage = Breakage::Broken;
                // The kernel then sends a reset instead of an end.
                self.tcp.set_zero_linger()?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Breakage::CutInHead => start.len() / 4,
            Breakage::CutAfterHead => {
                let end = start.windows(4).position(|window| window == b"\r\n\r\n");
                end.map_or(start.len(), |end| end + 4)
            }
            // The response to a post is small enough for one write.
            Breakage::CutAfterResponse => available,
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
        let length = self.writable(bytes, bytes.len())?;
        Pin::new(&mut self.tcp).poll_write(context, &bytes[..length])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        slices: &[IoSlice],
    ) -> Poll<io::Result<usize>> {
        let start = slices.first().map_or(&[][..], |slice| slice);
        let available = slices.iter().map(|slice| slice.len()).sum();
        let length = self.writable(start, available)?;
        if length == available {
            Pin::new(&mut self.tcp).poll_write_vectored(context, slices)
        } else {
            Pin::new(&mut self.tcp).poll_write(context, &start[..length])
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
