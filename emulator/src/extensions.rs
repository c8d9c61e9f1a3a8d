//! As much of the Extensions API as internal extensions need: those that run in the function's own
//! process. On Managed Instances they cannot subscribe to events.
//!
//! Statuses and errors are RIE's.

use std::sync::Arc;

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
use crate::logs::one_line;
use crate::settings::{ACCOUNT_ID, PUBLISHED, Settings};

/// How many extensions may register.
const MAX_EXTENSIONS: usize = 10;

const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-extension-function-error-type");
const ACCEPT_FEATURE: HeaderName = HeaderName::from_static("lambda-extension-accept-feature");

/// The extensions of one execution environment.
pub(crate) struct Extensions {
    settings: Settings,
    registered: watch::Sender<Registered>,
}

#[derive(Default)]
struct Registered {
    extensions: Vec<Extension>,
    /// Whether a worker has polled.
    is_closed: bool,
}

struct Extension {
    id: Uuid,
    name: String,
    /// Whether it has asked for its first event.
    ready: bool,
}

/// The type and the message of an error.
struct Refusal(&'static str, String);

impl Extensions {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            registered: watch::Sender::default(),
        }
    }

    /// Refuses registrations from now on, and waits until every extension has asked for its first
    /// event: until then the init phase goes on.
    pub(crate) async fn wait_until_ready(&self) {
        self.registered.send_modify(|all| all.is_closed = true);
        let are_ready = |registered: &Registered| registered.unready().is_none();
        // The sender is ours, so this cannot fail.
        let _ = self.registered.subscribe().wait_for(are_ready).await;
    }

    pub(crate) fn is_any_registered(&self) -> bool {
        !self.registered.borrow().extensions.is_empty()
    }

    /// Whether an extension with the name in these headers has registered.
    pub(crate) fn has(&self, headers: &HeaderMap) -> bool {
        let name = headers.get(NAME).map(HeaderValue::as_bytes);
        let registered = self.registered.borrow();
        (registered.extensions.iter()).any(|extension| Some(extension.name.as_bytes()) == name)
    }

    /// Forgets the extensions of a process that has ended, before the next one registers its own.
    pub(crate) fn reset(&self) {
        self.registered.send_replace(Registered::default());
    }

    /// The name of an extension that has not asked for its first event.
    pub(crate) fn unready(&self) -> Option<String> {
        let registered = self.registered.borrow();
        registered.unready().map(|one| one.name.clone())
    }

    fn register(&self, name: &str, body: &[u8]) -> Result<Uuid, Refusal> {
        if name.is_empty() {
            return refuse("Extension.InvalidExtensionName", "Empty extension name");
        }
        let body: Option<Map<String, Value>> =
            serde_json::from_slice(body).map_err(|error| invalid_format(&error))?;
        let body = body.unwrap_or_default();
        if !list(&body, "configurationKeys")?.is_empty() {
            let message = "configurationKeys are deprecated; use environment variables instead";
            return refuse("InvalidRequestFormat", message);
        }
        if !list(&body, "events")?.is_empty() {
            let message = "No events allowed for internal extensions";
            return refuse("Extension.InvalidEventType", message);
        }
        let id = Uuid::new_v4();
        let mut added = Ok(());
        self.registered.send_modify(|all| added = all.add(id, name));
        added.map(|()| id)
    }

    fn become_ready(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut noted = Ok(());
        self.registered
            .send_modify(|all| noted = all.become_ready(headers));
        noted
    }
}

impl Registered {
    fn unready(&self) -> Option<&Extension> {
        self.extensions.iter().find(|extension| !extension.ready)
    }

    fn add(&mut self, id: Uuid, name: &str) -> Result<(), Refusal> {
        if self.is_closed {
            let message = "Extension registration closed already";
            return refuse("Extension.RegistrationClosed", message);
        }
        if self.extensions.iter().any(|one| one.name == name) {
            let message = "Extension with this name already registered";
            return refuse("Extension.InvalidExtensionState", message);
        }
        if self.extensions.len() == MAX_EXTENSIONS {
            let message = format!("Extension limit ({MAX_EXTENSIONS}) reached");
            return refuse("Extension.TooManyExtensions", message);
        }
        self.extensions.push(Extension {
            id,
            name: name.to_owned(),
            ready: false,
        });
        Ok(())
    }

