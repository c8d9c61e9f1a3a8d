//! When requests are sent, and from when their latency counts.

use std::time::Duration;

use serde_json::Value;

use crate::support::{InvokeApi, report, right, stderr, stdout};

/// The latencies of all requests together, in seconds.
fn waited(report: &Value) -> f64 {
    let mean = report["latency_microseconds"]["mean"].as_f64().unwrap();
    let requests = ["ok", "unsent"].map(|name| report["outcomes"][name].as_f64().unwrap());
    mean * requests.iter().sum::<f64>() / 1e6
}

/// One reply takes a second, in which a hundred requests are due.
#[test]
fn requests_that_were_due_during_a_stall_count_their_wait() {
    let start = || {
        InvokeApi::start(async |invocation| {
            if invocation.number == 50 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            right(invocation).await
        })
    };

    let (due, sending) = std::thread::scope(|scope| {
        let due = scope.spawn(|| start().run("-n 200 -r 100 -o json"));
        let sending = start().run("-n 200 -o json");
        (due.join().unwrap(), sending)
    });

    let due = report(&due);
    assert_eq!(due["latency_measured_from"], "due");
    assert!(waited(&due) > 10.0, "{due}");

    // One caller that sends on reply waits for one at a time.
    assert!(sending.status.success(), "{sending:?}");
    let sending = report(&sending);
    assert_eq!(sending["latency_measured_from"], "sending");
    let elapsed = sending["elapsed_seconds"].as_f64().unwrap();
    // A histogram rounds values up, by a thousandth at most.
    assert!(waited(&sending) <= elapsed * 1.01, "{sending}");
}

/// From the second reply on, the only caller waits until the run is over.
#[test]
fn requests_that_were_due_and_never_sent_count_their_wait() {
    let api = InvokeApi::start(async |invocation| {
        if invocation.number > 0 {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        right(invocation).await
    });

    let flags = "-r 100 -d 1s --max-p99 500ms -o json";
    let output = api.run(flags);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    let [sent, unsent] = ["ok", "unsent"].map(|name| report["outcomes"][name].as_u64().unwrap());
    assert!(unsent > 50, "{report}");
    assert_eq!(sent + unsent, 100);
    assert!(
        report["latency_microseconds"]["p50"].as_u64() > Some(1_000_000),
        "{report}"
    );
    assert!(
        stderr(&output).contains("more than --max-p99 500ms"),
        "{output:?}"
    );
}

#[test]
fn sends_at_the_rate_requested() {
    let api = InvokeApi::start(right);

    let report = report(&api.run("-r 200 -d 1s -c 20 -o json"));

    assert_eq!(report["requested_rate_per_second"], 200.0);
    let sent = report["outcomes"]["ok"].as_u64().unwrap();
    let unsent = report["outcomes"]["unsent"].as_u64().unwrap();
    assert_eq!(sent + unsent, 200);
    assert_eq!(api.invocations(), sent);
    let achieved = report["achieved_rate_per_second"].as_f64().unwrap();
    assert!(achieved <= 200.0, "{achieved}");
}

/// Without the ramp, 150 would be due.
#[test]
fn half_as_many_requests_are_due_during_a_ramp() {
    let api = InvokeApi::start(right);

    let report = report(&api.run("-r 100 --ramp 1s -d 1500ms -c 20 -o json"));

    assert_eq!(report["due"]["requests"], 100);
    let unsent = report["outcomes"]["unsent"].as_u64().unwrap();
    assert_eq!(api.invocations() + unsent, 100);
}

#[test]
fn fails_if_the_99th_percentile_takes_too_long() {
    let api = InvokeApi::start(right);

    assert!(api.run("-n 50 --max-p99 1m").status.success());
    let output = api.run("-n 50 --max-p99 1us");

    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("ms, more than --max-p99 1us"), "{text}");
}
