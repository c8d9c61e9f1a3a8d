use std::cell::Cell;
use std::time::{Duration, Instant};
use std::{env, fs};

use proptest::sample::select;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::damaged;

/// Checks each input of the corpus of a fuzz target, and damaged ones, with these words among what is
/// inserted, for a moment, or for as many seconds as `FUZZ_SECONDS` says.
pub fn replay(target: &str, check: fn(&[u8]), words: &'static [&'static str]) {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");
    let files = fs::read_dir(format!("{corpus}/{target}")).expect("a corpus");
    let inputs: Vec<_> = files
        .map(|file| fs::read(file.expect("a file").path()).expect("an input"))
        .collect();
    assert!(inputs.len() > 10);
    for input in &inputs {
        check(input);
    }

    let damaged = damaged(select(inputs), words);
    let seconds = env::var("FUZZ_SECONDS").map_or(2, |seconds| seconds.parse().expect("a number"));
    let begun = Instant::now();
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let executions = Cell::new(0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        // A runner that has run all its cases does nothing any more.
        let checked = TestRunner::new(config.clone()).run(&damaged, |input| {
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
