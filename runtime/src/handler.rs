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
/// ```no_run
/// use std::process::ExitCode;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// use lmi_runtime::Invocation;
///
/// fn main() -> ExitCode {
///     let counter = Arc::new(AtomicU64::new(0));
///     lmi_runtime::run(async move |invocation: &Invocation| count(&counter, invocation).await)
/// }
///
/// async fn count(counter: &AtomicU64, invocation: &Invocation) -> Result<String, &'static str> {
///     if invocation.payload() != b"{}" {
///         return Err("the event must be {}");
///     }
///     Ok(counter.fetch_add(1, Relaxed).to_string())
/// }
/// ```
///
/// Each worker has a clone of its own, and calls it for one invocation at a time. A worker stays on
/// its thread, so the future need not be [`Send`]. A function's error is logged as [`Debug`] has it, up
/// to its first KB, and goes to the caller as the [`Diagnostic`] that it converts into.
#[diagnostic::on_unimplemented(
    note = "`lmi_runtime::service` makes a handler of a tower service, such as `service_fn(..)`"
)]
pub trait Handler: Clone + Send + 'static {
    /// Handles an invocation.
    ///
    /// # Errors
    ///
    /// What the caller gets as a function error, which is for the handler to log. A panic becomes one,
    /// too.
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
    log_error(invocation, &format!("{error:?}"));
    error.into()
}

pub(crate) fn log_error(invocation: &Invocation, message: &str) {
    error!(
        requestId = invocation.request_id(),
        "{}",
        excerpt(message.as_bytes())
    );
}
