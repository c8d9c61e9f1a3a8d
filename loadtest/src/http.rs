//! A client for HTTP/1.1 with one connection, over TCP or TLS.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::either::Either;

/// A NAT gateway drops a connection that is idle for 350 s, and an invocation may take 900 s.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of a response. Lambda's own limit for a reply is 6 MB.
const MAX_BODY: usize = 8 << 20;

/// The most pieces of a response. Each takes memory of its own, however short it is.
const MAX_PIECES: usize = 1 << 16;

/// Where a service listens.
#[derive(Clone)]
pub(crate) struct Endpoint {
    is_tls: bool,
    /// The `Host` header.
    pub authority: Authority,
    /// Precedes the path of every operation. It is empty or has no slash at its end.
    base_path: String,
}

/// A response. The body is in pieces, as it arrived.
pub(crate) struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<Bytes>,
}

/// Sends one request at a time, over the same connection while the peer keeps it open.
pub(crate) struct Client {
    endpoint: Endpoint,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Reads and writes while it is polled. `None` once it has ended.
    driver: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
}

impl Endpoint {
    /// # Errors
    ///
    /// If the URL is not like `http://127.0.0.1:9000`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let endpoint = url.parse::<Uri>().ok().and_then(|url| Self::of(&url));
        endpoint.with_context(|| format!("{url:?} is not a URL such as http://127.0.0.1:9000"))
    }

    /// `None` if the URL has another scheme, no host, a user, a query, or a port above 65535.
    pub(crate) fn of(url: &Uri) -> Option<Self> {
        let is_tls = match url.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = url.authority()?;
        let without_port = authority.host().to_owned();
        let no_more = match authority.port_u16() {
            Some(port) => format!("{without_port}:{port}"),
            None => without_port,
        };
        (authority.as_str() == no_more && url.query().is_none()).then(|| Self {
            is_tls,
            authority: authority.clone(),
            base_path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The absolute URL of an operation.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.authority, self.base_path)
    }

    /// Whether this machine serves it.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        let address = host.parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|one| one.is_loopback())
    }

    /// An IPv6 address is without its brackets.
    fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }

    async fn connect(&self) -> Result<Connection> {
        let default_port = if self.is_tls { 443 } else { 80 };
        let port = self.authority.port_u16().unwrap_or(default_port);
        let stream = TcpStream::connect((self.host(), port))
            .await
            .context("cannot connect")?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))?;
        let stream = if self.is_tls {
            let name = ServerName::try_from(self.host().to_owned())?;
            let connector = TLS.as_ref().map_err(|error| Error::msg(error.clone()))?;
            let stream = connector.connect(name, stream).await;
            Either::Right(stream.context("TLS handshake")?)
        } else {
            Either::Left(stream)
        };
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Connection {
            sender,
            driver: Some(Box::pin(driver)),
        })
    }
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            connection: None,
        }
    }

    /// Sends a request and reads the whole response. If the peer had closed the connection before a
    /// byte of the request was sent, the request goes over a new connection.
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response> {
        loop {
            // Taken out: if this future is dropped half-way, the connection goes with it.
            let used = self.connection.take();
            let is_new = used.is_none();
            let mut connection = match used {
                Some(connection) => connection,
                None => timeout(CONNECT_TIMEOUT, self.endpoint.connect())
                    .await
                    .unwrap_or_else(|_| bail!("no connection within {CONNECT_TIMEOUT:?}"))?,
            };
            match connection.exchange(request).await {
                Ok(response) => {
                    let is_open = response.is_ok() && connection.driver.is_some();
                    self.connection = is_open.then_some(connection);
                    return response;
                }
                Err(_) if is_new => bail!("the connection was closed at once"),
                Err(unsent) => request = *unsent,
            }
        }
    }
}

/// Trusts what the system trusts, or the certificates that `SSL_CERT_FILE` names.
static TLS: LazyLock<Result<TlsConnector, String>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!(
            "this machine has no root certificates: install ca-certificates, or set SSL_CERT_FILE {}",
            errors.join("; ")
        ));
    }
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
});

impl Connection {
    /// Returns the request if the connection was closed before a byte of it was sent.
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Response>, Box<Request<Full<Bytes>>>> {
        let Self { sender, driver } = self;
        let exchange = async {
            if sender.ready().await.is_err() {
                return Err(request.into());
            }
            match sender.try_send_request(request).await {
                Ok(response) => Ok(read(response).await),
                Err(mut error) => match error.take_message() {
                    Some(request) => Err(request.into()),
                    None => Ok(Err(error.into_error().into())),
                },
            }
        };
        tokio::pin!(exchange);
        if let Some(ending) = driver {
            // In one task: waking another one for every request costs more than the request itself.
            tokio::select! {
                // The driver first, because it notices that the peer has closed the connection.
                biased;
                _ = ending => {}
                result = &mut exchange => return result,
            }
        }
        // A driver that has ended still holds what it has not sent, and returns it when it is dropped.
        *driver = None;
        exchange.await
    }
}

async fn read(response: http::Response<Incoming>) -> Result<Response> {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut length) = (Vec::new(), 0);
    while let Some(frame) = incoming.frame().await {
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        length += piece.len();
        ensure!(
            length <= MAX_BODY,
            "the response is longer than {} MiB",
            MAX_BODY >> 20
        );
        ensure!(
            body.len() < MAX_PIECES,
            "the response is in more than {MAX_PIECES} pieces"
        );
        body.push(piece);
    }
    Ok(Response {
        status: head.status,
        headers: head.headers,
        body,
    })
}
