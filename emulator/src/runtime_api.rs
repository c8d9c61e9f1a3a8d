//! The Runtime API, which the function's process polls, and as much of the Extensions API as an
//! internal extension that subscribes to nothing needs.
//!
//! Statuses and error bodies are RIE's.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::net::TcpListener;
use tracing::warn;
use uuid::Uuid;

use crate::MAX_PAYLOAD;
use crate::body::{self, BodyError};
use crate::faults::{BreakableListener, Breakage, Fault};
use crate::invocations::{Invocations, Refusal};

/// RIE takes replies of 6 MiB and 100 bytes; the real service names the same number.
const MAX_REPLY: usize = MAX_PAYLOAD + 100;

const REQUEST_ID: HeaderName = HeaderName::from_static("lambda-runtime-aws-request-id");
const INVOCATION_ID: HeaderName = HeaderName::from_static("lambda-runtime-invocation-id");
const DEADLINE_MS: HeaderName = HeaderName::from_static("lambda-runtime-deadline-ms");
const FUNCTION_ARN: HeaderName = HeaderName::from_static("lambda-runtime-invoked-function-arn");
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("lambda-runtime-client-context");
const EXTENSION_ID: HeaderName = HeaderName::from_static("lambda-extension-identifier");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The Runtime API of one execution environment.
pub(crate) struct RuntimeApi {
    pub(crate) invocations: Arc<Invocations>,
    /// The execution environment's number.
    pub(crate) environment: u64,
    /// The answer to an extension that registers.
    pub(crate) registration: String,
}

type Api = State<Arc<RuntimeApi>>;

/// Serves the Runtime API for ever.
pub(crate) async fn serve(listener: TcpListener, api: RuntimeApi) {
    let service = router(api).into_make_service_with_connect_info::<Breakage>();
    // It never returns: axum goes on after a connection that could not be accepted.
    let _ = axum::serve(BreakableListener(listener), service).await;
}

fn router(api: RuntimeApi) -> Router {
    let invocation = "/2018-06-01/runtime/invocation";
    Router::new()
        .route(&format!("{invocation}/next"), get(next_invocation))
        .route(
            &format!("{invocation}/{{request_id}}/response"),
            post(post_response),
        )
        .route(
            &format!("{invocation}/{{request_id}}/error"),
            post(post_error),
        )
        .route("/2018-06-01/runtime/init/error", post(post_init_error))
        .route("/2020-01-01/extension/register", post(register_extension))
        .route(
            "/2020-01-01/extension/event/next",
            get(next_extension_event),
        )
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_path)
        .with_state(Arc::new(api))
}

async fn next_invocation(
    State(api): Api,
    ConnectInfo(connection): ConnectInfo<Breakage>,
) -> Response {
    let faults = &api.invocations.faults;
    match faults.take(Fault::is_of_poll) {
        Some(Fault::PollStatus(status)) => return injected(status),
        Some(_) => return broken(Breakage::reset, &connection),
        None => {}
    }
    let Some(event) = api.invocations.next(api.environment).await else {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "Ended",
            "This execution environment has ended",
        );
    };
    match faults.take(Fault::is_of_event) {
        Some(Fault::EventWithoutHeaders) => {
            let payload = event.invocation.payload.clone();
            api.invocations.give_back(event);
            return payload.into_response();
        }
        Some(Fault::EventHeadCut) => {
            api.invocations.give_back(event);
            return broken(Breakage::cut_in_head, &connection);
        }
        Some(_) => connection.cut_after_head(),
        None => {}
    }
    let invocation = event.invocation;
    let trace_id =
        (invocation.trace_id).unwrap_or_else(|| trace_id(event.request_id, event.deadline_ms));
    let mut response = Response::new(Body::from(invocation.payload));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(REQUEST_ID, ascii(event.request_id.to_string()));
    headers.insert(INVOCATION_ID, ascii(event.invocation_id.to_string()));
    headers.insert(DEADLINE_MS, event.deadline_ms.into());
    headers.insert(FUNCTION_ARN, invocation.function_arn);
    headers.insert(TRACE_ID, trace_id);
    if let Some(client_context) = invocation.client_context {
        headers.insert(CLIENT_CONTEXT, client_context);
    }
    response
}

async fn post_response(
    State(api): Api,
    ConnectInfo(connection): ConnectInfo<Breakage>,
    Path(request_id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&api, &connection, &request_id, &headers, body, false).await
}

async fn post_error(
    State(api): Api,
    ConnectInfo(connection): ConnectInfo<Breakage>,
    Path(request_id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&api, &connection, &request_id, &headers, body, true).await
}

