//! A log that nobody reads costs only the log.

use std::io::{self, BufRead, BufReader, PipeReader, Read};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use serde_json::Value;
use test_support::Function;

use crate::command;

/// More lines than a pipe holds.
const WARNINGS: usize = 1_500;

/// Makes the function log a line: that its reply was refused.
fn warn(function: &Function, request_id: &str) {
    function.poll().dispatch(request_id, "1");
    function.post().respond_with_status(413);
}

/// Starts a function, whose output the test reads here.
fn start() -> (Function, PipeReader) {
    let (mut reader, writer) = io::pipe().unwrap();
    // Without pipelining, so that a poll comes after the line about the reply before it.
    let mut command = command("direct", &[("RUNTIME_API_PIPELINING", "off")]);
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let function = Function::start(command);
    // What the test runner prints before it runs the function.
    let mut read = Vec::new();
    while !read.ends_with(b"running 1 test\n") {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        read.extend(byte);
    }
    (function, reader)
}

#[test]
fn goes_on_if_its_output_is_closed() {
    let (mut function, reader) = start();
    drop(reader);
    for n in 0..10 {
        warn(&function, &n.to_string());
    }
    function.poll();
    function.signal(Signal::SIGTERM);
    assert_eq!(function.wait().0.code(), Some(0));
}

#[test]
fn drops_lines_that_nobody_reads_and_says_how_many() {
    let (mut function, reader) = start();
    for n in 0..WARNINGS {
        warn(&function, &n.to_string());
    }
    let poll = function.poll();
    let kept = read_what_is_there(&reader);
    let names_an_invocation = |line: &Value| line["fields"]["requestId"].is_string();
    assert!(kept.iter().all(names_an_invocation), "{kept:?}");
    assert!((100..WARNINGS).contains(&kept.len()), "{}", kept.len());

    poll.dispatch("last", "1");
    function.post().respond_with_status(413);
    function.poll();
    let [dropped, last] = &read_what_is_there(&reader)[..] else {
        panic!("not two lines");
    };
    assert_eq!(dropped["level"], "WARN");
    assert_eq!(
        dropped["fields"]["message"],
        "log lines were dropped because nobody read them"
    );
    let count = WARNINGS - kept.len();
    assert_eq!(dropped["fields"]["dropped"], count, "after {kept:#?}");
    assert_eq!(last["fields"]["requestId"], "last");
    function.signal(Signal::SIGTERM);
    assert_eq!(function.wait().0.code(), Some(0));
}

/// Reads the lines in a pipe without waiting for more.
fn read_what_is_there(pipe: &PipeReader) -> Vec<Value> {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut bytes = Vec::new();
    let end = BufReader::new(pipe).read_to_end(&mut bytes).unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::WouldBlock);
    let lines = bytes.lines().map(Result::unwrap);
    lines
        .map(|line| serde_json::from_str(&line).expect(&line))
        .collect()
}
