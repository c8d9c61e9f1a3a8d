use std::fmt::Debug;

use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::error;

use crate::log::excerpt;
use crate::{Invocation, Reply};

/// Turns an event into a reply.
///
/// Every asynchronous function and closure of this shape is a handler, and so is what
/// [`service`](crate::service) returns:
///
/// ```
/// use lmi_runtime::Invocation;
///
/// async fn handler(invocation: &Invocation) -> Result<String, std::io::Error> {
///     Ok(format!("{} bytes", invocation.payload().len()))
/// }
/// # fn main() -> std::process::ExitCode { lmi_runtime::run(handler) }
/// ```
///
/// Each worker has a clone of its own, and calls it for one invocation at a time. A worker stays on
/// its thread, so the future need not be [`Send`].
pub trait Handler: Clone + Send + 'static {
    /// Handles an invocation.
    ///
    /// # Errors
    ///
    /// What the caller gets as a function error. A panic becomes one, too.
    fn handle(
        &mut self,
        invocation: &Invocation,
    ) -> impl Future<Output = Result<Reply, Diagnostic>>;
}

impl<F, R, E> Handler for F
where
    F: AsyncFnMut(&Invocation) -> Result<R, E> + Clone + Send + 'static,
    R: Into<Reply>,
    E: Into<Diagnostic> + Debug,
{
    async fn handle(&mut self, invocation: &Invocation) -> Result<Reply, Diagnostic> {
        match self(invocation).await {
            Ok(reply) => Ok(reply.into()),
            Err(error) => Err(failed(invocation, error)),
        }
    }
}

/// Logs an error that a handler returned.
pub(crate) fn failed(invocation: &Invocation, error: impl Into<Diagnostic> + Debug) -> Diagnostic {
    let text = format!("{error:?}");
    error!(
        requestId = invocation.request_id(),
        "{}",
        excerpt(text.as_bytes())
    );
    error.into()
}
