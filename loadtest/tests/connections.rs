//! Connections that the peer closes, and TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{BOUND, loadtest, refused, right_reply, run};

/// For `localhost`, self-signed, until 2126:
///
/// ```sh
/// openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 \
///   -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE \
///   -keyout key.pem -out certificate.pem
/// ```
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/certificate.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/key.pem");

fn tls() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth();
    config
        .with_single_cert(vec![certificate], key)
        .unwrap()
        .into()
}

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

/// Replies to requests. With `closes`, it replies to one, closes the connection without announcing it,
/// and returns whether another request was on its way already.
fn serve(connection: impl Connection, closes: bool) -> bool {
    let mut connection = BufReader::new(connection);
    while reply(&mut connection) {
        if closes {
            connection.get_mut().close();
            let mut rest = Vec::new();
            let _ = connection.read_to_end(&mut rest);
            return !rest.is_empty();
        }
    }
    false
}

/// Replies to a request. Returns whether there was one.
fn reply(connection: &mut BufReader<impl Connection>) -> bool {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let head = head.to_lowercase();
    let length = head.split_once("content-length: ").map(|(_, rest)| rest);
    let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut payload = vec![0; length];
    connection.read_exact(&mut payload).unwrap();
    // Any JSON describes a function.
    let body = right_reply(&payload);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let response = [head.into_bytes(), body].concat();
    let connection = connection.get_mut();
    connection.write_all(&response).unwrap();
    connection.flush().is_ok()
}

/// An Invoke API over TCP or TLS.
struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    accepting: JoinHandle<Vec<JoinHandle<bool>>>,
}

impl Server {
    fn start(is_tls: bool, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = is_tls.then(tls);
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
                        Some(tls) => serve(StreamOwned::new(tls, connection), closes),
                        None => serve(connection, closes),
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
        let server = Server::start(is_tls, true);
        let scheme = if is_tls { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", server.address.port());
        let mut command = loadtest(&format!("-o json --endpoint-url {url} {flags}"));
        command.env("SSL_CERT_FILE", CERTIFICATE);

        let ended = run(&mut command);

        // A request that crosses with the close may have been handled: it is not sent again.
        let crossed = server.crossed();
        let outcomes = &ended.report()["outcomes"];
        assert_eq!(outcomes["transport"], crossed, "{ended:?}");
        assert_eq!(outcomes["ok"], requests - crossed, "{ended:?}");
        assert!(crossed < requests, "every request crossed");
    }
}

#[test]
fn speaks_tls_with_those_whose_certificate_it_trusts() {
    let port = Server::start(true, false).address.port();
    let to = |url: &str, flags: &str| loadtest(&format!("--endpoint-url {url} {flags}"));
    let url = format!("https://localhost:{port}");
    for n in ["10", "1000"] {
        let mut command = to(&url, &format!("-n 50 -c 4 --n {n} -o json"));
        let ended = run(command.env("SSL_CERT_FILE", CERTIFICATE)).passed();
        assert_eq!(ended.report()["outcomes"]["ok"], 50);
    }

    let mut other_name = to(&format!("https://127.0.0.1:{port}"), "");
    other_name.env("SSL_CERT_FILE", CERTIFICATE);
    refused(&mut other_name, "TLS handshake: invalid peer certificate");
    let mut nothing_trusted = to(&url, "");
    nothing_trusted.env("SSL_CERT_FILE", "/dev/null");
    refused(&mut nothing_trusted, "no root certificates");
    refused(
        &mut to(&url.replace("https", "http"), ""),
        "http://localhost",
    );
}
