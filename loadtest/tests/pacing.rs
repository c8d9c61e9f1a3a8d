//! When requests are sent, and from when their latency counts.

use std::time::Duration;

use serde_json::Value;

use crate::support::{InvokeApi, assert_contains, histogram, right};

/// The latencies of all requests together, in seconds.
fn waited(report: &Value) -> f64 {
    let histogram = histogram(report);
    let latencies = histogram.iter_recorded();
    let sum = latencies.map(|one| one.value_iterated_to() * one.count_since_last_iteration());
    Duration::from_micros(sum.sum()).as_secs_f64()
}

/// One reply takes a second, in which a hundred requests are due.
#[test]
fn requests_that_were_due_during_a_stall_count_their_wait() {
    let run = |flags: &str| {
        let api = InvokeApi::start(async |invocation| {
            if invocation.number == 50 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            right(invocation).await
        });
        api.run(flags)
    };

    let due = run("-n 200 -r 100 -o json").report();
    assert_eq!(due["latency_measured_from"], "when the request was due");
    assert!(waited(&due) > 10.0, "{due}");

    // One caller that sends on reply waits for one at a time.
    let sending = run("-n 200 -o json").passed().report();
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

    let ended = api.run("-r 100 -d 1s --max-p99 500ms -o json").failed();

    let report = ended.report();
    let [sent, unsent] = ["ok", "unsent"].map(|name| report["outcomes"][name].as_u64().unwrap());
    assert!(unsent > 50, "{report}");
    assert_eq!(sent + unsent, 100);
    let p50 = report["latency_microseconds"]["p50"].as_u64();
    assert!(p50 > Some(1_000_000), "{report}");
    assert_contains(&ended.stderr, "more than --max-p99 500ms");
}

#[test]
fn sends_at_the_rate_requested() {
    for (flags, due, rate) in [
        ("-r 200 -d 1s", 200, 200.0),
        // Without the ramp, 200 would be due.
        ("-r 100 --ramp 1s -d 2s", 150, 75.0),
    ] {
        let api = InvokeApi::start(right);

        let report = api.run(&format!("{flags} -c 20 -o json")).report();

        assert_eq!(report["due"]["requests"], due);
        assert_eq!(report["requested_rate_per_second"], rate);
        let [sent, unsent] =
            ["ok", "unsent"].map(|name| report["outcomes"][name].as_u64().unwrap());
        assert_eq!(sent + unsent, due);
        assert_eq!(api.invocations(), sent);
        let achieved = report["achieved_rate_per_second"].as_f64().unwrap();
        assert!(achieved <= rate, "{achieved}");
    }
}
