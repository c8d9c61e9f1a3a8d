//! Reading an HTTP body into memory, within bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
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

/// How many [parts](PART) all events may take together: 256 MB.
pub(crate) const ROOM: usize = 16 * 1024;

/// An event is counted in parts of this many bytes. A smaller one is not counted.
const PART: usize = 16 * 1024;

/// An event that takes room for as long as it is kept.
struct Counted {
    event: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.event
    }
}

/// Reads an event when there is room for it. So memory is bounded, however many callers send large
/// ones at once.
pub(crate) async fn read_event(shared: &Shared, body: Body) -> Result<Bytes, ApiError> {
    let read_timeout = shared.settings.read_timeout;
    let length = match body.size_hint().upper().map(usize::try_from) {
        // It may turn out to be as large as the limit.
        None => MAX_PAYLOAD,
        Some(Ok(length @ ..=MAX_PAYLOAD)) => length,
        Some(_) => 0, // it is discarded
    };
    let room = Arc::clone(&shared.room);
    let room = room.acquire_many_owned(u32::try_from(length / PART).unwrap_or(u32::MAX));
    let Ok(Ok(room)) = timeout(read_timeout, room).await else {
        warn!("a caller was throttled: large events fill the memory");
        return Err(InvokeError::TooManyRequests.into());
    };
    let event = read(body, MAX_PAYLOAD, read_timeout).await?;
    Ok(Bytes::from_owner(Counted { event, _room: room }))
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
    let mut longest = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::with_capacity(if longest <= limit { longest } else { 0 });
    let mut length = 0;
    while length <= MAX_DISCARDED
        && let Some(frame) = body.frame().await
    {
        let data = frame?.into_data().unwrap_or_default();
        length += data.len();
        longest = longest.max(length);
        if longest <= limit {
            whole.extend_from_slice(&data);
        } else {
            whole = BytesMut::new();
        }
    }
    Ok((longest <= limit).then(|| whole.freeze()))
}
