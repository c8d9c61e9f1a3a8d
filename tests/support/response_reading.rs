//! An independent, strict reading of the Runtime API's responses (RFC 9112), and a socket on which
//! the function gets any bytes as one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fibonacci_generator::http::Socket;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::runtime_api::{Connection, Invocation};
use fibonacci_generator::sequence::Index;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const MAX_EVENT_LEN: usize = 6 * 1024 * 1024 + 64 * 1024;
const MAX_REFUSAL_LEN: usize = 4 * 1024;

/// A whole event, after which its connection is closed.
const EVENT: &[u8] = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\n\
    Connection: close\r\nContent-Length: 2\r\n\r\n{}";

/// Why a response is not read.
#[derive(Debug)]
enum Flaw {
    /// No reader may take it for a response.
    Malformed,
    /// A lenient reader may take it for a response.
    Irregular,
}
use Flaw::{Irregular, Malformed};

/// Asserts that the function makes of a response to a poll, and of one to a post with and without a
/// poll behind it, what this file makes of it. The first byte of the input says in which parts the
/// rest arrives.
pub(crate) fn check(input: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
    }
    let Some((&parts, response)) = input.split_first() else {
        return;
    };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            check_event(parts, response).await;
            check_post_response(parts, response, false).await;
            check_post_response(parts, response, true).await;
        });
    });
}

async fn check_event(parts: u8, response: &[u8]) {
    open_in_turn([Script::new(parts, response)]);
    let mut connection = Connection::<Script>::new("host".into());
    let mut invocation = Invocation::default();
    let received = receive_next(&mut connection, &mut invocation).await;
    assert_is_event(received, &invocation, response);
}

/// Polls, unless that has been done, and receives an event. The result is `false` if a kept
/// connection was closed instead.
async fn receive_next(
    connection: &mut Connection<Script>,
    invocation: &mut Invocation,
) -> io::Result<bool> {
    if !connection.is_polling() {
        connection.poll().await?;
    }
    if !connection.event_begins().await? {
        return Ok(false);
    }
    invocation.clear();
    connection.receive(invocation).await?;
    Ok(true)
}

fn assert_is_event(received: io::Result<bool>, invocation: &Invocation, response: &[u8]) {
    match read_event(response) {
        Ok((request_id, payload)) => {
            assert!(received.unwrap());
            assert_eq!(invocation.request_id().as_bytes(), request_id);
            assert_eq!(invocation.payload(), payload);
        }
        Err(Malformed) => assert!(received.is_err(), "{invocation:?}"),
        Err(Irregular) => {}
    }
}

async fn check_post_response(parts: u8, response: &[u8], polls_ahead: bool) {
    open_in_turn([
        Script::new(0, EVENT),
        Script::new(parts, response),
        Script::new(parts, response),
        Script::new(0, EVENT),
    ]);
    let mut connection = Connection::<Script>::new("host".into());
    let mut invocation = Invocation::default();
    assert!(
        receive_next(&mut connection, &mut invocation)
            .await
            .unwrap()
    );
    let reply = Reply::from(Index::new(3).unwrap());
    connection.respond(&invocation, &reply, polls_ahead).await;

    let sent = SENT.take();
    let poll = &sent[0];
    let posts = &sent[1..];
    for (n, post) in posts.iter().enumerate() {
        assert!(post.starts_with(b"POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\n"));
        let is_followed = polls_ahead && n == 0;
        let behind = if is_followed { &**poll } else { b"" };
        let end = [b"\r\n\r\n", &*reply.slices().concat(), behind].concat();
        assert!(post.ends_with(&end));
    }
    let head = read_head(response);
    let is_final = |head: &Head| matches!(head.status, 200..300 | 400..500);
    match (&head, posts.len()) {
        (Ok((head, _)), 1) if is_final(head) => {}
        (Ok((head, _)), 2) if !is_final(head) => {}
        (Err(Malformed), 2) | (Err(Irregular), 1 | 2) => {}
        (_, count) => panic!("{count} posts"),
    }
    let Ok((head, rest)) = head else {
        return;
    };
    if !is_final(&head) && !polls_ahead {
        return;
    }

    // A response that arrives whole leaves the connection as it says, and what follows it there is
    // the response to the poll that was sent with the post.
    SENT.set(vec![Vec::new(); sent.len()]);
    let was_polling = connection.is_polling();
    let next = receive_next(&mut connection, &mut invocation);
    let next = timeout(Duration::from_secs(2), next).await;
    match read_body(&head, rest, MAX_REFUSAL_LEN) {
        Ok((_, rest)) => {
            assert_eq!(was_polling, polls_ahead && head.keeps_alive);
            match next {
                Ok(next) if was_polling && !rest.is_empty() => {
                    assert_is_event(next, &invocation, rest);
                }
                Ok(next) if was_polling => assert!(!next.unwrap(), "the connection was closed"),
                _ if rest.is_empty() => {
                    let was_kept = SENT.take().len() == sent.len();
                    assert_eq!(was_kept, head.keeps_alive);
                }
                _ => {}
            }
        }
        Err(Irregular) => {}
        // The connection is not used again.
        Err(Malformed) => assert!(!was_polling && SENT.take().len() > sent.len()),
    }
}

