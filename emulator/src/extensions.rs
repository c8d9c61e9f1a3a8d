//! As much of the Extensions API as internal extensions need: those that run in the function's own
//! process. On Managed Instances they cannot subscribe to events.
//!
//! Statuses and errors are RIE's.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tracing::warn;
use uuid::Uuid;

use crate::body::{self, MAX_PAYLOAD};
use crate::http::{error, header_value, json_response, text};
use crate::lock::lock;
use crate::logs::one_line;
use crate::settings::{ACCOUNT_ID, PUBLISHED};
use crate::shared::Shared;

const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");
const ACCEPT_FEATURE: HeaderName = HeaderName::from_static("lambda-extension-accept-feature");

/// The extensions of one execution environment.
pub(crate) struct Extensions {
    shared: Arc<Shared>,
    registered: Mutex<Registered>,
    /// Notified when none may be left that has not asked for its first event.
    changed: Notify,
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
    is_ready: bool,
}

/// The type and the message of an error.
struct Refusal(&'static str, String);

impl Extensions {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            registered: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Refuses registrations from now on, and waits until every extension has asked for its first
    /// event: until then the init phase goes on.
    pub(crate) async fn wait_until_ready(&self) {
        lock(&self.registered).is_closed = true;
        loop {
            let changed = self.changed.notified();
            if self.unready().is_none() {
                return;
            }
            changed.await;
        }
    }

    pub(crate) fn is_any_registered(&self) -> bool {
        !lock(&self.registered).extensions.is_empty()
    }

    /// Whether an extension with the name in these headers has registered.
    pub(crate) fn has(&self, headers: &HeaderMap) -> bool {
        let name = text(headers, &NAME);
        let registered = lock(&self.registered);
        registered.extensions.iter().any(|one| one.name == name)
    }

    /// Forgets the extensions of a process that has ended, before the next one registers its own.
    pub(crate) fn reset(&self) {
        *lock(&self.registered) = Registered::default();
        self.changed.notify_waiters();
    }

    /// The name of an extension that has not asked for its first event.
    pub(crate) fn unready(&self) -> Option<String> {
        let registered = lock(&self.registered);
        let unready = registered.extensions.iter().find(|one| !one.is_ready);
        unready.map(|one| one.name.clone())
    }

    fn register(&self, name: String, body: &[u8]) -> Result<Uuid, Refusal> {
        if name.is_empty() {
            return refuse("Extension.InvalidExtensionName", "Empty extension name");
        }
        let invalid = |error: serde_json::Error| Refusal("InvalidRequestFormat", error.to_string());
        let body: Option<Map<String, Value>> = serde_json::from_slice(body).map_err(invalid)?;
        let events = body
            .unwrap_or_default()
            .remove("events")
            .unwrap_or_default();
        let events: Option<Vec<Option<String>>> =
            serde_json::from_value(events).map_err(invalid)?;
        if events.is_some_and(|events| !events.is_empty()) {
            let message = "No events allowed for internal extensions";
            return refuse("Extension.InvalidEventType", message);
        }
        let mut registered = lock(&self.registered);
        if registered.is_closed {
            let message = "Extension registration closed already";
            return refuse("Extension.RegistrationClosed", message);
        }
        if registered.extensions.iter().any(|one| one.name == name) {
            let message = "Extension with this name already registered";
            return refuse("Extension.InvalidExtensionState", message);
        }
        let id = Uuid::new_v4();
        registered.extensions.push(Extension {
            id,
            name,
            is_ready: false,
        });
        Ok(id)
    }

    /// Does something with the extension that sends a request.
    fn with_sender<T>(
        &self,
        headers: &HeaderMap,
        act: impl FnOnce(&mut Extension) -> T,
    ) -> Result<T, Refusal> {
        let Some(id) = headers.get(IDENTIFIER) else {
            let message = "Missing Lambda-Extension-Identifier header";
            return refuse("Extension.MissingExtensionIdentifier", message);
        };
        let Ok(id) = Uuid::try_parse_ascii(id.as_bytes()) else {
            let message = "Invalid Lambda-Extension-Identifier";
            return refuse("Extension.InvalidExtensionIdentifier", message);
        };
        let mut registered = lock(&self.registered);
        let Some(extension) = registered.extensions.iter_mut().find(|one| one.id == id) else {
            let message = format!("Unknown extension {id}");
            return refuse("Extension.UnknownExtensionIdentifier", message);
        };
        Ok(act(extension))
    }
}

fn refuse<T>(error_type: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(error_type, message.into()))
}

pub(crate) fn router(extensions: Arc<Extensions>) -> Router {
    Router::new()
        .route("/2020-01-01/extension/register", post(register))
        .route("/2020-01-01/extension/event/next", get(next_event))
        .route("/2022-07-01/telemetry", put(subscribe_to_telemetry))
        .with_state(extensions)
}

type Api = State<Arc<Extensions>>;

async fn register(
    State(extensions): Api,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let settings = &extensions.shared.settings;
    let Ok(body) = body::read(body, MAX_PAYLOAD, settings.read_timeout).await else {
        return refuse("InvalidRequestFormat", "unexpected EOF");
    };
    let id = extensions.register(text(&headers, &NAME), &body)?;
    let mut registered = json!({
        "functionName": settings.function_name,
        "functionVersion": PUBLISHED,
        "handler": settings.handler(),
    });
    let features = text(&headers, &ACCEPT_FEATURE);
    if features.split(',').any(|one| one.trim() == "accountId") {
        registered["accountId"] = ACCOUNT_ID.into();
    }
    let id = header_value(id);
    Ok(([(IDENTIFIER, id)], json_response(&registered)).into_response())
}

/// No event ever comes: an extension cannot subscribe to invocations, and it hears of the shutdown
/// by SIGTERM.
async fn next_event(State(extensions): Api, headers: HeaderMap) -> Result<(), Refusal> {
    let become_ready = |one: &mut Extension| (one.id, std::mem::replace(&mut one.is_ready, true));
    let (id, was_ready) = extensions.with_sender(&headers, become_ready)?;
    if was_ready {
        let message = format!(
            "State transition from Ready to Ready failed for extension {id}. \
             Error: state transition is not allowed"
        );
        return refuse("Extension.InvalidExtensionState", message);
    }
    extensions.changed.notify_waiters();
    std::future::pending().await
}

async fn subscribe_to_telemetry(
    State(extensions): Api,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    extensions.with_sender(&headers, |_| ())?;
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
