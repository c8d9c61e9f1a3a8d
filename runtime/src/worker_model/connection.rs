use std::future::ready;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::task;

use crate::pipe::Connect;

/// In bytes. Shorter than a reply, so that the end of one is unsent when its head has arrived.
const ROOM: usize = 512;

/// The Runtime API's end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) worker: Option<task::Id>,
    pub(super) stream: BufReader<DuplexStream>,
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
            stream: BufReader::with_capacity(ROOM, connect.accept(ROOM)),
            has_responded: false,
            is_spent: false,
            owed: "",
        }
    }

    /// Sends this, unless the function has given the connection up.
    pub(super) async fn send(&mut self, bytes: &str) {
        let _ = self.stream.write_all(bytes.as_bytes()).await;
    }

    /// Receives a head, up to its empty line; `None` if the connection ends first.
    pub(super) async fn receive_head(&mut self) -> Option<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        Some(head)
    }

    /// Receives this many bytes.
    pub(super) async fn receive_exact(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let received = self.stream.read_exact(&mut bytes).await;
        received.expect("a request that is not cut short");
        bytes
    }

    /// Whether another request follows, of what the function has begun to send.
    pub(super) async fn is_followed(&mut self) -> bool {
        settle_down().await;
        self.peek().await.is_some_and(|len| len > 0)
    }

    /// Whether the function has dropped its end.
    pub(super) async fn is_given_up(&mut self) -> bool {
        self.peek().await == Some(0)
    }

    /// How many bytes are there to be received; 0 at the end of the connection.
    async fn peek(&mut self) -> Option<usize> {
        tokio::select! {
            biased;
            bytes = self.stream.fill_buf() => Some(bytes.map_or(0, <[u8]>::len)),
            () = ready(()) => None,
        }
    }
}

/// Lets the function do what it can do without waiting.
pub(super) async fn settle_down() {
    for _ in 0..5 {
        task::yield_now().await;
    }
}
