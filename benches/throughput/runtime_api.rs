//! A Runtime API that has an event ready for every poll, or lets every poll wait.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Buf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;

use crate::process;

/// Holds the longest request, a head and the reply for N = 1000.
const BUFFER_LEN: usize = 128 * 1024;
/// One reply of this many is compared with the expected one; of the others the length is.
const COMPARED: usize = 64;
const PATIENCE: Duration = Duration::from_secs(20);

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
    polls: AtomicUsize,
    waiting_polls: AtomicUsize,
    replies: AtomicUsize,
    first_poll: OnceLock<Instant>,
    problem: OnceLock<String>,
}

#[derive(Default)]
struct Offer {
    event: Arc<Event>,
    is_open: bool,
}

/// Starts the thread on which Runtime APIs run, on these CPUs.
pub(crate) fn start_thread(cpus: Vec<usize>) -> runtime::Handle {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        process::run_on(cpus).expect("the CPUs are available");
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("there are file descriptors");
        sender.send(runtime.handle().clone()).expect("is awaited");
        runtime.block_on(std::future::pending::<()>());
    });
    receiver.recv().expect("the thread starts")
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

    /// Answers every poll with this event from now on.
    pub(crate) fn offer(&self, event: &Arc<Event>) {
        self.state.offer.send_replace(Offer {
            event: event.clone(),
            is_open: true,
        });
    }

    /// Lets every poll wait from now on.
    pub(crate) fn withhold(&self) {
        self.state.offer.send_modify(|offer| offer.is_open = false);
    }

    /// Waits until `workers` polls wait, so that nothing else is under way.
    ///
    /// # Panics
    ///
    /// If that takes too long, or a reply was wrong.
    pub(crate) fn wait_for_polls(&self, workers: usize) {
        let started = Instant::now();
        loop {
            if let Some(problem) = self.state.problem.get() {
                panic!("{problem}");
            }
            let polling = self.state.waiting_polls.load(SeqCst);
            if polling == workers {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{polling} of {workers} workers poll"
            );
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// How many replies have come.
    pub(crate) fn replies(&self) -> usize {
        self.state.replies.load(SeqCst)
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
            // A function that is killed resets its connections.
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
            let number = state.polls.fetch_add(1, SeqCst);
            (event_head(number, event.payload.len()), &*event.payload)
        } else if path.ends_with("/response") {
            state.take_reply(body)?;
            let head = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
            (head.to_owned(), &b""[..])
        } else if path.ends_with("/extension/register") {
            let body = br#"{"functionName":"f","functionVersion":"1","handler":"h"}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: 1\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            (head, &body[..])
        } else if path.ends_with("/ping") {
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_owned(),
                &b"pong"[..],
            )
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
        let open = offer.wait_for(|offer| offer.is_open).await;
        self.waiting_polls.fetch_sub(1, SeqCst);
        open.expect("the sender is in self").event.clone()
    }

    fn take_reply(&self, reply: &[u8]) -> io::Result<()> {
        let number = self.replies.fetch_add(1, SeqCst);
        let expected = &self.offer.borrow().event.reply;
        let is_right = if number.is_multiple_of(COMPARED) {
            reply == expected
        } else {
            reply.len() == expected.len()
        };
        if is_right {
            return Ok(());
        }
        let start = String::from_utf8_lossy(&reply[..reply.len().min(200)]);
        Err(invalid(format!("a wrong reply: {start}")))
    }
}

struct Request<'a> {
    path: &'a str,
    body: &'a [u8],
    /// Of the head and the body.
    len: usize,
}

impl<'a> Request<'a> {
    /// Returns `None` if `bytes` hold only a part of it.
    fn parse(bytes: &'a [u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(head_len) = request.parse(bytes).map_err(invalid)? else {
            return Ok(None);
        };
        let content_length = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .map_or(Ok(0), |header| {
                String::from_utf8_lossy(header.value).parse()
            })
            .map_err(invalid)?;
        let path = request.path.unwrap_or_default();
        let body = bytes.get(head_len..head_len + content_length);
        Ok(body.map(|body| Self {
            path,
            body,
            len: head_len + content_length,
        }))
    }
}

/// The head of the answer to a poll, with the headers that Lambda sends.
fn event_head(number: usize, content_length: usize) -> String {
    let deadline = SystemTime::now() + Duration::from_mins(1);
    let deadline_ms = deadline
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    format!(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-{number:012}\r\n\
         Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\
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