    fn become_ready(&mut self, headers: &HeaderMap) -> Result<(), Refusal> {
        let place = self.sender(headers)?;
        let Extension { id, ready, .. } = &mut self.extensions[place];
        if std::mem::replace(ready, true) {
            let message = format!(
                "State transition from Ready to Ready failed for extension {id}. \
                 Error: state transition is not allowed"
            );
            return refuse("Extension.InvalidExtensionState", message);
        }
        Ok(())
    }

    /// The place of the extension that sends a request.
    fn sender(&self, headers: &HeaderMap) -> Result<usize, Refusal> {
        let Some(id) = headers.get(IDENTIFIER) else {
            let message = "Missing Lambda-Extension-Identifier header";
            return refuse("Extension.MissingExtensionIdentifier", message);
        };
        let Ok(id) = Uuid::try_parse_ascii(id.as_bytes()) else {
            let message = "Invalid Lambda-Extension-Identifier";
            return refuse("Extension.InvalidExtensionIdentifier", message);
        };
        let Some(place) = self.extensions.iter().position(|one| one.id == id) else {
            let message = format!("Unknown extension {id}");
            return refuse("Extension.UnknownExtensionIdentifier", message);
        };
        Ok(place)
    }
}

fn refuse<T>(error_type: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(error_type, message.into()))
}

fn invalid_format(error: &serde_json::Error) -> Refusal {
    Refusal("InvalidRequestFormat", error.to_string())
}

/// A list in the body of a registration. Names count whatever their case, as in RIE.
fn list(body: &Map<String, Value>, name: &str) -> Result<Vec<Option<String>>, Refusal> {
    let member = body.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    let list = Option::deserialize(member.map_or(&Value::Null, |(_, value)| value));
    Ok(list
        .map_err(|error| invalid_format(&error))?
        .unwrap_or_default())
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

type Api = State<Arc<Extensions>>;

async fn register(
    State(extensions): Api,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let text = |name| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default())
    };
    let name = text(NAME);
    let read_timeout = extensions.settings.read_timeout;
    let Ok(body) = body::read(body, MAX_PAYLOAD, read_timeout).await else {
        return refuse("InvalidRequestFormat", "unexpected EOF");
    };
    let id = extensions.register(&name, &body)?;
    let settings = &extensions.settings;
    let mut registered = json!({
        "functionName": settings.function_name,
        "functionVersion": PUBLISHED,
        "handler": settings.handler(),
    });
    if text(ACCEPT_FEATURE)
        .split(',')
        .any(|feature| feature.trim() == "accountId")
    {
        registered["accountId"] = ACCOUNT_ID.into();
    }
    let id = header_value(&id.to_string());
    Ok(([(IDENTIFIER, id)], json_response(&registered)).into_response())
}

/// No event ever comes: an extension cannot subscribe to invocations, and it hears of the shutdown
/// by SIGTERM.
async fn next_event(State(extensions): Api, headers: HeaderMap) -> Result<(), Refusal> {
    extensions.become_ready(&headers)?;
    std::future::pending().await
}

async fn report_error(State(extensions): Api, headers: HeaderMap) -> Result<Response, Refusal> {
    let registered = extensions.registered.borrow();
    let place = registered.sender(&headers)?;
    let error_type = headers.get(ERROR_TYPE).map(HeaderValue::as_bytes);
    let error_type = String::from_utf8_lossy(error_type.unwrap_or_default());
    if error_type.is_empty() {
        let message = "Lambda-Extension-Function-Error-Type not found";
        return refuse("Extension.MissingHeader", message);
    }
    warn!(
        "Extensions API: the extension {:?} reports {error_type}; AWS would end the execution \
         environment, cargo local does not",
        registered.extensions[place].name
    );
    Ok(accepted())
}

async fn subscribe_to_telemetry(
    State(extensions): Api,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    extensions.registered.borrow().sender(&headers)?;
    warn!("Telemetry API: cargo local does not have it; the extension will get no telemetry");
    let message = "Telemetry API is not supported";
    let response = error(StatusCode::ACCEPTED, "Telemetry.NotSupported", message);
    Ok(response)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error_type, message) = self;
        let said = one_line(&message);
        warn!("Extensions API: 403 {error_type}: {said}; AWS refuses this as well");
        error(StatusCode::FORBIDDEN, error_type, &message)
    }
}
