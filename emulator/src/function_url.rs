//! The function URL: turns plain HTTP requests into events of payload format 2.0, and replies into
//! HTTP responses.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads>, and where that
//! page says nothing, the AWS-validated tests of `localstack/localstack`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::Utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::api_error::ApiError;
use crate::body;
use crate::http::{
    AMZN_REQUEST_ID, AMZN_TRACE_ID, JSON, header_value, json_response, text, value_of,
};
use crate::invoke_api::{check_trace_id, new_trace_id, note_refusal, submit};
use crate::shared::Shared;

/// Headers that describe one connection, not the message.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new().fallback(handle)
}

/// A request, and the ids of its invocation.
struct Call {
    request_id: Uuid,
    trace_id: HeaderValue,
    request: Parts,
    source: SocketAddr,
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let request_id = Uuid::new_v4();
    let (request, body) = request.into_parts();
    let trace_id = value_of(&request.headers, &AMZN_TRACE_ID).cloned();
    let call = Call {
        request_id,
        trace_id: trace_id.unwrap_or_else(|| new_trace_id(request_id)),
        request,
        source,
    };
    let mut response = invoke(&shared, &call, body).await.unwrap_or_else(|error| {
        if error.status != StatusCode::TOO_MANY_REQUESTS {
            warn!("function URL: {}", error.message);
        }
        note_refusal(&shared, request_id, &Bytes::new(), &error);
        refused(error.status)
    });
    let headers = response.headers_mut();
    headers.insert(AMZN_REQUEST_ID, header_value(request_id));
    headers.insert(AMZN_TRACE_ID, call.trace_id);
    response
}

async fn invoke(shared: &Shared, call: &Call, body: Body) -> Result<Response, ApiError> {
    check_trace_id(&call.trace_id).map_err(|error| ApiError {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ..error
    })?;
    let headers = &call.request.headers;
    if call.request.method == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        warn!(
            "function URL: cargo local does not have CORS settings; the preflight request goes to \
             the function"
        );
    }
    let body = body::read_event(shared, body).await?;
    // Even if the body is small enough, the event that wraps it may be too large.
    let port = shared.settings.function_url_address.port();
    let event = event(port, call, &body).to_string().into();
    let request_id = call.request_id;
    let pending = submit(shared, request_id, call.trace_id.clone(), event)?;
    let reply = pending.reply().await?;
    if reply.function_error {
        return Ok(refused(StatusCode::BAD_GATEWAY));
    }
    Ok(response(&reply.payload).unwrap_or_else(|reason| {
        warn!("function URL: the reply to {request_id} does not describe a response: {reason}");
        refused(StatusCode::BAD_GATEWAY)
    }))
}

fn event(port: u16, call: &Call, body: &Bytes) -> Value {
    let now = Utc::now();
    let request = &call.request;
    let path = request.uri.path();
    let query = request.uri.query().unwrap_or_default();
    let text = |name: HeaderName| text(&request.headers, &name);
    let domain_name = text(header::HOST);
    // AWS's is `ID.lambda-url.REGION.on.aws`.
    let id = domain_name.split(['.', ':']).next();
    let mut headers = headers(&request.headers);
    let cookies = request.headers.get_all(header::COOKIE).iter();
    let cookies = cookies.map(|cookies| String::from_utf8_lossy(cookies.as_bytes()));
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    let source_ip = call.source.ip().to_string();
    let forwarded_for = match headers.get("x-forwarded-for") {
        Some(before) => format!("{before}, {source_ip}"),
        None => source_ip.clone(),
    };
    let trace_id = String::from_utf8_lossy(call.trace_id.as_bytes()).into_owned();
    if !cookies.is_empty() {
        headers.insert("cookie".to_owned(), cookies.clone());
    }
    headers.extend([
        ("x-forwarded-for".to_owned(), forwarded_for),
        ("x-forwarded-port".to_owned(), port.to_string()),
        ("x-forwarded-proto".to_owned(), "http".to_owned()),
        (AMZN_TRACE_ID.to_string(), trace_id),
    ]);
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": id,
            "domainName": domain_name,
            "domainPrefix": id,
            "http": {
                "method": request.method.as_str(),
                "path": path,
                "protocol": format!("{:?}", request.version),
                "sourceIp": source_ip,
                "userAgent": text(header::USER_AGENT),
            },
            "requestId": call.request_id.to_string(),
            "routeKey": "$default",
            "stage": "$default",
            "time": now.format("%d/%b/%Y:%H:%M:%S %z").to_string(),
            "timeEpoch": now.timestamp_millis(),
        },
        "isBase64Encoded": false,
    });
    if !cookies.is_empty() {
        event["cookies"] = cookies.split("; ").collect();
    }
    if !query.is_empty() {
        let pairs = form_urlencoded::parse(query.as_bytes());
        event["queryStringParameters"] = json!(joined(pairs));
    }
    if !body.is_empty() {
        match std::str::from_utf8(body) {
            Ok(body) if is_text(&text(header::CONTENT_TYPE)) => event["body"] = body.into(),
            _ => {
                event["body"] = BASE64_STANDARD.encode(body).into();
                event["isBase64Encoded"] = true.into();
            }
        }
    }
    event
}

