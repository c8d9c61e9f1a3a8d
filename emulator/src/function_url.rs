//! The function URL: turns plain HTTP requests into events of payload format 2.0, and replies into
//! HTTP responses.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads>, and where that
//! page says nothing, the AWS-validated tests of `localstack/localstack`.

use std::collections::BTreeMap;
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
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::api_error::ApiError;
use crate::body::MAX_PAYLOAD;
use crate::http::{AMZN_REQUEST_ID, AMZN_TRACE_ID, JSON, header_value, json_response, value_of};
use crate::invoke_api::{InvokeApi, check_trace_id, new_trace_id};

/// Headers that describe one connection, not the message.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PORT: &str = "x-forwarded-port";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

struct FunctionUrl {
    api: Arc<InvokeApi>,
    /// The port that it is served on.
    port: u16,
}

pub(crate) fn router(api: Arc<InvokeApi>, port: u16) -> Router {
    let function_url = Arc::new(FunctionUrl { api, port });
    Router::new().fallback(handle).with_state(function_url)
}

async fn handle(
    State(function_url): State<Arc<FunctionUrl>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let request_id = Uuid::new_v4();
    let (request, body) = request.into_parts();
    let trace_id = value_of(&request.headers, &AMZN_TRACE_ID).cloned();
    let trace_id = trace_id.unwrap_or_else(|| new_trace_id(request_id));
    let mut response = (function_url.invoke(request_id, &trace_id, &request, source, body))
        .await
        .unwrap_or_else(|error| {
            if error.status != StatusCode::TOO_MANY_REQUESTS {
                warn!("function URL: {}", error.message);
            }
            (function_url.api).note_refusal(request_id, &Bytes::new(), &error);
            refused(error.status)
        });
    let headers = response.headers_mut();
    headers.insert(AMZN_REQUEST_ID, header_value(&request_id.to_string()));
    headers.insert(AMZN_TRACE_ID, trace_id);
    response
}

impl FunctionUrl {
    async fn invoke(
        &self,
        request_id: Uuid,
        trace_id: &HeaderValue,
        request: &Parts,
        source: SocketAddr,
        body: Body,
    ) -> Result<Response, ApiError> {
        check_trace_id(trace_id).map_err(|error| ApiError {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ..error
        })?;
        if is_preflight(request) {
            warn!(
                "function URL: cargo local does not have CORS settings; the preflight request goes to \
                 the function"
            );
        }
        let bodies = &self.api.bodies;
        let body = bodies.read(&request.headers, body, MAX_PAYLOAD).await?;
        let event = self.event(request_id, trace_id, request, source, &body.bytes);
        drop(body);
        // Even if the body is small enough, the event that wraps it may be too large.
        let event = event.to_string().into();
        let pending = self.api.submit(request_id, trace_id.clone(), event)?;
        let reply = pending.reply().await?;
        if reply.function_error {
            return Ok(refused(StatusCode::BAD_GATEWAY));
        }
        Ok(response(&reply.payload).unwrap_or_else(|reason| {
            warn!("function URL: the reply to {request_id} does not describe a response: {reason}");
            refused(StatusCode::BAD_GATEWAY)
        }))
    }

    fn event(
        &self,
        request_id: Uuid,
        trace_id: &HeaderValue,
        request: &Parts,
        source: SocketAddr,
        body: &Bytes,
    ) -> Value {
        let now = Utc::now();
        let path = request.uri.path();
        let query = request.uri.query().unwrap_or_default();
        let text = |name: HeaderName| {
            let value = request.headers.get(name).map(HeaderValue::as_bytes);
            String::from_utf8_lossy(value.unwrap_or_default())
        };
        let domain_name = text(header::HOST);
        // AWS's is `ID.lambda-url.REGION.on.aws`.
        let id = domain_name.split(['.', ':']).next();
        let mut headers = headers(&request.headers);
        let cookies: Vec<_> = (request.headers.get_all(header::COOKIE).iter())
            .map(|cookies| String::from_utf8_lossy(cookies.as_bytes()))
            .flat_map(|cookies| cookies.split("; ").map(str::to_owned).collect::<Vec<_>>())
            .collect();
        if !cookies.is_empty() {
            headers.insert("cookie".to_owned(), cookies.join("; "));
        }
        let source_ip = source.ip().to_string();
        headers
            .entry(FORWARDED_FOR.to_owned())
            .and_modify(|before| *before = format!("{before}, {source_ip}"))
            .or_insert_with(|| source_ip.clone());
        headers.insert(FORWARDED_PORT.to_owned(), self.port.to_string());
        headers.insert(FORWARDED_PROTO.to_owned(), "http".to_owned());
        let trace_id = String::from_utf8_lossy(trace_id.as_bytes());
        headers.insert(AMZN_TRACE_ID.to_string(), trace_id.into_owned());
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
                "requestId": request_id.to_string(),
                "routeKey": "$default",
                "stage": "$default",
                "time": now.format("%d/%b/%Y:%H:%M:%S %z").to_string(),
                "timeEpoch": now.timestamp_millis(),
            },
            "isBase64Encoded": false,
        });
        if !cookies.is_empty() {
            event["cookies"] = cookies.into();
        }
        if !query.is_empty() {
            let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
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
}

