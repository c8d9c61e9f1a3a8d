//! The loop over Lambda's [Runtime API] for Rust functions on [Managed Instances].
//!
//! [`run`] is a function's `main`. It takes a [`Handler`], which is one of these:
//!
//! - an asynchronous function or closure from an [`Invocation`] to what becomes a [`Reply`], without
//!   serde in between;
//! - what [`service`] makes of a handler for `lambda_runtime`: a `service_fn`, with or without
//!   layers, or `lambda_http`.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use lmi_runtime::Invocation;
//!
//! fn main() -> ExitCode {
//!     lmi_runtime::run(shout)
//! }
//!
//! async fn shout(invocation: &Invocation) -> Result<String, String> {
//!     let text = str::from_utf8(invocation.payload());
//!     Ok(text.map_err(|error| error.to_string())?.to_uppercase())
//! }
//! ```
//!
//! The package's README says what the loop promises beside `lambda_runtime`'s, and when to stay with
//! that one.
//!
//! # The way through the files
//!
//! ```text
//! process.rs ─► extension.rs  registers, before the first poll
//!            ─► worker.rs     polls, handles, drains: one task for each invocation at once
//!                 ─► connection.rs ─► http.rs  a poll, an event, a reply; retries
//!                 ─► handler.rs, or service.rs for lambda_runtime's handlers: invocation.rs ─► reply.rs
//! ```
//!
//! `log.rs` is the log, `back_off.rs` the pause before a retry. `worker_model/` and `splitting.rs`
//! test all this, over `pipe.rs`.
//!
//! [Managed Instances]: https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-rust.html
//! [Runtime API]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

mod back_off;
mod connection;
mod extension;
mod handler;
mod http;
mod invocation;
mod log;
#[cfg(any(test, fuzzing))]
mod pipe;
mod process;
mod reply;
mod service;
#[cfg(any(test, fuzzing))]
pub mod splitting;
mod worker;
#[cfg(test)]
mod worker_model;

pub use handler::Handler;
pub use invocation::Invocation;
pub use lambda_runtime::Diagnostic;
pub use process::run;
pub use reply::Reply;
pub use service::service;

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
