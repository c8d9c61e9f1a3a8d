//! AWS's APIs: Region, credentials and endpoints from the usual places, and signed requests.

use std::fmt;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_types::service_config::ServiceConfigKey;
use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::http::{Client, Endpoint, Response};
use crate::terminal::{excerpt, say};

/// How long to wait for the response to a request that is no invocation.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Region and credentials, and what the environment and the profile say about endpoints.
#[derive(Clone)]
pub(crate) struct Aws {
    config: SdkConfig,
    region: String,
    identity: watch::Receiver<Identity>,
}

/// One of AWS's APIs.
#[derive(Clone)]
pub(crate) struct Service {
    pub endpoint: Endpoint,
    /// The name in signatures.
    name: &'static str,
    aws: Aws,
}

/// A request without its body, to be signed and sent many times.
pub(crate) struct Operation {
    service: Service,
    /// Absolute, for the signature.
    url: String,
    /// Without scheme and host, as the request line is.
    head: Parts,
}

/// An API refused a request, in its own words.
#[derive(Debug)]
pub(crate) struct ServiceError {
    pub status: StatusCode,
    pub code: Option<String>,
    message: String,
}

impl Aws {
    /// Finds Region and credentials where every AWS tool looks. If `lambda` is on this machine, it uses
    /// placeholders: the emulator checks neither.
    ///
    /// # Errors
    ///
    /// If there is no Region, there are no credentials, or a configured endpoint is not a URL.
    pub(crate) async fn find(lambda: Option<&Endpoint>) -> Result<Self> {
        let client = http_client_fn(|settings, _| {
            let limit = settings.read_timeout();
            SharedHttpConnector::new(Connector {
                limit: limit.unwrap_or(Duration::from_secs(30)),
            })
        });
        let loader =
            || aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(client.clone());
        // Not from EC2's metadata service, which takes seconds to find that there is none.
        let configured = loader()
            .no_credentials()
            .region(
                RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                    .or_else(ProfileFileRegionProvider::new()),
            )
            .load()
            .await;
        let lambda = match lambda {
            Some(endpoint) => Some(endpoint.clone()),
            None => configured_endpoint(&configured, "Lambda")?,
        };
        if lambda.is_some_and(|endpoint| endpoint.is_loopback()) {
            let placeholder = Credentials::new("local", "local", None, None, "placeholder");
            let region = configured.region().map(ToString::to_string);
            return Ok(Self {
                region: region.unwrap_or_else(|| "us-east-1".to_owned()),
                config: configured,
                identity: watch::channel(placeholder.into()).1,
            });
        }

        let config = loader().load().await;
        let region = config
            .region()
            .context("no AWS Region: set AWS_REGION, or AWS_PROFILE to a profile with a Region")?;
        let provider = config
            .credentials_provider()
            .context("no AWS credentials")?;
        let credentials = provider.provide_credentials().await.context(
            "no AWS credentials: run `aws configure` or `aws sso login`, or set AWS_PROFILE",
        )?;
        let expiry = credentials.expiry();
        let (sender, identity) = watch::channel(credentials.into());
        tokio::spawn(refresh(provider, expiry, sender));
        Ok(Self {
            region: region.to_string(),
            config,
            identity,
        })
    }

    pub(crate) fn lambda(&self, endpoint: Option<Endpoint>) -> Result<Service> {
        self.service("lambda", "Lambda", endpoint)
    }

    pub(crate) fn cloudwatch(&self) -> Result<Service> {
        self.service("monitoring", "CloudWatch", None)
    }

    fn service(
        &self,
        name: &'static str,
        id: &'static str,
        endpoint: Option<Endpoint>,
    ) -> Result<Service> {
        let config = &self.config;
        let configured = configured_endpoint(config, id);
        let endpoint = match endpoint.map_or(configured, |endpoint| Ok(Some(endpoint)))? {
            Some(endpoint) => endpoint,
            None if config.use_fips() == Some(true) || config.use_dual_stack() == Some(true) => {
                bail!(
                    "for FIPS or dual-stack endpoints, set AWS_ENDPOINT_URL_{}",
                    id.to_uppercase()
                )
            }
            None => Endpoint::parse(&format!("https://{name}.{}.amazonaws.com", self.region))?,
        };
        Ok(Service {
            endpoint,
            name,
            aws: self.clone(),
        })
    }
}

/// The endpoint that a variable or the profile names for a service, or else for all of them:
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
fn configured_endpoint(config: &SdkConfig, service_id: &str) -> Result<Option<Endpoint>> {
    let key = ServiceConfigKey::builder()
        .service_id(service_id)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()?;
    let url = config
        .service_config()
        .and_then(|settings| settings.load_config(key));
    url.map(|url| Endpoint::parse(&url))
        .transpose()
        .with_context(|| format!("the endpoint configured for {service_id}"))
}

