//! The real binary under a Runtime API whose every byte a test decides.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod event_reading;
pub(crate) mod mutation;
pub(crate) mod response_reading;
pub(crate) mod terms;

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

/// How long a test waits for something that must happen, on however slow a machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The values of `RUNTIME_API_PIPELINING`.
pub(crate) const PIPELINING: [&str; 2] = ["on", "off"];

/// A request of the function, and the connection for the response to it.
#[derive(Debug)]
pub(crate) struct Request {
    /// Method and path.
    pub(crate) line: String,
    /// Lower-case names and values, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the next request had been received when this one had.
    pub(crate) is_followed: bool,
    pub(crate) connection: TcpStream,
    peer: SocketAddr,
    /// Tells the reader of the connection to go on, or not. It also goes on when this is dropped.
    goes_on: Sender<bool>,
}

impl Request {
    fn read(connection: &mut BufReader<TcpStream>, goes_on: Sender<bool>) -> Option<Self> {
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
            is_followed: !connection.buffer().is_empty(),
            connection: connection.get_ref().try_clone().ok()?,
            peer: connection.get_ref().peer_addr().ok()?,
            goes_on,
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

    /// Sends these bytes as the response, or as part of it.
    pub(crate) fn respond(&self, bytes: impl AsRef<[u8]>) {
        // The function may have closed the connection. What follows from that is for the test.
        let _ = (&self.connection).write_all(bytes.as_ref());
        let _ = self.goes_on.send(true);
    }

    /// Responds to a poll with an event.
    pub(crate) fn dispatch(&self, request_id: &str, payload: impl AsRef<[u8]>) {
        self.respond(event(request_id, payload));
    }

    /// Responds to a post as the Runtime API does.
    pub(crate) fn accept(&self) {
        self.respond_with_status(202);
    }

    pub(crate) fn respond_with_status(&self, status: u16) {
        self.respond(format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: 16\r\n\r\n{{\"status\":\"OK\"}}\n"
        ));
    }

    /// Closes the connection. Whatever has been received on it is lost.
    pub(crate) fn close(self) {
        self.respond_and_close("");
    }

    /// Sends these bytes and closes the connection. Whatever has been received on it is lost.
    pub(crate) fn respond_and_close(self, bytes: impl AsRef<[u8]>) {
        let _ = (&self.connection).write_all(bytes.as_ref());
        let _ = self.connection.shutdown(Shutdown::Both);
        let _ = self.goes_on.send(false);
    }
}

/// The response to a poll.
pub(crate) fn event(request_id: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut response = format!(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: {request_id}\r\n\
         Lambda-Runtime-Deadline-Ms: 4102444800000\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:f\r\n\
         Content-Length: {}\r\n\r\n",
        payload.len()
    )
    .into_bytes();
    response.extend_from_slice(payload);
    response
}

/// What a Runtime API makes of the requests that the function sends at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It responds to all of them.
    Responds,
    /// It forgets what follows a request in the same write.
    DropsWhatFollows,
    /// It closes the connection after a response.
    ClosesAfterOne,
    /// It refuses to register an extension.
    RefusesRegistration,
    /// It closes the connection instead of registering an extension.
    ClosesAtRegistration,
    /// It takes the registration for a post.
    HoldsRegistration,
}

/// A running function whose Runtime API is this test.
pub(crate) struct Function {
    child: Child,
    address: SocketAddr,
    /// The peer of every connection.
    connections: Receiver<SocketAddr>,
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
        Self::start_command(shipped(), environment)
    }

    /// Starts the function as it ships, with standard output and standard error that this test does
    /// not read.
    pub(crate) fn start_unread(environment: &[(&str, &str)], output: [Stdio; 2]) -> Self {
        let [stdout, stderr] = output;
        let mut command = shipped();
        command.stdout(stdout).stderr(stderr);
        Self::spawn(command, environment, Peer::Responds)
    }

    /// Starts the function as it ships.
    pub(crate) fn start_under(peer: Peer, environment: &[(&str, &str)]) -> Self {
        let mut command = shipped();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(command, environment, peer)
    }

