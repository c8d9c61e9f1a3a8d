//! What the servers have in common.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) const AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(crate) const AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// A header value, empty if `value` is none.
pub(crate) fn header_value(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

/// The value of a header, if it is not empty: some clients send an option that is not set as an empty
/// header.
pub(crate) fn value_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.get(name).filter(|value| !value.is_empty())
}

/// An error of the Runtime API or the Extensions API.
pub(crate) fn error(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = json!({ "errorMessage": message, "errorType": error_type }).to_string();
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// The response of the Runtime API or the Extensions API to what it accepts.
pub(crate) fn accepted() -> Response {
    let body = Bytes::from_static(b"{\"status\":\"OK\"}\n");
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, JSON)], body).into_response()
}
