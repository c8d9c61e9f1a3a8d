//! Connections between the function and the model of the Runtime API.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tokio::time::{Instant, advance};

use crate::http::Socket;

/// In bytes. Shorter than a reply, so that the end of one is unsent when its head has arrived.
const PIPE_LEN: usize = 512;

thread_local! {
    /// The attempts to connect that this thread's function makes.
    static CONNECTS: RefCell<Option<mpsc::UnboundedSender<Connect>>> = const { RefCell::new(None) };
}

/// Sends the attempts of this thread's function to connect here.
pub(super) fn connect_to(connects: mpsc::UnboundedSender<Connect>) {
    CONNECTS.set(Some(connects));
}

/// A worker's attempt to connect.
pub(super) struct Connect {
    pub(super) worker: task::Id,
    pub(super) at: Instant,
    connecting: oneshot::Sender<Pipe>,
}

impl Connect {
    pub(super) fn accept(self) -> Connection {
        let (stream, ours) = duplex(PIPE_LEN);
        let (open, is_open) = oneshot::channel();
        let is_unseen = Rc::default();
        let pipe = Pipe {
            stream,
            is_unseen: Rc::clone(&is_unseen),
            _open: is_open,
        };
        // If it has given up meanwhile, the connection is closed.
        let _ = self.connecting.send(pipe);
        Connection {
            worker: self.worker,
            stream: ours,
            received: Vec::new(),
            has_responded: false,
            is_spent: false,
            owed: String::new(),
            is_unseen,
            open,
        }
    }

    /// Waits until the worker gives up.
    pub(super) async fn given_up(mut self) {
        self.connecting.closed().await;
    }
}

/// The Runtime API's end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: task::Id,
    pub(super) stream: DuplexStream,
    /// What has been received and not been used.
    pub(super) received: Vec<u8>,
    /// Whether a whole head of a response has been sent.
    pub(super) has_responded: bool,
    /// Whether no further request may come, because an event came out of order.
    pub(super) is_spent: bool,
    /// What is due of a response that is late.
    pub(super) owed: String,
    is_unseen: Rc<Cell<bool>>,
    /// Is closed when the function drops its end.
    open: oneshot::Sender<()>,
}

impl Connection {
    /// Receives more; the result is `false` at the end.
    pub(super) async fn receive_more(&mut self) -> bool {
        self.stream.read_buf(&mut self.received).await.unwrap_or(0) > 0
    }

    /// Receives a head, up to its empty line; `None` if the connection ends first.
    pub(super) async fn receive_head(&mut self) -> Option<String> {
        loop {
            let end = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let rest = self.received.split_off(end + 4);
                let head = std::mem::replace(&mut self.received, rest);
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.receive_more().await {
                return None;
            }
        }
    }

    /// Receives this many bytes.
    pub(super) async fn receive_exact(&mut self, len: usize) -> Vec<u8> {
        while self.received.len() < len {
            assert!(self.receive_more().await, "a request that is cut short");
        }
        let rest = self.received.split_off(len);
        std::mem::replace(&mut self.received, rest)
    }

    /// Whether another request follows, of what the function has begun to send.
    pub(super) async fn is_followed(&mut self) -> bool {
        for _ in 0..3 {
            task::yield_now().await;
        }
        if self.received.is_empty() {
            tokio::select! {
                biased;
                _ = self.stream.read_buf(&mut self.received) => {}
                () = std::future::ready(()) => {}
            }
        }
        !self.received.is_empty()
    }

    /// Sends this while the process stands still for so long.
    pub(super) async fn send_while_stopped(&mut self, bytes: &str, time: Duration) {
        self.is_unseen.set(true);
        advance(time).await; // the worker's timers elapse before it looks at its sockets
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.open.is_closed()
    }

    /// Waits until the function drops its end.
    pub(super) async fn given_up(&mut self) {
        self.open.closed().await;
    }
}

/// The function's end of a connection.
pub(super) struct Pipe {
    stream: DuplexStream,
    /// Whether something has arrived while the process stood still. A runtime sees that only when it
    /// looks at its sockets; until then, its timers may elapse.
    is_unseen: Rc<Cell<bool>>,
    _open: oneshot::Receiver<()>,
}

impl Socket for Pipe {
    async fn connect(_: &str) -> io::Result<Self> {
        let (connecting, connected) = oneshot::channel();
        CONNECTS.with_borrow(|connects| {
            let _ = connects.as_ref().unwrap().send(Connect {
                worker: task::id(),
                at: Instant::now(),
                connecting,
            });
        });
        connected
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_unseen.get() {
            let (is_unseen, waker) = (Rc::clone(&self.is_unseen), context.waker().clone());
            task::spawn_local(async move {
                task::yield_now().await;
                is_unseen.set(false);
                waker.wake();
            });
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