fn is_preflight(request: &Parts) -> bool {
    let headers = &request.headers;
    request.method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
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

/// The headers of an event: all but those of the connection, and the cookies.
fn headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let is_passed = |name: &HeaderName| *name != header::COOKIE && !HOP_BY_HOP.contains(name);
    let pairs = headers.iter().filter(|(name, _)| is_passed(name));
    joined(pairs.map(|(name, value)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    }))
}

/// Joins the values of each repeated name with commas.
fn joined(pairs: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in pairs {
        all.entry(name)
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

/// The members of a reply that describe a response.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
    headers: Option<&'a RawValue>,
    cookies: Option<&'a RawValue>,
    body: Option<&'a RawValue>,
    is_base64_encoded: Option<&'a RawValue>,
}

fn read<T: DeserializeOwned>(name: &str, member: Option<&RawValue>) -> Result<Option<T>, String> {
    member
        .map(|json| serde_json::from_str(json.get()))
        .transpose()
        .map_err(|error| format!("{name}: {error}"))
}

/// The HTTP response that a reply describes, or why it describes none.
fn response(payload: &[u8]) -> Result<Response, String> {
    let reply: &RawValue = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let reply = reply.get();
    let members = if reply.starts_with('{') {
        serde_json::from_str::<Members>(reply).map_err(|error| error.to_string())?
    } else {
        return inferred(reply);
    };
    let Some(status) = members.status_code else {
        return inferred(reply);
    };
    // AWS accepts a string as well. 1xx is not a final status; anything above 599 is not a status.
    let status = (status.get().trim_matches('"').parse().ok())
        .filter(|status| (200..=599).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| format!("statusCode is {}", status.get()))?;
    let body: String = read("body", members.body)?.unwrap_or_default();
    let body = if read("isBase64Encoded", members.is_base64_encoded)? == Some(true) {
        BASE64_STANDARD
            .decode(body)
            .map_err(|error| format!("body: {error}"))?
    } else {
        body.into()
    };
    // A 204 must not announce the length of a body, which it does not have: RFC 9110, 8.6.
    let body = match status {
        StatusCode::NO_CONTENT => Body::empty(),
        _ => Body::from(body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    let described: Option<Map<String, Value>> = read("headers", members.headers)?;
    for (name, value) in described.unwrap_or_default() {
        let value = match value {
            Value::String(value) => value,
            Value::Number(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => {
                return Err(format!(
                    "header {name:?} is neither a string, a number nor a boolean"
                ));
            }
        };
        let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
        // The server describes the connection and the length.
        if name != header::CONTENT_LENGTH && !HOP_BY_HOP.contains(&name) {
            let value = HeaderValue::try_from(value).map_err(|error| format!("{name}: {error}"))?;
            headers.insert(name, value);
        }
    }
    let cookies: Option<Vec<String>> = read("cookies", members.cookies)?;
    for cookie in cookies.unwrap_or_default() {
        let cookie = HeaderValue::try_from(cookie).map_err(|error| format!("cookie: {error}"))?;
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The response to a reply without `statusCode`: the reply itself, a string without its quotes and
/// anything else without white space.
fn inferred(reply: &str) -> Result<Response, String> {
    let body = if reply.starts_with('"') {
        serde_json::from_str(reply).map_err(|error| error.to_string())?
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
