//! The function: its table, its parser, its replies, its start, and what the documents say of it.

mod contract;
mod documentation;
mod event_properties;
mod fuzz_corpus;
mod http_events;
mod sequence;
mod shared_memory;
mod signals;
mod simd_json;
mod support;
