//! An Invoke API over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::serve::Listener;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::support::{right, router};

pub(crate) struct TlsApi {
    port: u16,
    _runtime: Runtime,
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsApi {
    /// For `localhost`, self-signed, until 2126:
    ///
    /// ```sh
    /// openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 \
    ///   -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE \
    ///   -keyout key.pem -out certificate.pem
    /// ```
    pub(crate) const CERTIFICATE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/certificate.pem");
    const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/key.pem");

    pub(crate) fn config() -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(Self::CERTIFICATE).unwrap();
        let key = PrivateKeyDer::from_pem_file(Self::KEY).unwrap();
        let config = ServerConfig::builder_with_provider(ring::default_provider().into());
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth();
        config
            .with_single_cert(vec![certificate], key)
            .unwrap()
            .into()
    }

    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listener = TlsListener {
            listener,
            acceptor: Self::config().into(),
        };
        let router = router(json!({}), &Arc::new(AtomicU64::new(0)), right);
        runtime.spawn(async { axum::serve(listener, router).await });
        Self {
            port,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.listener.accept().await
                && stream.set_nodelay(true).is_ok()
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
