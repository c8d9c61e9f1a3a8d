//! Measures how a handler that computes for 100 ms holds up invocations on the same thread, and the
//! cure for it.
//!
//! ```sh
//! cargo run -p lmi-runtime --example long_handler
//! ```

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use emulator::{Emulator, Settings};
use lmi_runtime::Invocation;
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

const EVENTS: usize = 200;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return Ok(lmi_runtime::run(handle));
    }
    Runtime::new()?.block_on(measure())?;
    Ok(ExitCode::SUCCESS)
}

async fn handle(invocation: &Invocation) -> Result<&'static str, String> {
    match invocation.payload() {
        b"\"on the thread\"" => compute(),
        b"\"with spawn_blocking\"" => {
            let computed = spawn_blocking(compute).await;
            computed.map_err(|error| error.to_string())?;
        }
        _ => {}
    }
    Ok("null")
}

fn compute() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(100) {}
}

/// This executable is the function, too.
async fn measure() -> Result<(), Box<dyn Error>> {
    let emulator = Emulator::start(Settings::new(env::current_exe()?)).await?;
    for long in [r#""on the thread""#, r#""with spawn_blocking""#] {
        emulator.wait_for_polls(|polls| polls == 8).await;
        let mut times = Vec::new();
        let short = async {
            for _ in 0..EVENTS {
                let begun = Instant::now();
                emulator.invoke("null").await?;
                times.push(begun.elapsed());
            }
            Ok::<_, emulator::InvokeError>(())
        };
        let long_ones = async {
            loop {
                if let Err(error) = emulator.invoke(long).await {
                    return error;
                }
            }
        };
        tokio::select! {
            done = short => done?,
            error = long_ones => return Err(error.into()),
        }
        times.sort();
        let is_held_up = |time: &&Duration| **time > Duration::from_millis(10);
        let held_up = times.iter().filter(is_held_up).count();
        println!(
            "{long}: of {EVENTS} short events, {held_up} took more than 10 ms, and the longest {:.1?}",
            times[EVENTS - 1]
        );
    }
    emulator.terminate().await;
    Ok(())
}
