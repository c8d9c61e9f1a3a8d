//! The Invoke API, which callers post events to.
//!
//! Errors have the types, statuses and members of AWS's API model (botocore's
//! `lambda/2015-03-31/service-2.json`), so that SDKs raise the exceptions they raise for Lambda.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use crate::body::{self, Bodies, BodyError};
use crate::console::{self, Console};
use crate::emulator::{ACCOUNT_ID, REGION, Settings};
use crate::invocations::{Invocation, Invocations, InvokeError, Reply};
use crate::{MAX_PAYLOAD, one_line};

/// The largest payload of invocation type `Event`, in bytes: 1 MB.
const MAX_ASYNCHRONOUS_PAYLOAD: usize = 1024 * 1024;

/// The largest `X-Amz-Client-Context`, in bytes of base64.
const MAX_CLIENT_CONTEXT: usize = 3583;

const AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const AMZN_ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const CLIENT_CONTEXT: HeaderName = HeaderName::from_static("x-amz-client-context");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
const LOG_RESULT: HeaderName = HeaderName::from_static("x-amz-log-result");
const LOG_TYPE: HeaderName = HeaderName::from_static("x-amz-log-type");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The way to the function, for all callers.
pub(crate) struct InvokeApi {
    invocations: Arc<Invocations>,
    pub(crate) bodies: Bodies,
    function_name: String,
    version: &'static str,
    function_arn: HeaderValue,
    qualified_arn: HeaderValue,
    /// Whether the function handles one event at a time.
    sequential: bool,
}

impl InvokeApi {
    pub(crate) fn new(settings: &Settings, invocations: Arc<Invocations>) -> Self {
        let function_arn = arn(&settings.function_name);
        let qualified_arn = format!("{function_arn}:{}", settings.version());
        Self {
            invocations,
            bodies: Bodies::new(),
            function_name: settings.function_name.clone(),
            version: settings.version(),
            function_arn: header_value(&function_arn),
            qualified_arn: header_value(&qualified_arn),
            sequential: settings.workers() == 1,
        }
    }

    /// Gives an event to the function that has no more than a payload.
    pub(crate) async fn invoke(&self, payload: Bytes) -> Result<Reply, InvokeError> {
        let invocation = Invocation {
            payload: checked(payload, MAX_PAYLOAD)?,
            function_arn: self.function_arn.clone(),
            trace_id: None,
            client_context: None,
            asynchronous: false,
        };
        let caller = self.invocations.submit(Uuid::new_v4(), invocation)?;
        caller.reply().await
    }

    /// The last 4 KB of the invocation's log lines: those with its request id, or, where nothing else
    /// can have printed them, all since it began.
    fn log_tail(&self, reply: &Reply) -> HeaderValue {
        let id = reply.request_id.to_string();
        let logs = &self.invocations.logs;
        let tail = logs.tail(reply.first_line, |line| {
            self.sequential || line.contains(&id)
        });
        header_value(&BASE64_STANDARD.encode(tail))
    }

    /// Finds out whether a request is for this function. Returns the ARN by which it was invoked.
    fn find(&self, name: &str, query: &str) -> Result<&HeaderValue, Refusal> {
        // `name`, `account:function:name` or an ARN, each with `:qualifier` or without.
        let name = name.split_once(":function:").map_or(name, |(_, name)| name);
        let (name, qualifier) = match name.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier)),
            None => (name, None),
        };
        let query = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "Qualifier");
        let qualifier = match (qualifier, query.as_ref().map(|(_, value)| &**value)) {
            (Some(one), Some(other)) if one != other => {
                return Err(Refusal::invalid_parameter(
                    "The derived qualifier from the function name does not match the specified \
                     qualifier.",
                ));
            }
            (one, other) => one.or(other),
        };
        match qualifier {
            _ if name != self.function_name => {}
            None => return Ok(&self.function_arn),
            Some(qualifier) if qualifier == self.version => return Ok(&self.qualified_arn),
            Some("$LATEST") => {
                return Err(Refusal::invalid_parameter(
                    "Managed Instances run published versions: invoke $LATEST.PUBLISHED.",
                ));
            }
            Some(_) => {}
        }
        let arn = arn(name);
        Err(Refusal {
            status: StatusCode::NOT_FOUND,
            error_type: "ResourceNotFoundException",
            message: match qualifier {
                Some(qualifier) => format!("Function not found: {arn}:{qualifier}"),
                None => format!("Function not found: {arn}"),
            },
        })
    }

    fn headers(&self, request_id: Uuid) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(AMZN_REQUEST_ID, header_value(&request_id.to_string()));
        headers.insert(EXECUTED_VERSION, HeaderValue::from_static(self.version));
        headers
    }
}

