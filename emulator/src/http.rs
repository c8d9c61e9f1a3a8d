//! What the servers have in common.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

use crate::start_error::StartError;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) const AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(crate) const AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// A header value, empty if `value` is none.
pub(crate) fn header_value(value: impl Display) -> HeaderValue {
    HeaderValue::try_from(value.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// The value of a header, if it is not empty: some clients send an option that is not set as an empty
/// header.
pub(crate) fn value_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.get(name).filter(|value| !value.is_empty())
}

/// The text of a header, empty if there is none.
pub(crate) fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).map(HeaderValue::as_bytes);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

pub(crate) fn json_response(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}

/// An error of the Runtime API or the Extensions API.
pub(crate) fn error(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = error_body(error_type, message);
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// An error that a function reports, or that stands for its reply.
pub(crate) fn error_body(error_type: &str, message: &str) -> Bytes {
    let body = json!({ "errorMessage": message, "errorType": error_type });
    body.to_string().into()
}

/// The response of the Runtime API or the Extensions API to what it accepts.
pub(crate) fn accepted() -> Response {
    let body = Bytes::from_static(b"{\"status\":\"OK\"}\n");
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// Listens on an address. Returns the address with its real port as well.
pub(crate) async fn listen(
    what: &str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error: io::Error| StartError::cannot_listen(what, address, &error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Accepts the next connection, however long that takes.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Without it, a large body may wait for a delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                return (stream, address);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!("cannot accept a connection: {error}; trying again in a second");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Serves a router until `stop` is dropped. A connection is closed that sends no whole head of a
/// request within `read_timeout`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    read_timeout: Duration,
    mut stop: watch::Receiver<()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(read_timeout);
    let connections = GracefulShutdown::new();
    loop {
        let (stream, address) = tokio::select! {
            accepted = accept(&listener) => accepted,
            _ = stop.changed() => break,
        };
        let service = router.clone().layer(Extension(ConnectInfo(address)));
        let service = TowerToHyperService::new(service);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connections.watch(connection));
    }
    connections.shutdown().await;
}
