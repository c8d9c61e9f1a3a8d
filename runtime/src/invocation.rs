use std::ops::Range;
use std::time::{Duration, SystemTime};

use crate::http::{MAX_KEPT_CAPACITY, headers};

/// An event, and what the Runtime API says of it.
///
/// The accessors other than [`payload`](Self::payload) and [`request_id`](Self::request_id) look a
/// header up when they are called, so what a handler does not ask for costs nothing.
#[derive(Debug, Default)]
pub struct Invocation {
    /// What the event was received into. The ranges say where the head of its response is, and its
    /// payload if it arrived whole.
    pub(crate) buffer: Vec<u8>,
    pub(crate) head: Range<usize>,
    pub(crate) short_payload: Range<usize>,
    /// The payload if it did not arrive whole.
    pub(crate) long_payload: Vec<u8>,
    pub(crate) request_id: String,
    /// The header line that tells one attempt at an invocation from another, to be sent back. It
    /// may be empty.
    pub(crate) echoed_header: String,
}

impl Invocation {
    /// An event with this payload and a request id, and nothing else. It is for tests of handlers:
    ///
    /// ```
    /// use lmi_runtime::Invocation;
    ///
    /// async fn length(invocation: &Invocation) -> Result<String, &'static str> {
    ///     Ok(invocation.payload().len().to_string())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// assert_eq!(length(&Invocation::new("[1, 2]")).await, Ok("6".to_owned()));
    /// # }
    /// ```
    #[must_use]
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        let buffer = payload.into();
        Self {
            short_payload: 0..buffer.len(),
            buffer,
            request_id: "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned(),
            ..Self::default()
        }
    }

    /// The event's bytes, up to 6 MB. Lambda's Invoke API accepts JSON only.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        if self.long_payload.is_empty() {
            &self.buffer[self.short_payload.clone()]
        } else {
            &self.long_payload
        }
    }

    /// Names the invocation in logs and to its caller. 1 to 256 letters, digits and hyphens.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// When Lambda tells the caller that the function timed out. That does not stop the handler.
    #[must_use]
    pub fn deadline(&self) -> Option<SystemTime> {
        let ms = self.header("lambda-runtime-deadline-ms")?.parse().ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))
    }

    /// The function's ARN, with the version or alias that the caller named.
    #[must_use]
    pub fn function_arn(&self) -> Option<&str> {
        self.header("lambda-runtime-invoked-function-arn")
    }

    /// The X-Ray trace header, for example `Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0`.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.header("lambda-runtime-trace-id")
    }

    /// The tenant, if the function isolates tenants.
    #[must_use]
    pub fn tenant_id(&self) -> Option<&str> {
        self.header("lambda-runtime-aws-tenant-id")
    }

    /// What the caller sent as client context, as it was sent: JSON, if the caller is right.
    #[must_use]
    pub fn client_context(&self) -> Option<&str> {
        self.header("lambda-runtime-client-context")
    }

    /// The caller's Cognito identity, as it was sent: JSON.
    #[must_use]
    pub fn cognito_identity(&self) -> Option<&str> {
        self.header("lambda-runtime-cognito-identity")
    }

    /// The names and values of all headers whose values are text.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        headers(&self.buffer[self.head.clone()])
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers();
        headers
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Empties it for the next invocation. The buffer of a large event is released.
    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.head = 0..0;
        self.short_payload = 0..0;
        self.long_payload.clear();
        if self.long_payload.capacity() > MAX_KEPT_CAPACITY {
            self.long_payload = Vec::new();
        }
        self.request_id.clear();
        self.echoed_header.clear();
    }
}
