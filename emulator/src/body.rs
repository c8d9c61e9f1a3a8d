//! Reading an HTTP body into memory, within bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use crate::api_error::ApiError;
use crate::invocation::InvokeError;

/// The largest payload of an event or a reply, in bytes: 6 MB.
pub(crate) const MAX_PAYLOAD: usize = 6 * 1024 * 1024;

/// How many bytes of a refused body to read and discard. Some clients send their whole request
/// before they read the response; closing the connection early would reset it under them.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;

/// The memory that all large bodies may take together, in KiB.
const LARGE_BODIES_KIB: u32 = 256 * 1024;

/// A body of at most this many bytes is not large.
const SMALL: usize = 16 * 1024;

/// Reads the bodies of callers. However many large bodies arrive at once, their memory is bounded:
/// a large body is read only when there is room for it.
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
    read_timeout: Duration,
}

/// A body that was read. A large one takes room until this is dropped.
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Bodies {
    pub(crate) fn new(read_timeout: Duration) -> Self {
        Self {
            room: Arc::new(Semaphore::new(LARGE_BODIES_KIB as usize)),
            read_timeout,
        }
    }

    /// Reads the whole of `body` if it is at most `limit` bytes.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<Payload, ApiError> {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: usize| length > limit) {
            discard(body, self.read_timeout).await?;
            return Err(InvokeError::too_large(limit).into());
        }
        // A chunked body may turn out to be as large as the limit.
        let most = length.unwrap_or(limit);
        let large = if most <= SMALL { 0 } else { most };
        let kib = u32::try_from(large.div_ceil(1024)).unwrap_or(LARGE_BODIES_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib);
        let Ok(Ok(room)) = timeout(self.read_timeout, room).await else {
            warn!("a caller was throttled: large events fill the memory");
            return Err(InvokeError::TooManyRequests.into());
        };
        let bytes = read(body, limit, self.read_timeout).await?;
        Ok(Payload { bytes, _room: room })
    }
}

/// Reads and drops a body that will be refused, because some clients read the response only after
/// they have sent everything.
pub(crate) async fn discard(body: Body, read_timeout: Duration) -> Result<(), ApiError> {
    match read(body, 0, read_timeout).await {
        Err(error) if error.status != StatusCode::PAYLOAD_TOO_LARGE => Err(error),
        _ => Ok(()),
    }
}

/// Reads the whole of `body` if it is at most `limit` bytes and complete within `read_timeout`.
pub(crate) async fn read(
    body: Body,
    limit: usize,
    read_timeout: Duration,
) -> Result<Bytes, ApiError> {
    let read = timeout(read_timeout, read_whole(body, limit)).await;
    read.map_err(|_| ApiError::timed_out(read_timeout))?
        .map_err(|error| {
            let message = format!("The body could not be read: {error}");
            InvokeError::InvalidRequestContent(message)
        })?
        .ok_or_else(|| InvokeError::too_large(limit).into())
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
