//! The Invoke API, to which callers post events.
//!
//! Responses have the statuses, headers and members of AWS's API model (botocore's
//! `lambda/2015-03-31/service-2.json`), so that SDKs raise the exceptions they raise for Lambda.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::Utc;
use serde::de::IgnoredAny;
use tracing::warn;
use uuid::Uuid;

use crate::api_error::{ApiError, violation};
use crate::body::{self, MAX_PAYLOAD};
use crate::function_name::FunctionName;
use crate::http::{AMZN_REQUEST_ID, AMZN_TRACE_ID, JSON, header_value, value_of};
use crate::invocation::{InvokeError, InvokeRequest, Reply};
use crate::invocations::PendingReply;
use crate::origin;
use crate::settings::{PUBLISHED, arn};
use crate::shared::Shared;

/// The largest payload of invocation type `Event`, in bytes: 1 MB.
const MAX_ASYNCHRONOUS_PAYLOAD: usize = 1024 * 1024;

/// The largest `X-Amz-Client-Context`, in bytes of base64.
const MAX_CLIENT_CONTEXT: usize = 3583;

/// The largest `X-Amzn-Trace-Id`, in bytes: the function gets it in the head of a response, of which
/// runtimes read only so much.
const MAX_TRACE_ID: usize = 4 * 1024;

const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("x-amz-client-context");
const DURABLE_EXECUTION_NAME: HeaderName = HeaderName::from_static("x-amz-durable-execution-name");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
const LOG_TYPE: HeaderName = HeaderName::from_static("x-amz-log-type");
const TENANT_ID: HeaderName = HeaderName::from_static("x-amz-tenant-id");

/// Gives the function an event that comes without headers.
pub(crate) async fn invoke_with(shared: &Shared, payload: Bytes) -> Result<Reply, InvokeError> {
    let request_id = Uuid::new_v4();
    let pending = submit(shared, request_id, new_trace_id(request_id), payload)?;
    pending.reply().await
}

/// Gives the function an event whose request id and trace id the caller knows.
pub(crate) fn submit(
    shared: &Shared,
    request_id: Uuid,
    trace_id: HeaderValue,
    payload: Bytes,
) -> Result<PendingReply, InvokeError> {
    let event = checked(payload, MAX_PAYLOAD)?;
    shared.invocations.submit(InvokeRequest {
        request_id,
        event,
        function_arn: header_value(arn(&shared.settings.function_name, None)),
        trace_id,
        client_context: None,
        asynchronous: false,
    })
}

/// Notes a refusal for the console, unless it is a throttle, which is noted where it happens.
pub(crate) fn note_refusal(shared: &Shared, request_id: Uuid, event: &Bytes, error: &ApiError) {
    if error.status != StatusCode::TOO_MANY_REQUESTS {
        let outcome = Err(error.clone());
        (shared.invocations.history).add(request_id, event, Duration::ZERO, outcome);
    }
}

/// The ARN by which a request invokes the function, if it names it.
fn invoked_arn(own_name: &str, named: &FunctionName) -> Result<HeaderValue, ApiError> {
    let (name, qualifier) = (&*named.name, named.qualifier.as_deref());
    match qualifier {
        _ if name != own_name => {}
        None | Some(PUBLISHED) => return Ok(header_value(arn(name, qualifier))),
        Some("$LATEST") => {
            return Err(ApiError::invalid_parameter(
                "Managed Instances run published versions: invoke $LATEST.PUBLISHED.",
            ));
        }
        Some(_) => {}
    }
    // Without a qualifier, AWS names the version that it looked for.
    let looked_for = qualifier.or(Some("$LATEST"));
    Err(ApiError::function_not_found(name, looked_for))
}

/// Checks a payload. An empty one becomes `{}`.
fn checked(payload: Bytes, limit: usize) -> Result<Bytes, InvokeError> {
    if payload.len() > limit {
        return Err(InvokeError::too_large(limit));
    }
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    check_json(&payload).map_err(|error| {
        InvokeError::InvalidRequestContent(format!(
            "Could not parse request body into json: Could not parse payload into json: {error}"
        ))
    })?;
    Ok(payload)
}

