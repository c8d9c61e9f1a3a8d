//! A function that does what its event says. The emulator's tests run it.

use std::collections::HashMap;
use std::io::Write;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Event {
    /// Replies with the value.
    Echo(Value),
    /// Replies with exactly this text, which need not be JSON.
    Raw(String),
    /// Connects to the address, waits until the connection is closed and replies with `null`.
    Gate(String),
    /// Prints the text with the request id, then without, and replies with `null`.
    Log(String),
    /// Prints that many lines to standard error and replies with `null`.
    Lines(usize),
    /// Replies with what came with the event.
    Context {},
    /// Replies with the environment variables.
    Environment {},
    /// Replies with a string of this many bytes, its quotation marks included.
    Large(usize),
    /// Reports an error.
    Fail(String),
    /// Panics.
    Panic(String),
    /// Ends the process.
    Exit(i32),
}

/// # Panics
///
/// If the event asks for it.
async fn handle(event: LambdaEvent<Value>) -> Result<Box<RawValue>, Error> {
    let (event, context) = event.into_parts();
    // The body of an HTTP event may be the instruction. Anything else is echoed.
    let body = event["body"]
        .as_str()
        .and_then(|body| serde_json::from_str(body).ok());
    let instruction = body.or_else(|| Event::deserialize(&event).ok());
    let reply = match instruction.unwrap_or(Event::Echo(event)) {
        Event::Echo(value) => value,
        Event::Raw(text) => return Ok(RawValue::from_string(text)?),
        Event::Gate(address) => {
            let mut gate = TcpStream::connect(address).await?;
            gate.read_to_end(&mut Vec::new()).await?;
            Value::Null
        }
        Event::Log(text) => {
            let of_invocation = json!({ "requestId": context.request_id, "message": text });
            println!("{of_invocation}");
            println!("{}", json!({ "message": text }));
            Value::Null
        }
        Event::Lines(count) => {
            for number in 0..count {
                eprintln!("line {number} of {count}");
            }
            Value::Null
        }
        Event::Context {} => json!(context),
        Event::Environment {} => json!(std::env::vars().collect::<HashMap<_, _>>()),
        Event::Large(size) => "x".repeat(size - 2).into(),
        Event::Fail(message) => return Err(message.into()),
        Event::Panic(message) => panic!("{message}"),
        Event::Exit(code) => {
            std::io::stdout().flush()?;
            std::process::exit(code)
        }
    };
    Ok(serde_json::value::to_raw_value(&reply)?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // What tests want instead of a function in working order.
    match std::env::var("BEHAVIOUR").as_deref() {
        Ok("exit") => {
            eprintln!("cannot find my table");
            std::process::exit(7);
        }
        // Tells the test where the Runtime API is, and leaves it to the test.
        Ok(address) => {
            let mut test = TcpStream::connect(address).await?;
            let runtime_api = std::env::var("AWS_LAMBDA_RUNTIME_API")?;
            test.write_all(format!("{runtime_api}\n").as_bytes())
                .await?;
            test.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        }
        Err(_) => {}
    }
    lambda_runtime::tracing::init_default_subscriber();
    lambda_runtime::spawn_graceful_shutdown_handler(|| async {}).await;
    lambda_runtime::run_concurrent(service_fn(handle)).await
}
