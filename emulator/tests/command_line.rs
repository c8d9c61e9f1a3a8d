//! `cargo local`, as the executable that it runs.

use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{Gate, function, http, request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

fn cargo_local(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emulator"));
    command
        .args(["--bootstrap".as_ref(), function().bootstrap.as_os_str()])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
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
async fn invoke_prints_the_reply_and_nothing_else_on_standard_output() {
    let output = cargo_local(&["invoke", r#"{"log": "a line"}"#])
        .output()
        .await
        .unwrap();
    assert_eq!(
        (output.status.code(), &*text(&output.stdout)),
        (Some(0), "null\n")
    );
    assert!(text(&output.stderr).contains("a line"));
}

#[tokio::test]
async fn invoke_fails_when_the_function_does() {
    let output = cargo_local(&["invoke", r#"{"fail": "no such luck"}"#])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("no such luck"));
}

#[tokio::test]
async fn invoke_reads_the_event_from_a_file_or_standard_input() {
    let event = Path::new(env!("CARGO_TARGET_TMPDIR")).join("event.json");
    std::fs::write(&event, r#"{"echo": "from a file"}"#).unwrap();
    let argument = format!("@{}", event.display());
    let output = cargo_local(&["invoke", &argument]).output().await.unwrap();
    assert_eq!(text(&output.stdout), "\"from a file\"\n");

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
    let output = process.wait_with_output().await.unwrap();
    assert_eq!(text(&output.stdout), "\"from standard input\"\n");
}

#[tokio::test]
async fn says_in_one_line_what_is_wrong() {
    let output = cargo_local(&["invoke", "{"]).output().await.unwrap();
    assert!(error(&output).starts_with("error: Could not parse request body into json"));
    let output = cargo_local(&["invoke", "@/no/such/file"])
        .output()
        .await
        .unwrap();
    assert_eq!(
        error(&output),
        "error: cannot read /no/such/file: No such file or directory (os error 2)"
    );
    let output = cargo_local(&["invoke", "--env", "BEHAVIOUR=exit", "{}"])
        .output()
        .await
        .unwrap();
    assert_eq!(
        error(&output),
        "error: the function ended before it asked for an event (exit status: 7); \
         it last printed: cannot find my table"
    );
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = cargo_local(&["--listen", &address]).output().await.unwrap();
    let expected = format!("error: cannot listen on {address} for the Invoke API: ");
    assert!(error(&output).starts_with(&expected));
}

/// A running `cargo local`, and what it says when it is ready.
async fn serve(arguments: &[&str], stderr: Stdio) -> (Child, String) {
    let mut process = cargo_local(&["--listen", "127.0.0.1:0", "--function-url", "127.0.0.1:0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("curl 'http://") {
        assert_ne!(stdout.read_line(&mut said).await.unwrap(), 0, "{said}");
    }
    (process, said)
}

fn signal(process: &Child, signal: Signal) {
    let pid = process.id().and_then(|pid| pid.try_into().ok()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[tokio::test]
async fn serves_where_it_says() {
    let (_process, said) = serve(&[], Stdio::inherit()).await;
    let after = |mark: &str| {
        let rest = said.split(mark).nth(1).unwrap();
        rest[..rest.find(['/', ' ']).unwrap()].parse().unwrap()
    };
    let head = "POST /2015-03-31/functions/function/invocations HTTP/1.1";
    let answer = http(after("curl http://"), head, br#"{"n": 10}"#).await;
    assert_eq!((answer.status, &*answer.text()), (200, r#"{"n":10}"#));
    let answer = http(after("curl 'http://"), "GET /?n=10 HTTP/1.1", b"").await;
    assert_eq!(answer.json()["queryStringParameters"]["n"], "10");
}

#[tokio::test]
async fn goes_on_where_nothing_can_be_written_to_standard_error() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let (_process, said) = serve(&[], full.into()).await;
    let address = said.split("curl http://").nth(1).unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let head = "POST /2015-03-31/functions/function/invocations HTTP/1.1";
    assert_eq!(http(address, head, b"{").await.status, 400);
    let ended = http(address, head, br#"{"exit": 1}"#).await;
    assert_eq!(ended.json()["errorType"], "Runtime.ExitError");
    let answer = http(address, head, br#"{"n": 10}"#).await;
    assert_eq!((answer.status, &*answer.text()), (200, r#"{"n":10}"#));
}

#[tokio::test]
async fn keeps_nothing_of_pages_that_were_opened_and_closed() {
    let (process, said) = serve(&[], Stdio::inherit()).await;
    let address = said.split("curl http://").nth(1).unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let descriptors = format!("/proc/{}/fd", process.id().unwrap());
    let count = || std::fs::read_dir(&descriptors).unwrap().count();
    // Some workers may not have connected yet.
    let before = count() + 8;
    for _ in 0..4 {
        let mut pages = Vec::new();
        for _ in 0..64 {
            let mut page = request(address, "GET /console/live HTTP/1.1", b"").await;
            page.read_u8().await.unwrap();
            pages.push(page);
        }
        assert!(count() > 64);
    }
    let are_closed = async {
        while count() > before {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), are_closed).await;
    assert!(in_time.is_ok(), "{} of {before} descriptors", count());
}

#[tokio::test]
async fn ends_with_the_function_on_every_signal() {
    for end in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (mut process, said) = serve(&[], Stdio::inherit()).await;
        let gate = Gate::new().await;
        let address = said
            .split("curl http://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let head = "POST /2015-03-31/functions/function/invocations HTTP/1.1";
        let event = gate.event();
        let (answer, ()) = tokio::join!(
            http(address.parse().unwrap(), head, event.as_bytes()),
            async {
                let mut inside = gate.entered().await;
                signal(&process, end);
                // The function holds the other end until it is gone.
                inside.read_to_end(&mut Vec::new()).await.unwrap();
                assert_eq!(process.wait().await.unwrap().code(), Some(0), "{end}");
            }
        );
        assert_eq!(answer.json()["errorType"], "Runtime.ExitError");
    }
}
