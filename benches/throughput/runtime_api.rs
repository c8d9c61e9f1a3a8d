//! A Runtime API that has an event ready for every poll, or lets every poll wait.
//!
//! It takes one request after the other from a connection, so a poll that was sent with a reply is
//! looked at when the reply has got its response.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use std::{io, mem, thread};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::Notify;

use super::cpu;

/// Holds the longest requests: a head, the reply for N = 1000, and a poll.
const BUFFER_LEN: usize = 128 * 1024;
/// The first reply to each offer, and then one in so many, is compared byte for byte. Of the others
/// the length is compared.
const COMPARED: usize = 64;

pub(crate) struct RuntimeApi {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    offered: Notify,
}

#[derive(Default)]
pub(crate) struct Event {
    pub(crate) payload: String,
    /// The one right reply.
    pub(crate) reply: Vec<u8>,
}

#[derive(Default)]
struct State {
    event: Event,
    is_offered: bool,
    /// Events that are due per second, and since when, unless each poll gets one at once.
    pace: Option<(f64, Instant)>,
    /// When each event was sent. Its place here is the end of its request id.
    sent: Vec<Instant>,
    replies: Replies,
    waiting_polls: usize,
    first_poll: Option<Instant>,
}

/// The replies to the event offered last.
#[derive(Default)]
pub(crate) struct Replies {
    /// From the last byte of each event to the last byte of its reply, in nanoseconds.
    pub(crate) latencies: Vec<u32>,
    /// How many arrived with the next poll behind them.
    pub(crate) pipelined: usize,
}

/// Starts a thread for Runtime APIs on these CPUs.
pub(crate) fn start_thread(cpus: Vec<usize>) -> io::Result<runtime::Handle> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || {
        cpu::run_on(cpus).expect("the CPUs are available");
        runtime.block_on(std::future::pending::<()>());
    });
    Ok(handle)
}

impl RuntimeApi {
    pub(crate) fn start(thread: &runtime::Handle) -> io::Result<Self> {
        let listener = thread.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        thread.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared })
    }

    /// From now on hands this event to every poll, or to so many per second.
    pub(crate) fn offer(&self, event: Event, rate: Option<f64>) {
        let mut state = self.shared.lock();
        state.event = event;
        state.is_offered = true;
        state.pace = rate.map(|rate| (rate, Instant::now()));
        state.sent.clear();
        self.shared.offered.notify_waiters();
    }

    /// From now on lets every poll wait. Returns the replies when all workers poll.
    pub(crate) fn withhold(&self, workers: usize) -> Replies {
        self.wait_for("a reply", |state| !state.replies.latencies.is_empty());
        self.shared.lock().is_offered = false;
        self.wait_for_polls(workers);
        mem::take(&mut self.shared.lock().replies)
    }

    /// Waits until the polls of all workers wait, so that no reply is under way.
    pub(crate) fn wait_for_polls(&self, workers: usize) {
        self.wait_for("all workers to poll", |state| {
            state.waiting_polls == workers
        });
    }

    /// Panics after a minute, or if a reply was wrong.
    fn wait_for(&self, what: &str, happens: impl Fn(&State) -> bool) {
        test_support::wait_for(what, || happens(&self.shared.lock()).then_some(()));
    }

    /// When the first poll came.
    pub(crate) fn first_poll(&self) -> Option<Instant> {
        self.shared.lock().first_poll
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let shared = shared.clone();
        tokio::spawn(async move {
            // Errors come from functions that are killed, which resets their connections.
            let _ = shared.serve(stream).await;
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        state.expect("a request was wrong: see the panic before this one")
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; BUFFER_LEN];
        let mut received = 0;
        loop {
            let Request { path, body, len } = loop {
                if let Some(request) = Request::parse(&buffer[..received]) {
                    break request;
                }
                match stream.read(&mut buffer[received..]).await? {
                    0 => return Ok(()),
                    len => received += len,
                }
            };
            let response = if path.ends_with("/invocation/next") {
                self.next_event().await
            } else if path.ends_with("/response") {
                self.lock().take_reply(path, body, received > len);
                "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned()
            } else if path.ends_with("/extension/register") {
                test_support::REGISTERED.to_owned()
            } else if path.ends_with("/ping") {
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong".to_owned()
            } else if path.ends_with("/extension/event/next") {
                std::future::pending().await
            } else {
                let _state = self.lock(); // which tells whoever waits
                panic!("{path}: {}", String::from_utf8_lossy(body));
            };
            buffer.copy_within(len..received, 0);
            received -= len;
            stream.write_all(response.as_bytes()).await?;
        }
    }

    /// Waits until an event is due; returns the response to a poll.
    async fn next_event(&self) -> String {
        self.lock().first_poll.get_or_insert_with(Instant::now);
        self.lock().waiting_polls += 1;
        loop {
            let offered = self.offered.notified();
            if let Some(response) = self.lock().send_event() {
                return response;
            }
            if self.lock().is_offered {
                // A timer would be late by up to a millisecond.
                tokio::task::yield_now().await;
            } else {
                offered.await;
            }
        }
    }
}

impl State {
    /// The response to a poll, with the headers that Lambda sends, if an event is due.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    fn send_event(&mut self) -> Option<String> {
        let number = self.sent.len();
        let is_due = self
            .pace
            .is_none_or(|(rate, since)| (number as f64) < since.elapsed().as_secs_f64() * rate);
        if !self.is_offered || !is_due {
            return None;
        }
        self.waiting_polls -= 1;
        // Before it is written: the function may reply before this thread runs on.
        self.sent.push(Instant::now());
        let payload = &self.event.payload;
        Some(format!(
            "HTTP/1.1 200 OK\r\n\
             Content-Type: application/json\r\n\
             Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-{number:012}\r\n\
             Lambda-Runtime-Deadline-Ms: 4102444800000\r\n\
             Lambda-Runtime-Invocation-Id: 2dfe2e7c-5b1d-4e43-8f3e-{number:012}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: \
             arn:aws:lambda:us-east-1:123456789012:function:fibonacci-generator\r\n\
             Lambda-Runtime-Trace-Id: \
             Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0\r\n\
             Content-Length: {}\r\n\r\n{payload}",
            payload.len()
        ))
    }

    /// Panics if the reply is wrong, and with the lock, so that whoever waits panics, too.
    fn take_reply(&mut self, path: &str, reply: &[u8], is_pipelined: bool) {
        let number = path.rsplit(['-', '/']).nth(1).unwrap_or_default();
        let latency = self.sent[number.parse::<usize>().expect("a number")].elapsed();
        let nanos = u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX);
        let expected = &self.event.reply;
        let is_compared = self.replies.latencies.len().is_multiple_of(COMPARED);
        let is_right = reply.len() == expected.len() && (!is_compared || reply == expected);
        assert!(
            is_right,
            "a wrong reply: {:.200}",
            String::from_utf8_lossy(reply)
        );
        self.replies.latencies.push(nanos);
        self.replies.pipelined += usize::from(is_pipelined);
    }
}

struct Request<'a> {
    path: &'a str,
    body: &'a [u8],
    /// The length of the head and the body together.
    len: usize,
}

impl<'a> Request<'a> {
    /// Returns `None` if `bytes` hold only a part of a request.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head_len) = request.parse(bytes).expect("HTTP") else {
            return None;
        };
        let mut headers = request.headers.iter();
        let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.map_or("0".into(), |header| String::from_utf8_lossy(header.value));
        let len = head_len + length.parse::<usize>().expect("a length");
        let path = request.path.unwrap_or_default();
        let body = bytes.get(head_len..len)?;
        Some(Self { path, body, len })
    }
}
