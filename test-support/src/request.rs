use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::PATIENCE;

/// A request of the function, and the connection for the response to it.
#[derive(Debug)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// Lower-case names and values, in order.
    pub headers: Vec<(String, String)>,
    /// Without chunks.
    pub body: Vec<u8>,
    /// Whether the next request had been received when this one had.
    pub is_followed: bool,
    /// The port at the function's end, which tells connections apart.
    pub port: u16,
    connection: TcpStream,
    pub(crate) goes_on: Sender<GoesOn>,
    pub(crate) posts: Weak<Posts>,
}

/// What the reader of a connection does after a response. If nothing is said before the request is
/// dropped, it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum GoesOn {
    Yes,
    /// It forgets what it has received so far.
    WithoutWhatFollows,
    No,
}

impl Request {
    pub(crate) fn read(
        connection: &mut BufReader<TcpStream>,
        goes_on: Sender<GoesOn>,
        posts: Weak<Posts>,
    ) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let line = lines.remove(0);
        let headers: Vec<_> = lines
            .iter()
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
        let mut body = vec![0; length];
        connection.read_exact(&mut body).ok()?;
        Some(Self {
            line: line.trim_end_matches(" HTTP/1.1").to_owned(),
            headers,
            body,
            is_followed: !connection.buffer().is_empty(),
            port: connection.get_ref().peer_addr().ok()?.port(),
            connection: connection.get_ref().try_clone().ok()?,
            goes_on,
            posts,
        })
    }

    /// The value of the header of this lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other == name);
        header.map(|(_, value)| &**value)
    }

    /// The request id and what is posted, `response` or `error`. Empty for other requests.
    #[must_use]
    pub fn posted(&self) -> (&str, &str) {
        self.line
            .strip_prefix("POST /2018-06-01/runtime/invocation/")
            .and_then(|path| path.split_once('/'))
            .unwrap_or_default()
    }

    /// Sends these bytes as the response, or as part of it.
    pub fn respond(&self, bytes: impl AsRef<[u8]>) {
        // The function may have closed the connection. What follows from that is for the test.
        let _ = (&self.connection).write_all(bytes.as_ref());
        let _ = self.goes_on.send(GoesOn::Yes);
    }

    /// Sends this response, and forgets what follows the request in the same write.
    pub fn respond_and_drop_what_follows(&self, response: &str) {
        let _ = self.goes_on.send(GoesOn::WithoutWhatFollows);
        self.respond(response);
    }

    /// Responds to a poll with an event. Each invocation of a process needs a request id of its own.
    pub fn dispatch(&self, request_id: &str, payload: impl AsRef<[u8]>) {
        self.respond(event(request_id, payload));
    }

    /// Responds to a post as the Runtime API does.
    pub fn accept(&self) {
        self.respond_with_status(202);
    }

    /// Responds with a body of 16 bytes. If it is not an error of the server, that settles what is
    /// posted.
    pub fn respond_with_status(&self, status: u16) {
        let response = format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: 16\r\n\r\n{{\"status\":\"OK\"}}\n"
        );
        if status < 500 {
            self.settle(response);
        } else {
            self.respond(response);
        }
    }

    /// Responds with this to a post, and to every other post for its invocation.
    pub fn settle(&self, response: impl AsRef<[u8]>) {
        self.settle_others(response.as_ref());
        self.respond(response);
    }

    fn settle_others(&self, response: &[u8]) {
        let (request_id, _) = self.posted();
        if !request_id.is_empty()
            && let Some(posts) = self.posts.upgrade()
        {
            posts.settle(request_id, response);
        }
    }

    /// Closes the connection. Whatever has been received on it is lost.
    pub fn close(self) {
        let _ = self.connection.shutdown(Shutdown::Both);
        let _ = self.goes_on.send(GoesOn::No);
    }

    /// The same after these bytes, which settle what is posted.
    pub fn respond_and_close(self, bytes: impl AsRef<[u8]>) {
        self.settle_others(bytes.as_ref());
        let _ = (&self.connection).write_all(bytes.as_ref());
        self.close();
    }
}

/// The response to a poll.
#[must_use]
pub fn event(request_id: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let head = format!(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: {request_id}\r\n\
         Lambda-Runtime-Deadline-Ms: 4102444800000\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:f\r\n\
         Content-Length: {}\r\n\r\n",
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// The response to a registration.
pub const REGISTERED: &str = "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: e\r\n\
    Content-Length: 61\r\n\r\n\
    {\"functionName\": \"f\", \"functionVersion\": \"1\", \"handler\": \"h\"}";

/// The posts that no test has taken yet.
///
/// A function posts again what is not accepted within a second. On a slow machine, that may be
/// because the test has not come to it. So what is posted for an invocation that is settled gets the
/// same response as the first post, and no test sees it.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    waiting: Mutex<Waiting>,
    arrives: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    posts: Vec<Request>,
    /// The responses, by request id.
    settled: HashMap<String, Vec<u8>>,
}

impl Posts {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, post: Request) {
        let mut waiting = self.lock();
        if let Some(response) = waiting.settled.get(post.posted().0) {
            post.respond(response);
        } else {
            waiting.posts.push(post);
            self.arrives.notify_one();
        }
    }

    fn settle(&self, request_id: &str, response: &[u8]) {
        let mut waiting = self.lock();
        let settled = &mut waiting.settled;
        settled.insert(request_id.to_owned(), response.to_owned());
        let is_late = |post: &mut Request| post.posted().0 == request_id;
        for late in waiting.posts.extract_if(.., is_late) {
            late.respond(response);
        }
    }

    pub(crate) fn pop(&self) -> Option<Request> {
        let is_empty = |waiting: &mut Waiting| waiting.posts.is_empty();
        let waiting = self
            .arrives
            .wait_timeout_while(self.lock(), PATIENCE, is_empty);
        let (mut waiting, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        (!waiting.posts.is_empty()).then(|| waiting.posts.remove(0))
    }
}
