//! What the servers have in common.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) const AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(crate) const AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// A header value, empty if `value` is none.
pub(crate) fn header_value(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

/// An error of the Runtime API or the Extensions API.
pub(crate) fn error(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = json!({ "errorMessage": message, "errorType": error_type }).to_string();
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}
