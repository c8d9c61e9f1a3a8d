//! The function URL: plain HTTP requests wrapped in events of payload format 2.0, replies unwrapped.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads>

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use crate::body::BodyError;
use crate::invocations::InvokeError;
use crate::invoke_api::InvokeApi;
use crate::{MAX_PAYLOAD, one_line};

/// The first label of a function URL's domain, and its id.
const URL_ID: &str = "local";

/// Serves the function URL until `stop` is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    api: Arc<InvokeApi>,
    mut stop: watch::Receiver<()>,
) {
    let router = Router::new().fallback(invoke).with_state(api);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = async move {
        let _ = stop.changed().await;
    };
    let _ = axum::serve(listener, service)
        .with_graceful_shutdown(stopped)
        .await;
}

async fn invoke(
    State(api): State<Arc<InvokeApi>>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (request, body) = request.into_parts();
    let body = match api.bodies.read(&request.headers, body, MAX_PAYLOAD).await {
        Ok(body) => body,
        Err(BodyError::NoRoom) => return refuse(StatusCode::TOO_MANY_REQUESTS),
        Err(reason) => {
            warn!("function URL: {reason}");
            return refuse(match reason {
                BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::Broken(_) => StatusCode::BAD_REQUEST,
                _ => StatusCode::REQUEST_TIMEOUT,
            });
        }
    };
    let event = event(&request, source, &body);
    match api.invoke(event.to_string().into()).await {
        Ok(reply) if reply.function_error => {
            let error = one_line(&String::from_utf8_lossy(&reply.payload));
            warn!(
                "function URL: invocation {} failed: {error}",
                reply.request_id
            );
            refuse(StatusCode::BAD_GATEWAY)
        }
        Ok(reply) => unwrap(reply.payload).unwrap_or_else(|reason| {
            warn!(
                "function URL: the reply to {} is no response: {reason}",
                reply.request_id
            );
            refuse(StatusCode::BAD_GATEWAY)
        }),
        Err(InvokeError::TooManyRequests) => refuse(StatusCode::TOO_MANY_REQUESTS),
        Err(error) => {
            warn!("function URL: {error}");
            refuse(match error {
                // The body was small enough, what it became is not.
                InvokeError::RequestTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_GATEWAY,
            })
        }
    }
}

fn refuse(status: StatusCode) -> Response {
    let message = match status {
        StatusCode::BAD_GATEWAY => "Internal Server Error",
        status => status.canonical_reason().unwrap_or_default(),
    };
    let body = json!({ "message": message }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn event(request: &axum::http::request::Parts, source: SocketAddr, body: &Bytes) -> Value {
    let now = SystemTime::now();
    let path = request.uri.path();
    let query = request.uri.query().unwrap_or_default();
    let text = |name: HeaderName| {
        let value = request
            .headers
            .get(name)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        String::from_utf8_lossy(value)
    };
    let time_epoch = now
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers(&request.headers),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": URL_ID,
            "domainName": text(header::HOST),
            "domainPrefix": URL_ID,
            "http": {
                "method": request.method.as_str(),
                "path": path,
                "protocol": format!("{:?}", request.version),
                "sourceIp": source.ip(),
                "userAgent": text(header::USER_AGENT),
            },
            "requestId": Uuid::new_v4().to_string(),
            "routeKey": "$default",
            "stage": "$default",
            "time": log_time(now),
            "timeEpoch": u64::try_from(time_epoch).unwrap_or(u64::MAX),
        },
        "isBase64Encoded": false,
    });
    let cookies: Vec<_> = (request.headers.get_all(header::COOKIE).iter())
        .map(|cookies| String::from_utf8_lossy(cookies.as_bytes()))
        .flat_map(|cookies| cookies.split("; ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    if !query.is_empty() {
        event["queryStringParameters"] =
            joined(form_urlencoded::parse(query.as_bytes()).into_owned());
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

/// Whether Lambda passes a body of this type on as it is.
fn is_text(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    ["text", "json", "xml", "javascript"]
        .iter()
        .any(|kind| content_type.contains(kind))
}

/// All but the cookies, which have a place of their own.
fn headers(headers: &HeaderMap) -> Value {
    let pairs = headers.iter().filter(|(name, _)| *name != header::COOKIE);
    joined(pairs.map(|(name, value)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    }))
}

/// The values of a repeated name are joined by commas.
fn joined(pairs: impl Iterator<Item = (String, String)>) -> Value {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in pairs {
        all.entry(name)
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    json!(all)
}

/// `12/Mar/2020:19:03:58 +0000`.
fn log_time(now: SystemTime) -> String {
    // Thu, 12 Mar 2020 19:03:58 GMT
    let http = httpdate::fmt_http_date(now);
    let part = |range| http.get(range).unwrap_or_default();
    format!(
        "{}/{}/{}:{} +0000",
        part(5..7),
        part(8..11),
        part(12..16),
        part(17..25)
    )
}

/// The members of a reply that mean something here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unwrapped {
    status_code: u16,
    headers: Option<Map<String, Value>>,
    cookies: Option<Vec<String>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

/// The HTTP response that a reply describes. A reply without `statusCode` is a body itself.
fn unwrap(payload: Bytes) -> Result<Response, String> {
    let is_response = serde_json::from_slice::<Value>(&payload)
        .is_ok_and(|reply| reply.get("statusCode").is_some());
    if !is_response {
        return Ok(([(header::CONTENT_TYPE, "application/json")], payload).into_response());
    }
    let reply: Unwrapped = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
    let body = reply.body.unwrap_or_default();
    let body = if reply.is_base64_encoded == Some(true) {
        BASE64_STANDARD
            .decode(body)
            .map_err(|error| format!("body: {error}"))?
    } else {
        body.into()
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = match reply.status_code {
        // The others are not final or do not exist.
        status @ 200..=599 => StatusCode::from_u16(status).map_err(|error| error.to_string())?,
        status => return Err(format!("statusCode is {status}")),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in reply.headers.unwrap_or_default() {
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
        // The connection is ours to describe.
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
            let value = HeaderValue::try_from(value).map_err(|error| format!("{name}: {error}"))?;
            headers.insert(name, value);
        }
    }
    for cookie in reply.cookies.unwrap_or_default() {
        let cookie = HeaderValue::try_from(cookie).map_err(|error| format!("cookie: {error}"))?;
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}
