//! Everything about the function that does not need a process of its own, in one executable.

mod contract;
mod documentation;
mod event_properties;
mod faults;
mod fuzz_corpus;
mod http_events;
mod lambda_runtime;
mod limits;
mod log;
mod process;
mod runtime_api;
mod sequence;
mod shared_memory;
mod simd_json;
mod support;
mod worker;
