use std::cell::Cell;
use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::request::{GoesOn, Posts};
use crate::{PATIENCE, REGISTERED, Request, wait_for};

/// What the test runner prints before a test.
const BEFORE_A_TEST: &str = "running 1 test";

/// This executable, with an environment of what Lambda always sets.
#[must_use]
pub fn command(executable: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(executable);
    command
        .env_clear()
        .env("AWS_LAMBDA_FUNCTION_NAME", "f")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "2048")
        .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The test of this name in this executable, to be a process of its own.
#[must_use]
pub fn own_test(name: &str) -> Command {
    let mut command = command(env::current_exe().expect("a path"));
    command.arg(name);
    command.args("--exact --nocapture --quiet --test-threads=1".split(' '));
    command
}

/// A running function whose Runtime API is this test.
pub struct Function {
    child: Child,
    address: SocketAddr,
    /// The peer of every connection.
    connections: Receiver<SocketAddr>,
    extension: Receiver<Request>,
    polls: Receiver<Request>,
    posts: Arc<Posts>,
    lines: Receiver<String>,
    invocations: Cell<u32>,
}

impl Function {
    /// Starts a function, and registers its extension.
    #[must_use]
    pub fn start(command: Command) -> Self {
        Self::spawn(command, true)
    }

    /// Starts a function whose extension the test registers, or not.
    #[must_use]
    pub fn start_unregistered(command: Command) -> Self {
        Self::spawn(command, false)
    }

