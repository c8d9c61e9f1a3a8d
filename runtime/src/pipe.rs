//! Connections between the loop and a test that plays the Runtime API.

use std::cell::RefCell;
use std::io;

use tokio::io::{DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tokio::time::Instant;

use crate::http::Socket;

thread_local! {
    static CONNECTS: RefCell<Option<mpsc::UnboundedSender<Connect>>> = const { RefCell::new(None) };
}

/// The attempts to connect that this thread makes from now on.
pub(crate) fn connects() -> mpsc::UnboundedReceiver<Connect> {
    let (sender, connects) = mpsc::unbounded_channel();
    CONNECTS.set(Some(sender));
    connects
}

/// An attempt to connect. It is refused if it is dropped.
#[cfg_attr(fuzzing, expect(dead_code, reason = "only the worker model asks"))]
pub(crate) struct Connect {
    pub(crate) worker: Option<task::Id>,
    pub(crate) at: Instant,
    connecting: oneshot::Sender<DuplexStream>,
}

impl Connect {
    /// Returns the test's end. So many bytes have room in either direction.
    pub(crate) fn accept(self, room: usize) -> DuplexStream {
        let (theirs, ours) = duplex(room);
        // If the attempt has been given up meanwhile, the connection is closed.
        let _ = self.connecting.send(theirs);
        ours
    }

    /// Waits until the attempt is given up.
    #[cfg(test)]
    pub(crate) async fn given_up(mut self) {
        self.connecting.closed().await;
    }
}

impl Socket for DuplexStream {
    async fn connect(_: &str) -> io::Result<Self> {
        let (connecting, connected) = oneshot::channel();
        CONNECTS.with_borrow(|connects| {
            let _ = connects.as_ref().expect("a test").send(Connect {
                worker: task::try_id(),
                at: Instant::now(),
                connecting,
            });
        });
        connected
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}
