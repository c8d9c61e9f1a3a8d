//! What `fuzz/` looks for, without nightly: its corpus, as it is and damaged, for a moment, or for
//! as long as `FUZZ_SECONDS` says.

use std::cell::Cell;
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::support::mutation::mutations;
use crate::support::{event_reading, response_reading};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};

/// Checks each input of a target's corpus, and damaged ones until the time is over.
fn replay(target: &str, check: fn(&[u8]), words: &'static [&'static str]) {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");
    let files = fs::read_dir(format!("{corpus}/{target}")).unwrap();
    let inputs: Vec<_> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() > 10);
    for input in &inputs {
        check(input);
    }

    let damaged = (select(inputs), mutations(words)).prop_map(|(mut input, mutations)| {
        for mutation in mutations {
            mutation.apply(&mut input);
        }
        input
    });
    let seconds = env::var("FUZZ_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    let begun = Instant::now();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let executions = Cell::new(0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let checked = runner.run(&damaged, |input| {
            check(&input);
            executions.update(|count| count + 1);
            Ok(())
        });
        match checked {
            Ok(()) => {}
            Err(TestError::Fail(why, input)) => panic!("{why}, for {}", input.escape_ascii()),
            Err(abort) => panic!("{abort}"),
        }
    }
    println!("{target}: {} executions", executions.get());
}

#[test]
fn reads_events_as_the_independent_reading_does() {
    replay(
        "event",
        event_reading::check,
        &[
            "\"n\":", "\\u006e", "\\ud800", "{}", "[]", ",", "1e2", "-0", "\n", "\u{7f}", "\\\"",
        ],
    );
}

#[test]
fn reads_the_responses_of_the_runtime_api_as_the_independent_reading_does() {
    replay(
        "runtime_api",
        response_reading::check,
        &[
            "\r\n",
            "\n",
            "\r\n\r\n",
            "0\r\n",
            "1\r\n",
            ":",
            ";",
            " ",
            "+",
            "f",
            "Connection: close\r\n",
            "Content-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\n",
        ],
    );
}
