//! The function's internal [extension]. Lambda sends SIGTERM only to functions that have one.
//!
//! [extension]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html

use std::io::{self, IoSlice};

use crate::back_off::BackOff;
use crate::connection::{MAX_REFUSAL_LEN, USER_AGENT};
use crate::http::{Head, STALL_LIMIT, Socket, Stream, in_time, invalid, is_timeout};
use crate::log::excerpt;

/// Unique among the extensions of a function.
const NAME: &str = env!("CARGO_PKG_NAME");
/// An internal extension may not subscribe to events.
const BODY: &str = r#"{"events": []}"#;
/// A Runtime API that breaks so many connections, or lets so many attempts to connect time out, takes
/// no registrations.
const MAX_FAILURES: u32 = 3;

/// What the first requests to the Runtime API showed.
#[derive(Debug)]
pub(crate) struct Registration<S> {
    /// The connection on which the extension waits for an event, as each must, and never gets one, or
    /// why there is none. Lambda may take a closed connection for the extension's end.
    pub(crate) extension: io::Result<Stream<S>>,
    /// Whether the Runtime API responded to both of two requests that were sent in one write, and
    /// left the connection open, as
    /// [RFC 9112 §9.3.2](https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2) requires.
    pub(crate) pipelines: bool,
}

/// Registers at `authority`, the `host:port` of the Runtime API, which takes registrations until
/// the first poll.
///
/// Once the request is on its way, the function may be registered, and Lambda does not start the
/// environment before every registered extension has asked for its first event. So this waits for
/// the response for as long as the connection lives, and registers again if it breaks.
///
/// # Errors
///
/// If the environment cannot start, because the function is registered and cannot ask for an event.
pub(crate) async fn register<S: Socket>(authority: &str) -> io::Result<Registration<S>> {
    let without_extension = |problem| Registration {
        extension: Err(problem),
        pipelines: false,
    };
    let mut back_off = BackOff::default();
    let mut failures = 0;
    let mut was_sent = false;
    let (mut stream, head, id, body) = loop {
        let opened = if was_sent {
            // It may be registered, and without it the environment cannot start.
            Ok(Stream::open_at_last(authority, None).await)
        } else {
            Stream::open(authority).await
        };
        let problem = match opened {
            Ok(mut stream) => {
                was_sent = true;
                match request_registration(&mut stream, authority).await {
                    Ok((head, id, body)) => break (stream, head, id, body),
                    Err(problem) => problem,
                }
            }
            Err(problem) if is_timeout(&problem) => problem,
            Err(problem) => return Ok(without_extension(problem)),
        };
        failures += 1;
        if failures == MAX_FAILURES {
            return Ok(without_extension(problem));
        }
        back_off.wait().await;
    };
    let ping = in_time(receive_response(&mut stream, |_, _| ())).await;
    let pipelines = head.keeps_alive && ping.is_ok_and(|(head, _)| head.keeps_alive);
    if head.status != 200 || id.is_empty() {
        let body = excerpt(&body);
        let problem = invalid(format!("HTTP status {}: {body}", head.status));
        if failures > 0 && body.contains("InvalidExtensionState") {
            return Err(problem); // an attempt before this one has taken the name
        }
        return Ok(Registration {
            extension: Err(problem),
            pipelines,
        });
    }

    if !pipelines {
        stream = Stream::open_at_last(authority, None).await;
    }
    let request = format!(
        "GET /2020-01-01/extension/event/next HTTP/1.1\r\n\
         host: {authority}\r\n\
         user-agent: {USER_AGENT}\r\n\
         lambda-extension-identifier: {id}\r\n\r\n"
    );
    let request = IoSlice::new(request.as_bytes());
    stream.send(&mut [request], STALL_LIMIT).await?;
    Ok(Registration {
        extension: Ok(stream),
        pipelines,
    })
}

/// Sends a registration, and a ping with it to see whether that gets a response. Returns the
/// response to the registration, with the extension's id.
async fn request_registration<S: Socket>(
    stream: &mut Stream<S>,
    authority: &str,
) -> io::Result<(Head, String, Vec<u8>)> {
    let head = format!("host: {authority}\r\nuser-agent: {USER_AGENT}\r\n");
    let requests = format!(
        "POST /2020-01-01/extension/register HTTP/1.1\r\n{head}\
         lambda-extension-name: {NAME}\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\r\n{BODY}\
         GET /2018-06-01/ping HTTP/1.1\r\n{head}\r\n",
        BODY.len()
    );
    let requests = IoSlice::new(requests.as_bytes());
    stream.send(&mut [requests], STALL_LIMIT).await?;
    let mut id = String::new();
    let on_header = |name: &str, value: &str| {
        if name.eq_ignore_ascii_case("lambda-extension-identifier") {
            value.clone_into(&mut id);
        }
    };
    // However long it takes: the limit of the init phase is Lambda's.
    let (head, body) = receive_response(stream, on_header).await?;
    Ok((head, id, body))
}

async fn receive_response<S: Socket>(
    stream: &mut Stream<S>,
    on_header: impl FnMut(&str, &str),
) -> io::Result<(Head, Vec<u8>)> {
    let head = stream.receive_head(on_header).await?;
    stream.use_head(&head);
    let mut start = Vec::with_capacity(MAX_REFUSAL_LEN);
    stream.receive_start(&mut start).await?;
    Ok((head, start))
}
