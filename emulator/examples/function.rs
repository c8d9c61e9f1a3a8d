//! A function that does what its event says: the one that the emulator's tests run.

use std::collections::HashMap;
use std::io::Write;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Event {
    /// Replies with the value.
    Echo(Value),
    /// Connects to the address, waits until the connection is closed and replies with `null`.
    Gate(String),
    /// Prints the text with the request id, then without, and replies with `null`.
    Log(String),
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

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    // The body of an HTTP event may be the instruction. What is none is sent back.
    let body = event["body"]
        .as_str()
        .and_then(|body| serde_json::from_str(body).ok());
    let Some(instruction) = body.or_else(|| Event::deserialize(&event).ok()) else {
        return Ok(event);
    };
    match instruction {
        Event::Echo(value) => Ok(value),
        Event::Gate(address) => {
            let mut gate = TcpStream::connect(address).await?;
            gate.read_to_end(&mut Vec::new()).await?;
            Ok(Value::Null)
        }
        Event::Log(text) => {
            println!(
                "{}",
                json!({ "requestId": context.request_id, "message": text })
            );
            println!("{}", json!({ "message": text }));
            Ok(Value::Null)
        }
        Event::Context {} => Ok(json!(context)),
        Event::Environment {} => Ok(json!(std::env::vars().collect::<HashMap<_, _>>())),
        Event::Large(size) => Ok("x".repeat(size - 2).into()),
        Event::Fail(message) => Err(message.into()),
        Event::Panic(message) => panic!("{message}"),
        Event::Exit(code) => {
            std::io::stdout().flush()?;
            std::process::exit(code)
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Where its tests want something else than a function in working order.
    match std::env::var("BEHAVIOUR").as_deref() {
        Ok("exit") => {
            eprintln!("cannot find my table");
            std::process::exit(7);
        }
        Ok("hang") => std::future::pending().await,
        // Tells where the Runtime API is, and leaves it to the test.
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
