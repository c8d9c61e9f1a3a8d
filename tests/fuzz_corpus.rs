//! What the fuzzer of the parser looks for, without nightly.

use crate::support::event_reading;

#[test]
fn reads_events_as_the_independent_reading_does() {
    test_support::replay(
        "event",
        event_reading::check,
        &[
            "\"n\":", "\\u006e", "\\ud800", "{}", "[]", ",", "1e2", "-0", "\n", "\u{7f}", "\\\"",
        ],
    );
}
