//! Keeps web pages of others away from the function: any page that the developer visits can send
//! requests to this machine.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::api_error::ApiError;

/// Whether a request comes from the console's own page, or from no page at all.
///
/// `Host` must be localhost or an IP address: any other name may be one that an attacker's DNS server
/// resolves to this machine. `Origin`, if there is one, must be the same server.
///
/// # Errors
///
/// If it comes from elsewhere.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_ascii_lowercase();
    let host = headers.get(header::HOST).map(text).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(text);
    let is_own = origin.is_none_or(|origin| origin == format!("http://{host}"));
    if is_own && is_local(&host) {
        Ok(())
    } else {
        Err(ApiError::foreign_page())
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<IpAddr>().is_ok()
}
