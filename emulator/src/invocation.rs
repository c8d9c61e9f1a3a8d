//! One invocation: what a caller asks for, what the function gets, and what comes of it.

use std::sync::Arc;

use axum::http::HeaderValue;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::logs::one_line;

/// The outcome of an invocation.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The invocation's request id.
    pub request_id: Uuid,
    /// What the function returned, or a JSON object with `errorMessage` and `errorType`.
    pub payload: Bytes,
    /// Whether the function failed: it reported an error, timed out or exited.
    pub function_error: bool,
}

impl Reply {
    /// The function has failed, in the words of Lambda.
    pub(crate) fn failure(request_id: Uuid, error_type: &str, reason: &str) -> Self {
        let error = json!({
            "errorType": error_type,
            "errorMessage": format!("RequestId: {request_id} Error: {reason}"),
        });
        Self {
            request_id,
            payload: error.to_string().into(),
            function_error: true,
        }
    }
}

/// Why an event was not given to the function.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// All workers are busy and the queue is full.
    #[error("Rate Exceeded.")]
    TooManyRequests,
    /// The payload is not JSON, or a header is invalid.
    #[error("{0}")]
    InvalidRequestContent(String),
    /// The payload is larger than its invocation type allows.
    #[error("{0}")]
    RequestTooLarge(String),
    /// The emulator is shutting down.
    #[error("the emulator is shutting down")]
    Terminated,
}

impl InvokeError {
    /// The payload is larger than `limit` bytes.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::RequestTooLarge(format!(
            "Request must be smaller than {limit} bytes for the InvokeFunction operation"
        ))
    }
}

/// What a caller asks for.
pub(crate) struct InvokeRequest {
    pub(crate) request_id: Uuid,
    pub(crate) event: Bytes,
    pub(crate) function_arn: HeaderValue,
    pub(crate) trace_id: HeaderValue,
    pub(crate) client_context: Option<HeaderValue>,
    /// Whether nobody waits for the reply, so that the event may wait for a worker.
    pub(crate) asynchronous: bool,
}

/// An event on its way to a worker.
pub(crate) struct Dispatch {
    /// Identifies the attempt: an event that is handed out again gets another.
    pub(crate) invocation_id: Uuid,
    /// Milliseconds since the epoch.
    pub(crate) deadline_ms: i64,
    pub(crate) request: Arc<InvokeRequest>,
}

/// An invocation that has no reply yet.
pub(crate) struct Invocation {
    pub(crate) request: Arc<InvokeRequest>,
    pub(crate) caller: oneshot::Sender<Reply>,
}

/// What an error of the function says, on one line.
pub(crate) fn describe(error: &[u8]) -> String {
    let value: Value = serde_json::from_slice(error).unwrap_or_default();
    one_line(
        &match (value["errorType"].as_str(), value["errorMessage"].as_str()) {
            (Some(kind), Some(message)) => format!("{kind}: {message}"),
            _ => String::from_utf8_lossy(error).into_owned(),
        },
    )
}