/// Returns what is wrong with `json`, if it is not JSON in UTF-8.
fn check_json(json: &[u8]) -> Result<(), Box<dyn Error>> {
    // Ignored values are read without recursion, so nesting costs no stack.
    let IgnoredAny = serde_json::from_str(std::str::from_utf8(json)?)?;
    Ok(())
}

pub(crate) fn check_trace_id(trace_id: &HeaderValue) -> Result<(), ApiError> {
    if trace_id.len() > MAX_TRACE_ID {
        let message = format!("X-Amzn-Trace-Id must be at most {MAX_TRACE_ID} bytes.");
        return Err(ApiError::invalid_parameter(message));
    }
    Ok(())
}

/// A new trace id in X-Ray's form, not sampled. Its random part is the request id's.
pub(crate) fn new_trace_id(request_id: Uuid) -> HeaderValue {
    let now = Utc::now().timestamp();
    let id = request_id.simple().to_string();
    let (root, parent) = (&id[..24], &id[16..]);
    header_value(format_args!(
        "Root=1-{now:08x}-{root};Parent={parent};Sampled=0"
    ))
}

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/2015-03-31/functions/{name}/invocations", post(invoke))
}

/// A path that no operation has.
pub(crate) async fn unknown_path(shared: State<Arc<Shared>>, request: Request) -> ApiError {
    no_such_operation(StatusCode::NOT_FOUND, shared, request).await
}

/// A path that operations with other methods have.
pub(crate) async fn wrong_method(shared: State<Arc<Shared>>, request: Request) -> ApiError {
    no_such_operation(StatusCode::METHOD_NOT_ALLOWED, shared, request).await
}

