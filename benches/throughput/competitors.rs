//! The competitors on `lambda_runtime`, each the whole of a process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::sequence::{self, Index};
use http_body::{Frame, SizeHint};
use lambda_runtime::tower::layer::layer_fn;
use lambda_runtime::{Error, LambdaEvent, LambdaInvocation, Runtime, service_fn, tracing};
use lambda_runtime_api_client::{PooledClient, body::Body, build_request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::iterative;

#[derive(Deserialize)]
struct Event {
    n: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response {
    status_code: u16,
    headers: Headers,
    body: String,
}

#[derive(Serialize)]
struct Headers {
    #[serde(rename = "Content-Type")]
    content_type: &'static str,
}

impl Response {
    pub(crate) fn new(n: u16, prefix: &str) -> Self {
        Self {
            status_code: 200,
            headers: Headers {
                content_type: "application/json",
            },
            body: format!(r#"{{"n": {n}, "sequence": [{prefix}]}}"#),
        }
    }
}

/// Runs a competitor as its `main` would.
pub(crate) fn run(competitor: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::runtime::Runtime::new()?.block_on(async {
        tracing::init_default_subscriber();
        competitor.await
    })
}

/// The least that a handler can do.
pub(crate) async fn no_op() -> Result<(), Error> {
    lambda_runtime::run_concurrent(service_fn(|_: LambdaEvent<Value>| async {
        Ok::<_, Error>(json!({}))
    }))
    .await
}

/// The table, used as the documentation of `lambda_runtime` suggests.
pub(crate) async fn stock() -> Result<(), Error> {
    lambda_runtime::run_concurrent(service_fn(|event: LambdaEvent<Event>| async move {
        let n = event.payload.n;
        let index = Index::new(n).ok_or("n is above 1000")?;
        Ok::<_, Error>(Response::new(n, sequence::prefix(index)))
    }))
    .await
}

/// No table.
pub(crate) async fn iterative() -> Result<(), Error> {
    lambda_runtime::run_concurrent(service_fn(|event: LambdaEvent<Event>| async move {
        let n = event.payload.n;
        Ok::<_, Error>(Response::new(n, &iterative::prefix(n)))
    }))
    .await
}

/// The table's slices, posted past `lambda_runtime`'s serialisation.
pub(crate) async fn seam() -> Result<(), Error> {
    let client = Arc::new(PooledClient::builder().with_pool_size(64).build());
    let post_slices = layer_fn(|_| {
        let client = client.clone();
        service_fn(move |invocation: LambdaInvocation| {
            let client = client.clone();
            async move {
                let reply = Reply::from(event::parse(&invocation.body));
                let request_id = &invocation.context.request_id;
                let mut request = build_request().method("POST").uri(format!(
                    "/2018-06-01/runtime/invocation/{request_id}/response"
                ));
                if let Some(id) = invocation.parts.headers.get("lambda-runtime-invocation-id") {
                    request = request.header("lambda-runtime-invocation-id", id);
                }
                let body = Slices(reply.slices().map(Bytes::from_static), 0);
                client.call(request.body(Body::new(body))?).await?;
                Ok(())
            }
        })
    });
    let replaced = service_fn(|_: LambdaEvent<Value>| async { Ok::<_, Error>(()) });
    Runtime::new(replaced)
        .layer(post_slices)
        .run_concurrent()
        .await
}

/// A body of three frames, of which this many are sent.
struct Slices([Bytes; 3], usize);

impl http_body::Body for Slices {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self(slices, sent) = &mut *self;
        let slice = slices.get(*sent).cloned();
        *sent += 1;
        Poll::Ready(slice.map(|slice| Ok(Frame::data(slice))))
    }

    fn size_hint(&self) -> SizeHint {
        let Self(slices, sent) = self;
        let rest = slices.iter().skip(*sent);
        SizeHint::with_exact(rest.map(|slice| slice.len() as u64).sum())
    }
}
