//! `cargo local`, as the executable that it runs.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Stdio;

use crate::support::{
    Gate, Response, cases, closed, executable, folder, function, function_after, http, request,
    response, scratch, signal, told, told_all, within,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};

const POST: &str = "POST /2015-03-31/functions/function/invocations HTTP/1.1";
const ENVIRONMENT: &str = r#"{"environment": {}}"#;

/// `cargo local` with these arguments.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-local"));
    command.args(arguments).stdin(Stdio::null());
    if !arguments.contains(&"--timeout") && !arguments.contains(&"--") {
        command.args(["--timeout", "120"]);
    }
    command.kill_on_drop(true);
    command
}

/// `cargo local` with the test function.
fn cargo_local(arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.args(["--bootstrap".as_ref(), function().bootstrap.as_os_str()]);
    command
}

/// The environment variables of the function that a command invokes.
async fn environment(command: &mut Command) -> Value {
    let (_, reply, _) = output(command).await;
    serde_json::from_str(&reply).unwrap()
}

/// The exit status of a command, its standard output and standard error.
pub(crate) async fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let output = within("cargo local to end", command.output())
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    (output.status.code(), stdout, stderr)
}

#[tokio::test]
async fn invoke_prints_the_reply_or_the_error_and_only_the_invocations_log() {
    let plain = function().bootstrap;
    let unfinished = function_after("unfinished", "printf loading");
    for (bootstrap, event, reply, log) in [
        (&plain, r#"{"echo": 1}"#, "1\n", ""),
        (&plain, "-5", "-5\n", ""),
        (&plain, r#"{"lines": 1}"#, "null\n", "line 0 of 1\n"),
        (&unfinished, r#"{"echo": 1}"#, "1\n", "loading\n"),
    ] {
        let mut command = bare(&["invoke", event]);
        let printed = output(command.arg("--bootstrap").arg(bootstrap)).await;
        let expected = (Some(0), reply.to_owned(), log.to_owned());
        assert_eq!(printed, expected, "{event}");
    }
    let mut command = cargo_local(&["invoke", r#"{"fail": "no such luck"}"#]);
    let (status, reply, _) = output(&mut command).await;
    assert_eq!(status, Some(1));
    assert!(reply.contains("no such luck"), "{reply}");
}

#[tokio::test]
async fn invoke_reads_the_event_from_a_file_or_standard_input() {
    let event = scratch("event.json");
    fs::write(&event, r#"{"echo": "from a file"}"#).unwrap();
    let file = format!("@{}", event.display());
    let stdin = File::open(event).unwrap();
    for (argument, stdin) in [(&*file, Stdio::null()), ("-", stdin.into())] {
        let (_, reply, _) = output(cargo_local(&["invoke", argument]).stdin(stdin)).await;
        assert_eq!(reply, "\"from a file\"\n", "{argument}");
    }
}

#[tokio::test]
async fn says_in_one_line_what_is_wrong() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let table = "
invoke { => Could not parse request body into json: Could not parse payload into json: EOF
invoke @/no/such => cannot read /no/such: No such file or directory (os error 2)
invoke {} --env BEHAVIOUR=exit => the function ended before its first poll (exit status: 7); it last printed: cannot find my table
--listen TAKEN => cannot listen on TAKEN for the Invoke API: Address already in use
--watch /no/such => cannot watch /no/such: No such file or directory (os error 2)
--env-file /no/such => cannot read /no/such: No such file
";
    let table = table.replace("TAKEN", &taken.local_addr().unwrap().to_string());
    for (arguments, expected) in cases(&table) {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let (status, printed, said) = output(&mut cargo_local(&arguments)).await;
        assert_eq!((status, &*printed), (Some(1), ""));
        let error = said.split_once("error: ").expect(&said).1;
        assert!(error.starts_with(expected), "{arguments:?}: {said}");
        assert_eq!(error.lines().count(), 1, "{said}");
    }
}

#[tokio::test]
async fn refuses_settings_that_aws_refuses() {
    let table = "
--concurrency=0 => 0 is not in 1..=1600
--concurrency=1601 => 1601 is not in 1..=1600
--timeout=5401 => 5401 is not in 0..=5400
--function-name=a b => 1 to 64 letters, digits
--function-name= => 1 to 64 letters, digits
--env==x => it must be NAME=VALUE or NAME
--env=NOT_SET => give it a value: NOT_SET=VALUE
";
    for (argument, reason) in cases(table) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-local"));
        let (status, _, error) = output(command.arg(argument)).await;
        assert_eq!(status, Some(2), "{argument}");
        assert!(error.contains(reason), "{error}");
    }
}

/// A running `cargo local`.
pub(crate) struct Served {
    process: Child,
    invoke: SocketAddr,
    function_url: SocketAddr,
    said: String,
    // Kept open, or the process could not write to it.
    _stdout: BufReader<tokio::process::ChildStdout>,
}

async fn serve(arguments: &[&str], stderr: Stdio) -> Served {
    serve_command(&mut cargo_local(arguments), stderr).await
}

pub(crate) async fn serve_command(command: &mut Command, stderr: Stdio) -> Served {
    let mut process = command
        .args(["--listen", "127.0.0.1:0", "--function-url", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    let mut said = String::new();
    within("cargo local to be ready", async {
        while !said.contains("in a browser") {
            assert_ne!(stdout.read_line(&mut said).await.unwrap(), 0, "{said}");
        }
    })
    .await;
    let address = |number: usize| {
        let after = said.split("curl http://").nth(number).unwrap();
        after[..after.find('/').unwrap()].parse().unwrap()
    };
    Served {
        invoke: address(1),
        function_url: address(2),
        process,
        said,
        _stdout: stdout,
    }
}

impl Served {
    /// What it says on standard error, if that is a pipe.
    pub(crate) fn stderr(&mut self) -> Lines<BufReader<ChildStderr>> {
        BufReader::new(self.process.stderr.take().unwrap()).lines()
    }

    async fn post(&self, event: &str) -> Response {
        http(self.invoke, POST, event.as_bytes()).await
    }

    /// Asserts that an invocation gets its reply.
    async fn serves(&self) {
        let response = self.post(r#"{"n": 10}"#).await;
        assert_eq!((response.status, &*response.text()), (200, r#"{"n":10}"#));
    }

    /// Sends a signal and waits for the end.
    async fn end(self, end: Signal) -> Option<i32> {
        send(&self.process, end);
        status(self.process).await
    }
}

fn send(process: &Child, end: Signal) {
    signal(process.id().unwrap(), end);
}

async fn status(mut process: Child) -> Option<i32> {
    let status = within("cargo local to end", process.wait()).await;
    status.unwrap().code()
}

#[tokio::test]
async fn serves_the_function_under_its_name_where_it_says_without_a_deadline() {
    let arguments = ["--function-name", "Other_name-2", "--timeout", "0"];
    let served = serve(&arguments, Stdio::inherit()).await;
    assert!(served.said.contains("--function-name Other_name-2"));
    assert_eq!(served.post("{}").await.status, 404);
    let head = "POST /2015-03-31/functions/Other_name-2/invocations HTTP/1.1";
    let response = http(served.invoke, head, ENVIRONMENT.as_bytes()).await;
    assert_eq!(response.json()["AWS_LAMBDA_FUNCTION_NAME"], "Other_name-2");
    let head = "POST / HTTP/1.1\ncontent-type: application/json";
    let response = http(served.function_url, head, br#"{"context": {}}"#).await;
    // It is told one in a year.
    let deadline = response.json()["deadline"].as_u64().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let days = (u128::from(deadline) - now) / (24 * 3_600_000);
    assert!((364..=365).contains(&days), "{days} days");
}

/// Invokes the function often enough to fill any pipe with its log.
async fn fill(served: &Served) {
    for _ in 0..40 {
        let response = served.post(r#"{"lines": 4000}"#).await;
        assert_eq!((response.status, &*response.text()), (200, "null"));
        // Its own warnings go the same way.
        assert_eq!(served.post("{").await.status, 400);
    }
}

#[tokio::test]
async fn goes_on_and_ends_if_standard_error_is_not_read_or_cannot_be_written() {
    let mut served = serve(&[], Stdio::piped()).await;
    let mut stderr = served.process.stderr.take().unwrap();
    fill(&served).await;
    // Something is missing, and it is said how much.
    let mut log = String::new();
    within("the missing lines to be counted", async {
        let mut buffer = [0; 4096];
        while !log.contains("lines are missing here: standard error was not read") {
            let length = stderr.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0);
            log.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    })
    .await;
    fill(&served).await;
    assert_eq!(served.end(Signal::SIGTERM).await, Some(0));
    drop(stderr);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for stderr in [Stdio::from(full), Stdio::from(closed)] {
        let served = serve(&[], stderr).await;
        fill(&served).await;
        let ended = served.post(r#"{"exit": 1}"#).await;
        assert_eq!(ended.json()["errorType"], "Runtime.ExitError");
        served.serves().await;
        assert_eq!(served.end(Signal::SIGINT).await, Some(0));
    }
}

/// One line for each, with the request id that the caller sees.
#[tokio::test]
async fn says_what_became_of_an_invocation() {
    let mut served = serve(&["--queue", "9", "--verbose"], Stdio::piped()).await;
    let mut stderr = served.stderr();
    for (event, what) in [
        ("{}", "took "),
        (r#"{"fail": "no\nluck"}"#, ": no luck"),
        (r#"{"exit": 3}"#, "Runtime.ExitError: "),
    ] {
        let response = served.post(event).await;
        let line = format!("invocation {} ", response.request_id());
        let line = told(&mut stderr, &line).await;
        assert!(line.contains(what), "{line}");
    }
    // And where AWS would do more.
    let preflight = "OPTIONS / HTTP/1.1\norigin: http://example.com\n\
                     access-control-request-method: POST";
    http(served.function_url, preflight, b"").await;
    let event = format!("{POST}\nx-amz-invocation-type: Event");
    http(served.invoke, &event, br#"{"fail": "no luck"}"#).await;
    for warning in [
        "cargo local does not have CORS settings",
        "Lambda would retry it twice and then send it to its destination, cargo local does not",
    ] {
        told(&mut stderr, warning).await;
    }
    let arguments = ["--concurrency", "1", "--timeout", "1"];
    let mut served = serve(&arguments, Stdio::piped()).await;
    let mut stderr = served.stderr();
    let gate = Gate::new().await;
    let mut held = request(served.invoke, POST, gate.event().as_bytes()).await;
    let _inside = gate.entered().await;
    let throttled = served.post("{}").await;
    assert_eq!(throttled.status, 429);
    let late = response(&mut held).await;
    let throttle = format!("invocation {} was throttled", throttled.request_id());
    let time_out = format!("invocation {} failed after", late.request_id());
    let line = told_all(&mut stderr, &[&throttle, &time_out]).await;
    assert!(line.contains("throttled") || line.contains("Task timed out after 1.00 seconds"));
}

#[tokio::test]
async fn says_that_it_is_out_of_file_descriptors() {
    let script = "ulimit -n 40; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_cargo-local")])
        .args(["--concurrency", "1", "--bootstrap"])
        .arg(function().bootstrap);
    let mut served = serve_command(&mut command, Stdio::piped()).await;
    let mut stderr = served.stderr();
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(TcpStream::connect(served.invoke).await.unwrap());
    }
    let warning = "cannot accept a connection: Too many open files";
    told(&mut stderr, warning).await;
}

/// After SIGKILL, the guard kills the function.
#[tokio::test]
async fn ends_with_the_function_on_every_signal() {
    for (end, code) in [
        (Signal::SIGINT, Some(0)),
        (Signal::SIGTERM, Some(0)),
        (Signal::SIGHUP, Some(0)),
        (Signal::SIGKILL, None),
    ] {
        let served = serve(&[], Stdio::inherit()).await;
        let gate = Gate::new().await;
        let mut caller = request(served.invoke, POST, gate.event().as_bytes()).await;
        let inside = gate.entered().await;
        send(&served.process, end);
        // The function holds the other end until it is gone.
        closed(inside).await;
        if code.is_some() {
            let reply = response(&mut caller).await.json();
            assert_eq!(reply["errorType"], "Runtime.ExitError");
        }
        assert_eq!(status(served.process).await, code, "{end}");
    }
}

/// With one thread, as on one CPU.
#[tokio::test]
async fn serves_and_ends_while_the_function_prints_without_pause() {
    let bootstrap = function_after("prints-without-pause", "yes '' &");
    let mut command = bare(&["--function-name", "function"]);
    command
        .args(["--bootstrap".as_ref(), bootstrap.as_os_str()])
        .env("TOKIO_WORKER_THREADS", "1");
    let served = serve_command(&mut command, Stdio::null()).await;
    served.serves().await;
    assert_eq!(served.end(Signal::SIGINT).await, Some(0));
}

/// It waits for standard input, for somebody to read its reply, for the build, and for the function.
#[tokio::test]
async fn ends_on_a_signal_whatever_it_waits_for() {
    let start = |command: &mut Command| {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let ends = async |process: Child, end: Signal| {
        send(&process, end);
        let expected = (end != Signal::SIGKILL).then_some(1);
        assert_eq!(status(process).await, expected, "{end}");
    };
    let mut process = start(&mut cargo_local(&["invoke", "-"]));
    let mut stdin = process.stdin.take().unwrap();
    // A pipe does not hold as much: it is reading.
    let spaces = vec![b' '; 200_000];
    let written = stdin.write_all(&spaces);
    within("standard input to be read", written).await.unwrap();
    ends(process, Signal::SIGINT).await;

    let mut process = start(&mut cargo_local(&["invoke", r#"{"large": 1000000}"#]));
    let mut stdout = process.stdout.take().unwrap();
    // A pipe does not hold the whole reply: it is writing.
    within("the reply", stdout.read_u8()).await.unwrap();
    ends(process, Signal::SIGINT).await;

    let gate = Gate::new().await;
    let port = gate.address().port();
    // What stands in for Cargo goes on for ever.
    let script = format!("#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/{port}\nexec cat <&3\n");
    let cargo = executable("endless-cargo", &script);
    for end in [Signal::SIGTERM, Signal::SIGINT] {
        let process = start(bare(&["invoke", "{}"]).env("CARGO", &cargo));
        let _build = gate.entered().await;
        ends(process, end).await;
    }
    let behaviour = format!("BEHAVIOUR={}", gate.address());
    for end in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let process = start(&mut cargo_local(&["invoke", "--env", &behaviour, "{}"]));
        let inside = gate.entered().await;
        ends(process, end).await;
        // Nor does it leave the function behind.
        closed(inside).await;
    }
}

/// The executable of `--bootstrap` is replaced while it runs, and so is a file in a folder with links to
/// itself. Packages that link to each other make such a circle.
#[tokio::test]
async fn watches_the_executable_and_a_folder() {
    let directory = folder("circle");
    for name in ["one", "two"] {
        std::os::unix::fs::symlink(".", directory.join(name)).unwrap();
    }
    let beside = directory.join("beside");
    fs::write(&beside, "a").unwrap();
    let install = |version: &str| {
        let beside = beside.display();
        function_after(
            "watched",
            &format!("export VERSION={version}$(cat {beside})"),
        )
    };
    let bootstrap = install("1");
    let mut command = bare(&["--bootstrap", bootstrap.to_str().unwrap()]);
    command
        .args(["--function-name", "function"])
        .args(["--watch".as_ref(), directory.as_os_str()]);
    let mut served = serve_command(&mut command, Stdio::piped()).await;
    let invoke = served.invoke;
    let mut stderr = served.stderr();
    let version = async || {
        let response = http(invoke, POST, ENVIRONMENT.as_bytes()).await;
        response.json()["VERSION"].as_str().unwrap().to_owned()
    };
    assert_eq!(version().await, "1a");
    install("2");
    told(&mut stderr, "watched changed: starting the function again").await;
    told(&mut stderr, "the new function is running").await;
    assert_eq!(version().await, "2a");
    executable("watched", "#!/bin/sh\nexit 3\n");
    let line = told(&mut stderr, "the old function keeps running").await;
    assert!(line.contains("before its first poll"), "{line}");
    assert_eq!(version().await, "2a");
    install("4");
    told(&mut stderr, "the new function is running").await;
    assert_eq!(version().await, "4a");
    fs::write(&beside, "bb").unwrap();
    told(&mut stderr, "beside changed: starting the function again").await;
    told(&mut stderr, "the new function is running").await;
    assert_eq!(version().await, "4bb");
}

/// Somebody else starts the function, and starts it again after it was killed with an event.
#[tokio::test]
async fn serves_a_function_that_is_started_by_hand() {
    let mut command = bare(&["--attach=127.0.0.1:0", "--env", "GREETING=it's me"]);
    command.args(["--function-name", "function"]);
    let served = serve_command(&mut command, Stdio::null()).await;
    assert!(served.said.contains("\nCtrl-C ends it"), "{}", served.said);
    let is_export = |line: &&str| line.trim().starts_with("export ");
    let variables: Vec<_> = served.said.lines().filter(is_export).collect();
    let variables = variables.join("\n");
    let start = || {
        let script = format!("{variables}\nexec {}", function().bootstrap.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).kill_on_drop(true);
        shell.spawn().unwrap()
    };
    let gate = Gate::new().await;
    // This caller comes before the function.
    let mut early = request(served.invoke, POST, ENVIRONMENT.as_bytes()).await;
    let mut first = start();
    let environment = response(&mut early).await.json();
    assert_eq!(environment["GREETING"], "it's me");
    assert_eq!(environment["AWS_LAMBDA_MAX_CONCURRENCY"], "8");
    let mut held = request(served.invoke, POST, gate.event().as_bytes()).await;
    let inside = gate.entered().await;
    first.kill().await.unwrap();
    closed(inside).await;
    let second = start();
    let reply = response(&mut held).await.json();
    assert_eq!(reply["errorType"], "Runtime.ExitError");
    served.serves().await;
    drop(second);
}

#[tokio::test]
async fn names_a_function_after_its_folder() {
    let directory = folder("named");
    function_after("named/bootstrap", "");
    function_after("named/app.sh", "");
    folder("named/inner");
    for (from, arguments, handler) in [
        (".", &["bootstrap"][..], "bootstrap"),
        (".", &["./bootstrap"], "bootstrap"),
        (".", &["../named/bootstrap"], "bootstrap"),
        ("inner", &["../bootstrap"], "bootstrap"),
        // An interpreter with arguments.
        (".", &["sh", "--", "app.sh"], "app.sh"),
    ] {
        let mut command = bare(&["local", "invoke", ENVIRONMENT]);
        command
            .arg("--bootstrap")
            .args(arguments)
            .current_dir(directory.join(from));
        let environment = environment(&mut command).await;
        let name = &environment["AWS_LAMBDA_FUNCTION_NAME"];
        assert_eq!(name, "named", "{arguments:?}");
        let root = environment["LAMBDA_TASK_ROOT"].as_str().unwrap();
        assert_eq!(fs::canonicalize(root).unwrap(), directory);
        assert_eq!(environment["_HANDLER"], handler);
    }
}

#[tokio::test]
async fn passes_variables_on() {
    let file = scratch("variables.env");
    fs::write(&file, "# a comment\nFROM_FILE=\"a b\"\nexport BOTH=file\n").unwrap();
    let mut command = cargo_local(&["invoke", ENVIRONMENT, "--env", "CALLERS"]);
    command
        .args(["--env-file".as_ref(), file.as_os_str()])
        .args(["--env", "BOTH=line"])
        .env("CALLERS", "its own");
    let environment = environment(&mut command).await;
    for (name, value) in [
        ("FROM_FILE", "a b"),
        ("BOTH", "line"),
        ("CALLERS", "its own"),
        ("AWS_ACCESS_KEY_ID", "test"),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
}
