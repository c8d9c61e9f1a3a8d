//! The test function, raw HTTP, and waits with a bound.

pub(crate) mod browser;
pub(crate) mod worker;

use std::fs;
use std::future::ready;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use emulator::{Emulator, InvokeError, Reply, Settings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::ChildStderr;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// More than anything takes on a busy machine, and little enough to wait for once.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Waits for something that will happen, unless something is wrong.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited {} seconds for {what}", PATIENCE.as_secs()))
}

/// Settings for `examples/function.rs`.
pub(crate) fn function() -> Settings {
    static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
        // `cargo test` builds it. A build inside a test would take the CPU from the others.
        let executable = Path::new(env!("CARGO_BIN_EXE_cargo-local"));
        let path = executable.with_file_name("examples/function");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/function.rs");
        let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        assert!(
            modified(&path) > modified(&source),
            "build the test function first: cargo build -p emulator --example function"
        );
        path
    });
    patient(&EXAMPLE)
}

/// Settings for an executable. No test but those of time-outs depends on how fast it is.
pub(crate) fn patient(bootstrap: &Path) -> Settings {
    Settings {
        timeout: PATIENCE,
        return_limit: PATIENCE,
        termination_grace: PATIENCE,
        ..Settings::new(bootstrap)
    }
}

pub(crate) fn workers(count: u16) -> Settings {
    Settings {
        max_concurrency: count,
        ..function()
    }
}

/// A function with one worker, and what its `BEHAVIOUR` is in place of that of a function.
pub(crate) fn behaving(behaviour: impl std::fmt::Display) -> Settings {
    Settings {
        environment: vec![("BEHAVIOUR".into(), behaviour.to_string().into())],
        ..workers(1)
    }
}

/// A directory of this run: two runs in one target directory do not meet. Those of ended runs go.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
        // Other packages have the same one.
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator");
        for other in fs::read_dir(&all).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(other.file_name()).exists() {
                let _ = fs::remove_dir_all(other.path());
            }
        }
        let own = all.join(process::id().to_string());
        // An ended run may have had the same number.
        let _ = fs::remove_dir_all(&own);
        fs::create_dir_all(&own).expect("a directory");
        own
    });
    DIRECTORY.join(name)
}

/// An empty folder in the tests' scratch directory.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    fs::create_dir(&folder).expect("a folder");
    folder
}

/// Writes an executable file into the tests' scratch directory. Another process writes it: if this
/// one did, a process that another test starts at this moment could still hold it open for writing,
/// and it could not be run.
pub(crate) fn executable(name: &str, text: &str) -> PathBuf {
    let path = scratch(name);
    let script = r#"printf '%s' "$1" > "$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(&path).arg(text);
    assert!(shell.status().expect("a shell").success());
    path
}

/// An executable that runs this shell script before it becomes the test function.
pub(crate) fn function_after(name: &str, script: &str) -> PathBuf {
    let function = function().bootstrap;
    let function = function.display();
    executable(name, &format!("#!/bin/sh\n{script}\nexec {function}\n"))
}

pub(crate) async fn start(settings: Settings) -> Arc<Emulator> {
    let started = within("the function to start", Emulator::start(settings)).await;
    Arc::new(started.expect("the function starts"))
}

/// Starts the function with this many workers and some other settings.
pub(crate) async fn start_with(count: u16, change: impl FnOnce(&mut Settings)) -> Arc<Emulator> {
    let mut settings = workers(count);
    change(&mut settings);
    start(settings).await
}

/// Starts the function and waits until all its workers poll.
pub(crate) async fn start_workers(count: u16) -> Arc<Emulator> {
    let emulator = start(workers(count)).await;
    all_poll(&emulator, count).await;
    emulator
}

/// Ends a function that no task uses any more.
pub(crate) async fn terminate(emulator: Arc<Emulator>) -> ExitStatus {
    let emulator = Arc::into_inner(emulator).expect("nobody else has it");
    let ended = within("the function to end", emulator.terminate()).await;
    ended.expect("it has been started")
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("a process");
}

pub(crate) async fn all_poll(emulator: &Emulator, count: u16) {
    let what = format!("{count} open polls");
    let all = emulator.wait_for_polls(|polls| polls == usize::from(count));
    within(&what, all).await;
}

pub(crate) async fn line(emulator: &Emulator, part: &str) -> Arc<str> {
    let what = format!("a line with {part:?}");
    within(&what, emulator.wait_for_line(|line| line.contains(part))).await
}

/// Invokes the function, which must not be refused.
pub(crate) async fn call(emulator: &Emulator, event: impl Into<String>) -> Reply {
    let event = event.into();
    let what = format!("the reply to {event:.200}");
    within(&what, emulator.invoke(event))
        .await
        .unwrap_or_else(|error| panic!("{error} instead of {what}"))
}

/// Whether a caller is throttled without waiting.
pub(crate) async fn is_full(emulator: &Emulator) -> bool {
    tokio::select! {
        biased;
        refused = emulator.invoke("{}") => matches!(refused, Err(InvokeError::TooManyRequests)),
        () = ready(()) => false,
    }
}

/// Invokes the function while the test goes on.
pub(crate) fn spawn_call(emulator: &Arc<Emulator>, event: impl Into<String>) -> JoinHandle<Reply> {
    let (emulator, event) = (Arc::clone(emulator), event.into());
    tokio::spawn(async move { call(&emulator, event).await })
}

