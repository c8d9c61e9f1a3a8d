use std::future::ready;
use std::mem;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task;

use crate::pipe::Connect;

/// In bytes. Shorter than a reply, so that the end of one is unsent when its head has arrived.
const ROOM: usize = 512;

/// The Runtime API's end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Option<task::Id>,
    pub(super) stream: DuplexStream,
    /// What has been received and not been used.
    received: Vec<u8>,
    /// Whether a whole head of a response has been sent.
    pub(super) has_responded: bool,
    /// Whether no further request may come, because an event came out of order.
    pub(super) is_spent: bool,
    /// What is due of a response that is late.
    pub(super) owed: &'static str,
}

impl Connection {
    pub(super) fn accept(connect: Connect) -> Self {
        Self {
            worker: connect.worker,
            stream: connect.accept(ROOM),
            received: Vec::new(),
            has_responded: false,
            is_spent: false,
            owed: "",
        }
    }

    /// Sends this, unless the function has given the connection up.
    pub(super) async fn send(&mut self, bytes: &str) {
        let _ = self.stream.write_all(bytes.as_bytes()).await;
    }

    /// Receives more; the result is `false` at the end.
    async fn receive_more(&mut self) -> bool {
        self.stream.read_buf(&mut self.received).await.unwrap_or(0) > 0
    }

    /// The same if there is something, or the end.
    async fn receive_what_is_there(&mut self) -> Option<bool> {
        tokio::select! {
            biased;
            more = self.receive_more() => Some(more),
            () = ready(()) => None,
        }
    }

    /// Receives a head, up to its empty line; `None` if the connection ends first.
    pub(super) async fn receive_head(&mut self) -> Option<String> {
        loop {
            let end = self.received.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.receive_exact(end + 4).await;
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
        mem::replace(&mut self.received, rest)
    }

    /// Whether another request follows, of what the function has begun to send.
    pub(super) async fn is_followed(&mut self) -> bool {
        settle_down().await;
        if self.received.is_empty() {
            self.receive_what_is_there().await;
        }
        !self.received.is_empty()
    }

    /// Whether the function has dropped its end.
    pub(super) async fn is_given_up(&mut self) -> bool {
        self.receive_what_is_there().await == Some(false)
    }
}

/// Lets the function do what it can do without waiting.
pub(super) async fn settle_down() {
    for _ in 0..5 {
        task::yield_now().await;
    }
}
