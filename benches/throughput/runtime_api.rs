//! A Runtime API that has an event ready for every poll, or lets every poll wait.
//!
//! It takes one request after the other from a connection, so a poll that was sent with a reply is
//! looked at when the reply has got its response.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;
use std::{mem, thread};

use bytes::Buf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;

use super::cpu;

/// Holds the longest requests: a head, the reply for N = 1000, and a poll.
const BUFFER_LEN: usize = 128 * 1024;
/// The first reply to each offer, and then one in so many, is compared byte for byte. Of the others
/// the length is compared.
const COMPARED: usize = 64;

#[derive(Default)]
pub(crate) struct Event {
    pub(crate) payload: Vec<u8>,
    /// The one right reply.
    pub(crate) reply: Vec<u8>,
}

pub(crate) struct RuntimeApi {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    offer: watch::Sender<Offer>,
    replies: Mutex<Replies>,
    waiting_polls: AtomicUsize,
    first_poll: OnceLock<Instant>,
    problem: OnceLock<String>,
}

#[derive(Default)]
struct Offer {
    event: Arc<Event>,
    is_open: bool,
    /// Events that are due per second, and since when, unless each poll gets one at once.
    pace: Option<(f64, Instant)>,
}

/// The replies to the event offered last.
#[derive(Default)]
pub(crate) struct Replies {
    /// When each event was sent. Its place here is the end of its request id.
    sent: Vec<Instant>,
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
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::<State>::default();
        thread.spawn(accept(listener, state.clone()));
        Ok(Self { address, state })
    }

    /// From now on hands this event to every poll, or to so many per second.
    pub(crate) fn offer(&self, event: &Arc<Event>, rate: Option<f64>) {
        self.state.offer.send_replace(Offer {
            event: event.clone(),
            is_open: true,
            pace: rate.map(|rate| (rate, Instant::now())),
        });
    }

    /// From now on lets every poll wait. Returns the replies when all workers poll.
    ///
    /// # Panics
    ///
    /// If there is no reply or not every worker polls within a minute, or a reply was wrong.
    pub(crate) fn withhold(&self, workers: usize) -> Replies {
        self.wait_for("a reply", || !self.state.replies().latencies.is_empty());
        self.state.offer.send_modify(|offer| offer.is_open = false);
        self.wait_for_polls(workers);
        mem::take(&mut *self.state.replies())
    }

    /// Waits until the polls of all workers wait, so that no reply is under way.
    ///
    /// # Panics
    ///
    /// If that takes more than a minute, or a reply was wrong.
    pub(crate) fn wait_for_polls(&self, workers: usize) {
        let waiting = &self.state.waiting_polls;
        self.wait_for("a poll of each worker", || waiting.load(SeqCst) == workers);
    }

    fn wait_for(&self, what: &str, happens: impl Fn() -> bool) {
        test_support::wait_for(what, || {
            if let Some(problem) = self.state.problem.get() {
                panic!("{problem}");
            }
            happens().then_some(())
        });
    }

    /// When the first poll came.
    pub(crate) fn first_poll(&self) -> Option<Instant> {
        self.state.first_poll.get().copied()
    }
}

