//! Requests that were meant for another AWS service: `AWS_ENDPOINT_URL` sends them all here.

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::warn;

use crate::api_error::ApiError;
use crate::http::text;

/// Middleware that refuses what is signed for another service than Lambda.
pub(crate) async fn refuse(request: Request, next: Next) -> Response {
    // AWS4-HMAC-SHA256 Credential=ID/20260101/us-east-1/s3/aws4_request, …
    let authorization = text(request.headers(), &header::AUTHORIZATION);
    let scope = authorization.split("Credential=").nth(1);
    let service = scope.and_then(|scope| scope.split('/').nth(3));
    let Some(service) = service.filter(|service| *service != "lambda") else {
        return next.run(request).await;
    };
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_name = |service: &&str| service.chars().all(is_of_name);
    let service = Some(service).filter(is_name).unwrap_or("another service");
    let message = format!("cargo local serves Lambda, not {service}: use AWS_ENDPOINT_URL_LAMBDA");
    let content_type = text(request.headers(), &header::CONTENT_TYPE);
    if content_type.starts_with("application/x-amz-json") {
        return ApiError::unknown_operation(StatusCode::NOT_IMPLEMENTED, message).into_response();
    }
    warn!("{message}");
    let body = format!("<Error><Code>NotImplemented</Code><Message>{message}</Message></Error>");
    let headers = [(header::CONTENT_TYPE, "application/xml")];
    (StatusCode::NOT_IMPLEMENTED, headers, body).into_response()
}
