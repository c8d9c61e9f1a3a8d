//! Any bytes as the Runtime API's answer to a poll and to a post, against an independent reading.

#![no_main]
#![forbid(unsafe_code)]

#[path = "../../tests/support/answer_reading.rs"]
mod answer_reading;

libfuzzer_sys::fuzz_target!(|input: &[u8]| answer_reading::check(input));