    fn spawn(mut command: Command, registers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let has_runtime_api = |(name, _): (&OsStr, _)| name == "AWS_LAMBDA_RUNTIME_API";
        if !command.get_envs().any(has_runtime_api) {
            command.env("AWS_LAMBDA_RUNTIME_API", address.to_string());
        }
        let is_test = command.get_args().any(|argument| argument == "--exact");
        let mut child = command.spawn().expect("a process");

        let (line, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            forward_lines(stdout, "", is_test, line.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            forward_lines(stderr, "standard error: ", false, line);
        }

        let (connected, connections) = channel();
        let (extension_request, extension) = channel();
        let (poll, polls) = channel();
        let posts = Arc::new(Posts::default());
        let reader = Reader {
            extension: (!registers).then_some(extension_request),
            polls: poll,
            posts: Arc::downgrade(&posts),
        };
        thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = BufReader::new(connection.expect("a connection"));
                // Otherwise an event can wait 40 ms for an acknowledgement.
                connection.get_ref().set_nodelay(true).expect("a socket");
                let peer = connection.get_ref().peer_addr().expect("a peer");
                if connected.send(peer).is_err() {
                    return;
                }
                let reader = reader.clone();
                thread::spawn(move || reader.read(connection));
            }
        });
        Self {
            child,
            address,
            connections,
            extension,
            polls,
            posts,
            lines,
            invocations: Cell::new(0),
        }
    }

    /// How many connections there have been since the last time.
    #[must_use]
    pub fn connections(&self) -> usize {
        // All that were made before this one are accepted before it.
        let own = TcpStream::connect(self.address).expect("a connection");
        let own = own.local_addr().expect("an address");
        let next = || self.connections.recv_timeout(PATIENCE);
        iter::from_fn(|| Some(next().expect("its own connection")))
            .take_while(|peer| *peer != own)
            .count()
    }

    /// Stops the process during this. It then sees at once what has happened.
    #[track_caller]
    pub fn while_stopped(&self, happens: impl FnOnce()) {
        self.signal(Signal::SIGSTOP);
        let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
        wait_for("the process to stop", || {
            let status = waitpid(self.pid(), Some(flags)).expect("a process");
            (status == WaitStatus::Stopped(self.pid(), Signal::SIGSTOP)).then_some(())
        });
        happens();
        self.signal(Signal::SIGCONT);
    }

    /// Of the process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The next request of the extension, a registration or a request for an event, if the function
    /// has been started unregistered.
    #[track_caller]
    #[must_use]
    pub fn extension_request(&self) -> Request {
        let request = self.extension.recv_timeout(PATIENCE);
        request.expect("the extension requested nothing")
    }

    /// The next poll for an invocation.
    #[track_caller]
    pub fn poll(&self) -> Request {
        self.polls.recv_timeout(PATIENCE).expect("no poll came")
    }

    /// The next post of a reply or of an error.
    #[track_caller]
    #[must_use]
    pub fn post(&self) -> Request {
        self.posts.pop().expect("no post came")
    }

    /// Asserts that no poll arrives for a while.
    #[track_caller]
    pub fn assert_no_poll_for(&self, time: Duration) {
        if let Ok(poll) = self.polls.recv_timeout(time) {
            panic!("{poll:?}");
        }
    }

    /// The next line that the process prints.
    #[track_caller]
    #[must_use]
    pub fn line(&self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.expect("no line was printed")
    }

    /// The next line of the log.
    #[track_caller]
    #[must_use]
    pub fn json_line(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).expect(&line)
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a process");
    }

    /// Sends an event to the next poll; returns what is posted.
    #[track_caller]
    pub fn invoke(&self, payload: impl AsRef<[u8]>) -> Vec<u8> {
        self.invocations.set(self.invocations.get() + 1);
        let request_id = format!("8476a536-e9f4-11e8-9739-{:012x}", self.invocations.get());
        self.poll().dispatch(&request_id, payload);
        let post = self.post();
        assert_eq!(post.posted().0, request_id);
        post.accept();
        post.body
    }

    /// Waits for the end of the process; returns how it ended and the lines that were not taken.
    #[track_caller]
    pub fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("still running after {lines:?}"),
            }
        }
        let status = wait_for("the end of the process", || {
            self.child.try_wait().expect("a process")
        });
        (status, lines)
    }

    /// Shuts the process down; returns the lines that were not taken.
    #[track_caller]
    #[must_use]
    pub fn terminate(mut self) -> Vec<Value> {
        self.signal(Signal::SIGTERM);
        let (status, lines) = self.wait();
        assert_eq!(status.code(), Some(0), "{status}: {lines:?}");
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

/// Reads the requests of a connection.
#[derive(Clone)]
struct Reader {
    /// Takes the extension's requests, which get a response at once otherwise.
    extension: Option<Sender<Request>>,
    polls: Sender<Request>,
    posts: Weak<Posts>,
}

impl Reader {
    fn read(&self, mut connection: BufReader<TcpStream>) {
        loop {
            let (goes_on, response) = channel();
            let Some(request) = Request::read(&mut connection, goes_on, self.posts.clone()) else {
                return;
            };
            match (&*request.line, &self.extension) {
                ("GET /2018-06-01/ping", _) => {
                    request.respond("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong");
                }
                ("GET /2018-06-01/runtime/invocation/next", _) => {
                    let _ = self.polls.send(request);
                }
                ("POST /2020-01-01/extension/register", None) => request.respond(REGISTERED),
                ("GET /2020-01-01/extension/event/next", None) => drop(request),
                (line, Some(extension)) if line.contains("/extension/") => {
                    let _ = extension.send(request);
                }
                _ => {
                    if let Some(posts) = self.posts.upgrade() {
                        posts.push(request);
                    }
                }
            }
            // A server turns to the next request when it has responded to this one.
            match response.recv() {
                Ok(GoesOn::No) => return,
                Ok(GoesOn::WithoutWhatFollows) => connection.consume(connection.buffer().len()),
                Ok(GoesOn::Yes) | Err(_) => {}
            }
        }
    }
}

fn forward_lines(
    output: impl Read + Send + 'static,
    mark: &'static str,
    is_test: bool,
    lines: Sender<String>,
) {
    thread::spawn(move || {
        let mut output = BufReader::new(output).lines().map_while(Result::ok);
        if is_test {
            output.find(|line| line == BEFORE_A_TEST);
        }
        for line in output {
            if lines.send(format!("{mark}{line}")).is_err() {
                return;
            }
        }
    });
}
