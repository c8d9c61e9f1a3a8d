//! The floor: the function's bytes from one thread on epoll, and nothing else.
//!
//! No retries, no deadlines, no tokio, and no more HTTP than this bench's Runtime API speaks.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const POLL: &str = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: h\r\nuser-agent: fibonacci-generator/0.1.0\r\n\r\n";

struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
    filled: usize,
    request: String,
}

/// Serves invocations until it is killed; with the next poll behind each reply if `polls_ahead`.
pub(crate) fn run(polls_ahead: bool) -> io::Result<()> {
    let address = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let workers = env::var("AWS_LAMBDA_MAX_CONCURRENCY").map_err(io::Error::other)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mut connections = Vec::new();
    for worker in 0..workers.parse().map_err(io::Error::other)? {
        let mut socket = TcpStream::connect(&address)?;
        socket.set_nodelay(true)?;
        socket.write_all(POLL.as_bytes())?;
        socket.set_nonblocking(true)?;
        epoll.add(
            &socket,
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, worker),
        )?;
        connections.push(Connection {
            socket,
            received: vec![0; 8 * 1024],
            filled: 0,
            request: String::new(),
        });
    }
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..ready] {
            let index = usize::try_from(event.data()).map_err(io::Error::other)?;
            connections[index].serve(&address, polls_ahead)?;
        }
    }
}

impl Connection {
    fn serve(&mut self, authority: &str, polls_ahead: bool) -> io::Result<()> {
        loop {
            let room = self.received.len() - self.filled;
            let read = match self.socket.read(&mut self.received[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.filled += read;
            let mut used = 0;
            while let Some(len) = self.respond(used, authority, polls_ahead)? {
                used += len;
            }
            self.received.copy_within(used..self.filled, 0);
            self.filled -= used;
            // epoll reports what comes after a read that was not full.
            if read < room {
                return Ok(());
            }
        }
    }

    /// Takes one response from the buffer and does what follows from it.
    fn respond(
        &mut self,
        used: usize,
        authority: &str,
        polls_ahead: bool,
    ) -> io::Result<Option<usize>> {
        let received = &self.received[used..self.filled];
        let Some(end) = received.windows(4).position(|end| end == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = str::from_utf8(&received[..end]).map_err(io::Error::other)?;
        let header = |name| {
            let (_, rest) = head.split_once(name)?;
            Some(rest.split("\r\n").next().unwrap_or(rest))
        };
        let len: usize = header("Content-Length: ")
            .unwrap_or("0")
            .parse()
            .map_err(io::Error::other)?;
        let Some(body) = received.get(end + 4..end + 4 + len) else {
            return Ok(None);
        };
        if let Some(id) = header("Lambda-Runtime-Aws-Request-Id: ") {
            let invocation_id = header("Lambda-Runtime-Invocation-Id: ").unwrap_or_default();
            let reply = Reply::from(event::parse(body));
            let slices = reply.slices();
            let len: usize = slices.iter().map(|slice| slice.len()).sum();
            self.request.clear();
            let _ = write!(
                self.request,
                "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\n\
                 host: {authority}\r\n\
                 user-agent: fibonacci-generator/0.1.0\r\n\
                 lambda-runtime-invocation-id: {invocation_id}\r\n\
                 content-length: {len}\r\n\r\n"
            );
            let poll = if polls_ahead { POLL } else { "" };
            let [head, prefix, tail] = slices.map(IoSlice::new);
            let request = IoSlice::new(self.request.as_bytes());
            let poll = IoSlice::new(poll.as_bytes());
            send(&self.socket, &mut [request, head, prefix, tail, poll])?;
        } else if !polls_ahead {
            send(&self.socket, &mut [IoSlice::new(POLL.as_bytes())])?;
        }
        Ok(Some(end + 4 + len))
    }
}

fn send(mut socket: &TcpStream, mut slices: &mut [IoSlice]) -> io::Result<()> {
    while !slices.is_empty() {
        match socket.write_vectored(slices) {
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut writable = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                poll(&mut writable, PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