    /// Starts the function as it ships from a shell that has run this.
    pub(crate) fn start_from_shell(script: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap())
            .args(["-c", &format!("{script}\nexec \"$0\"")])
            .arg(emulator::build_function().unwrap());
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
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(command, environment, Peer::Responds)
    }

    fn spawn(mut command: Command, environment: &[(&str, &str)], peer: Peer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut child = command
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();

        let (line, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            forward_lines(stdout, line.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            forward_lines(stderr, line);
        }

        let (connected, connections) = channel();
        let (poll, polls) = channel();
        let (post, posts) = channel();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = BufReader::new(connection.unwrap());
                // Otherwise an event can wait 40 ms for an acknowledgement.
                connection.get_ref().set_nodelay(true).unwrap();
                if connected
                    .send(connection.get_ref().peer_addr().unwrap())
                    .is_err()
                {
                    return;
                }
                let (poll, post) = (poll.clone(), post.clone());
                thread::spawn(move || serve(connection, peer, &poll, &post));
            }
        });
        Self {
            child,
            address,
            connections,
            polls,
            posts,
            lines,
        }
    }

    /// How many connections there have been since the last time.
    pub(crate) fn connections(&self) -> usize {
        // All that were made before this one are accepted before it.
        let own = TcpStream::connect(self.address).unwrap();
        let own = own.local_addr().unwrap();
        let others = (self.connections.iter()).take_while(|peer| *peer != own);
        others.count()
    }

    /// Stops the process during this. It then sees at once what has happened.
    pub(crate) fn while_stopped(&self, happens: impl FnOnce()) {
        self.signal(Signal::SIGSTOP);
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
        happens();
        self.signal(Signal::SIGCONT);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next poll for an invocation.
    #[track_caller]
    pub(crate) fn poll(&self) -> Request {
        self.polls.recv_timeout(PATIENCE).expect("no poll came")
    }

    /// The next post of a reply or of an error.
    #[track_caller]
    pub(crate) fn post(&self) -> Request {
        self.posts.recv_timeout(PATIENCE).expect("no post came")
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
        self.lines
            .recv_timeout(PATIENCE)
            .expect("no line was printed")
    }

    #[track_caller]
    pub(crate) fn json_line(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).expect(&line)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Sends an event to the next poll; returns the reply.
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
        (self.exit_status(), lines)
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let (sender, ended) = channel();
        thread::spawn(move || {
            let ended = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let _ = sender.send(ended);
        });
        let ended = ended.recv_timeout(PATIENCE);
        ended.expect("the process did not exit").unwrap();
        self.child.wait().unwrap()
    }

    /// Shuts the process down; returns the lines that were not taken.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> Vec<Value> {
        self.signal(Signal::SIGTERM);
        let (status, lines) = self.wait();
        assert_eq!(status.code(), Some(0), "{status}: {lines:?}");
        (lines.iter())
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }
}

fn shipped() -> Command {
    let mut command = Command::new(emulator::build_function().unwrap());
    command.env_clear();
    command
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(
    mut connection: BufReader<TcpStream>,
    peer: Peer,
    polls: &Sender<Request>,
    posts: &Sender<Request>,
) {
    loop {
        let (goes_on, response) = channel();
        let Some(request) = Request::read(&mut connection, goes_on) else {
            return;
        };
        if peer == Peer::DropsWhatFollows {
            connection.consume(connection.buffer().len());
        }
        let queue = match &*request.line {
            "POST /2020-01-01/extension/register" if peer != Peer::HoldsRegistration => {
                match peer {
                    Peer::RefusesRegistration => request.respond_with_status(403),
                    Peer::ClosesAtRegistration => request.close(),
                    Peer::ClosesAfterOne => request.respond_and_close(REGISTERED),
                    _ => request.respond(REGISTERED),
                }
                if matches!(peer, Peer::ClosesAtRegistration | Peer::ClosesAfterOne) {
                    return;
                }
                continue;
            }
            "GET /2018-06-01/ping" => {
                request.respond("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong");
                continue;
            }
            "GET /2020-01-01/extension/event/next" => continue,
            "GET /2018-06-01/runtime/invocation/next" => polls,
            _ => posts,
        };
        if queue.send(request).is_err() {
            return;
        }
        // A server turns to the next request when it has responded to this one.
        if response.recv() == Ok(false) {
            return;
        }
    }
}

/// The response to a registration.
const REGISTERED: &str = "HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: e\r\n\
    Content-Length: 61\r\n\r\n\
    {\"functionName\": \"f\", \"functionVersion\": \"1\", \"handler\": \"h\"}";

fn forward_lines(output: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}
