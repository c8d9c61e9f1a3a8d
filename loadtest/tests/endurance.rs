//! It never hangs and never grows, and what it writes cannot be spoiled.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use nix::pty::{Winsize, openpty};
use serde_json::json;

use crate::support::{
    BOUND, InvokeApi, assert_contains, file, held_back, loadtest, right, run, scratch, serve,
    signal, start, wait,
};

/// The load tester, started by a shell after other commands.
fn after(commands: &str, api: &InvokeApi, flags: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{commands}; exec \"$0\" \"$@\"")]);
    shell
        .arg(env!("CARGO_BIN_EXE_loadtest"))
        .args(flags.split_whitespace());
    shell
        .args(["--endpoint-url", &api.url()])
        .current_dir(scratch(""));
    shell
}

#[test]
fn what_is_due_and_cannot_be_sent_takes_no_memory() {
    let (api, arrivals, release) = held_back();
    let child = start(&mut api.command("-r 100000 -d 1h -o json"));
    arrivals.recv_timeout(BOUND).expect("an invocation arrives");
    let resident_kib = || -> i64 {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let (_, resident) = status.split_once("VmRSS:").unwrap();
        resident.split_whitespace().next().unwrap().parse().unwrap()
    };

    // The longer this takes, the more is due.
    let before = resident_kib();
    std::thread::sleep(Duration::from_secs(5));
    let grown = resident_kib() - before;

    signal("-INT", child.id());
    release.send_replace(true);
    let outcomes = &wait(child).report()["outcomes"];
    assert!(
        outcomes["unsent"].as_u64() >= Some(500_000 - 1),
        "{outcomes}"
    );
    assert!(grown < 2048, "{grown} KiB more");
}

/// With more and more file descriptors, until there are enough to start, and too few for a thread.
#[test]
fn ends_at_once_when_a_thread_of_callers_fails() {
    let api = InvokeApi::start(right);
    let flags = "-c 64 -n 100 -r 1 --ramp 1h -d 1h";
    let is_thread = (5..60).any(|files| {
        let ended = run(&mut after(&format!("ulimit -n {files}"), &api, flags));
        assert_ne!(ended.code, Some(0), "{ended:?}");
        ended
            .stderr
            .contains("cannot start a thread of callers: Too many open files")
    });
    assert!(is_thread);
}

#[test]
fn a_full_disk_costs_no_older_report() {
    let api = InvokeApi::start(right);
    for flag in ["-O", "--html"] {
        let name = file("kept-report", "an older report");
        // No file may be longer than a block.
        let full = "trap '' XFSZ; ulimit -f 1";

        let flags = format!("-n 1 -o json {flag} {name}");
        let said = run(&mut after(full, &api, &flags)).failed().stderr;

        assert_contains(&said, "File too large");
        let kept = fs::read_to_string(scratch(&name)).unwrap();
        assert_eq!(kept, "an older report");
        let left = fs::read_dir(scratch("")).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name().to_string_lossy().contains("kept-report"));
        assert_eq!(left.count(), 1);
    }
}

#[test]
fn nothing_from_the_network_reaches_the_terminal_raw() {
    const TEXT: &str = "\u{1b}]0;owned\u{7}\u{9b}31m\r\nok  1 (100.00 %)";
    let arn = format!("arn:aws:lambda:us-east-1:123456789012:capacity-provider:{TEXT}");
    let provider = json!({"CapacityProviderConfig": {
        "LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": arn},
    }});
    let api = InvokeApi::describe(&provider, async |invocation| match invocation.number % 2 {
        0 => ([("x-amz-function-error", "Unhandled")], TEXT).into_response(),
        _ => TEXT.into_response(),
    });

    for flags in ["-n 2", "-n 2 -o json"] {
        let ended = api.run(flags);

        let text = ended.stdout + &ended.stderr;
        assert_contains(&text, "]0;owned");
        let is_raw = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(is_raw), "{text:?}");
        assert!(!text.contains("\nok  1"), "{text}");
    }

    let message = TEXT.to_owned() + &"x".repeat(100_000);
    let body = json!({"Message": message}).to_string();
    let reply = async move || (StatusCode::BAD_REQUEST, [("x-amzn-errortype", "Odd")], body);
    let (address, _runtime) = serve(Router::new().fallback(reply));
    let said = run(&mut loadtest(&format!("--endpoint-url http://{address}"))).stderr;
    assert_contains(&said, "Odd: ]0;owned 31m ok 1 (100.00 %)xxx");
    assert!(!said.contains('\u{1b}') && said.len() < 500, "{said}");
}

/// A terminal that wraps what is wider than itself, unless that is switched off.
#[test]
fn the_live_line_fits_a_narrow_terminal() {
    let api = InvokeApi::start(right);
    let size = Winsize {
        ws_row: 24,
        ws_col: 40,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size, None).unwrap();
    let mut command = api.command("-r 10 -d 1h -c 2");
    command.stdout(Stdio::null()).stderr(terminal.slave);

    let child = command.spawn().unwrap();
    drop(command);
    let (sender, is_live) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut shown = String::new();
        let mut master = File::from(terminal.master);
        let mut piece = [0; 4096];
        // It ends with an error, when the last process closes its side.
        while let Ok(length) = master.read(&mut piece) {
            shown += str::from_utf8(&piece[..length]).unwrap();
            if shown.contains(" ok  0 throttled") {
                let _ = sender.send(());
            }
        }
        shown
    });
    is_live.recv_timeout(BOUND).expect("a live line");
    signal("-INT", child.id());
    wait(child);
    let shown = reading.join().unwrap();

    // The first line names function and endpoint.
    let (_, mut live) = shown.split_once('\n').unwrap();
    let fits = |text: &str| text.split('\r').all(|line| line.len() <= 40);
    while let Some((wrapped, rest)) = live.split_once("\x1b[?7l") {
        assert!(fits(wrapped), "{shown:?}");
        live = rest.split_once("\x1b[?7h").unwrap().1;
    }
    assert!(fits(live), "{shown:?}");
}
