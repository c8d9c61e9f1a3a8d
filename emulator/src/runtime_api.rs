//! The Runtime API, which the function's process polls.
//!
//! Statuses and error bodies are RIE's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::net::TcpListener;
use tracing::{info, warn};
use uuid::Uuid;

use crate::body::{self, MAX_PAYLOAD};
use crate::connection::{Breakage, Connection, Connections};
use crate::environment::Shared;
use crate::extensions::{self, Extensions};
use crate::faults::Fault;
use crate::http::{JSON, accepted, error, header_value};
use crate::invocation::Reply;
use crate::lock::lock;
use crate::origin;
use crate::workers::ReplyError;

/// RIE takes replies of 6 MiB and 100 bytes; the real service names the same number.
const MAX_REPLY: usize = MAX_PAYLOAD + 100;

/// The largest body of an error, in bytes: 1 MiB.
const MAX_ERROR: usize = 1024 * 1024;

/// The function has this long to send the body of a request.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// A streamed response that lasts longer is cut off, so that its worker polls again while the next
/// event may still wait for it.
const STREAM_TIMEOUT: Duration = Duration::from_millis(100);

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const INVOCATION_ID: HeaderName = HeaderName::from_static("lambda-runtime-invocation-id");
const DEADLINE_MS: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const FUNCTION_ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");
const RESPONSE_MODE: HeaderName = HeaderName::from_static("lambda-runtime-function-response-mode");

/// The Runtime API of one execution environment.
pub(crate) struct RuntimeApi {
    shared: Arc<Shared>,
    extensions: Arc<Extensions>,
    /// The execution environment's number.
    environment: AtomicU64,
    /// Whether somebody else starts the function, and starts it again.
    is_attached: bool,
    connections: Arc<Connections>,
    /// Held while it is decided whether a request comes from another process.
    decision: Mutex<()>,
}

type Api = State<Arc<RuntimeApi>>;

impl RuntimeApi {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        extensions: &Arc<Extensions>,
        environment: u64,
        is_attached: bool,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            extensions: Arc::clone(extensions),
            environment: environment.into(),
            is_attached,
            connections: Arc::default(),
            decision: Mutex::default(),
        }
    }

    fn environment(&self) -> u64 {
        self.environment.load(Ordering::Relaxed)
    }

    /// Begins another execution environment if a request comes from another process than those before:
    /// it polls or registers after all connections have been closed, or registers a name again. A process
    /// that only paused goes on with the reply to an event, on a connection of its own.
    fn notice_restart(&self, request: &Request) {
        let path = request.uri().path();
        let is_reply = *request.method() == Method::POST && path.contains("/invocation/");
        let is_registration = path.ends_with("/register");
        // No request goes on in an execution environment that another is about to end.
        let _decision = lock(&self.decision);
        let all_closed = self.connections.were_all_closed() && !is_reply;
        let registers_again = is_registration && self.extensions.has(request.headers());
        if !all_closed && !registers_again {
            return;
        }
        let (invocations, old) = (&self.shared.invocations, self.environment());
        if invocations.is_current(old) {
            info!("the function has been started again");
            let (new, _) = invocations.start_environment();
            self.environment.store(new, Ordering::Relaxed);
            self.extensions.reset();
            invocations.environment_ended(old, "Runtime exited without providing a reason");
        } else if is_registration {
            // The other has not come as far as its first poll.
            self.extensions.reset();
        }
    }
}

/// Serves the Runtime API for ever.
pub(crate) async fn serve(listener: TcpListener, api: RuntimeApi) {
    let connections = Arc::clone(&api.connections);
    connections.serve(&listener, &router(Arc::new(api))).await;
}

