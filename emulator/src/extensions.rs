//! As much of the Extensions API as internal extensions need: those that run in the function's own
//! process. On Managed Instances they cannot subscribe to events.
//!
//! Statuses and errors are RIE's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tracing::warn;
use uuid::Uuid;

use crate::body::{self, MAX_PAYLOAD};
use crate::http::{accepted, error, header_value, json_response};
use crate::lock::lock;
use crate::logs::one_line;
use crate::settings::{ACCOUNT_ID, Settings};

/// How many extensions may register.
const MAX_EXTENSIONS: usize = 10;

const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-extension-function-error-type");
const ACCEPT_FEATURE: HeaderName = HeaderName::from_static("lambda-extension-accept-feature");

/// The extensions of one execution environment.
pub(crate) struct Extensions {
    settings: Settings,
    registered: Mutex<Vec<Extension>>,
    /// Whether no worker has polled yet. It changes while `registered` is locked.
    is_open: AtomicBool,
    /// How many extensions have registered and not asked for their first event.
    unready: watch::Sender<usize>,
}

struct Extension {
    id: Uuid,
    name: String,
    ready: bool,
}

type Refusal = (&'static str, String);

impl Extensions {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            registered: Mutex::default(),
            is_open: AtomicBool::new(true),
            unready: watch::Sender::new(0),
        }
    }

    /// Refuses registrations from now on, and waits until every extension has asked for its first
    /// event: until then the init phase goes on.
    pub(crate) async fn wait_until_ready(&self) {
        if self.is_open.load(Ordering::Relaxed) {
            let _registered = lock(&self.registered);
            self.is_open.store(false, Ordering::Relaxed);
        }
        if *self.unready.borrow() > 0 {
            let mut unready = self.unready.subscribe();
            // The sender is ours, so this cannot fail.
            let _ = unready.wait_for(|unready| *unready == 0).await;
        }
    }

    pub(crate) fn is_any_registered(&self) -> bool {
        !lock(&self.registered).is_empty()
    }

    /// Whether an extension with the name in these headers has registered.
    pub(crate) fn has(&self, headers: &HeaderMap) -> bool {
        let name = headers.get(NAME).map(HeaderValue::as_bytes);
        let registered = lock(&self.registered);
        (registered.iter()).any(|extension| Some(extension.name.as_bytes()) == name)
    }

    /// Forgets the extensions of a process that has ended, before the next one registers its own.
    pub(crate) fn reset(&self) {
        let mut registered = lock(&self.registered);
        registered.clear();
        self.is_open.store(true, Ordering::Relaxed);
        self.unready.send_replace(0);
    }

    /// The name of an extension that has not asked for its first event.
    pub(crate) fn unready(&self) -> Option<String> {
        let registered = lock(&self.registered);
        let unready = registered.iter().find(|extension| !extension.ready);
        unready.map(|extension| extension.name.clone())
    }

    fn register(&self, name: &str, body: &[u8]) -> Result<Uuid, Refusal> {
        if name.is_empty() {
            let message = "Empty extension name".to_owned();
            return Err(("Extension.InvalidExtensionName", message));
        }
        let body: Option<Map<String, Value>> =
            serde_json::from_slice(body).map_err(|error| invalid_format(&error))?;
        let body = body.unwrap_or_default();
        if !list(&body, "configurationKeys")?.is_empty() {
            let message = "configurationKeys are deprecated; use environment variables instead";
            return Err(("InvalidRequestFormat", message.to_owned()));
        }
        if !list(&body, "events")?.is_empty() {
            let message = "No events allowed for internal extensions".to_owned();
            return Err(("Extension.InvalidEventType", message));
        }
        let mut registered = lock(&self.registered);
        if !self.is_open.load(Ordering::Relaxed) {
            let message = "Extension registration closed already".to_owned();
            return Err(("Extension.RegistrationClosed", message));
        }
        if registered.iter().any(|extension| extension.name == name) {
            let message = "Extension with this name already registered".to_owned();
            return Err(("Extension.InvalidExtensionState", message));
        }
        if registered.len() == MAX_EXTENSIONS {
            let message = format!("Extension limit ({MAX_EXTENSIONS}) reached");
            return Err(("Extension.TooManyExtensions", message));
        }
        let id = Uuid::new_v4();
        registered.push(Extension {
            id,
            name: name.to_owned(),
            ready: false,
        });
        self.unready.send_modify(|unready| *unready += 1);
        Ok(id)
    }

    fn become_ready(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut registered = lock(&self.registered);
        let extension = sender(&mut registered, headers)?;
        if extension.ready {
            let message = format!(
                "State transition from Ready to Ready failed for extension {}. \
                 Error: state transition is not allowed",
                extension.id
            );
            return Err(("Extension.InvalidExtensionState", message));
        }
        extension.ready = true;
        self.unready.send_modify(|unready| *unready -= 1);
        Ok(())
    }
}

