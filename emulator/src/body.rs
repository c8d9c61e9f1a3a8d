//! Reading an HTTP body into memory, within bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tracing::warn;

use crate::api_error::ApiError;
use crate::invocation::InvokeError;
use crate::shared::Shared;

/// The largest payload of an event or a reply, in bytes: 6 MB.
pub(crate) const MAX_PAYLOAD: usize = 6 * 1024 * 1024;

/// How many bytes of a refused body to read and discard. Some clients send their whole request
/// before they read the response; closing the connection early would reset it under them.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;

/// How many [parts](PART) the bodies of all callers may take together: 256 MB.
pub(crate) const ROOM: usize = 16 * 1024;

/// A body is counted in parts of this many bytes. A smaller one is not counted.
const PART: usize = 16 * 1024;

/// Handles a request when there is room for its body, which takes the room until its response begins. So
/// memory is bounded, however many callers send large events at once.
pub(crate) async fn wait_for_room(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // A chunked body may turn out to be as large as the limit.
    let length = request.body().size_hint().upper();
    let length = length.and_then(|length| usize::try_from(length).ok());
    let parts = length.map_or(MAX_PAYLOAD, |length| length.min(MAX_PAYLOAD)) / PART;
    let room = shared
        .room
        .acquire_many(u32::try_from(parts).unwrap_or(u32::MAX));
    let Ok(Ok(_room)) = timeout(shared.settings.read_timeout, room).await else {
        warn!("a caller was throttled: large events fill the memory");
        return Err(InvokeError::TooManyRequests.into());
    };
    Ok(next.run(request).await)
}

/// Reads the whole of `body`, which must be complete within `read_timeout`. What is larger than `limit`
/// bytes is discarded.
pub(crate) async fn read(
    body: Body,
    limit: usize,
    read_timeout: Duration,
) -> Result<Bytes, ApiError> {
    let Ok(read) = timeout(read_timeout, read_whole(body, limit)).await else {
        let seconds = read_timeout.as_secs();
        let message = format!("The body was not complete within {seconds} seconds");
        let status = StatusCode::REQUEST_TIMEOUT;
        return Err(ApiError::new(status, "RequestTimeoutException", message));
    };
    let whole = read.map_err(|error| {
        InvokeError::InvalidRequestContent(format!("The body could not be read: {error}"))
    })?;
    whole.ok_or_else(|| InvokeError::too_large(limit).into())
}

/// Returns `None` if it is larger.
async fn read_whole(mut body: Body, limit: usize) -> Result<Option<Bytes>, axum::Error> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let mut whole = BytesMut::with_capacity(announced.min(limit));
    let mut length = 0;
    while length <= MAX_DISCARDED
        && let Some(frame) = body.frame().await
    {
        let data = frame?.into_data().unwrap_or_default();
        length += data.len();
        if length <= limit {
            whole.extend_from_slice(&data);
        } else {
            whole = BytesMut::new();
        }
    }
    Ok((length <= limit).then(|| whole.freeze()))
}
