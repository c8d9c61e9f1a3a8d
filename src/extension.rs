//! The function's internal [extension]. Lambda sends SIGTERM only to functions that have one.
//!
//! [extension]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::time::timeout;

use crate::http::{Head, Socket, Stream, invalid};
use crate::log::excerpt;
use crate::runtime_api::{MAX_REFUSAL_LEN, USER_AGENT};

/// Unique among the extensions of a function.
const NAME: &str = env!("CARGO_PKG_NAME");
/// The function serves without an extension rather than wait for longer.
const LIMIT: Duration = Duration::from_secs(2);
/// An internal extension may not subscribe to events.
const BODY: &str = r#"{"events": []}"#;

/// What the first requests to the Runtime API showed.
#[derive(Debug)]
pub struct Registration<S> {
    /// The registered extension, or why there is none.
    pub extension: io::Result<Extension<S>>,
    /// Whether the Runtime API responded to both of two requests that were sent in one write, and
    /// left the connection open, as
    /// [RFC 9112 §9.3.2](https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2) requires.
    pub takes_requests_ahead: bool,
}

/// An extension that waits for an event, as each must, and never gets one. Lambda may take a closed
/// connection for its end.
#[derive(Debug)]
pub struct Extension<S> {
    _stream: Stream<S>,
}

/// Registers at `authority`, the `host:port` of the Runtime API, which takes registrations until
/// the first poll.
pub async fn register<S: Socket>(authority: &str) -> Registration<S> {
    let mut takes_requests_ahead = false;
    let registered = register_and_wait(authority, &mut takes_requests_ahead);
    let registered = timeout(LIMIT, registered).await;
    Registration {
        extension: registered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        takes_requests_ahead,
    }
}

async fn register_and_wait<S: Socket>(
    authority: &str,
    takes_requests_ahead: &mut bool,
) -> io::Result<Extension<S>> {
    let mut stream = Stream::open(authority).await?;
    let head = format!("host: {authority}\r\nuser-agent: {USER_AGENT}\r\n");
    // The ping rides along to see whether it gets a response.
    let requests = format!(
        "POST /2020-01-01/extension/register HTTP/1.1\r\n{head}\
         lambda-extension-name: {NAME}\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\r\n{BODY}\
         GET /2018-06-01/ping HTTP/1.1\r\n{head}\r\n",
        BODY.len()
    );
    stream
        .send(&mut [IoSlice::new(requests.as_bytes())])
        .await?;

    let mut id = String::new();
    let on_header = |name: &str, value: &str| {
        if name.eq_ignore_ascii_case("lambda-extension-identifier") {
            value.clone_into(&mut id);
        }
    };
    let (registered, body) = receive(&mut stream, on_header).await?;
    let ping = receive(&mut stream, |_, _| ()).await;
    *takes_requests_ahead = registered.keeps_alive && ping.is_ok_and(|(head, _)| head.keeps_alive);
    if registered.status != 200 {
        let problem = format!("HTTP status {}: {}", registered.status, excerpt(&body));
        return Err(invalid(problem));
    }
    if id.is_empty() {
        return Err(invalid("no Lambda-Extension-Identifier"));
    }

    if !*takes_requests_ahead {
        stream = Stream::open(authority).await?;
    }
    let request = format!(
        "GET /2020-01-01/extension/event/next HTTP/1.1\r\n{head}\
         lambda-extension-identifier: {id}\r\n\r\n"
    );
    stream.send(&mut [IoSlice::new(request.as_bytes())]).await?;
    Ok(Extension { _stream: stream })
}

async fn receive<S: Socket>(
    stream: &mut Stream<S>,
    on_header: impl FnMut(&str, &str),
) -> io::Result<(Head, Vec<u8>)> {
    let head = stream.receive_head(on_header).await?;
    let mut body = Vec::new();
    stream
        .receive_body(&head, &mut body, MAX_REFUSAL_LEN)
        .await?;
    Ok((head, body))
}
