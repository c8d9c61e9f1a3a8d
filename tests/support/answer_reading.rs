//! An independent, strict reading of the Runtime API's answers (RFC 9112), and a socket on which
//! the function gets any bytes as one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fibonacci_generator::reply::Reply;
use fibonacci_generator::runtime_api::{Connection, Invocation, Socket};
use fibonacci_generator::sequence::Index;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const MAX_BODY_LEN: usize = 6 * 1024 * 1024 + 64 * 1024;

/// A whole event, and an answer to a post, after which its connection is closed.
const EVENT: &[u8] = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\n\
    Connection: close\r\nContent-Length: 2\r\n\r\n{}";

/// Why an answer is not read.
#[derive(Debug)]
enum Flaw {
    /// No reader may take it for an answer.
    Malformed,
    /// A lenient reader may take it for an answer.
    Irregular,
}
use Flaw::{Irregular, Malformed};

/// Asserts that the function makes of an answer to a poll, and of one to a post, what this file
/// makes of it. The first byte of the input says in which parts the rest arrives.
pub(crate) fn check(input: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
    }
    let Some((&parts, answer)) = input.split_first() else {
        return;
    };
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            check_event(parts, answer).await;
            check_post_answer(parts, answer).await;
        });
    });
}

async fn check_event(parts: u8, answer: &[u8]) {
    open_in_turn([Script::new(parts, answer)]);
    let mut connection = Connection::<Script>::new("host".into());
    let mut invocation = Invocation::default();
    let received = async {
        connection.next(&mut invocation).await?;
        connection.receive(&mut invocation).await
    };
    let received = received.await;
    match read_event(answer) {
        Ok((request_id, payload)) => {
            received.unwrap();
            assert_eq!(invocation.request_id().as_bytes(), request_id);
            assert_eq!(invocation.payload(), payload);
        }
        Err(Malformed) => assert!(received.is_err(), "{invocation:?}"),
        Err(Irregular) => {}
    }
}

async fn check_post_answer(parts: u8, answer: &[u8]) {
    open_in_turn([
        Script::new(0, EVENT),
        Script::new(parts, answer),
        Script::new(parts, answer),
        Script::new(0, EVENT),
    ]);
    let mut connection = Connection::<Script>::new("host".into());
    let mut invocation = Invocation::default();
    connection.next(&mut invocation).await.unwrap();
    connection.receive(&mut invocation).await.unwrap();
    let reply = Reply::from(Index::new(3).unwrap());
    connection.respond(&invocation, &reply).await;

    let sent = SENT.take();
    let posts = &sent[1..];
    for post in posts {
        assert!(post.starts_with(b"POST /2018-06-01/runtime/invocation/id/response HTTP/1.1\r\n"));
        assert!(post.ends_with(&[b"\r\n\r\n", &*reply.slices().concat()].concat()));
    }
    let head = read_head(answer);
    let is_final = |head: &Head| matches!(head.status, 200..300 | 400..500);
    match (&head, posts.len()) {
        (Ok((head, _)), 1) if is_final(head) => {}
        (Ok((head, _)), 2) if !is_final(head) => {}
        (Err(Malformed), 2) | (Err(Irregular), 1 | 2) => {}
        (_, count) => panic!("{count} posts"),
    }

    // An answer that ends with the bytes leaves the connection as good as it says.
    if let Ok((head, rest)) = head
        && is_final(&head)
    {
        SENT.set(vec![Vec::new(); sent.len()]);
        let polled = timeout(Duration::from_secs(2), connection.next(&mut invocation)).await;
        match read_body(&head, rest) {
            Ok((_, [])) => {
                let was_kept = SENT.take().len() == sent.len();
                assert_eq!(was_kept, head.keeps_alive);
            }
            Ok(_) | Err(Irregular) => {}
            Err(Malformed) => polled.unwrap().unwrap(),
        }
    }
}

/// The request ID and the payload.
fn read_event(answer: &[u8]) -> Result<(&[u8], Vec<u8>), Flaw> {
    let (head, rest) = read_head(answer)?;
    let request_id = match head.request_ids[..] {
        [id] => id,
        [] => return Err(Malformed),
        _ => return Err(Irregular),
    };
    let is_usable = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    if head.status != 200 || request_id.is_empty() || !request_id.iter().all(is_usable) {
        return Err(Malformed);
    }
    let (payload, _) = read_body(&head, rest)?;
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
fn read_head(answer: &[u8]) -> Result<(Head<'_>, &[u8]), Flaw> {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let Some((lines, rest)) = split_at(answer, b"\r\n\r\n") else {
        let has_empty_line = [&b"\n\n"[..], b"\n\r\n"]
            .iter()
            .any(|end| split_at(answer, end).is_some());
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
    if answer.len() - rest.len() > 60_000 || fields.len() > 64 {
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
    let body = match (status, &lengths[..], &codings[..]) {
        (..200, ..) => return Err(Malformed),
        (204, [], []) => Body::Len(0),
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
fn read_body<'a>(head: &Head, mut rest: &'a [u8]) -> Result<(Vec<u8>, &'a [u8]), Flaw> {
    match head.body {
        Body::Len(len) if len > MAX_BODY_LEN => Err(Malformed),
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
                if size > MAX_BODY_LEN - body.len() {
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
