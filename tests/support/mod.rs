//! The real binary under a Runtime API whose every byte a test decides.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod answer_reading;
pub(crate) mod event_reading;
pub(crate) mod mutation;
pub(crate) mod terms;

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything here takes, so that what hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const SHUTDOWN_LINES: [&str; 3] = [
    "[runtime] SIGTERM received",
    "[runtime] Graceful shutdown in progress ...",
    "[runtime] Graceful shutdown completed",
];

/// A request from the function, and the connection to answer it on.
#[derive(Debug)]
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    /// Lower-case names and values, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) connection: TcpStream,
    peer: SocketAddr,
}

impl Request {
    fn read(connection: &mut BufReader<TcpStream>) -> Option<Self> {
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
        let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
        connection.read_exact(&mut body).ok()?;
        Some(Self {
            line: line.trim_end_matches(" HTTP/1.1").to_owned(),
            headers,
            body,
            connection: connection.get_ref().try_clone().ok()?,
            peer: connection.get_ref().peer_addr().ok()?,
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other == name);
        header.map(|(_, value)| &**value)
    }

    /// The port at the function's end, which tells connections apart.
    pub(crate) fn port(&self) -> u16 {
        self.peer.port()
    }

    /// Answers with these bytes, as they are.
    pub(crate) fn answer(&self, bytes: impl AsRef<[u8]>) {
        // The function may have closed the connection; what follows from that is for the test.
        let _ = (&self.connection).write_all(bytes.as_ref());
    }

    /// Answers a poll with an event.
    pub(crate) fn dispatch(&self, request_id: &str, payload: impl AsRef<[u8]>) {
        self.answer(event(request_id, payload));
    }

    /// Answers a post as the Runtime API does.
    pub(crate) fn accept(&self) {
        self.answer_status(202);
    }

    pub(crate) fn answer_status(&self, status: u16) {
        self.answer(format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: 16\r\n\r\n{{\"status\":\"OK\"}}\n"
        ));
    }

    /// Closes the connection.
    pub(crate) fn close(self) {
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}

/// The answer to a poll.
pub(crate) fn event(request_id: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: {request_id}\r\n\
         Lambda-Runtime-Deadline-Ms: 4102444800000\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:f\r\n\
         Content-Length: {}\r\n\r\n",
        payload.len()
    )
    .into_bytes();
    answer.extend_from_slice(payload);
    answer
}

/// A running process that takes its invocations from this test.
pub(crate) struct Function {
    child: Child,
    polls: Receiver<Request>,
    posts: Receiver<Request>,
    lines: Receiver<String>,
}

impl Function {
    /// Starts the function as it ships.
    pub(crate) fn start(max_concurrency: u16) -> Self {
        Self::start_with(&[("AWS_LAMBDA_MAX_CONCURRENCY", &max_concurrency.to_string())])
    }

    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(emulator::build_function().unwrap());
        command.env_clear();
        Self::start_command(command, environment)
    }

    /// Starts the test of this name, in this executable, as a process that is a function.
    pub(crate) fn start_test(name: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--ignored", "--exact", name, "--nocapture"]);
        command.envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "f"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048"),
        ]);
        Self::start_command(command, environment)
    }

    fn start_command(mut command: Command, environment: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut child = command
            .env(
                "AWS_LAMBDA_RUNTIME_API",
                listener.local_addr().unwrap().to_string(),
            )
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();

        let (line, lines) = channel();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        forward_lines(stdout, line.clone());
        forward_lines(stderr, line);

        let (poll, polls) = channel();
        let (post, posts) = channel();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = BufReader::new(connection.unwrap());
                let (poll, post) = (poll.clone(), post.clone());
                thread::spawn(move || serve(connection, &poll, &post));
            }
        });
        Self {
            child,
            polls,
            posts,
            lines,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next poll for an invocation.
    #[track_caller]
    pub(crate) fn poll(&self) -> Request {
        self.polls.recv_timeout(PATIENCE).expect("a poll")
    }

    /// The next post of a reply or of an error.
    #[track_caller]
    pub(crate) fn post(&self) -> Request {
        self.posts.recv_timeout(PATIENCE).expect("a post")
    }

    /// Asserts that no poll arrives for a while.
    #[track_caller]
    pub(crate) fn assert_no_poll_for(&self, time: Duration) {
        let poll = self.polls.recv_timeout(time);
        assert!(matches!(poll, Err(RecvTimeoutError::Timeout)), "{poll:?}");
    }

    /// The next line that the process prints.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    #[track_caller]
    pub(crate) fn json_line(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).expect(&line)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Answers one invocation; returns the reply.
    #[track_caller]
    pub(crate) fn invoke(&self, payload: impl AsRef<[u8]>) -> Vec<u8> {
        self.poll()
            .dispatch("8476a536-e9f4-11e8-9739-2dfe598c3fcd", payload);
        let post = self.post();
        post.accept();
        post.body
    }

    /// Waits for the end of the process; returns how it ended and the lines that were not taken.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("still running after {lines:?}"),
            }
        }
        (self.child.wait().unwrap(), lines)
    }

    /// Shuts the process down; returns the lines that were not taken, but for the three that
    /// `lambda_runtime` prints at shutdown.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> Vec<Value> {
        self.signal(Signal::SIGTERM);
        let (status, lines) = self.wait();
        assert_eq!(status.code(), Some(0));
        let (shutdown, lines): (Vec<_>, Vec<_>) =
            (lines.into_iter()).partition(|line| line.starts_with("[runtime] "));
        assert_eq!(shutdown, SHUTDOWN_LINES);
        (lines.iter())
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(mut connection: BufReader<TcpStream>, polls: &Sender<Request>, posts: &Sender<Request>) {
    while let Some(request) = Request::read(&mut connection) {
        let queue = match &*request.line {
            "POST /2020-01-01/extension/register" => {
                let body = r#"{"functionName": "f", "functionVersion": "1", "handler": "h"}"#;
                request.answer(format!(
                    "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: e\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
                continue;
            }
            "GET /2020-01-01/extension/event/next" => continue,
            "GET /2018-06-01/runtime/invocation/next" => polls,
            _ => posts,
        };
        if queue.send(request).is_err() {
            return;
        }
    }
}

fn forward_lines(output: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}