async fn no_such_operation(
    status: StatusCode,
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> ApiError {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // Some clients read the response only after they have sent everything.
    let _ = body::read(request.into_body(), 0, shared.settings.read_timeout).await;
    let mut message = format!("No such operation: {method} {uri}");
    if uri.path().ends_with("/response-streaming-invocations") {
        "cargo local does not stream responses: use Invoke".clone_into(&mut message);
    } else if uri.path().ends_with("/invocations") {
        message.push_str("; to invoke the function, use POST");
    }
    ApiError::unknown_operation(status, message)
}

async fn invoke(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Read first even if the request will be refused: some clients read the response only after they
    // have sent everything.
    let body = body::read_event(&shared, body).await;
    let event = body.as_ref().cloned().unwrap_or_default();
    let request_id = Uuid::new_v4();
    let invoked = async {
        let named = FunctionName::read(name, query, "lambda:InvokeFunction")?;
        let function_arn = invoked_arn(&shared.settings.function_name, &named)?;
        let request = read(request_id, function_arn, &headers, body)?;
        if headers
            .get(INVOCATION_TYPE)
            .is_some_and(|kind| kind == "DryRun")
        {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        respond(&shared, request).await
    };
    let mut response = invoked.await.unwrap_or_else(|error: ApiError| {
        note_refusal(&shared, request_id, &event, &error);
        error.into_response()
    });
    let headers = response.headers_mut();
    headers.insert(AMZN_REQUEST_ID, header_value(request_id));
    response
}

/// What a request asks for, if nothing is wrong with it.
fn read(
    request_id: Uuid,
    function_arn: HeaderValue,
    headers: &HeaderMap,
    body: Result<Bytes, ApiError>,
) -> Result<InvokeRequest, ApiError> {
    if headers.contains_key(header::ORIGIN) {
        origin::check(headers)?;
    }
    let types = ["Event", "RequestResponse", "DryRun"];
    let asynchronous = one_of(headers, INVOCATION_TYPE, "invocationType", types)? == Some("Event");
    if one_of(headers, LOG_TYPE, "logType", ["None", "Tail"])? == Some("Tail") {
        return Err(ApiError::invalid_parameter(
            "Tail logs are not supported for functions configured with capacity provider",
        ));
    }
    for (header, feature) in [
        (DURABLE_EXECUTION_NAME, "durable executions"),
        (TENANT_ID, "tenant isolation"),
    ] {
        if headers.contains_key(header) {
            return Err(ApiError::invalid_parameter(format!(
                "cargo local does not support {feature}."
            )));
        }
    }
    let trace_id = value_of(headers, &AMZN_TRACE_ID).cloned();
    let trace_id = trace_id.unwrap_or_else(|| new_trace_id(request_id));
    check_trace_id(&trace_id)?;
    let client_context = value_of(headers, &CLIENT_CONTEXT).map(client_context);
    let limit = if asynchronous {
        MAX_ASYNCHRONOUS_PAYLOAD
    } else {
        MAX_PAYLOAD
    };
    let body = body.map_err(|error| match error.status {
        StatusCode::PAYLOAD_TOO_LARGE => InvokeError::too_large(limit).into(),
        _ => error,
    })?;
    Ok(InvokeRequest {
        request_id,
        event: checked(body, limit)?,
        function_arn,
        trace_id,
        // Lambda passes it on for synchronous invocations only.
        client_context: client_context.transpose()?.filter(|_| !asynchronous),
        asynchronous,
    })
}

/// Invokes the function.
async fn respond(shared: &Shared, request: InvokeRequest) -> Result<Response, ApiError> {
    let (request_id, asynchronous) = (request.request_id, request.asynchronous);
    let pending = shared.invocations.submit(request)?;
    if asynchronous {
        tokio::spawn(await_outcome(request_id, pending));
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let reply = pending.reply().await?;
    let headers = [
        (EXECUTED_VERSION, HeaderValue::from_static(PUBLISHED)),
        (header::CONTENT_TYPE, JSON),
    ];
    let mut response = (headers, reply.payload).into_response();
    if reply.function_error {
        let headers = response.headers_mut();
        headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    Ok(response)
}

/// Says what Lambda would do if an asynchronous invocation fails.
async fn await_outcome(request_id: Uuid, pending: PendingReply) {
    match pending.reply().await {
        Ok(reply) if reply.function_error => warn!(
            "invocation {request_id} is asynchronous: Lambda would retry it twice and then send it to \
             its destination, cargo local does not"
        ),
        Ok(_) => {}
        Err(error) => warn!("asynchronous invocation {request_id} lost: {error}"),
    }
}

/// The value of a header that must be one of the API model's.
fn one_of<const N: usize>(
    headers: &HeaderMap,
    name: HeaderName,
    member: &str,
    values: [&'static str; N],
) -> Result<Option<&'static str>, ApiError> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let known = values.into_iter().find(|known| value == known);
    known.map(Some).ok_or_else(|| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let values = values.join(", ");
        let constraint = format!("Member must satisfy enum value set: [{values}]");
        ApiError::validation(&[violation(&value, member, &constraint)])
    })
}

/// The JSON object in a client context: Lambda decodes it for the function. Its members are not
/// checked.
fn client_context(encoded: &HeaderValue) -> Result<HeaderValue, InvokeError> {
    let refuse = |message: &str| InvokeError::InvalidRequestContent(message.to_owned());
    let invalid = || refuse("Client context must be a valid Base64-encoded JSON object.");
    if encoded.len() > MAX_CLIENT_CONTEXT {
        return Err(refuse(
            "Client context must be at most 3583 bytes of base64.",
        ));
    }
    let mut json = BASE64_STANDARD.decode(encoded).map_err(|_| invalid())?;
    if !json.trim_ascii_start().starts_with(b"{") || check_json(&json).is_err() {
        return Err(invalid());
    }
    for byte in &mut json {
        // Line breaks mean nothing in JSON and would end the header.
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    HeaderValue::try_from(json).map_err(|_| invalid())
}
