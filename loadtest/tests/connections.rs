//! Connections that the peer closes, and TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::tls::TlsApi;
use crate::support::{loadtest, refused, report, right_reply, run};

/// Replies to one request, and closes its side of the connection without announcing it. Returns
/// whether another request was on its way already.
fn serve_once(connection: &TcpStream) -> bool {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let (mut line, mut length, mut is_invocation) = (String::new(), 0, false);
    while reader.read_line(&mut line).unwrap() > 2 {
        let text = line.to_lowercase();
        is_invocation |= text.starts_with("post");
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).unwrap();
    let body = if is_invocation {
        right_reply(&payload)
    } else {
        b"{}".to_vec()
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut writer = connection;
    writer
        .write_all(&[head.into_bytes(), body].concat())
        .unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    !rest.is_empty()
}

#[test]
fn opens_another_connection_if_the_peer_has_closed_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let crossed = Arc::new(AtomicU64::new(0));
    std::thread::spawn({
        let crossed = Arc::clone(&crossed);
        move || {
            for connection in listener.incoming() {
                let crossed = Arc::clone(&crossed);
                std::thread::spawn(move || {
                    crossed.fetch_add(
                        u64::from(serve_once(&connection.unwrap())),
                        Ordering::SeqCst,
                    );
                });
            }
        }
    });

    let output = run(&mut loadtest(&[
        "-n",
        "200",
        "-c",
        "2",
        "-o",
        "json",
        "--endpoint-url",
        &url,
    ]));

    // A request that crosses with the close may have been handled: it is not sent again.
    let crossed = crossed.load(Ordering::SeqCst);
    assert_eq!(
        report(&output)["outcomes"]["transport"],
        crossed,
        "{output:?}"
    );
    assert_eq!(
        report(&output)["outcomes"]["ok"],
        200 - crossed,
        "{output:?}"
    );
    assert!(crossed < 200, "every request crossed");
}

#[test]
fn speaks_tls_with_those_whose_certificate_it_trusts() {
    let api = TlsApi::start();
    for n in ["10", "1000"] {
        let mut command = loadtest(&[
            "-n",
            "50",
            "-c",
            "4",
            "--n",
            n,
            "-o",
            "json",
            "--endpoint-url",
            &api.url("localhost"),
        ]);
        let output = run(command.env("SSL_CERT_FILE", TlsApi::CERTIFICATE));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(report(&output)["outcomes"]["ok"], 50);
    }

    let mut other_name = loadtest(&["--endpoint-url", &api.url("127.0.0.1")]);
    refused(
        other_name.env("SSL_CERT_FILE", TlsApi::CERTIFICATE),
        "TLS handshake: invalid peer certificate",
    );
    let mut nothing_trusted = loadtest(&["--endpoint-url", &api.url("localhost")]);
    refused(
        nothing_trusted.env("SSL_CERT_FILE", "/dev/null"),
        "no root certificates",
    );
    let mut not_tls = loadtest(&[
        "--endpoint-url",
        &api.url("localhost").replace("https", "http"),
    ]);
    refused(&mut not_tls, "http://localhost");
}
