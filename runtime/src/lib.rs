//! The loop over Lambda's [Runtime API] for Rust functions on [Managed Instances].
//!
//! [Managed Instances]: https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-rust.html
//! [Runtime API]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

mod connection;
mod extension;
mod handler;
mod http;
mod invocation;
mod log;
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
