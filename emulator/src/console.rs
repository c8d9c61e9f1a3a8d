//! The console: a page that invokes the function and shows its workers and last invocations.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::middleware;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::api_error::ApiError;
use crate::body::MAX_PAYLOAD;
use crate::environment::{Shared, resident_bytes};
use crate::history::Past;
use crate::http::JSON;
use crate::invocation::InvokeError;
use crate::invoke_api::InvokeApi;
use crate::origin;
use crate::settings::Settings;

const PAGE: &str = include_str!("console.html");

/// The page needs nothing from elsewhere and talks to nobody else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The time between two messages to an open page.
const PERIOD: Duration = Duration::from_millis(250);

/// How many invocations a burst has.
const BURST: usize = 64;

/// How many characters of an event or a reply the list of invocations shows.
const EXCERPT: usize = 200;

pub(crate) struct Console {
    page: Bytes,
    /// What the page must know about the function.
    function: Value,
    api: Arc<InvokeApi>,
    shared: Arc<Shared>,
    /// The function's process.
    pid: watch::Receiver<Option<u32>>,
    messages: watch::Sender<String>,
    opened: Notify,
    stop: watch::Receiver<()>,
}

impl Console {
    /// Its streams end when the sender of `stop` is dropped.
    pub(crate) fn new(
        settings: &Settings,
        api: Arc<InvokeApi>,
        shared: Arc<Shared>,
        pid: watch::Receiver<Option<u32>>,
        stop: watch::Receiver<()>,
    ) -> Self {
        let function = json!({ "name": settings.function_name, "workers": settings.workers() });
        // `</script>` must not occur in the page's JSON.
        let embedded = function.to_string().replace('<', r"\u003c");
        Self {
            page: PAGE.replace("{{function}}", &embedded).into(),
            function,
            api,
            shared,
            pid,
            messages: watch::Sender::default(),
            opened: Notify::new(),
            stop,
        }
    }

    /// Observes the function while a page is open, for ever.
    pub(crate) async fn observe(&self) {
        let invocations = &self.shared.invocations;
        loop {
            self.opened.notified().await;
            invocations.take_activity();
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while self.messages.receiver_count() > 0 {
                ticks.tick().await;
                self.messages.send_replace(self.message().to_string());
            }
            invocations.stop_recording();
        }
    }

    /// What has happened since the last message. Times are in microseconds.
    fn message(&self) -> Value {
        let (mut activity, missing) = self.shared.invocations.take_activity();
        let durations = &mut activity.durations;
        durations.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).saturating_sub(1);
            durations.get(rank).copied().map(micros)
        };
        let pid = *self.pid.borrow();
        json!({
            "seconds": PERIOD.as_secs_f64(),
            "function": self.function,
            "pid": pid,
            "missing": missing,
            "busy": activity.most_busy,
            "invocations": durations.len(),
            "p50": percentile(50),
            "p99": percentile(99),
            "throttled": activity.throttled,
            "functionErrors": activity.function_errors,
            "rss": pid.and_then(resident_bytes),
            "total": self.shared.invocations.history.count(),
        })
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub(crate) fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/console/live", get(live))
        .route("/console/burst", post(burst))
        .route("/console/invocations", get(last_invocations))
        .route("/console/invocations/{request_id}", get(invocation))
        .route_layer(middleware::from_fn(origin::only_own_page))
        .with_state(console)
}

async fn page(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ];
    (headers, console.page.clone())
}

async fn live(State(console): State<Arc<Console>>) -> Response {
    let receivers = (console.messages.subscribe(), console.stop.clone());
    console.opened.notify_one();
    let messages = stream::unfold(receivers, async |(mut messages, mut stop)| {
        tokio::select! {
            changed = messages.changed() => changed.ok()?,
            _ = stop.changed() => return None,
        }
        let message = messages.borrow_and_update().clone();
        let event = Event::default().data(message);
        Some((Ok::<_, Infallible>(event), (messages, stop)))
    });
    Sse::new(messages).into_response()
}

/// Invokes the function with the same event many times at once, more than a browser would.
async fn burst(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bodies = &console.api.bodies;
    let event = bodies.read(&headers, body, MAX_PAYLOAD).await?.into_bytes();
    let mut calls = JoinSet::new();
    for _ in 0..BURST {
        let (api, event) = (Arc::clone(&console.api), event.clone());
        calls.spawn(async move { api.invoke(event).await });
    }
    let (mut replies, mut function_errors, mut throttled) = (0, 0, 0);
    for outcome in calls.join_all().await {
        match outcome {
            Ok(reply) if reply.function_error => function_errors += 1,
            Ok(_) => replies += 1,
            Err(InvokeError::TooManyRequests) => throttled += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(respond(&json!({
        "replies": replies,
        "functionErrors": function_errors,
        "throttled": throttled,
    })))
}

/// The last invocations in short, the newest first.
async fn last_invocations(State(console): State<Arc<Console>>) -> Response {
    let invocations = console.shared.invocations.history.newest_first();
    let invocations: Vec<_> = invocations.iter().map(|past| summary(past)).collect();
    respond(&json!({ "invocations": invocations }))
}

fn summary(past: &Past) -> Value {
    let ended = past.ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "requestId": past.request_id.to_string(),
        "ended": u64::try_from(ended.as_millis()).unwrap_or(u64::MAX),
        "duration": micros(past.duration),
        "connection": past.connection,
        "functionError": past.function_error,
        "event": excerpt(&past.event),
        "reply": excerpt(&past.reply),
    })
}

fn excerpt(text: &[u8]) -> String {
    // No character takes more than four bytes.
    let start = &text[..text.len().min(4 * EXCERPT)];
    String::from_utf8_lossy(start)
        .chars()
        .take(EXCERPT)
        .collect()
}

/// One of the last invocations, with its whole event and reply and its log lines.
async fn invocation(
    State(console): State<Arc<Console>>,
    Path(request_id): Path<String>,
) -> Result<Response, ApiError> {
    let mut past = console
        .shared
        .invocations
        .history
        .newest_first()
        .into_iter();
    let is_it = |past: &Arc<Past>| past.request_id.to_string() == request_id;
    let past = past.find(is_it).ok_or_else(|| {
        let message = format!("Invocation {request_id} is no longer among the last");
        ApiError::not_found(message)
    })?;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut whole = summary(&past);
    whole["event"] = text(&past.event).into();
    whole["reply"] = text(&past.reply).into();
    whole["log"] = (console.shared.logs)
        .of(past.request_id)
        .iter()
        .map(|line| Value::from(&**line))
        .collect();
    Ok(respond(&whole))
}

fn respond(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
}