fn invalid_format(error: &serde_json::Error) -> Refusal {
    ("InvalidRequestFormat", error.to_string())
}

/// A list in the body of a registration. Names count whatever their case, as in RIE.
fn list(body: &Map<String, Value>, name: &str) -> Result<Vec<Option<String>>, Refusal> {
    let mut members = body.iter();
    let list = match members.find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        Some((_, value)) => Option::deserialize(value).map_err(|error| invalid_format(&error))?,
        None => None,
    };
    Ok(list.unwrap_or_default())
}

/// The extension that sends a request.
fn sender<'a>(
    registered: &'a mut [Extension],
    headers: &HeaderMap,
) -> Result<&'a mut Extension, Refusal> {
    let id = headers.get(IDENTIFIER).ok_or((
        "Extension.MissingExtensionIdentifier",
        "Missing Lambda-Extension-Identifier header".to_owned(),
    ))?;
    let id = (id.to_str().ok())
        .and_then(|id| Uuid::try_parse(id).ok())
        .ok_or((
            "Extension.InvalidExtensionIdentifier",
            "Invalid Lambda-Extension-Identifier".to_owned(),
        ))?;
    let mut extensions = registered.iter_mut();
    extensions.find(|extension| extension.id == id).ok_or((
        "Extension.UnknownExtensionIdentifier",
        format!("Unknown extension {id}"),
    ))
}

pub(crate) fn router(extensions: Arc<Extensions>) -> Router {
    Router::new()
        .route("/2020-01-01/extension/register", post(register))
        .route("/2020-01-01/extension/event/next", get(next_event))
        .route("/2020-01-01/extension/init/error", post(report_error))
        .route("/2020-01-01/extension/exit/error", post(report_error))
        .route("/2022-07-01/telemetry", put(subscribe_to_telemetry))
        .with_state(extensions)
}

async fn register(
    State(extensions): State<Arc<Extensions>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let text = |name| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default())
    };
    let name = text(NAME);
    let read_timeout = extensions.settings.read_timeout;
    let Ok(body) = body::read(body, MAX_PAYLOAD, read_timeout).await else {
        return refused(("InvalidRequestFormat", "unexpected EOF".to_owned()));
    };
    let id = match extensions.register(&name, &body) {
        Ok(id) => id,
        Err(refusal) => return refused(refusal),
    };
    let settings = &extensions.settings;
    let mut registered = json!({
        "functionName": settings.function_name,
        "functionVersion": settings.version(),
        "handler": settings.handler(),
    });
    if text(ACCEPT_FEATURE)
        .split(',')
        .any(|feature| feature.trim() == "accountId")
    {
        registered["accountId"] = ACCOUNT_ID.into();
    }
    let id = header_value(&id.to_string());
    ([(IDENTIFIER, id)], json_response(&registered)).into_response()
}

/// No event ever comes: an extension cannot subscribe to invocations, and it hears of the shutdown
/// by SIGTERM.
async fn next_event(State(extensions): State<Arc<Extensions>>, headers: HeaderMap) -> Response {
    match extensions.become_ready(&headers) {
        Ok(()) => std::future::pending().await,
        Err(refusal) => refused(refusal),
    }
}

async fn report_error(State(extensions): State<Arc<Extensions>>, headers: HeaderMap) -> Response {
    let mut registered = lock(&extensions.registered);
    let extension = match sender(&mut registered, &headers) {
        Ok(extension) => extension,
        Err(refusal) => return refused(refusal),
    };
    let error_type = headers.get(ERROR_TYPE).map(HeaderValue::as_bytes);
    let error_type = String::from_utf8_lossy(error_type.unwrap_or_default());
    if error_type.is_empty() {
        let message = "Lambda-Extension-Function-Error-Type not found".to_owned();
        return refused(("Extension.MissingHeader", message));
    }
    warn!(
        "Extensions API: the extension {:?} reports {error_type}; AWS would end the execution \
         environment, cargo local does not",
        extension.name
    );
    accepted()
}

async fn subscribe_to_telemetry(
    State(extensions): State<Arc<Extensions>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = sender(&mut lock(&extensions.registered), &headers) {
        return refused(refusal);
    }
    warn!("Telemetry API: cargo local does not have it; the extension will get no telemetry");
    let message = "Telemetry API is not supported";
    error(StatusCode::ACCEPTED, "Telemetry.NotSupported", message)
}

fn refused((error_type, message): Refusal) -> Response {
    warn!(
        "Extensions API: 403 {error_type}: {}; AWS refuses this as well",
        one_line(&message)
    );
    error(StatusCode::FORBIDDEN, error_type, &message)
}
