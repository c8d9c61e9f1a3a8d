//! The event parser against an independent reading and against `serde_json`'s verdict.

#![no_main]
#![forbid(unsafe_code)]

#[path = "../../tests/support/event_reading.rs"]
mod event_reading;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| event_reading::check(payload));
