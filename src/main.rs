//! The function's process.

use std::convert::Infallible;
use std::process::ExitCode;

use fibonacci_generator::{event, reply};
use lmi_runtime::Invocation;

fn main() -> ExitCode {
    lmi_runtime::run(handler)
}

async fn handler(invocation: &Invocation) -> Result<[&'static [u8]; 3], Infallible> {
    Ok(reply::slices(event::parse(invocation.payload())))
}
