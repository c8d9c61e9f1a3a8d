//! Any bytes as the Runtime API's response to a poll and to a reply, in one piece and in parts.

#![no_main]
#![forbid(unsafe_code)]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lmi_runtime::splitting::check(input));