fn refused(status: StatusCode) -> Response {
    if status.is_server_error() {
        return (StatusCode::BAD_GATEWAY, "Internal Server Error").into_response();
    }
    let message = status.canonical_reason();
    (status, json_response(&json!({ "message": message }))).into_response()
}

/// Whether Lambda passes a body of this type on as text.
fn is_text(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    ["text", "json", "xml", "javascript"]
        .iter()
        .any(|kind| content_type.contains(kind))
}

/// The headers of an event: all but those of the connection.
fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let passed = headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(name));
    joined(passed.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().into(), value)
    }))
}

/// Joins the values of each repeated name with commas.
fn joined<'a>(
    pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in pairs {
        all.entry(name.into_owned())
            .and_modify(|before| *before = format!("{before},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    all
}

/// The member of a reply that tells whether it describes a response.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
}

/// The other members of a reply that describes a response.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    headers: Option<Map<String, Value>>,
    cookies: Option<Vec<String>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

/// The HTTP response that a reply describes, or why it describes none.
fn response(payload: &[u8]) -> Result<Response, Box<dyn Error>> {
    let reply: &RawValue = serde_json::from_slice(payload)?;
    let reply = reply.get();
    if !reply.starts_with('{') {
        return inferred(reply);
    }
    let Some(status) = serde_json::from_str::<Status>(reply)?.status_code else {
        return inferred(reply);
    };
    // AWS accepts a string as well. 1xx is not a final status; anything above 599 is not a status.
    let status = (status.get().trim_matches('"').parse().ok())
        .filter(|status| (200..=599).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| format!("statusCode is {}", status.get()))?;
    let described: Described = serde_json::from_str(reply)?;
    let body = described.body.unwrap_or_default();
    let body = match described.is_base64_encoded {
        Some(true) => BASE64_STANDARD.decode(body)?,
        _ => body.into(),
    };
    // A 204 must not announce the length of a body, which it does not have: RFC 9110, 8.6.
    let body = match status {
        StatusCode::NO_CONTENT => Body::empty(),
        _ => Body::from(body),
    };
    let mut response = (status, [(header::CONTENT_TYPE, JSON)], body).into_response();
    let headers = response.headers_mut();
    for (name, value) in described.headers.unwrap_or_default() {
        let text = match &value {
            Value::String(value) => Some(value.to_owned()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            _ => None,
        };
        let value = text.and_then(|text| HeaderValue::try_from(text).ok());
        let value = value.ok_or_else(|| format!("the header {name:?} has no valid value"))?;
        let name = HeaderName::try_from(name)?;
        // The server describes the connection and the length.
        if name != header::CONTENT_LENGTH && !HOP_BY_HOP.contains(&name) {
            headers.insert(name, value);
        }
    }
    for cookie in described.cookies.unwrap_or_default() {
        headers.append(header::SET_COOKIE, HeaderValue::try_from(cookie)?);
    }
    Ok(response)
}

/// The response to a reply without `statusCode`: the reply itself, a string without its quotes and
/// anything else without white space.
fn inferred(reply: &str) -> Result<Response, Box<dyn Error>> {
    let body = if reply.starts_with('"') {
        serde_json::from_str(reply)?
    } else {
        compact(reply)
    };
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// JSON without the white space between its tokens. Numbers and strings stay as they are written.
fn compact(json: &str) -> String {
    let (mut in_string, mut is_escaped) = (false, false);
    let is_kept = |character: &char| {
        if in_string {
            in_string = is_escaped || *character != '"';
            is_escaped = !is_escaped && *character == '\\';
            return true;
        }
        in_string = *character == '"';
        !character.is_ascii_whitespace()
    };
    json.chars().filter(is_kept).collect()
}
