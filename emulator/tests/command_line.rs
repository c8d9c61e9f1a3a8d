//! `cargo local`, as the executable that it runs.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{Gate, closed, executable, function, http, request, within};
use nix::libc::{SYS_read, SYS_write, c_long};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const POST: &str = "POST /2015-03-31/functions/function/invocations HTTP/1.1";

fn cargo_local(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emulator"));
    if !arguments.contains(&"--timeout") {
        command.args(["--timeout", "120"]);
    }
    command
        .args(["--bootstrap".as_ref(), function().bootstrap.as_os_str()])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn output(command: &mut Command) -> Output {
    within("cargo local to end", command.output())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The one line that says what is wrong.
fn error(output: &Output) -> String {
    assert_eq!(
        (output.status.code(), &*text(&output.stdout)),
        (Some(1), "")
    );
    let error = text(&output.stderr);
    let line = error.lines().rfind(|line| line.starts_with("error: "));
    line.unwrap_or_else(|| panic!("no error in {error}"))
        .to_owned()
}

#[tokio::test]
async fn invoke_prints_the_reply_and_only_the_invocations_log() {
    let output = output(&mut cargo_local(&["invoke", r#"{"log": "a line"}"#])).await;
    assert_eq!(
        (output.status.code(), &*text(&output.stdout)),
        (Some(0), "null\n")
    );
    let log = text(&output.stderr);
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.lines().all(|line| line.contains("a line")), "{log}");
}

#[tokio::test]
async fn invoke_prints_nothing_else_if_the_function_logs_nothing() {
    let output = output(&mut cargo_local(&["invoke", r#"{"echo": 1}"#])).await;
    assert_eq!(
        (&*text(&output.stdout), &*text(&output.stderr)),
        ("1\n", "")
    );
}

#[tokio::test]
async fn invoke_fails_if_the_function_does() {
    let output = output(&mut cargo_local(&["invoke", r#"{"fail": "no such luck"}"#])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("no such luck"));
}

#[tokio::test]
async fn invoke_reads_the_event_from_a_file_or_standard_input() {
    let event = Path::new(env!("CARGO_TARGET_TMPDIR")).join("event.json");
    fs::write(&event, r#"{"echo": "from a file"}"#).unwrap();
    let argument = format!("@{}", event.display());
    let printed = output(&mut cargo_local(&["invoke", &argument])).await;
    assert_eq!(text(&printed.stdout), "\"from a file\"\n");

    let mut process = cargo_local(&["invoke", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin
        .write_all(br#"{"echo": "from standard input"}"#)
        .await
        .unwrap();
    drop(stdin);
    let printed = within("cargo local to end", process.wait_with_output()).await;
    assert_eq!(text(&printed.unwrap().stdout), "\"from standard input\"\n");
}

#[tokio::test]
async fn says_in_one_line_what_is_wrong() {
    let refused = output(&mut cargo_local(&["invoke", "{"])).await;
    assert!(error(&refused).starts_with("error: Could not parse request body into json"));
    let refused = output(&mut cargo_local(&["invoke", "@/no/such/file"])).await;
    assert_eq!(
        error(&refused),
        "error: cannot read /no/such/file: No such file or directory (os error 2)"
    );
    let behaviour = ["invoke", "--env", "BEHAVIOUR=exit", "{}"];
    let refused = output(&mut cargo_local(&behaviour)).await;
    assert_eq!(
        error(&refused),
        "error: the function ended before its first poll (exit status: 7); \
         it last printed: cannot find my table"
    );
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = output(&mut cargo_local(&["--listen", &address])).await;
    let expected = format!("error: cannot listen on {address} for the Invoke API: ");
    assert!(error(&refused).starts_with(&expected));
}

#[tokio::test]
async fn refuses_settings_that_aws_refuses() {
    for (arguments, reason) in [
        (["--concurrency", "0"], "0 is not in 1..=1600"),
        (["--concurrency", "1601"], "1601 is not in 1..=1600"),
        (["--timeout", "5401"], "5401 is not in 0..=5400"),
        (["--function-name", "a b"], "1 to 64 letters, digits"),
        (["--function-name", ""], "1 to 64 letters, digits"),
        (["--env", "=x"], "it must be NAME=VALUE"),
    ] {
        let refused = output(&mut cargo_local(&arguments)).await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let error = text(&refused.stderr);
        assert!(error.contains(reason), "{error}");
    }
}

/// A running `cargo local`.
struct Served {
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

async fn serve_command(command: &mut Command, stderr: Stdio) -> Served {
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
    let after = |mark: &str| {
        let rest = said.split(mark).nth(1).unwrap();
        rest[..rest.find(['/', ' ']).unwrap()].parse().unwrap()
    };
    Served {
        invoke: after("curl http://"),
        function_url: after("curl 'http://"),
        process,
        said,
        _stdout: stdout,
    }
}

fn send(process: &Child, signal: Signal) {
    let pid = process.id().and_then(|pid| pid.try_into().ok()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

async fn status(mut process: Child) -> Option<i32> {
    let status = within("cargo local to end", process.wait()).await;
    status.unwrap().code()
}

#[tokio::test]
async fn serves_where_it_says() {
    let served = serve(&[], Stdio::inherit()).await;
    let response = http(served.invoke, POST, br#"{"n": 10}"#).await;
    assert_eq!((response.status, &*response.text()), (200, r#"{"n":10}"#));
    let response = http(served.function_url, "GET /?n=10 HTTP/1.1", b"").await;
    assert_eq!(response.json()["queryStringParameters"]["n"], "10");
}

#[tokio::test]
async fn serves_the_function_under_a_name() {
    let served = serve(&["--function-name", "Other_name-2"], Stdio::inherit()).await;
    assert!(served.said.contains("--function-name Other_name-2"));
    assert_eq!(http(served.invoke, POST, b"{}").await.status, 404);
    let head = "POST /2015-03-31/functions/Other_name-2/invocations HTTP/1.1";
    let response = http(served.invoke, head, br#"{"environment": {}}"#).await;
    assert_eq!(response.json()["AWS_LAMBDA_FUNCTION_NAME"], "Other_name-2");
}

#[tokio::test]
async fn tells_the_function_a_deadline_in_a_year_if_there_is_none() {
    let served = serve(&["--timeout", "0"], Stdio::inherit()).await;
    let response = http(served.invoke, POST, br#"{"context": {}}"#).await;
    let deadline = response.json()["deadline"].as_u64().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let days = (u128::from(deadline) - now) / (24 * 3_600_000);
    assert!((364..=365).contains(&days), "{days} days");
}

/// Invokes the function often enough to fill any pipe with its log.
async fn fill(served: &Served) {
    for _ in 0..40 {
        let response = http(served.invoke, POST, br#"{"lines": 4000}"#).await;
        assert_eq!((response.status, &*response.text()), (200, "null"));
        // Its own warnings go the same way.
        assert_eq!(http(served.invoke, POST, b"{").await.status, 400);
    }
}

#[tokio::test]
async fn goes_on_and_ends_if_nobody_reads_standard_error() {
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
            log.push_str(&text(&buffer[..length]));
        }
    })
    .await;
    fill(&served).await;
    send(&served.process, Signal::SIGTERM);
    assert_eq!(status(served.process).await, Some(0));
    drop(stderr);
}

#[tokio::test]
async fn warns_where_aws_would_do_more() {
    let mut served = serve(&[], Stdio::piped()).await;
    let preflight = "OPTIONS / HTTP/1.1\norigin: http://example.com\n\
                     access-control-request-method: POST";
    http(served.function_url, preflight, b"").await;
    let event = format!("{POST}\nx-amz-invocation-type: Event");
    http(served.invoke, &event, br#"{"fail": "no luck"}"#).await;
    let stderr = served.process.stderr.take().unwrap();
    let mut lines = BufReader::new(stderr).lines();
    for warning in [
        "cargo local does not have CORS settings",
        "Lambda would retry it twice and then send it to its destination, cargo local does not",
    ] {
        within(warning, async {
            while !lines.next_line().await.unwrap().unwrap().contains(warning) {}
        })
        .await;
    }
}

#[tokio::test]
async fn goes_on_if_nothing_can_be_written_to_standard_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for stderr in [Stdio::from(full), Stdio::from(closed)] {
        let served = serve(&[], stderr).await;
        fill(&served).await;
        let ended = http(served.invoke, POST, br#"{"exit": 1}"#).await;
        assert_eq!(ended.json()["errorType"], "Runtime.ExitError");
        let response = http(served.invoke, POST, br#"{"n": 10}"#).await;
        assert_eq!((response.status, &*response.text()), (200, r#"{"n":10}"#));
        send(&served.process, Signal::SIGINT);
        assert_eq!(status(served.process).await, Some(0));
    }
}

#[tokio::test]
async fn keeps_nothing_of_pages_that_were_opened_and_closed() {
    let served = serve(&[], Stdio::inherit()).await;
    let descriptors = format!("/proc/{}/fd", served.process.id().unwrap());
    let count = || fs::read_dir(&descriptors).unwrap().count();
    // Some workers may not have connected yet.
    let before = count() + 8;
    for _ in 0..4 {
        let mut pages = Vec::new();
        for _ in 0..64 {
            let mut page = request(served.invoke, "GET /console/live HTTP/1.1", b"").await;
            within("the page", page.read_u8()).await.unwrap();
            pages.push(page);
        }
        assert!(count() > 64);
    }
    within("the connections to be closed", async {
        while count() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn ends_with_the_function_on_every_signal() {
    for end in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let served = serve(&[], Stdio::inherit()).await;
        let gate = Gate::new().await;
        let event = gate.event();
        let (response, ()) = tokio::join!(http(served.invoke, POST, event.as_bytes()), async {
            let inside = gate.entered().await;
            send(&served.process, end);
            // The function holds the other end until it is gone.
            closed(inside).await;
        });
        assert_eq!(response.json()["errorType"], "Runtime.ExitError");
        assert_eq!(status(served.process).await, Some(0), "{end}");
    }
}

/// With one thread, as on one CPU.
#[tokio::test]
async fn serves_and_ends_while_the_function_prints_without_pause() {
    let function = function().bootstrap;
    let script = format!("#!/bin/sh\nyes '' &\nexec {}\n", function.display());
    let bootstrap = executable("prints-without-pause", &script);
    let mut command = Command::new(env!("CARGO_BIN_EXE_emulator"));
    command
        .args([
            "--bootstrap",
            bootstrap.to_str().unwrap(),
            "--timeout",
            "120",
        ])
        .args(["--function-name", "function"])
        .env("TOKIO_WORKER_THREADS", "1");
    let served = serve_command(&mut command, Stdio::null()).await;
    let response = http(served.invoke, POST, br#"{"n": 10}"#).await;
    assert_eq!((response.status, &*response.text()), (200, r#"{"n":10}"#));
    send(&served.process, Signal::SIGINT);
    assert_eq!(status(served.process).await, Some(0));
}

/// The guard kills the function, whatever becomes of the emulator.
#[tokio::test]
async fn leaves_no_function_behind_when_it_is_killed() {
    let served = serve(&[], Stdio::inherit()).await;
    let gate = Gate::new().await;
    let event = gate.event();
    let _caller = request(served.invoke, POST, event.as_bytes()).await;
    let inside = gate.entered().await;
    send(&served.process, Signal::SIGKILL);
    closed(inside).await;
    assert_eq!(status(served.process).await, None);
}

#[tokio::test]
async fn leaves_no_function_behind_when_it_is_killed_during_init() {
    let gate = Gate::new().await;
    for end in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let behaviour = format!("BEHAVIOUR={}", gate.address());
        let process = cargo_local(&["invoke", "--env", &behaviour, "{}"])
            .spawn()
            .unwrap();
        let inside = gate.entered().await;
        send(&process, end);
        closed(inside).await;
        let expected = (end != Signal::SIGKILL).then_some(1);
        assert_eq!(status(process).await, expected, "{end}");
    }
}

#[tokio::test]
async fn ends_on_a_signal_while_it_waits_for_standard_input() {
    let mut process = cargo_local(&["invoke", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = process.stdin.take();
    // It waits as soon as it sleeps in a read of standard input.
    wait_for_syscall(&process, SYS_read, 0).await;
    send(&process, Signal::SIGINT);
    assert_eq!(status(process).await, Some(1));
    drop(stdin);
}

#[tokio::test]
async fn ends_on_a_signal_while_nobody_reads_its_reply() {
    let mut process = cargo_local(&["invoke", r#"{"large": 1000000}"#])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = process.stdout.take();
    // It waits as soon as it sleeps in a write to standard output.
    wait_for_syscall(&process, SYS_write, 1).await;
    send(&process, Signal::SIGINT);
    assert_eq!(status(process).await, Some(1));
    drop(stdout);
}

/// Waits until a thread of the process sleeps in this system call on this descriptor.
async fn wait_for_syscall(process: &Child, number: c_long, descriptor: u32) {
    let start = format!("{number} {descriptor:#x} ");
    let threads = format!("/proc/{}/task", process.id().unwrap());
    let sleeps = || {
        let mut threads = fs::read_dir(&threads).unwrap().flatten();
        threads.any(|thread| {
            let mut current = String::new();
            let file = File::open(thread.path().join("syscall"));
            let _ = file.and_then(|mut file| file.read_to_string(&mut current));
            current.starts_with(&start)
        })
    };
    within("a system call", async {
        while !sleeps() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Cargo, or what stands in for it, goes on for ever.
#[tokio::test]
async fn ends_on_a_signal_during_the_build() {
    let gate = Gate::new().await;
    let port = gate.address().port();
    let script = format!("#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/{port}\nexec cat <&3\n");
    let cargo = executable("endless-cargo", &script);
    for end in [Signal::SIGTERM, Signal::SIGINT] {
        let process = Command::new(env!("CARGO_BIN_EXE_emulator"))
            .args(["invoke", "{}"])
            .env("CARGO", &cargo)
            .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let build = gate.entered().await;
        send(&process, end);
        assert_eq!(status(process).await, Some(1), "{end}");
        drop(build);
    }
}

/// The executable of `--bootstrap` is replaced while it runs.
#[tokio::test]
async fn watches_the_executable() {
    let install = |script: &str| executable("watched", script);
    let run = |version: &str| {
        let function = function().bootstrap;
        format!(
            "#!/bin/sh\nexport VERSION={version}\nexec {}\n",
            function.display()
        )
    };
    let bootstrap = install(&run("1"));
    let arguments = ["--bootstrap", bootstrap.to_str().unwrap(), "--watch"];
    let mut process = Command::new(env!("CARGO_BIN_EXE_emulator"))
        .args(arguments)
        .args(["--listen", "127.0.0.1:0", "--function-url", "127.0.0.1:0"])
        .args(["--function-name", "function"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut invoke: Option<SocketAddr> = None;
    within("cargo local to be ready", async {
        while let Some(line) = stdout.next_line().await.unwrap() {
            if let Some((_, rest)) = line.split_once("curl http://") {
                invoke = rest.split('/').next().unwrap().parse().ok();
                break;
            }
        }
    })
    .await;
    let invoke = invoke.unwrap();
    let version = async || {
        let response = http(invoke, POST, br#"{"environment": {}}"#).await;
        response.json()["VERSION"].as_str().unwrap().to_owned()
    };
    let mut told = async |what: &str| {
        within(what, async {
            loop {
                let line = stderr.next_line().await.unwrap().unwrap();
                if line.contains(what) {
                    return line;
                }
            }
        })
        .await
    };
    assert_eq!(version().await, "1");
    install(&run("2"));
    told("watched changed: starting it").await;
    told("the new function is running").await;
    assert_eq!(version().await, "2");
    install("#!/bin/sh\nexit 3\n");
    let line = told("the old function keeps running").await;
    assert!(line.contains("before its first poll"), "{line}");
    assert_eq!(version().await, "2");
    install(&run("4"));
    told("the new function is running").await;
    assert_eq!(version().await, "4");
}