async fn answer(
    api: &RuntimeApi,
    connection: &Breakage,
    request_id: &str,
    headers: &HeaderMap,
    mut body: Body,
    function_error: bool,
) -> Response {
    match api.invocations.faults.take(Fault::is_of_post) {
        Some(Fault::PostStatus(status)) => return injected(status),
        Some(Fault::PostReset) => return broken(Breakage::reset, connection),
        Some(Fault::PostBodyReset) => {
            let _ = body.frame().await;
            return broken(Breakage::reset, connection);
        }
        Some(Fault::PostAnswerCut) => connection.cut_in_head(),
        Some(_) => connection.reset(),
        None => {}
    }
    // An id that is no UUID is not one of ours.
    let id = Uuid::try_parse(request_id).unwrap_or_default();
    let invocation_id = headers
        .get(INVOCATION_ID)
        .map(|id| id.to_str().unwrap_or_default());
    // The body of what will be refused is not kept.
    let limit = match api.invocations.check(id, invocation_id) {
        Ok(()) => MAX_REPLY,
        Err(_) => 0,
    };
    let (answered, response) = match body::read(body, limit).await {
        Ok(payload) => (
            api.invocations
                .answer(id, invocation_id, payload, function_error),
            accepted(),
        ),
        Err(BodyError::TooLarge(_)) => {
            // In the words of the real service.
            let payload = json!({
                "errorType": "Function.ResponseSizeTooLarge",
                "errorMessage": format!(
                    "Response payload size exceeded maximum allowed payload size ({MAX_REPLY} bytes)."
                ),
            });
            let message = format!("Exceeded maximum allowed payload size ({MAX_REPLY} bytes).");
            (
                api.invocations
                    .answer(id, invocation_id, payload.to_string().into(), true),
                error(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "RequestEntityTooLarge",
                    &message,
                ),
            )
        }
        // The function may post it again, on another connection.
        Err(_) => (
            Ok(()),
            error(
                StatusCode::BAD_REQUEST,
                "TruncatedHTTPRequest",
                "HTTP request detected as truncated",
            ),
        ),
    };
    let response = match answered {
        Ok(()) => response,
        Err(Refusal::Late) => error(StatusCode::GONE, "InvokeTimeout", "Invoke timeout"),
        Err(Refusal::Unknown) => error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        ),
        Err(Refusal::Stale) => error(
            StatusCode::BAD_REQUEST,
            "InvalidInvocationID",
            "The invocation ID is not that of the current attempt",
        ),
    };
    if response.status() != StatusCode::ACCEPTED {
        warn!(
            "Runtime API: {} to the answer to {request_id:?}",
            response.status()
        );
    }
    response
}

async fn post_init_error(State(api): Api, body: Body) -> Response {
    let Ok(body) = body::read(body, MAX_PAYLOAD).await else {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "The body cannot be read",
        );
    };
    match api.invocations.init_error(api.environment, body) {
        Ok(()) => accepted(),
        Err(_) => error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "State transition from Ready to InitError failed for runtime. \
             Error: State transition is not allowed",
        ),
    }
}

async fn register_extension(State(api): Api) -> Response {
    let headers = [
        (header::CONTENT_TYPE, JSON),
        (EXTENSION_ID, ascii(Uuid::new_v4().to_string())),
    ];
    (headers, api.registration.clone()).into_response()
}

/// An extension of Managed Instances cannot subscribe to invocations, and the end is a signal.
async fn next_extension_event() -> Response {
    std::future::pending().await
}

async fn unknown_path(method: Method, uri: Uri) -> Response {
    warn!("Runtime API: no such request: {method} {uri}");
    error(StatusCode::NOT_FOUND, "NotFound", "No such method and path")
}

/// A response that is not received whole.
fn broken(how: fn(&Breakage), connection: &Breakage) -> Response {
    how(connection);
    accepted()
}

fn injected(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, "Injected", "A fault that a test asked for")
}

fn accepted() -> Response {
    let body = Bytes::from_static(b"{\"status\":\"OK\"}\n");
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

fn error(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = json!({ "errorMessage": message, "errorType": error_type }).to_string();
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// A trace id in X-Ray's form, not sampled. Its random part is the request id's.
fn trace_id(request_id: Uuid, now_ms: u64) -> HeaderValue {
    let id = request_id.simple().to_string();
    let (root, parent) = (&id[..24], &id[16..]);
    ascii(format!(
        "Root=1-{:08x}-{root};Parent={parent};Sampled=0",
        now_ms / 1000
    ))
}

/// # Panics
///
/// When `value` is not visible ASCII.
fn ascii(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("an id is visible ASCII")
}
