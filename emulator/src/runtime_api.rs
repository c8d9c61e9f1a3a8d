//! The Runtime API, which the function's process polls.
//!
//! Statuses and error bodies are RIE's.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tracing::{info, warn};
use uuid::Uuid;

use crate::body::{self, MAX_PAYLOAD};
use crate::connection::{Breakage, Connection, Connections};
use crate::extensions::{self, Extensions};
use crate::faults::Fault;
use crate::http::{JSON, accepted, error, error_body, header_value};
use crate::invocation::Reply;
use crate::lock::lock;
use crate::origin;
use crate::shared::Shared;
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
struct RuntimeApi {
    shared: Arc<Shared>,
    extensions: Arc<Extensions>,
    /// The execution environment's number.
    environment: Mutex<u64>,
    /// Whether somebody else starts the function, and starts it again.
    is_attached: bool,
    connections: Arc<Connections>,
}

type Api = State<Arc<RuntimeApi>>;

impl RuntimeApi {
    fn environment(&self) -> u64 {
        *lock(&self.environment)
    }

    /// Begins another execution environment if a request comes from another process than those before:
    /// it polls or registers after all connections have been closed, or registers a name again. A process
    /// that only paused goes on with the reply to an event, on a connection of its own.
    fn notice_restart(&self, request: &Request) {
        let path = request.uri().path();
        let is_reply = *request.method() == Method::POST && path.contains("/invocation/");
        let is_registration = path.ends_with("/register");
        // No request goes on in an execution environment that another is about to end.
        let mut environment = lock(&self.environment);
        let all_closed = self.connections.were_all_closed() && !is_reply;
        let registers_again = is_registration && self.extensions.has(request.headers());
        if !all_closed && !registers_again {
            return;
        }
        let (invocations, old) = (&self.shared.invocations, *environment);
        if invocations.is_current(old) {
            info!("the function has been started again");
            (*environment, _) = invocations.start_environment();
            self.extensions.reset();
            invocations.environment_ended(old, "Runtime exited without providing a reason");
        } else if is_registration {
            // The other has not come as far as its first poll.
            self.extensions.reset();
        }
    }
}

/// Serves the Runtime API of an execution environment for ever.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    extensions: Arc<Extensions>,
    environment: u64,
    is_attached: bool,
) {
    let connections = Arc::new(Connections::default());
    let api = Arc::new(RuntimeApi {
        shared,
        extensions: Arc::clone(&extensions),
        environment: environment.into(),
        is_attached,
        connections: Arc::clone(&connections),
    });
    let watch = async |State(api): Api, request: Request, next: Next| {
        if api.is_attached {
            api.notice_restart(&request);
        }
        next.run(request).await
    };
    let watch = middleware::from_fn_with_state(Arc::clone(&api), watch);
    let no_such_request = |status: StatusCode| {
        async move |method: Method, uri: Uri| {
            warn!("Runtime API: no such request: {method} {uri}");
            error(status, "NotFound", "No such method and path")
        }
    };
    let wrong_method = no_such_request(StatusCode::METHOD_NOT_ALLOWED);
    let router = Router::new()
        .nest(
            "/2018-06-01",
            Router::new()
                // A HEAD request would take an event and not get it.
                .route(
                    "/runtime/invocation/next",
                    get(next_invocation).head(wrong_method),
                )
                .route("/runtime/invocation/{id}/response", post(post_reply))
                .route("/runtime/invocation/{id}/error", post(post_reply))
                .route("/runtime/init/error", post(post_init_error))
                .route("/ping", get(async || "pong")),
        )
        .with_state(api)
        .merge(extensions::router(extensions))
        .fallback(no_such_request(StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(origin::no_page))
        .layer(watch);
    connections.serve(&listener, &router).await;
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
        let message = "This execution environment has ended";
        return error(StatusCode::SERVICE_UNAVAILABLE, "Ended", message);
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
    let headers = [
        (header::CONTENT_TYPE, JSON),
        (REQUEST_ID, header_value(request.request_id)),
        (INVOCATION_ID, header_value(dispatch.invocation_id)),
        (DEADLINE_MS, dispatch.deadline_ms.into()),
        (FUNCTION_ARN, request.function_arn.clone()),
        (TRACE_ID, request.trace_id.clone()),
    ];
    let mut response = (headers, request.event.clone()).into_response();
    if let Some(client_context) = &request.client_context {
        let headers = response.headers_mut();
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
            let _ = body::read(body, 0, READ_TIMEOUT).await;
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
        let mode = headers.get(RESPONSE_MODE).filter(|mode| !mode.is_empty());
        if let Some(mode) = mode
            && !function_error
        {
            let message = if mode == "streaming" {
                "The function streams its response, which cargo local does not support: return the \
                 response in one piece"
            } else {
                "Invalid function response mode"
            };
            warn!("Runtime API: {message}");
            // The caller is told at once: a stream may last longer than the invocation.
            let told = error_body("Runtime.InvalidResponseModeHeader", message);
            let response = bad_request("InvalidFunctionResponseMode", message);
            let response = reply(told, true, response);
            let _ = body::read(body, 0, STREAM_TIMEOUT).await;
            return response;
        }
        let limit = if function_error { MAX_ERROR } else { MAX_REPLY };
        match body::read(body, limit, READ_TIMEOUT).await {
            Ok(payload) => reply(payload, function_error, accepted()),
            Err(refused) if refused.status == StatusCode::PAYLOAD_TOO_LARGE => {
                let what = format!("maximum allowed payload size ({limit} bytes).");
                // The words of the real service.
                let message = format!("Response payload size exceeded {what}");
                let told = error_body("Function.ResponseSizeTooLarge", &message);
                let message = format!("Exceeded {what}");
                let response = error(refused.status, "RequestEntityTooLarge", &message);
                reply(told, true, response)
            }
            // The function may post it again, on another connection.
            Err(_) => bad_request("TruncatedHTTPRequest", "HTTP request detected as truncated"),
        }
    }
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

/// A response that does not arrive whole.
fn broken(how: Breakage, connection: &Connection) -> Response {
    connection.break_with(how);
    accepted()
}

fn injected(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, "Injected", "A fault that a test asked for")
}