/// Replaces credentials five minutes before they expire, for as long as somebody uses them.
async fn refresh(
    provider: SharedCredentialsProvider,
    mut expiry: Option<SystemTime>,
    identity: watch::Sender<Identity>,
) {
    const BEFORE: Duration = Duration::from_mins(5);
    const RETRY: Duration = Duration::from_secs(1);
    let mut is_failing = false;
    while let Some(time) = expiry {
        let left = time.duration_since(SystemTime::now()).unwrap_or_default();
        let wait = left.saturating_sub(BEFORE).max(left / 2).max(RETRY);
        tokio::select! {
            () = sleep(wait) => {}
            () = identity.closed() => return,
        }
        let renewed = provider.provide_credentials().await;
        let renewed = renewed.context("cannot renew the credentials");
        if let (Err(error), false) = (&renewed, is_failing) {
            say(&format!("{error:#}"));
        }
        is_failing = renewed.is_err();
        if let Ok(credentials) = renewed {
            expiry = credentials.expiry();
            identity.send_replace(credentials.into());
        }
    }
}

impl Service {
    /// An operation with this path, which begins with a slash and is percent-encoded.
    pub(crate) fn operation(
        &self,
        method: Method,
        path: &str,
        headers: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Result<Operation> {
        let url = self.endpoint.url(path);
        let parts = url.parse::<Uri>()?.into_parts();
        let mut request = Request::builder()
            .method(method)
            .uri(parts.path_and_query.context("no path")?)
            .header(HOST, self.endpoint.authority.as_str());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let (head, ()) = request.body(())?.into_parts();
        Ok(Operation {
            service: self.clone(),
            url,
            head,
        })
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.endpoint.clone())
    }
}

impl Operation {
    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let service = &self.service;
        let identity = service.aws.identity.borrow();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&service.aws.region)
            .name(service.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let signable = SignableRequest::new(
            self.head.method.as_str(),
            self.url.as_str(),
            [(HOST.as_str(), service.endpoint.authority.as_str())].into_iter(),
            SignableBody::Bytes(&body),
        )?;
        let instructions = sign(signable, &parameters)?.into_parts().0;
        let mut request = Request::from_parts(self.head.clone(), Full::new(body));
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// Signs a request with this body, sends it, and waits for the response no longer than `limit`.
    pub(crate) async fn send(
        &self,
        client: &mut Client,
        body: Bytes,
        limit: Duration,
    ) -> Result<Response> {
        timeout(limit, client.send(self.request(body)?))
            .await
            .unwrap_or_else(|_| bail!("no response within {limit:?}"))
    }

    /// Sends one request over a connection of its own.
    pub(crate) async fn call(&self, body: Bytes) -> Result<Response> {
        let mut client = self.service.client();
        let response = self.send(&mut client, body, CALL_TIMEOUT).await?;
        if response.status.is_success() {
            Ok(response)
        } else {
            Err(ServiceError::of(&response).into())
        }
    }
}

impl Response {
    /// # Errors
    ///
    /// If the body is not JSON.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body.concat()).context("the response is not JSON")
    }
}

impl ServiceError {
    /// Reads the error that a response reports, where AWS's JSON protocols put it.
    pub(crate) fn of(response: &Response) -> Self {
        let body = response.body.concat();
        let json = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let text = |keys: &[&str]| keys.iter().find_map(|key| json.get(*key)?.as_str());
        let code = match response.headers.get("x-amzn-errortype") {
            Some(code) => code.to_str().ok(),
            None => text(&["__type", "code"]),
        };
        // A namespace may precede the code, and a URL may follow it.
        let code = code.and_then(|code| code.split(':').next()?.rsplit('#').next());
        let message = text(&["message", "Message", "errorMessage"]);
        Self {
            status: response.status,
            code: code.map(excerpt),
            message: match message {
                Some(message) => excerpt(message),
                None => excerpt(&String::from_utf8_lossy(&body)),
            },
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.code {
            Some(code) => f.write_str(code)?,
            None => write!(f, "status {}", self.status.as_u16())?,
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ServiceError {}

/// The HTTP client of `aws-config`, for credentials.
#[derive(Debug)]
struct Connector {
    limit: Duration,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let response = timeout(self.limit, send(request));
        HttpConnectorFuture::new(async move {
            let response = response
                .await
                .map_err(|late| ConnectorError::timeout(late.into()))?;
            response.map_err(|error| ConnectorError::io(error.into()))
        })
    }
}

async fn send(request: HttpRequest) -> Result<HttpResponse> {
    let (mut head, body) = request.try_into_http1x()?.into_parts();
    let endpoint = Endpoint::of(&head.uri).with_context(|| format!("cannot use {}", head.uri))?;
    head.headers
        .insert(HOST, HeaderValue::from_str(endpoint.authority.as_str())?);
    head.uri = head
        .uri
        .into_parts()
        .path_and_query
        .context("no path")?
        .into();
    let body = Bytes::copy_from_slice(body.bytes().context("a streamed body")?);
    let request = Request::from_parts(head, Full::new(body));
    let response = Client::new(endpoint).send(request).await?;
    let mut converted = http::Response::new(SdkBody::from(response.body.concat()));
    *converted.status_mut() = response.status;
    *converted.headers_mut() = response.headers;
    Ok(converted.try_into()?)
}
