//! Whatever the Runtime API sends, the parts in which it arrives change nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::Invocation;
use crate::connection::{Connection, Polling};
use crate::http::Socket;

/// A whole event, after which its connection is closed.
const EVENT: &[u8] = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\n\
    Connection: close\r\nContent-Length: 2\r\n\r\n{}";
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// Checks that these bytes, as the response to a poll, and as that to a reply with and without a
/// poll behind it, do what they do in one piece. The first byte says in which parts the rest arrives,
/// and whether the connection then ends or stalls.
///
/// # Panics
///
/// If they do something else.
pub fn check(input: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
    }
    let Some((&parts, bytes)) = input.split_first() else {
        return;
    };
    let stalls = parts >= 128;
    RUNTIME.with(|runtime| {
        for is_behind_a_poll in [Some(true), Some(false), None] {
            let whole = runtime.block_on(what_happens(0, stalls, bytes, is_behind_a_poll));
            let in_parts =
                runtime.block_on(what_happens(parts % 128, stalls, bytes, is_behind_a_poll));
            assert_eq!(in_parts, whole, "{}", bytes.escape_ascii());
        }
    });
}

/// What the connection makes of these bytes as the response to a poll, or to a reply that a poll
/// follows or not.
async fn what_happens(parts: u8, stalls: bool, bytes: &[u8], is_followed: Option<bool>) -> String {
    let mut scripts = VecDeque::from([Script::new(parts, stalls, bytes)]);
    if is_followed.is_some() {
        scripts.push_front(Script::new(0, false, EVENT));
        scripts.push_back(Script::new(0, false, ACCEPTED));
    }
    scripts.push_back(Script::new(0, false, EVENT));
    SCRIPTS.set(scripts);
    SENT.take();

    let mut connection = Connection::<Script>::new("host".into());
    let polling = Polling {
        pipelines: is_followed.unwrap_or_default().into(),
        is_draining: false.into(),
    };
    let mut happened = receive_next(&mut connection, &polling).await;
    if let Some(is_followed) = is_followed {
        let mut invocation = Invocation::default();
        invocation.request_id.push_str("id");
        let reply = Ok("a reply".into());
        connection.respond(&invocation, reply, &polling).await;
        // What follows a response that nobody has asked for may come too late to be noticed.
        if is_followed {
            happened += &receive_next(&mut connection, &polling).await;
        }
    }
    for sent in SENT.take() {
        let _ = write!(happened, "\nsent: {}", sent.escape_ascii());
    }
    happened
}

async fn receive_next(connection: &mut Connection<Script>, polling: &Polling) -> String {
    let mut invocation = Invocation::default();
    let next = connection.next(&mut invocation, polling, |_| ());
    match timeout(Duration::from_secs(10), next).await {
        Ok(Ok(_)) => {
            let headers: Vec<_> = invocation.headers().collect();
            let (id, payload) = (invocation.request_id(), invocation.payload());
            format!("\n{id}: {headers:?} {}", payload.escape_ascii())
        }
        Ok(Err(problem)) => format!("\n{problem}, {:?}", invocation.request_id()),
        Err(_) => "\nnothing".to_owned(),
    }
}

thread_local! {
    /// The next sockets to be opened.
    static SCRIPTS: RefCell<VecDeque<Script>> = const { RefCell::new(VecDeque::new()) };
    /// What was sent on each socket.
    static SENT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A socket on which these bytes arrive in parts; then it is closed or stalls.
struct Script {
    unread: VecDeque<u8>,
    longest_part: usize,
    stalls: bool,
    /// Its place in `SENT`.
    position: usize,
}

impl Script {
    fn new(parts: u8, stalls: bool, bytes: &[u8]) -> Self {
        Self {
            unread: bytes.iter().copied().collect(),
            longest_part: usize::from(parts),
            stalls,
            position: 0,
        }
    }

    /// A length that changes from part to part.
    fn part_len(&self) -> usize {
        match self.longest_part {
            0 => usize::MAX,
            longest => 1 + self.unread.len() * 31 % longest,
        }
    }
}

impl Socket for Script {
    async fn connect(_: &str) -> io::Result<Self> {
        let mut script = SCRIPTS
            .with_borrow_mut(VecDeque::pop_front)
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        SENT.with_borrow_mut(|sent| {
            script.position = sent.len();
            sent.push(Vec::new());
        });
        Ok(script)
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() && self.stalls {
            return Poll::Pending;
        }
        let len = self
            .part_len()
            .min(self.unread.len())
            .min(buffer.remaining());
        let part: Vec<u8> = self.unread.drain(..len).collect();
        buffer.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        SENT.with_borrow_mut(|sent| sent[self.position].extend(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The first slice, and a part of the next.
        let bytes = slices.iter().flat_map(|slice| &**slice).copied();
        let len = slices
            .first()
            .map_or(0, |slice| slice.len())
            .saturating_add(self.part_len());
        self.poll_write(context, &bytes.take(len).collect::<Vec<_>>())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[test]
fn parts_of_a_response_give_what_it_gives_in_one_piece() {
    test_support::replay(
        "runtime_api",
        check,
        &[
            "\r\n",
            "\n",
            "\r\n\r\n",
            "0\r\n",
            "1\r\n",
            ":",
            ";",
            " ",
            "+",
            "f",
            "Connection: close\r\n",
            "Content-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\nContent-Length: 2\r\n\r\n{}",
        ],
    );
}
