//! Ctrl-C and SIGTERM.

use std::io::Read;
use std::process::Stdio;
use std::sync::mpsc;

use crate::support::{BOUND, InvokeApi, assert_contains, held_back, right, signal, start, wait};

#[test]
fn a_signal_ends_the_run_which_waits_for_its_replies_and_reports() {
    let (api, arrivals, release) = held_back();
    for (name, rate) in [("-INT", ""), ("-INT", "-r 100"), ("-TERM", "")] {
        release.send_replace(false);
        let before = api.invocations();
        let child = start(&mut api.command(&format!("-d 1h -c 2 -o json {rate}")));
        arrivals.recv_timeout(BOUND).expect("an invocation arrives");
        signal(name, child.id());
        release.send_replace(true);

        let report = wait(child).passed().report();
        assert_eq!(report["interrupted"], true);
        assert_eq!(report["outcomes"]["ok"], api.invocations() - before);
        arrivals.try_iter().for_each(drop);
    }
}

#[test]
fn a_signal_while_warming_up_sends_nothing_more() {
    let (api, arrivals, release) = held_back();
    let child = start(&mut api.command("-w 1000000 -n 10"));
    arrivals.recv_timeout(BOUND).expect("an invocation arrives");
    signal("-INT", child.id());
    release.send_replace(true);

    let said = wait(child).failed().stderr;
    assert_contains(&said, "interrupted while warming up");
    assert!(api.invocations() < 1_000_000, "{}", api.invocations());
}

/// The report is longer than a pipe's 64 KiB, because it names the qualifier.
#[test]
fn a_signal_ends_the_process_if_nobody_reads_the_report() {
    let api = InvokeApi::start(right);
    let qualifier = "x".repeat(65_000);
    let mut command = api.command(&format!("-n 1 -o json --qualifier {qualifier}"));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child = command.stdout(writer).stderr(Stdio::null()).spawn();
    let child = child.unwrap();
    drop(command);
    let (began, begins) = mpsc::channel();
    std::thread::spawn(move || {
        let read = reader.read_exact(&mut [0]);
        let _ = began.send((read, reader));
    });
    let (read, reader) = begins.recv_timeout(BOUND).expect("the report begins");
    read.unwrap();

    signal("-INT", child.id());

    assert_eq!(wait(child).code, Some(130));
    drop(reader);
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (api, arrivals, release) = held_back();
    let child = api.command("-d 1h").spawn().unwrap();
    arrivals.recv_timeout(BOUND).expect("an invocation arrives");
    signal("-INT", child.id());
    signal("-TERM", child.id());

    assert_eq!(wait(child).code, Some(130));
    drop(release);
}