fn arn(function_name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{function_name}")
}

/// A header value, empty if `value` cannot be one.
fn header_value(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

/// The payload as the function gets it, if it is one.
fn checked(payload: Bytes, limit: usize) -> Result<Bytes, InvokeError> {
    if payload.len() > limit {
        return Err(too_large(limit));
    }
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    // Ignored values are read without recursion, so nesting costs no stack.
    let parsed = match std::str::from_utf8(&payload) {
        Ok(text) => serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match parsed {
        Ok(IgnoredAny) => Ok(payload),
        Err(error) => Err(InvokeError::InvalidRequestContent(format!(
            "Could not parse request body into json: Could not parse payload into json: {error}"
        ))),
    }
}

fn too_large(limit: usize) -> InvokeError {
    InvokeError::RequestTooLarge(format!(
        "Request must be smaller than {limit} bytes for the InvokeFunction operation"
    ))
}

/// Serves the Invoke API and the console until `stop` is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    api: Arc<InvokeApi>,
    console: Arc<Console>,
    mut stop: watch::Receiver<()>,
) {
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    let stopped = async move {
        let _ = stop.changed().await;
    };
    let router = Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .with_state(api)
        .merge(console::router(Arc::clone(&console)))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method);
    tokio::select! {
        _ = axum::serve(listener, router).with_graceful_shutdown(stopped) => {}
        () = console.observe() => {}
    }
}

async fn invoke(
    State(api): State<Arc<InvokeApi>>,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    // Before anything is refused, for a client that reads no answer before it has written all.
    let body = api.bodies.read(&headers, body, MAX_PAYLOAD).await;
    // A name that is not even text is nobody's.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let function_arn = api
        .find(&name, query.as_deref().unwrap_or_default())?
        .clone();
    let invocation_type = headers.get(INVOCATION_TYPE).map(HeaderValue::as_bytes);
    let (limit, asynchronous) = match invocation_type {
        None | Some(b"RequestResponse" | b"DryRun") => (MAX_PAYLOAD, false),
        Some(b"Event") => (MAX_ASYNCHRONOUS_PAYLOAD, true),
        Some(_) => {
            return Err(Refusal::invalid_parameter(
                "X-Amz-Invocation-Type must be RequestResponse, Event or DryRun.",
            ));
        }
    };
    let client_context = headers
        .get(CLIENT_CONTEXT)
        .map(client_context)
        .transpose()?;
    let payload = match body {
        Err(BodyError::TooLarge(_)) => return Err(too_large(limit).into()),
        body => checked(body?, limit)?,
    };
    let request_id = Uuid::new_v4();
    if invocation_type == Some(b"DryRun") {
        return Ok((StatusCode::NO_CONTENT, api.headers(request_id)).into_response());
    }
    let invocation = Invocation {
        payload,
        function_arn,
        trace_id: headers.get(AMZN_TRACE_ID).cloned(),
        // Lambda passes it on for synchronous invocations only.
        client_context: client_context.filter(|_| !asynchronous),
        asynchronous,
    };
    let caller = api.invocations.submit(request_id, invocation)?;
    if asynchronous {
        tokio::spawn(async move {
            match caller.reply().await {
                Ok(reply) if reply.function_error => {
                    let error = one_line(&String::from_utf8_lossy(&reply.payload));
                    warn!("asynchronous invocation {request_id} failed: {error}");
                }
                Ok(_) => {}
                Err(error) => warn!("asynchronous invocation {request_id} lost: {error}"),
            }
        });
        let headers = [(AMZN_REQUEST_ID, header_value(&request_id.to_string()))];
        return Ok((StatusCode::ACCEPTED, headers).into_response());
    }
    let reply = caller.reply().await?;
    let mut response_headers = api.headers(request_id);
    response_headers.insert(header::CONTENT_TYPE, JSON);
    if reply.function_error {
        response_headers.insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    }
    if headers.get(LOG_TYPE).is_some_and(|kind| kind == "Tail") {
        response_headers.insert(LOG_RESULT, api.log_tail(&reply));
    }
    let mut response = Response::new(Body::from(reply.payload));
    *response.headers_mut() = response_headers;
    Ok(response)
}

