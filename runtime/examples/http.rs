//! An axum router behind a function URL or an HTTP API. The events of REST APIs, load balancers and
//! VPC Lattice are features of `lambda_http`.
//!
//! ```sh
//! cargo build -p lmi-runtime --example http
//! cargo local --bootstrap target/debug/examples/http
//! curl http://127.0.0.1:9001/hello/Ada
//! ```

use std::process::ExitCode;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use lambda_http::{Adapter, Service, service_fn};

fn main() -> ExitCode {
    let router = Router::new().route("/hello/{name}", get(hello));
    // An adapter for an axum router cannot be sent to another thread, so each event gets its own.
    let service = service_fn(move |event| Adapter::from(router.clone()).call(event));
    lmi_runtime::run(lmi_runtime::service(service))
}

async fn hello(Path(name): Path<String>) -> String {
    format!("Hello, {name}!\n")
}
