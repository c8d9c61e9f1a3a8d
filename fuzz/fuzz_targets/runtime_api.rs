//! Any bytes as the Runtime API's answer to a poll and to a post, against an independent reading.

#![no_main]
#![forbid(unsafe_code)]

#[path = "../../tests/support/response_reading.rs"]
mod response_reading;

libfuzzer_sys::fuzz_target!(|input: &[u8]| response_reading::check(input));