async fn accept(listener: std::net::TcpListener, state: Arc<State>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let state = state.clone();
        tokio::spawn(async move {
            // Other errors come from functions that are killed, which resets their connections.
            if let Err(error) = serve(stream, &state).await
                && error.kind() == io::ErrorKind::InvalidData
            {
                let _ = state.problem.set(error.to_string());
            }
        });
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut received = 0;
    loop {
        let Request { path, body, len } = loop {
            if let Some(request) = Request::parse(&buffer[..received])? {
                break request;
            }
            match stream.read(&mut buffer[received..]).await? {
                0 => return Ok(()),
                len => received += len,
            }
        };

        let event;
        let (head, payload) = if path.ends_with("/invocation/next") {
            event = state.next_event().await;
            let sent = &mut state.replies().sent;
            let number = sent.len();
            // Before it is written: the function may reply before this thread runs on.
            sent.push(Instant::now());
            (event_head(number, event.payload.len()), &*event.payload)
        } else if path.ends_with("/response") {
            state.take_reply(path, body, received > len)?;
            let head = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
            (head.to_owned(), &b""[..])
        } else if path.ends_with("/extension/register") {
            (test_support::REGISTERED.to_owned(), &b""[..])
        } else if path.ends_with("/ping") {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
            (head.to_owned(), &b"pong"[..])
        } else if path.ends_with("/extension/event/next") {
            std::future::pending().await
        } else {
            let body = String::from_utf8_lossy(body);
            return Err(invalid(format!("a request for {path}: {body}")));
        };
        buffer.copy_within(len..received, 0);
        received -= len;
        stream
            .write_all_buf(&mut Buf::chain(head.as_bytes(), payload))
            .await?;
    }
}

impl State {
    async fn next_event(&self) -> Arc<Event> {
        self.first_poll.get_or_init(Instant::now);
        let mut offer = self.offer.subscribe();
        self.waiting_polls.fetch_add(1, SeqCst);
        loop {
            {
                let open = offer.wait_for(|offer| offer.is_open).await;
                let open = open.expect("the sender is in self");
                if self.is_due(&open) {
                    // While the offer cannot change, so that whoever withholds it sees this.
                    self.waiting_polls.fetch_sub(1, SeqCst);
                    return open.event.clone();
                }
            }
            // A timer would be late by up to a millisecond.
            tokio::task::yield_now().await;
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    fn is_due(&self, offer: &Offer) -> bool {
        let sent = self.replies().sent.len() as f64;
        offer
            .pace
            .is_none_or(|(rate, since)| sent < since.elapsed().as_secs_f64() * rate)
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().expect("no holder panics")
    }

    fn take_reply(&self, path: &str, reply: &[u8], is_pipelined: bool) -> io::Result<()> {
        let number = path.rsplit(['-', '/']).nth(1).unwrap_or_default();
        let number: usize = number.parse().map_err(invalid)?;
        let expected = &self.offer.borrow().event.reply;
        let mut replies = self.replies();
        let sent = replies.sent.get(number);
        let latency = sent
            .ok_or_else(|| invalid("a reply without an event"))?
            .elapsed();
        let is_compared = replies.latencies.len().is_multiple_of(COMPARED);
        let nanos = u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX);
        replies.latencies.push(nanos);
        replies.pipelined += usize::from(is_pipelined);
        if reply.len() == expected.len() && (!is_compared || reply == expected) {
            return Ok(());
        }
        let start = String::from_utf8_lossy(&reply[..reply.len().min(200)]);
        Err(invalid(format!("a wrong reply: {start}")))
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
    fn parse(bytes: &'a [u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head_len) = request.parse(bytes).map_err(invalid)? else {
            return Ok(None);
        };
        let mut headers = request.headers.iter();
        let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.map_or("0".into(), |header| String::from_utf8_lossy(header.value));
        let len = head_len + length.parse::<usize>().map_err(invalid)?;
        let path = request.path.unwrap_or_default();
        let body = bytes.get(head_len..len);
        Ok(body.map(|body| Self { path, body, len }))
    }
}

/// The head of the response to a poll, with the headers that Lambda sends.
fn event_head(number: usize, content_length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-{number:012}\r\n\
         Lambda-Runtime-Deadline-Ms: 4102444800000\r\n\
         Lambda-Runtime-Invocation-Id: 2dfe2e7c-5b1d-4e43-8f3e-{number:012}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: \
         arn:aws:lambda:us-east-1:123456789012:function:fibonacci-generator\r\n\
         Lambda-Runtime-Trace-Id: \
         Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0\r\n\
         Content-Length: {content_length}\r\n\r\n"
    )
}

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