/// The JSON in a client context: Lambda decodes it for the function. Its members are not checked.
fn client_context(encoded: &HeaderValue) -> Result<HeaderValue, InvokeError> {
    let refuse = |message: &str| InvokeError::InvalidRequestContent(message.to_owned());
    let invalid = || refuse("Client context must be a valid Base64-encoded JSON object.");
    if encoded.len() > MAX_CLIENT_CONTEXT {
        return Err(refuse(
            "Client context must be at most 3583 bytes of base64.",
        ));
    }
    let mut json = BASE64_STANDARD.decode(encoded).map_err(|_| invalid())?;
    for byte in &mut json {
        // Line breaks mean nothing in JSON and would end the header.
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    HeaderValue::try_from(json).map_err(|_| invalid())
}

async fn unknown_path(method: Method, uri: Uri, body: Body) -> Refusal {
    let _ = body::discard(body).await;
    Refusal {
        status: StatusCode::NOT_FOUND,
        error_type: "UnknownOperationException",
        message: format!("No such operation: {method} {uri}"),
    }
}

async fn wrong_method(method: Method, uri: Uri, body: Body) -> Refusal {
    let _ = body::discard(body).await;
    Refusal {
        status: StatusCode::METHOD_NOT_ALLOWED,
        error_type: "UnknownOperationException",
        message: format!("No such operation: {method} {uri}; events are POSTed"),
    }
}

/// An error of the Invoke API.
pub(crate) struct Refusal {
    status: StatusCode,
    error_type: &'static str,
    message: String,
}

impl Refusal {
    fn invalid_parameter(message: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error_type: "InvalidParameterValueException",
            message: message.to_owned(),
        }
    }
}

impl From<InvokeError> for Refusal {
    fn from(error: InvokeError) -> Self {
        let (status, error_type) = match error {
            InvokeError::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException")
            }
            InvokeError::InvalidRequestContent(_) => {
                (StatusCode::BAD_REQUEST, "InvalidRequestContentException")
            }
            InvokeError::RequestTooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException")
            }
            InvokeError::Terminated => (StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
        };
        Self {
            status,
            error_type,
            message: error.to_string(),
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge(limit) => too_large(limit).into(),
            BodyError::NoRoom => InvokeError::TooManyRequests.into(),
            BodyError::Broken(_) => InvokeError::InvalidRequestContent(error.to_string()).into(),
            BodyError::TimedOut => Self {
                status: StatusCode::REQUEST_TIMEOUT,
                error_type: "RequestTimeoutException",
                message: error.to_string(),
            },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self {
            status,
            error_type,
            message,
        } = self;
        let source = if status.is_server_error() {
            "Service"
        } else {
            "User"
        };
        // AWS's model spells the message in two ways.
        let body = match error_type {
            "ResourceNotFoundException" | "ServiceException" => {
                json!({ "Type": source, "Message": message })
            }
            "TooManyRequestsException" => json!({
                "Reason": "ConcurrentInvocationLimitExceeded",
                "Type": source,
                "message": message,
            }),
            _ => json!({ "Type": source, "message": message }),
        };
        // A sound caller may be throttled, and ten thousand at once.
        if status != StatusCode::TOO_MANY_REQUESTS {
            let message = one_line(&message);
            warn!("Invoke API: {} {error_type}: {message}", status.as_u16());
        }
        let headers = [
            (header::CONTENT_TYPE, JSON),
            (AMZN_REQUEST_ID, header_value(&Uuid::new_v4().to_string())),
            (AMZN_ERROR_TYPE, HeaderValue::from_static(error_type)),
        ];
        (status, headers, body.to_string()).into_response()
    }
}
