//! The test function, and raw HTTP.

// Not every test file uses all of it.
#![allow(dead_code, missing_docs)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use emulator::{Emulator, Reply, Settings};
use escargot::CargoBuild;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// `examples/function.rs`, as a settings' bootstrap.
pub(crate) fn function() -> Settings {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let build = CargoBuild::new().package("emulator").example("function");
        build
            .current_release()
            .run()
            .expect("the example builds")
            .path()
            .to_owned()
    });
    Settings::new(&*PATH)
}

pub(crate) async fn start(settings: Settings) -> Emulator {
    Emulator::start(settings)
        .await
        .expect("the function starts")
}

pub(crate) fn workers(count: u16) -> Settings {
    let mut settings = function();
    settings.max_concurrency = count.try_into().ok();
    settings
}

pub(crate) fn payload(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.payload).expect("a reply is JSON")
}

/// Holds invocations until they are let go.
pub(crate) struct Gate(TcpListener);

impl Gate {
    pub(crate) async fn new() -> Self {
        Self(
            TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a port is free"),
        )
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }

    /// The event that makes the function wait here.
    pub(crate) fn event(&self) -> String {
        json!({ "gate": self.address() }).to_string()
    }

    /// Waits for an invocation to come. It goes on when the connection is dropped.
    pub(crate) async fn entered(&self) -> TcpStream {
        self.0.accept().await.expect("the function connects").0
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.0 == name)
            .map(|header| &*header.1)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request on a connection of its own and reads the answer. `head` is the request line and,
/// each on a line of its own, headers.
pub(crate) async fn http(address: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut connection = request(address, head, body).await;
    answer(&mut connection).await
}

/// Sends a request without reading the answer.
pub(crate) async fn request(address: SocketAddr, head: &str, body: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    let head = head
        .trim()
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("\r\n");
    let length = body.len();
    let head = format!(
        "{head}\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    connection
        .write_all(head.as_bytes())
        .await
        .expect("it reads");
    // It may answer before it has read everything.
    let _ = connection.write_all(body).await;
    connection
}

pub(crate) async fn answer(connection: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    connection
        .read_to_end(&mut bytes)
        .await
        .expect("it answers");
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head ends");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let (status, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let headers = headers
        .split("\r\n")
        .filter_map(|header| header.split_once(": "));
    Answer {
        status: status
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status"),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: bytes.split_off(end + 4),
    }
}

/// Posts an event to the Invoke API.
pub(crate) async fn invoke(emulator: &Emulator, headers: &str, payload: &[u8]) -> Answer {
    let head = format!("POST /2015-03-31/functions/function/invocations HTTP/1.1\n{headers}");
    http(emulator.invoke_address(), &head, payload).await
}
