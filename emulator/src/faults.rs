//! Faults of the Runtime API, to see what a function does about them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::lock;

/// What goes wrong, once, with a request to the Runtime API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection of a poll is reset at once.
    PollReset,
    /// A poll is answered with this status at once.
    PollStatus(u16),
    /// A poll is answered with an event that has no headers of the Runtime API. The event itself
    /// goes to another poll.
    EventWithoutHeaders,
    /// A poll's answer breaks off in its head. The event itself goes to another poll.
    EventHeadCut,
    /// A poll's answer breaks off after its head, so that the function knows the request id.
    EventBodyCut,
    /// The connection is reset before a reply or error is read.
    PostReset,
    /// The connection is reset while a reply or error is read.
    PostBodyReset,
    /// A reply or error is answered with this status, and not taken.
    PostStatus(u16),
    /// A reply or error is taken; then the connection is reset.
    PostAnswerReset,
    /// A reply or error is taken; then the answer breaks off in its head.
    PostAnswerCut,
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

    /// The next fault of a kind, which happens now.
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

    pub(crate) fn left(&self) -> watch::Receiver<usize> {
        self.left.subscribe()
    }
}

/// Connections of the function that can be made to break.
pub(crate) struct BreakableListener(pub(crate) TcpListener);

impl Listener for BreakableListener {
    type Io = Breakable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Breakable, SocketAddr) {
        let (tcp, address) = Listener::accept(&mut self.0).await;
        // Without it a large event may wait for a delayed acknowledgement.
        let _ = tcp.set_nodelay(true);
        let breakage = Breakage::default();
        (Breakable { tcp, breakage }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// How a connection breaks when it is next written to.
#[derive(Clone, Default)]
pub(crate) struct Breakage(Arc<AtomicU8>);

const INTACT: u8 = 0;
const RESET: u8 = 1;
const CUT_IN_HEAD: u8 = 2;
const CUT_AFTER_HEAD: u8 = 3;
const CUT: u8 = 4;

impl Breakage {
    pub(crate) fn reset(&self) {
        self.0.store(RESET, Relaxed);
    }

    pub(crate) fn cut_in_head(&self) {
        self.0.store(CUT_IN_HEAD, Relaxed);
    }

    pub(crate) fn cut_after_head(&self) {
        self.0.store(CUT_AFTER_HEAD, Relaxed);
    }
}

impl Connected<IncomingStream<'_, BreakableListener>> for Breakage {
    fn connect_info(stream: IncomingStream<'_, BreakableListener>) -> Self {
        stream.io().breakage.clone()
    }
}

pub(crate) struct Breakable {
    tcp: TcpStream,
    breakage: Breakage,
}

impl Breakable {
    /// How much may be written of what begins with these bytes; `None` is anything.
    fn limit(&self, start: &[u8]) -> io::Result<Option<usize>> {
        let limit = match self.breakage.0.load(Relaxed) {
            INTACT => return Ok(None),
            CUT_IN_HEAD => start.len() / 4,
            CUT_AFTER_HEAD => {
                let end = start.windows(4).position(|window| window == b"\r\n\r\n");
                end.map_or(start.len(), |end| end + 4)
            }
            RESET => {
                // The kernel then sends a reset instead of an end.
                self.tcp.set_zero_linger()?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        self.breakage.0.store(CUT, Relaxed);
        Ok(Some(limit))
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let limit = self.limit(bytes)?.unwrap_or(bytes.len());
        Pin::new(&mut self.tcp).poll_write(context, &bytes[..limit])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        slices: &[IoSlice],
    ) -> Poll<io::Result<usize>> {
        match self.limit(slices.first().map_or(&[], |slice| slice))? {
            Some(limit) => Pin::new(&mut self.tcp).poll_write(context, &slices[0][..limit]),
            None => Pin::new(&mut self.tcp).poll_write_vectored(context, slices),
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
