//! Connections that the peer closes, and TLS.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio_rustls::rustls::{ServerConnection, StreamOwned};

use crate::support::tls::TlsApi;
use crate::support::{BOUND, loadtest, refused, report, right_reply, run};

trait Connection: Read + Write {
    /// Closes this side, so that the peer can still send.
    fn close(&mut self);
}

impl Connection for TcpStream {
    fn close(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Connection for StreamOwned<ServerConnection, TcpStream> {
    fn close(&mut self) {
        self.conn.send_close_notify();
        self.flush().unwrap();
    }
}

/// Replies to one request, and closes the connection without announcing it. Returns whether another
/// request was on its way already.
fn serve_once(mut connection: impl Connection) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        // Nobody need send a request.
        if connection.read_exact(&mut byte).is_err() {
            return false;
        }
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split_once("content-length: ").map(|(_, rest)| rest);
    let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut payload = vec![0; length];
    connection.read_exact(&mut payload).unwrap();
    let body = if head.starts_with("post") {
        right_reply(&payload)
    } else {
        b"{}".to_vec()
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let response = [head.into_bytes(), body].concat();
    connection.write_all(&response).unwrap();
    connection.flush().unwrap();
    connection.close();
    let mut rest = Vec::new();
    let _ = connection.read_to_end(&mut rest);
    !rest.is_empty()
}

/// A server that replies to one request on each connection, and closes it.
struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: JoinHandle<Vec<JoinHandle<bool>>>,
}

impl Server {
    fn start(is_tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = is_tls.then(TlsApi::config);
        let is_over = Arc::new(AtomicBool::new(false));
        let accepting = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let connections = listener.incoming().map(Result::unwrap);
                let connections = connections.take_while(|_| !is_over.load(Ordering::SeqCst));
                let serve = |connection: TcpStream| {
                    connection.set_read_timeout(Some(BOUND)).unwrap();
                    let tls = tls.clone().map(|tls| ServerConnection::new(tls).unwrap());
                    std::thread::spawn(move || match tls {
                        Some(tls) => serve_once(StreamOwned::new(tls, connection)),
                        None => serve_once(connection),
                    })
                };
                connections.map(serve).collect()
            }
        });
        Self {
            address,
            is_over,
            accepting,
        }
    }

    /// How many requests were on their way when their connection was closed.
    fn crossed(self) -> usize {
        self.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).unwrap();
        let serving = self.accepting.join().unwrap().into_iter();
        let crossed = serving.map(|one| one.join().unwrap());
        crossed.filter(|crossed| *crossed).count()
    }
}

#[test]
fn opens_another_connection_if_the_peer_has_closed_it() {
    for (is_tls, requests, flags) in [
        (false, 200, "-n 200 -c 2"),
        // The connection is idle when the server closes it.
        (false, 3, "-n 3 -r 4"),
        (true, 3, "-n 3 -r 4"),
    ] {
        let server = Server::start(is_tls);
        let scheme = if is_tls { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", server.address.port());
        let mut command = loadtest(&format!("-o json --endpoint-url {url} {flags}"));
        command.env("SSL_CERT_FILE", TlsApi::CERTIFICATE);

        let output = run(&mut command);

        // A request that crosses with the close may have been handled: it is not sent again.
        let crossed = server.crossed();
        let outcomes = &report(&output)["outcomes"];
        assert_eq!(outcomes["transport"], crossed, "{output:?}");
        assert_eq!(outcomes["ok"], requests - crossed, "{output:?}");
        assert!(crossed < requests, "every request crossed");
    }
}

#[test]
fn speaks_tls_with_those_whose_certificate_it_trusts() {
    let api = TlsApi::start();
    let to = |url: &str, flags: &str| loadtest(&format!("--endpoint-url {url} {flags}"));
    let url = api.url("localhost");
    for n in ["10", "1000"] {
        let mut command = to(&url, &format!("-n 50 -c 4 --n {n} -o json"));
        let output = run(command.env("SSL_CERT_FILE", TlsApi::CERTIFICATE));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(report(&output)["outcomes"]["ok"], 50);
    }

    let mut other_name = to(&api.url("127.0.0.1"), "");
    other_name.env("SSL_CERT_FILE", TlsApi::CERTIFICATE);
    refused(&mut other_name, "TLS handshake: invalid peer certificate");
    let mut nothing_trusted = to(&url, "");
    nothing_trusted.env("SSL_CERT_FILE", "/dev/null");
    refused(&mut nothing_trusted, "no root certificates");
    refused(
        &mut to(&url.replace("https", "http"), ""),
        "http://localhost",
    );
}
