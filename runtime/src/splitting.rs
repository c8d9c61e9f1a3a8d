//! Whatever the Runtime API sends, the parts in which it arrives change nothing.

use std::fmt::Write;
use std::iter;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::timeout;

use crate::Invocation;
use crate::connection::{Connection, Polling};
use crate::pipe;

/// A whole event, after which its connection is closed.
const EVENT: &[u8] = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\n\
    Connection: close\r\nContent-Length: 2\r\n\r\n{}";
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
/// In bytes. What is sent in one piece has room.
const MUCH_ROOM: usize = 1024 * 1024;

/// Checks that these bytes, as the response to a poll, and as that to a reply with and without a
/// poll behind it, do what they do in one piece. The first byte says how long the parts are in which
/// the rest arrives, and whether the connection then ends or stalls.
///
/// # Panics
///
/// If they do something else.
pub fn check(input: &[u8]) {
    thread_local! {
        static RUNTIME: LocalRuntime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(LocalOptions::default())
            .expect("a runtime");
    }
    let Some((&parts, bytes)) = input.split_first() else {
        return;
    };
    let stalls = parts >= 128;
    RUNTIME.with(|runtime| {
        for is_behind_a_poll in [Some(true), Some(false), None] {
            let [whole, in_parts] = [MUCH_ROOM, usize::from(parts % 128).max(1)].map(|room| {
                let bytes = bytes.to_vec();
                runtime.block_on(what_happens(room, stalls, bytes, is_behind_a_poll))
            });
            assert_eq!(in_parts, whole, "{}", input.escape_ascii());
        }
    });
}

/// What the connection makes of these bytes as the response to a poll, or to a reply that a poll
/// follows or not.
async fn what_happens(
    room: usize,
    stalls: bool,
    bytes: Vec<u8>,
    is_followed: Option<bool>,
) -> String {
    // What each connection sends.
    let tested = iter::once((room, stalls, bytes));
    let others = |bytes: &'static [u8]| iter::once((MUCH_ROOM, false, bytes.to_vec()));
    let scripts: Vec<_> = if is_followed.is_some() {
        let scripts = others(EVENT).chain(tested).chain(others(ACCEPTED));
        scripts.chain(others(EVENT)).collect()
    } else {
        tested.chain(others(EVENT)).collect()
    };
    let mut connects = pipe::connects();
    let server = spawn_local(async move {
        let mut connections = JoinSet::new();
        for (n, (room, stalls, bytes)) in scripts.into_iter().enumerate() {
            let Some(connect) = connects.recv().await else {
                break;
            };
            connections.spawn(follow(n, connect.accept(room), stalls, bytes));
        }
        drop(connects);
        connections.join_all().await
    });

    let mut connection = Connection::<DuplexStream>::new("host".into());
    let polling = Polling {
        pipelines: is_followed.unwrap_or_default().into(),
        is_draining: false.into(),
    };
    let mut happened = receive_next(&mut connection, &polling).await;
    if let Some(is_followed) = is_followed {
        let mut invocation = Invocation::default();
        invocation.request_id.push_str("id");
        let reply = Ok("a reply".into());
        connection.respond(&invocation, reply, &polling).await;
        // What follows a response that nobody has asked for may come too late to be noticed.
        if is_followed {
            happened += &receive_next(&mut connection, &polling).await;
        }
    }
    drop(connection);
    drop(pipe::connects()); // no more
    let mut sent = server.await.expect("a server");
    sent.sort();
    for (_, sent) in sent {
        let _ = write!(happened, "\nsent: {}", sent.escape_ascii());
    }
    happened
}

/// Sends this on the `n`th connection, which then is closed or stalls. Returns what is received.
async fn follow(n: usize, stream: DuplexStream, stalls: bool, bytes: Vec<u8>) -> (usize, Vec<u8>) {
    let (mut reader, mut writer) = split(stream);
    let mut received = Vec::new();
    let send = async {
        let _ = writer.write_all(&bytes).await; // the peer may have closed it
        if !stalls {
            let _ = writer.shutdown().await;
        }
    };
    let ((), _) = tokio::join!(send, reader.read_to_end(&mut received));
    (n, received)
}

async fn receive_next(connection: &mut Connection<DuplexStream>, polling: &Polling) -> String {
    let mut invocation = Invocation::default();
    let next = connection.next(&mut invocation, polling, |_| ());
    match timeout(Duration::from_secs(10), next).await {
        Ok(Ok(_)) => {
            let headers: Vec<_> = invocation.headers().collect();
            let (id, payload) = (invocation.request_id(), invocation.payload());
            format!("\n{id}: {headers:?} {}", payload.escape_ascii())
        }
        Ok(Err(problem)) => format!("\n{problem}, {:?}", invocation.request_id()),
        Err(_) => "\nnothing".to_owned(),
    }
}

#[cfg(test)]
#[test]
fn parts_of_a_response_give_what_it_gives_in_one_piece() {
    let _logging = crate::worker_model::log::listen(std::io::sink);
    test_support::replay(
        "runtime_api",
        check,
        &[
            "\r\n",
            "\n",
            "\r\n\r\n",
            "0\r\n",
            "1\r\n",
            ":",
            ";",
            " ",
            "+",
            "f",
            "Connection: close\r\n",
            "Content-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\nContent-Length: 2\r\n\r\n{}",
        ],
    );
}
