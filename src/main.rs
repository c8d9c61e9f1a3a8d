//! The function's process: starts logging, graceful shutdown and the workers.

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, panic};

use fibonacci_generator::worker::{self, Workers};
use fibonacci_generator::{event, reply::Reply};
use lambda_runtime::tracing;
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> ExitCode {
    let Ok(runtime_api) = env::var("AWS_LAMBDA_RUNTIME_API") else {
        eprintln!(
            "fibonacci-generator is an AWS Lambda function and runs where AWS_LAMBDA_RUNTIME_API \
             is set; try it with: cargo local invoke '{{\"n\": 10}}'"
        );
        return ExitCode::FAILURE;
    };
    tracing::init_default_subscriber();
    panic::set_hook(Box::new(worker::log_panic));

    let workers = Arc::new(Workers::new(&runtime_api, |payload| {
        Reply::from(event::parse(payload))
    }));
    let draining = Arc::clone(&workers);
    // Lambda sends SIGTERM only where an extension is registered; this registers one.
    lambda_runtime::spawn_graceful_shutdown_handler(|| async move { draining.drain().await }).await;
    workers.run::<TcpStream>(max_concurrency()).await
}

/// How many invocations Lambda sends to this process at once.
fn max_concurrency() -> NonZeroU16 {
    let Some(value) = env::var_os("AWS_LAMBDA_MAX_CONCURRENCY") else {
        return NonZeroU16::MIN;
    };
    let parsed = value.to_str().and_then(|value| value.parse().ok());
    parsed.unwrap_or_else(|| {
        tracing::warn!(
            ?value,
            "AWS_LAMBDA_MAX_CONCURRENCY is unusable and counts as 1"
        );
        NonZeroU16::MIN
    })
}