fn router(api: Arc<RuntimeApi>) -> Router {
    let invocation = "/2018-06-01/runtime/invocation";
    let extensions = extensions::router(Arc::clone(&api.extensions));
    let watch = async |State(api): Api, request: Request, next: Next| {
        if api.is_attached {
            api.notice_restart(&request);
        }
        next.run(request).await
    };
    let watch = middleware::from_fn_with_state(Arc::clone(&api), watch);
    Router::new()
        // A HEAD request would take an event and not get it.
        .route(
            &format!("{invocation}/next"),
            get(next_invocation).head(wrong_method),
        )
        .route(
            &format!("{invocation}/{{request_id}}/response"),
            post(post_reply),
        )
        .route(
            &format!("{invocation}/{{request_id}}/error"),
            post(post_reply),
        )
        .route("/2018-06-01/runtime/init/error", post(post_init_error))
        .route("/2018-06-01/ping", get(async || "pong"))
        .with_state(api)
        .merge(extensions)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(origin::no_page))
        .layer(watch)
}

async fn next_invocation(
    State(api): Api,
    Extension(connection): Extension<Connection>,
) -> Response {
    if connection.is_broken() {
        // A poll behind a post whose fault broke the connection. Nobody would see the event.
        return accepted();
    }
    match api.shared.faults.take(Fault::is_of_poll) {
        Some(Fault::PollStatus(status)) => return injected(status),
        Some(_) => return broken(Breakage::Reset, &connection),
        None => {}
    }
    api.extensions.wait_until_ready().await;
    let (invocations, environment) = (&api.shared.invocations, api.environment());
    let Some(dispatch) = invocations.next(environment).await else {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "Ended",
            "This execution environment has ended",
        );
    };
    match api.shared.faults.take(Fault::is_of_event) {
        Some(Fault::EventWithoutHeaders) => {
            invocations.give_back(environment, dispatch.request.request_id);
            return dispatch.request.event.clone().into_response();
        }
        Some(Fault::EventHeadCut) => {
            invocations.give_back(environment, dispatch.request.request_id);
            return broken(Breakage::CutInHead, &connection);
        }
        Some(_) => connection.break_with(Breakage::CutAfterHead),
        None => {}
    }
    let request = dispatch.request;
    let mut response = Response::new(Body::from(request.event.clone()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(REQUEST_ID, header_value(&request.request_id.to_string()));
    headers.insert(
        INVOCATION_ID,
        header_value(&dispatch.invocation_id.to_string()),
    );
    headers.insert(DEADLINE_MS, dispatch.deadline_ms.into());
    headers.insert(FUNCTION_ARN, request.function_arn.clone());
    headers.insert(TRACE_ID, request.trace_id.clone());
    if let Some(client_context) = &request.client_context {
        headers.insert(CLIENT_CONTEXT, client_context.clone());
    }
    response
}

/// Handles `POST …/response` and `POST …/error`.
async fn post_reply(
    State(api): Api,
    Extension(connection): Extension<Connection>,
    Path(request_id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    let fault = api.shared.faults.take(Fault::is_of_post);
    match fault {
        Some(Fault::PostStatus(status)) => {
            // A body that is not read would end the connection.
            let _ = body::discard(body, READ_TIMEOUT).await;
            return injected(status);
        }
        Some(Fault::PostReset) => return broken(Breakage::Reset, &connection),
        Some(Fault::PostBodyReset) => {
            let _ = body.frame().await;
            return broken(Breakage::Reset, &connection);
        }
        Some(Fault::PostResponseReset) => connection.break_with(Breakage::Reset),
        Some(Fault::PostResponseCut) => connection.break_with(Breakage::CutInHead),
        Some(Fault::PollDiscarded) => connection.break_with(Breakage::CutAfterResponse),
        _ => {}
    }
    let function_error = uri.path().ends_with("/error");
    let accepted = api.accept(&request_id, &headers, body, function_error);
    let mut response = accepted.await;
    if fault == Some(Fault::PostClose) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    if response.status() != StatusCode::ACCEPTED {
        warn!(
            "Runtime API: {} to the reply to {request_id:?}",
            response.status()
        );
    }
    response
}

impl RuntimeApi {
    /// Accepts a reply, or tells the caller and the function why not.
    async fn accept(
        &self,
        request_id: &str,
        headers: &HeaderMap,
        body: Body,
        function_error: bool,
    ) -> Response {
        let (invocations, environment) = (&self.shared.invocations, self.environment());
        // No invocation has the nil UUID.
        let id = Uuid::try_parse(request_id).unwrap_or_default();
        let invocation_id = headers.get(INVOCATION_ID);
        let invocation_id = invocation_id.map(|id| id.to_str().unwrap_or_default());
        let reply = |payload, function_error, response| {
            let reply = Reply {
                request_id: id,
                payload,
                function_error,
            };
            let accepted = invocations.reply(environment, invocation_id, reply);
            accepted.map_or_else(|error| refused(&error), |()| response)
        };
        let mode = headers.get(RESPONSE_MODE).map(HeaderValue::as_bytes);
        if let Some(message) = unsupported(mode)
            && !function_error
        {
            warn!("Runtime API: {message}");
            let response = bad_request("InvalidFunctionResponseMode", message);
            // The caller is told at once: a stream may last longer than the invocation.
            let error_type = "Runtime.InvalidResponseModeHeader";
            let response = reply(payload(error_type, message), true, response);
            let _ = body::discard(body, STREAM_TIMEOUT).await;
            return response;
        }
        // The body of a reply that will be refused is not kept.
        let limit = if function_error { MAX_ERROR } else { MAX_REPLY };
        let is_wanted = invocations.check(environment, id, invocation_id).is_ok();
        match body::read(body, if is_wanted { limit } else { 0 }, READ_TIMEOUT).await {
            Ok(payload) => reply(payload, function_error, accepted()),
            Err(error) if error.status == StatusCode::PAYLOAD_TOO_LARGE => {
                reply(too_large(limit), true, refused_size(limit))
            }
            // The function may post it again, on another connection.
            Err(_) => {
                let message = "HTTP request detected as truncated";
                bad_request("TruncatedHTTPRequest", message)
            }
        }
    }
}

/// What is wrong with the response mode that a function asks for.
fn unsupported(mode: Option<&[u8]>) -> Option<&'static str> {
    match mode {
        None | Some(b"") => None,
        Some(b"streaming") => Some(
            "The function streams its response, which cargo local does not support: return the \
             response in one piece",
        ),
        Some(_) => Some("Invalid function response mode"),
    }
}

/// The error that a caller gets in place of a reply that is refused.
fn payload(error_type: &str, message: &str) -> Bytes {
    let error = json!({ "errorType": error_type, "errorMessage": message });
    error.to_string().into()
}

/// What the caller gets if the reply is too large, in the words of the real service.
fn too_large(limit: usize) -> Bytes {
    let message =
        format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
    payload("Function.ResponseSizeTooLarge", &message)
}

fn refused_size(limit: usize) -> Response {
    let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    error(status, "RequestEntityTooLarge", &message)
}

fn refused(refusal: &ReplyError) -> Response {
    match refusal {
        ReplyError::Late | ReplyError::Stale => {
            error(StatusCode::GONE, "InvokeTimeout", "Invoke timeout")
        }
        ReplyError::Unknown => bad_request("InvalidRequestID", "Invalid request ID"),
    }
}

fn bad_request(error_type: &str, message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, error_type, message)
}

async fn post_init_error(State(api): Api, body: Body) -> Response {
    let Ok(body) = body::read(body, MAX_PAYLOAD, READ_TIMEOUT).await else {
        return bad_request("InvalidRequest", "The body cannot be read");
    };
    if (api.shared.invocations).init_error(api.environment(), body) {
        return accepted();
    }
    error(
        StatusCode::FORBIDDEN,
        "InvalidStateTransition",
        "State transition from Ready to InitError failed for runtime. \
         Error: State transition is not allowed",
    )
}

async fn unknown_path(method: Method, uri: Uri) -> Response {
    no_such_request(StatusCode::NOT_FOUND, &method, &uri)
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    no_such_request(StatusCode::METHOD_NOT_ALLOWED, &method, &uri)
}

fn no_such_request(status: StatusCode, method: &Method, uri: &Uri) -> Response {
    warn!("Runtime API: no such request: {method} {uri}");
    error(status, "NotFound", "No such method and path")
}

/// A response that does not arrive whole.
fn broken(how: Breakage, connection: &Connection) -> Response {
    connection.break_with(how);
    accepted()
}

fn injected(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, "Injected", "A fault that a test asked for")
}
