//! The competitors that use `lambda_runtime`. Each runs in a process of its own.

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use fibonacci_generator::{event, reply};
use http_body::{Frame, SizeHint};
use lambda_runtime::tower::layer::layer_fn;
use lambda_runtime::{Error, LambdaEvent, LambdaInvocation, Runtime, Service, service_fn, tracing};
use lambda_runtime_api_client::{PooledClient, body::Body, build_request};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::handlers::Response;

#[derive(Deserialize)]
struct Event {
    n: u16,
}

/// Runs a competitor as its `main` would.
pub(crate) fn run(competitor: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::runtime::Runtime::new()?.block_on(async {
        tracing::init_default_subscriber();
        competitor.await
    })
}

/// A handler that does nothing.
pub(crate) async fn no_op() -> Result<(), Error> {
    lambda_runtime::run_concurrent(service_fn(|_: LambdaEvent<Value>| async {
        Ok::<_, Error>(json!({}))
    }))
    .await
}

/// A handler as the documentation of `lambda_runtime` suggests it: serde copies and escapes the
/// reply.
fn handler(
    response: fn(u16) -> Response,
) -> impl Service<LambdaEvent<Event>, Response = Response, Error = Error, Future: Send> + Clone + Send
{
    service_fn(move |event: LambdaEvent<Event>| async move { Ok(response(event.payload.n)) })
}

pub(crate) async fn run_concurrent(response: fn(u16) -> Response) -> Result<(), Error> {
    lambda_runtime::run_concurrent(handler(response)).await
}

/// Such a handler on this function's loop.
pub(crate) fn service(response: fn(u16) -> Response) -> ExitCode {
    lmi_runtime::run(lmi_runtime::service(handler(response)))
}

/// The table's slices, posted by a tower layer that replaces `lambda_runtime`'s own posting.
pub(crate) async fn layer() -> Result<(), Error> {
    let replaced = service_fn(|_: LambdaEvent<Value>| async { Ok::<_, Error>(()) });
    Runtime::new(replaced)
        .layer(layer_fn(|_| service_fn(post_slices)))
        .run_concurrent()
        .await
}

async fn post_slices(invocation: LambdaInvocation) -> Result<(), Error> {
    static CLIENT: LazyLock<PooledClient> =
        LazyLock::new(|| PooledClient::builder().with_pool_size(64).build());

    let reply = reply::slices(event::parse(&invocation.body));
    let request_id = &invocation.context.request_id;
    let mut request = build_request().method("POST").uri(format!(
        "/2018-06-01/runtime/invocation/{request_id}/response"
    ));
    if let Some(id) = invocation.parts.headers.get("lambda-runtime-invocation-id") {
        request = request.header("lambda-runtime-invocation-id", id);
    }
    let body = Slices {
        slices: reply.map(Bytes::from_static),
        sent: 0,
    };
    CLIENT.call(request.body(Body::new(body))?).await?;
    Ok(())
}

/// A body that sends each slice as a frame.
struct Slices {
    slices: [Bytes; 3],
    sent: usize,
}

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let slice = self.slices.get(self.sent).cloned();
        self.sent += 1;
        Poll::Ready(slice.map(|slice| Ok(Frame::data(slice))))
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.slices.iter().skip(self.sent);
        SizeHint::with_exact(rest.map(|slice| slice.len() as u64).sum())
    }
}