/// Callers that each send their next event as soon as they have the reply to the last one.
pub(crate) fn call_from_each(emulator: &Arc<Emulator>, callers: u16, calls: u32) -> JoinSet<()> {
    let caller = |emulator: Arc<Emulator>| async move {
        for number in 0..calls {
            let reply = call(&emulator, json!({ "echo": number }).to_string()).await;
            assert_eq!(payload(&reply), number);
        }
    };
    (0..callers).map(|_| caller(Arc::clone(emulator))).collect()
}

pub(crate) fn payload(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.payload).expect("a reply is JSON")
}

/// Holds invocations until they are let go.
pub(crate) struct Gate(TcpListener);

impl Gate {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        Self(listener.expect("a port is free"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }

    /// The event that makes the function wait here.
    pub(crate) fn event(&self) -> String {
        json!({ "gate": self.address() }).to_string()
    }

    /// Waits for an invocation to come. It goes on when the connection is dropped.
    pub(crate) async fn entered(&self) -> Connection {
        let entered = within("an invocation at the gate", self.0.accept()).await;
        BufReader::new(entered.expect("the function connects").0)
    }
}

/// An invocation that keeps a worker busy.
pub(crate) struct Held {
    pub(crate) inside: Connection,
    pub(crate) reply: JoinHandle<Reply>,
}

/// Keeps a worker busy, once it has an event.
pub(crate) async fn hold(emulator: &Arc<Emulator>) -> Held {
    let gate = Gate::new().await;
    let reply = spawn_call(emulator, gate.event());
    let inside = gate.entered().await;
    Held { inside, reply }
}

impl Held {
    /// Lets it go, and returns its reply.
    pub(crate) async fn release(self) -> Reply {
        drop(self.inside);
        self.reply.await.expect("a reply")
    }
}

/// The next line that contains this.
pub(crate) async fn told(lines: &mut Lines<BufReader<ChildStderr>>, what: &str) -> String {
    told_all(lines, &[what]).await
}

/// Reads until there has been a line with each of these, in whatever order. Returns the last.
pub(crate) async fn told_all(lines: &mut Lines<BufReader<ChildStderr>>, wanted: &[&str]) -> String {
    let mut missing = wanted.to_vec();
    within(&wanted.join(" and "), async {
        loop {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended before {missing:?}"));
            missing.retain(|what| !line.contains(what));
            if missing.is_empty() {
                return line;
            }
        }
    })
    .await
}

/// A connection of the test to the emulator, or of the function to a gate.
pub(crate) type Connection = BufReader<TcpStream>;

/// Opens a connection and sends these bytes on it.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> Connection {
    let connect = within("a connection", TcpStream::connect(address));
    let mut connection = BufReader::new(connect.await.expect("it listens"));
    // It may respond before it has read everything.
    let _ = within("a request to be read", connection.write_all(bytes)).await;
    connection
}

/// Waits until the other end of a connection is closed: until its process is gone.
pub(crate) async fn closed(mut connection: Connection) {
    let mut rest = Vec::new();
    let end = connection.read_to_end(&mut rest);
    // A process that is killed may reset it.
    let _ = within("the end of a connection", end).await;
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.0 == name);
        header.map(|header| &*header.1)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn request_id(&self) -> &str {
        self.header("x-amzn-requestid").expect("a request id")
    }

    /// An error of the Lambda API: its status, type and message.
    pub(crate) fn refusal(&self) -> String {
        let error_type = self.header("x-amzn-errortype").unwrap_or("no error");
        let body = self.json();
        let message = body.get("message").or(body.get("Message"));
        let message = message.and_then(Value::as_str).unwrap_or_default();
        format!("{} {error_type} {message}", self.status)
    }
}

/// Reads the next response, or `None` if the connection ends before it is whole.
pub(crate) async fn receive(connection: &mut Connection) -> Option<Response> {
    within("a response", async {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let status = head.split(' ').nth(1).expect("a status");
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let mut response = Response {
            status: status.parse().expect("a status"),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: Vec::new(),
        };
        let length = response.header("content-length").unwrap_or("0");
        response.body = vec![0; length.parse().expect("a length")];
        connection.read_exact(&mut response.body).await.ok()?;
        Some(response)
    })
    .await
}

pub(crate) async fn response(connection: &mut Connection) -> Response {
    receive(connection).await.expect("a whole response")
}

/// The bytes of a request. `head` is the request line and, each on a line of its own, headers.
pub(crate) fn request_bytes(address: SocketAddr, head: &str, body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<_> = head.trim().lines().map(str::trim).collect();
    let host = format!("host: {address}");
    if !lines.iter().any(|line| line.starts_with("host:")) {
        lines.push(&host);
    }
    let (head, length) = (lines.join("\r\n"), body.len());
    let head = format!("{head}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends a request on a connection of its own, without reading the response.
pub(crate) async fn request(address: SocketAddr, head: &str, body: &[u8]) -> Connection {
    send(address, &request_bytes(address, head, body)).await
}

/// Sends a request on a connection of its own and reads the response.
pub(crate) async fn http(address: SocketAddr, head: &str, body: &[u8]) -> Response {
    response(&mut request(address, head, body).await).await
}

/// Gets something from the Invoke API's address.
pub(crate) async fn get(emulator: &Emulator, path: &str) -> Response {
    let head = format!("GET {path} HTTP/1.1");
    http(emulator.invoke_address(), &head, b"").await
}

/// The cases of a table: a line each, what is sent before an arrow and what comes of it behind.
pub(crate) fn cases(table: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = table.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(" => ").expect("an arrow"))
}

/// Posts an event to the Invoke API.
pub(crate) async fn invoke(emulator: &Emulator, headers: &str, payload: &[u8]) -> Response {
    let head = format!("POST /2015-03-31/functions/function/invocations HTTP/1.1\n{headers}");
    http(emulator.invoke_address(), &head, payload).await
}
