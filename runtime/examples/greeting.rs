//! JSON in and out, written for `lambda_runtime`. The handler awaits something, and logs.
//!
//! ```sh
//! cargo build -p lmi-runtime --example greeting
//! cargo local --bootstrap target/debug/examples/greeting invoke '{"name": "Ada"}'
//! ```

use std::process::ExitCode;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn, tracing};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

#[derive(Deserialize)]
struct Event {
    name: String,
}

#[derive(Serialize)]
struct Reply {
    greeting: String,
}

fn main() -> ExitCode {
    lmi_runtime::run(lmi_runtime::service(service_fn(greet)))
}

async fn greet(event: LambdaEvent<Event>) -> Result<Reply, Error> {
    let name = event.payload.name;
    if name.is_empty() {
        return Err("the name is empty".into());
    }
    sleep(Duration::from_millis(50)).await; // a database, say
    tracing::debug!("greeting"); // the line has the request id
    Ok(Reply {
        greeting: format!("Hello, {name}!"),
    })
}
