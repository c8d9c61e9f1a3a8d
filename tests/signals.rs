//! Signals to the real binary. Unlike a test that is started as a process, it has one thread at first.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use std::{env, thread};

use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;

use crate::support::start;

/// A process starts and polls within this time, on a machine that is not too busy.
const MOMENTS: Duration = Duration::from_millis(20);

/// `SIGTERMS` says how many processes get one.
#[test]
fn loses_nothing_to_a_signal_at_any_moment_of_its_start() {
    let times = env::var("SIGTERMS").map_or(100, |times| times.parse().unwrap());
    let mut killed = 0;
    for _ in 0..times {
        let mut function = start();
        thread::sleep(MOMENTS.mul_f64(fastrand::f64()));
        function.signal(Signal::SIGTERM);
        let (status, lines) = function.wait();
        assert_eq!(lines, [""; 0]);
        if status.signal() == Some(Signal::SIGTERM as i32) {
            assert_eq!(function.connections(), 0, "it had something to lose");
            killed += 1;
        } else {
            assert_eq!(status.code(), Some(0), "{status}");
        }
    }
    println!("{times} signals, {killed} before the process listened for one");
}

#[test]
fn receives_signals_that_its_parent_has_blocked() {
    let function = thread::spawn(|| {
        SigSet::all().thread_block().unwrap();
        start()
    });
    let function = function.join().unwrap();
    function.poll();
    assert_eq!(function.terminate(), [] as [Value; 0]);
}
