//! Handlers that were written for `lambda_runtime`'s own loop.

use std::any::{Any, type_name};
use std::env;
use std::fmt::{self, Debug, Display, Formatter};
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;

use lambda_runtime::layers::trace::request_span;
use lambda_runtime::tracing::{Instrument, error, trace};
use lambda_runtime::{
    Config, Context, Diagnostic, FunctionResponse, IntoFunctionResponse, LambdaEvent, Service,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Deserializer;

use crate::handler::{failed, log_error};
use crate::worker::catch_panic;
use crate::{Handler, Invocation, Reply};

/// Makes a handler of what [`lambda_runtime::run_concurrent`] takes: any [`tower::Service`] from a
/// [`LambdaEvent`] to something that serde can serialize.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use lambda_runtime::{Error, LambdaEvent, service_fn};
/// use serde_json::{Value, json};
///
/// async fn greet(event: LambdaEvent<Value>) -> Result<Value, Error> {
///     Ok(json!({ "greeting": format!("Hello, {}!", event.payload["name"]) }))
/// }
///
/// fn main() -> ExitCode {
///     // was: lambda_runtime::run_concurrent(service_fn(greet)).await
///     lmi_runtime::run(lmi_runtime::service(service_fn(greet)))
/// }
/// ```
///
/// The service gets the same payload and [`Context`] as from `lambda_runtime`, and runs in the same
/// `tracing` span. Callers get the same replies and errors. What `lambda_runtime` loses a worker to
/// is here an error of that invocation, with the type that AWS's runtime for Python gives it:
///
/// | what | `errorType` |
/// |---|---|
/// | a client context, Cognito identity or deadline that `Context` cannot hold | `Runtime.LambdaContextUnmarshalError` |
/// | a reply that is not serializable as JSON | `Runtime.MarshalError` |
/// | a service that fails to become ready | that of its error |
///
/// A [`StreamResponse`](lambda_runtime::StreamResponse) is an error, too, of type
/// `Runtime.StreamingNotSupported`.
///
/// [`lambda_runtime::run_concurrent`]: https://docs.rs/lambda_runtime/latest/lambda_runtime/fn.run_concurrent.html
/// [`tower::Service`]: Service
pub fn service<S, T, B, Stream>(service: S) -> impl Handler
where
    S: Service<LambdaEvent<T>> + Clone + Send + 'static,
    S::Response: IntoFunctionResponse<B, Stream>,
    S::Error: Into<Diagnostic> + Debug,
    T: DeserializeOwned + 'static,
    B: Serialize + 'static,
    Stream: 'static,
{
    let mut context = Context::default();
    context.env_config = Arc::new(config());
    Adapter {
        service,
        context,
        reply_len: 0,
        types: PhantomData::<fn(T, B, Stream)>,
    }
}

struct Adapter<S, Types> {
    service: S,
    /// What each invocation's context starts from.
    context: Context,
    /// How long the last reply was. The next one gets as much room at once, because what outgrows its
    /// room is copied.
    reply_len: usize,
    types: PhantomData<Types>,
}

impl<S: Clone, Types> Clone for Adapter<S, Types> {
    fn clone(&self) -> Self {
        // With a reference count of its own, which each invocation writes to: threads would contend
        // for one that they share.
        let mut context = self.context.clone();
        context.env_config = Arc::new(Config::clone(&self.context.env_config));
        Self {
            service: self.service.clone(),
            context,
            ..*self
        }
    }
}

impl<S, T, B, Stream> Handler for Adapter<S, fn(T, B, Stream)>
where
    S: Service<LambdaEvent<T>> + Clone + Send + 'static,
    S::Response: IntoFunctionResponse<B, Stream>,
    S::Error: Into<Diagnostic> + Debug,
    T: DeserializeOwned + 'static,
    B: Serialize + 'static,
    Stream: 'static,
{
    async fn handle(&mut self, invocation: &Invocation) -> Result<Reply, Diagnostic> {
        let context = context(&self.context, invocation).map_err(|problem| {
            refused(invocation, "Runtime.LambdaContextUnmarshalError", problem)
        })?;
        let span = request_span(&context);
        let handling = async {
            let payload = deserialize(invocation)?;
            // Not before the payload is known to be usable: a service may have reserved for the call
            // what others wait for.
            let ready = poll_fn(|task| self.service.poll_ready(task)).await;
            ready.map_err(|error| failed(invocation, error))?;
            let event = LambdaEvent::new(payload, context);
            let returned = self.service.call(event).await;
            let returned = returned.map_err(|error| failed(invocation, error))?;
            let FunctionResponse::BufferedResponse(reply) = returned.into_response() else {
                let problem = "lmi-runtime cannot stream; lambda_runtime can".to_owned();
                return Err(refused(
                    invocation,
                    "Runtime.StreamingNotSupported",
                    problem,
                ));
            };
            let mut bytes = Vec::with_capacity(self.reply_len);
            serde_json::to_writer(&mut bytes, &reply).map_err(|error| {
                let problem = format!("the reply is not serializable as JSON: {error}");
                refused(invocation, "Runtime.MarshalError", problem)
            })?;
            self.reply_len = bytes.len();
            Ok(bytes.into())
        };
        let result = catch_panic(handling, invocation.request_id());
        result.instrument(span).await.unwrap_or_else(|message| {
            let message = message.map(|message| format!(": {message}"));
            // As `lambda_runtime` has it.
            Err(Diagnostic {
                error_type: type_name::<&Box<dyn Any + Send>>().to_owned(),
                error_message: format!("Lambda panicked{}", message.unwrap_or_default()),
            })
        })
    }
}

/// What [`Config::from_env`] reads, which panics if it is not there.
fn config() -> Config {
    let variable = |name| env::var(name).unwrap_or_default();
    Config {
        function_name: variable("AWS_LAMBDA_FUNCTION_NAME"),
        memory: (variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").parse()).unwrap_or_default(),
        version: variable("AWS_LAMBDA_FUNCTION_VERSION"),
        log_stream: variable("AWS_LAMBDA_LOG_STREAM_NAME"),
        log_group: variable("AWS_LAMBDA_LOG_GROUP_NAME"),
    }
}

/// What [`Context::new`] makes of an event's headers, or what is wrong with them.
fn context(start: &Context, invocation: &Invocation) -> Result<Context, String> {
    let mut context = start.clone();
    invocation.request_id().clone_into(&mut context.request_id);
    let mut deadline = None;
    for (name, value) in invocation.headers() {
        let is = |other| name.eq_ignore_ascii_case(other);
        if is("lambda-runtime-deadline-ms") {
            deadline = value.parse().ok();
        } else if is("lambda-runtime-invoked-function-arn") {
            value.clone_into(&mut context.invoked_function_arn);
        } else if is("lambda-runtime-trace-id") {
            context.xray_trace_id = Some(value.to_owned());
        } else if is("lambda-runtime-aws-tenant-id") {
            context.tenant_id = Some(value.to_owned());
        } else if is("lambda-runtime-client-context") && !value.is_empty() {
            context.client_context = Some(read("client context", value)?);
        } else if is("lambda-runtime-cognito-identity") && !value.is_empty() {
            context.identity = Some(read("Cognito identity", value)?);
        }
    }
    context.deadline = deadline.ok_or("no usable Lambda-Runtime-Deadline-Ms")?;
    if context.invoked_function_arn.is_empty() {
        "No header lambda-runtime-invoked-function-arn found."
            .clone_into(&mut context.invoked_function_arn);
    }
    Ok(context)
}

fn read<T: DeserializeOwned>(what: &str, value: &str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|error| format!("cannot read the {what}: {error}"))
}

/// The payload as the service wants it, or the error that `lambda_runtime` reports.
fn deserialize<T: DeserializeOwned>(invocation: &Invocation) -> Result<T, Diagnostic> {
    let payload = invocation.payload();
    if let Ok(body) = str::from_utf8(payload) {
        trace!(
            requestId = invocation.request_id(),
            body, "raw JSON event received from Lambda"
        );
    }
    // To keep track of the path to an error takes longer, so that is done only if there is an error.
    T::deserialize(&mut Deserializer::from_slice(payload)).or_else(|_| {
        let tracked = serde_path_to_error::deserialize(&mut Deserializer::from_slice(payload));
        tracked.map_err(|inner| {
            let error = DeserializeError { inner };
            error!(
                requestId = invocation.request_id(),
                ?error,
                "Request payload deserialization into LambdaEvent<T> failed. The handler will not \
                 be called. Log at TRACE level to see the payload."
            );
            Diagnostic {
                error_type: "&lambda_runtime::deserializer::DeserializeError".to_owned(),
                error_message: error.to_string(),
            }
        })
    })
}

/// Looks like `lambda_runtime`'s, which is private.
#[derive(Debug)]
struct DeserializeError {
    inner: serde_path_to_error::Error<serde_json::Error>,
}

impl Display for DeserializeError {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str("failed to deserialize the incoming data into the function's payload type: ")?;
        let path = self.inner.path().to_string();
        if path != "." {
            write!(f, "[{path}] ")?;
        }
        writeln!(f, "{}", self.inner)
    }
}

/// Logs and returns that an invocation cannot be handled.
fn refused(invocation: &Invocation, error_type: &str, error_message: String) -> Diagnostic {
    log_error(invocation, &error_message);
    Diagnostic {
        error_type: error_type.to_owned(),
        error_message,
    }
}
