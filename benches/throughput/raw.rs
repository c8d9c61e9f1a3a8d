//! The floor: the function's bytes from threads on epoll, and nothing else.
//!
//! No tokio, no retries, no deadlines, and no more HTTP than this bench's Runtime API speaks.

use std::env;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::thread;

use fibonacci_generator::{event, reply};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const USER_AGENT: &str = concat!("lmi-runtime/", env!("CARGO_PKG_VERSION"));

struct Connection<'a> {
    authority: &'a str,
    /// Travels with each reply, or follows the response to it.
    poll: &'a str,
    is_pipelined: bool,
    socket: TcpStream,
    received: Vec<u8>,
    post: Vec<u8>,
}

/// Serves invocations until the process is killed. Each thread has its share of the connections. If
/// `is_pipelined`, the next poll travels with each reply.
pub(crate) fn run(is_pipelined: bool, threads: usize) -> io::Result<()> {
    let concurrency = env::var("AWS_LAMBDA_MAX_CONCURRENCY").map_err(io::Error::other)?;
    let concurrency: usize = concurrency.parse().map_err(io::Error::other)?;
    let share = move |thread| (thread..concurrency).step_by(threads).len();
    for thread in 1..threads {
        thread::spawn(move || serve(share(thread), is_pipelined).expect("the bench ends it"));
    }
    serve(share(0), is_pipelined)
}

fn serve(connections: usize, is_pipelined: bool) -> io::Result<()> {
    let authority = &*env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let poll = &*format!(
        "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\
         host: {authority}\r\n\
         user-agent: {USER_AGENT}\r\n\r\n"
    );
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mut open = Vec::new();
    for index in 0..connections {
        let mut socket = TcpStream::connect(authority)?;
        socket.set_nodelay(true)?;
        socket.write_all(poll.as_bytes())?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&socket, EpollEvent::new(flags, index as u64))?;
        open.push(Connection {
            authority,
            poll,
            is_pipelined,
            socket,
            received: Vec::new(),
            post: Vec::new(),
        });
    }
    // At most two responses wait, far less than this holds, so one read takes them all.
    let mut buffer = [0; 8 * 1024];
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            let index = usize::try_from(event.data()).map_err(io::Error::other)?;
            open[index].receive(&mut buffer)?;
        }
    }
}

impl Connection<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let len = self.socket.read(buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&buffer[..len]);
        while let Some(len) = self.handle_response()? {
            self.received.drain(..len);
        }
        Ok(())
    }

    /// Handles the response that has been received first. Returns its length, or `None` if it has not
    /// arrived whole.
    fn handle_response(&mut self) -> io::Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.received).map_err(io::Error::other)?;
        let httparse::Status::Complete(head_len) = parsed else {
            return Ok(None);
        };
        let (mut body_len, mut request_id, mut invocation_id) = (0, None, "");
        for header in response.headers {
            let value = str::from_utf8(header.value).map_err(io::Error::other)?;
            match header.name {
                "Content-Length" => body_len = value.parse().map_err(io::Error::other)?,
                "Lambda-Runtime-Aws-Request-Id" => request_id = Some(value),
                "Lambda-Runtime-Invocation-Id" => invocation_id = value,
                _ => {}
            }
        }
        let len = head_len + body_len;
        let Some(payload) = self.received.get(head_len..len) else {
            return Ok(None);
        };

        if let Some(request_id) = request_id {
            let [head, prefix, tail] = reply::slices(event::parse(payload));
            self.post.clear();
            write!(
                self.post,
                "POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\n\
                 host: {}\r\n\
                 user-agent: {USER_AGENT}\r\n\
                 lambda-runtime-invocation-id: {invocation_id}\r\n\
                 content-length: {}\r\n\r\n",
                self.authority,
                head.len() + prefix.len() + tail.len()
            )?;
            let poll = if self.is_pipelined { self.poll } else { "" };
            let slices = [&self.post, head, prefix, tail, poll.as_bytes()];
            let mut unsent = &mut slices.map(IoSlice::new)[..];
            while !unsent.is_empty() {
                let written = self.socket.write_vectored(unsent)?;
                IoSlice::advance_slices(&mut unsent, written);
            }
        } else if !self.is_pipelined {
            self.socket.write_all(self.poll.as_bytes())?;
        }
        Ok(Some(len))
    }
}
