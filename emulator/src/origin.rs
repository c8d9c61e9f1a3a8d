//! Keeps other people's web pages away from the function: any page that the developer visits can send
//! requests to this machine.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::api_error::ApiError;
use crate::http::{error, text};

/// Browsers send it with every request. Nothing else does.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Middleware that refuses what [`check`] refuses. It is for requests whose responses a page of
/// another origin must not read.
pub(crate) async fn only_own_page(request: Request, next: Next) -> Result<Response, ApiError> {
    check(request.headers())?;
    Ok(next.run(request).await)
}

/// Middleware of the Runtime API, which no page has business with: an image with its address, in any
/// page, would take an event away.
pub(crate) async fn no_page(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let is_from_page = headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
    let has_host = headers.contains_key(header::HOST);
    if is_from_page || (has_host && !is_local(&text(headers, &header::HOST))) {
        let message = "The Runtime API serves the function alone, by localhost or an IP address";
        return error(StatusCode::FORBIDDEN, "Forbidden", message);
    }
    next.run(request).await
}

/// Checks that a request comes from the console's own page, or from no page at all.
///
/// `Host` must be localhost or an IP address: any other name may be one that an attacker's DNS server
/// resolves to this machine. `Origin`, if there is one, must be the same server.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = text(headers, &header::HOST);
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let own = format!("http://{host}");
    let is_own = origin.is_none_or(|origin| origin.eq_ignore_ascii_case(own.as_bytes()));
    if is_own && is_local(&host) {
        return Ok(());
    }
    let message = "Web pages of other origins may not send this request. Use localhost or an IP \
                   address in place of the host's name";
    Err(ApiError::forbidden(message.to_owned()))
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}
