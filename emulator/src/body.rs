//! Reading an HTTP body into memory, within bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// A body has to be complete within this time.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of a body that is not wanted is read and thrown away. A client that writes its whole
/// request before it reads anything would see a reset connection instead of the answer.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;

/// The memory that larger bodies may take together, in KiB.
const LARGE_BODIES_KIB: u32 = 256 * 1024;

/// A body up to this many bytes is not counted.
const SMALL: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("The body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("The body was not complete within {} seconds", READ_TIMEOUT.as_secs())]
    TimedOut,
    #[error("The body could not be read: {0}")]
    Broken(#[from] axum::Error),
    #[error("Too many large bodies at once")]
    NoRoom,
}

/// The bodies of all callers, which are many and not in step with the function. However many come
/// at once, their memory is bounded: a large one is read when there is room.
pub(crate) struct Bodies(Arc<Semaphore>);

/// A body that takes its room until its last byte has been written to the function.
struct Held {
    body: Bytes,
    #[expect(dead_code, reason = "it is given back when this is dropped")]
    room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES_KIB as usize)))
    }

    /// Reads the whole of `body` if it has at most `limit` bytes.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<Bytes, BodyError> {
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        // A chunked body may turn out to be as large as any.
        let most = length.unwrap_or(limit).min(limit);
        if length.is_some_and(|length: usize| length > limit) {
            discard(body).await?;
            return Err(BodyError::TooLarge(limit));
        }
        if most <= SMALL {
            return read(body, limit).await;
        }
        let room = u32::try_from(most.div_ceil(1024)).unwrap_or(LARGE_BODIES_KIB);
        let room = Arc::clone(&self.0).acquire_many_owned(room);
        let Ok(Ok(room)) = timeout(READ_TIMEOUT, room).await else {
            return Err(BodyError::NoRoom);
        };
        let body = read(body, limit).await?;
        Ok(Bytes::from_owner(Held { body, room }))
    }
}

/// Reads a body that is not wanted, for a client that reads no answer before it has written all.
pub(crate) async fn discard(body: Body) -> Result<(), BodyError> {
    match read(body, 0).await {
        Ok(_) | Err(BodyError::TooLarge(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads the whole of `body` if it has at most `limit` bytes.
pub(crate) async fn read(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let deadline = Instant::now() + READ_TIMEOUT;
    // Most bodies come in one piece, which needs no copy.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = timeout_at(deadline, body.frame())
        .await
        .map_err(|_| BodyError::TimedOut)?
    {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        length += data.len();
        if length > limit {
            (first, whole) = Default::default();
            if length > MAX_DISCARDED {
                break;
            }
        } else if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                let rest = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
                whole.reserve(length + rest.min(limit - length));
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    if length > limit {
        return Err(BodyError::TooLarge(limit));
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}