/// The request id and the payload.
fn read_event(response: &[u8]) -> Result<(&[u8], Vec<u8>), Flaw> {
    let (head, rest) = read_head(response)?;
    let request_id = match head.request_ids[..] {
        [id] => id,
        [] => return Err(Malformed),
        _ => return Err(Irregular),
    };
    let is_usable = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    if head.status != 200
        || !matches!(request_id.len(), 1..=256)
        || !request_id.iter().all(is_usable)
    {
        return Err(Malformed);
    }
    let (payload, _) = read_body(&head, rest, MAX_EVENT_LEN)?;
    Ok((request_id, payload))
}

struct Head<'a> {
    status: u16,
    body: Body,
    keeps_alive: bool,
    request_ids: Vec<&'a [u8]>,
}

enum Body {
    Len(usize),
    Chunked,
    UntilClose,
}

/// The head, and what follows.
fn read_head(response: &[u8]) -> Result<(Head<'_>, &[u8]), Flaw> {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let Some((lines, rest)) = split_at(response, b"\r\n\r\n") else {
        let has_empty_line = [&b"\n\n"[..], b"\n\r\n"]
            .iter()
            .any(|end| split_at(response, end).is_some());
        return Err(if has_empty_line { Irregular } else { Malformed });
    };
    let mut fields = Vec::new();
    let mut lines = Some(lines);
    while let Some(these) = lines {
        let (line, others) =
            split_at(these, b"\r\n").map_or((these, None), |(line, others)| (line, Some(others)));
        fields.push(line);
        lines = others;
    }
    let status_line = fields.remove(0);
    if response.len() - rest.len() > 60_000 || fields.len() > 64 {
        return Err(Irregular);
    }

    let status_line = status_line.strip_prefix(b"HTTP/1.").ok_or(Irregular)?;
    let [minor_version @ (b'0' | b'1'), b' ', status @ ..] = status_line else {
        return Err(Irregular);
    };
    let status = match status {
        [
            a @ b'0'..=b'9',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            b' ',
            reason @ ..,
        ] if reason.iter().all(|byte| is_text(byte) && byte.is_ascii()) => [a, b, c]
            .iter()
            .fold(0, |status, &&digit| status * 10 + u16::from(digit - b'0')),
        _ => return Err(Irregular),
    };

    let (mut lengths, mut codings, mut request_ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut keeps_alive = *minor_version == b'1';
    for field in fields {
        let (name, value) = split_at(field, b":").ok_or(Irregular)?;
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.iter().all(is_token) || !value.iter().all(is_text) {
            return Err(Irregular);
        }
        let value = value.trim_ascii();
        match &*name.to_ascii_lowercase() {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value),
            b"lambda-runtime-aws-request-id" => request_ids.push(value),
            b"connection" if !value.is_ascii() => return Err(Irregular),
            b"connection" => {
                let mut options = value.split(|byte| *byte == b',');
                keeps_alive &= !options.any(|it| it.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
            _ => {}
        }
    }
    let is_length = |len: &str| !len.starts_with('+') && len.parse::<usize>().is_ok();
    let body = match (status, &lengths[..], &codings[..]) {
        // An interim response, which another follows.
        (100 | 102..200, ..) => return read_head(rest),
        (..200, ..) => return Err(Malformed),
        (204, [], []) => Body::Len(0),
        (204, [len], []) if str::from_utf8(len).is_ok_and(is_length) => Body::Len(0),
        (204, ..) => return Err(Irregular),
        (_, [], []) => Body::UntilClose,
        (_, [len], []) if !len.is_empty() && len.iter().all(u8::is_ascii_digit) => {
            let len = str::from_utf8(len).unwrap().parse();
            Body::Len(len.map_err(|_| Malformed)?)
        }
        (_, [], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Body::Chunked,
        _ => return Err(Malformed),
    };
    let head = Head {
        status,
        body,
        keeps_alive,
        request_ids,
    };
    Ok((head, rest))
}

/// The body, and what follows.
fn read_body<'a>(
    head: &Head,
    mut rest: &'a [u8],
    max_len: usize,
) -> Result<(Vec<u8>, &'a [u8]), Flaw> {
    match head.body {
        Body::Len(len) if len > max_len => Err(Malformed),
        Body::Len(len) => {
            let (body, rest) = rest.split_at_checked(len).ok_or(Malformed)?;
            Ok((body.to_vec(), rest))
        }
        Body::UntilClose => Err(Malformed),
        Body::Chunked => {
            let mut body = Vec::new();
            loop {
                let (line, data) = split_at(rest, b"\r\n").ok_or(Malformed)?;
                let digits = line
                    .iter()
                    .take_while(|byte| byte.is_ascii_hexdigit())
                    .count();
                let (size, extension) = line.split_at(digits);
                let size = str::from_utf8(size).unwrap();
                let size = usize::from_str_radix(size, 16).map_err(|_| Malformed)?;
                // RFC 9112 sets no limit to leading zeros; a reader may.
                if digits > 16 {
                    return Err(Irregular);
                }
                let unspaced = extension.iter().position(|byte| !b" \t".contains(byte));
                match &extension[unspaced.unwrap_or_default()..] {
                    [] if extension.is_empty() => {}
                    [b';', extension @ ..] if !extension.contains(&b'\r') => {}
                    _ => {
                        return Err(if extension.iter().all(u8::is_ascii_alphanumeric) {
                            Malformed
                        } else {
                            Irregular
                        });
                    }
                }
                if size > max_len - body.len() {
                    return Err(Malformed);
                }
                rest = data;
                if size == 0 {
                    break;
                }
                let (data, after) = rest.split_at_checked(size).ok_or(Malformed)?;
                body.extend_from_slice(data);
                rest = after.strip_prefix(b"\r\n").ok_or(Malformed)?;
            }
            loop {
                let (trailer, after) = split_at(rest, b"\r\n").ok_or(Malformed)?;
                rest = after;
                if trailer.is_empty() {
                    return Ok((body, rest));
                }
            }
        }
    }
}

/// What stands before and after the first of these separators.
fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut windows = bytes.windows(separator.len());
    let at = windows.position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

thread_local! {
    static SCRIPTS: RefCell<VecDeque<Script>> = const { RefCell::new(VecDeque::new()) };
    /// What was sent on each socket.
    static SENT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Makes these the next sockets to be opened.
fn open_in_turn<const N: usize>(scripts: [Script; N]) {
    SENT.take();
    SCRIPTS.set(scripts.into());
}

/// A socket on which these bytes arrive in parts; then it is closed or stalls.
struct Script {
    unread: VecDeque<u8>,
    longest_part: usize,
    stalls: bool,
    /// Its place in `SENT`.
    position: usize,
}

impl Script {
    fn new(parts: u8, bytes: &[u8]) -> Self {
        Self {
            unread: bytes.iter().copied().collect(),
            longest_part: match usize::from(parts % 64) {
                0 => usize::MAX,
                len => len * len,
            },
            // An event may be waited for forever.
            stalls: parts >= 128 && !bytes.is_empty(),
            position: 0,
        }
    }

    /// A length that changes from part to part.
    fn part_len(&self, at: usize) -> usize {
        if self.longest_part == usize::MAX {
            usize::MAX
        } else {
            1 + at * 31 % self.longest_part
        }
    }
}

impl Socket for Script {
    async fn connect(_: &str) -> io::Result<Self> {
        let mut script = SCRIPTS
            .with_borrow_mut(VecDeque::pop_front)
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        SENT.with_borrow_mut(|sent| {
            script.position = sent.len();
            sent.push(Vec::new());
        });
        Ok(script)
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() && self.stalls {
            return Poll::Pending;
        }
        let len = self
            .part_len(self.unread.len())
            .min(self.unread.len())
            .min(buffer.remaining());
        let part: Vec<u8> = self.unread.drain(..len).collect();
        buffer.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        SENT.with_borrow_mut(|sent| {
            let sent = &mut sent[self.position];
            let before = sent.len();
            let mut free = self.part_len(before).saturating_mul(64);
            for slice in slices {
                let len = free.min(slice.len());
                sent.extend_from_slice(&slice[..len]);
                free -= len;
            }
            Poll::Ready(Ok(sent.len() - before))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
