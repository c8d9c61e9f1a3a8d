//! The console: a page that invokes the function and shows its workers and last invocations.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{self, State};
use axum::http::header;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::Utc;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::api_error::ApiError;
use crate::body;
use crate::history::Past;
use crate::http::json_response;
use crate::invocation::InvokeError;
use crate::invoke_api::invoke_with;
use crate::lock::lock;
use crate::memory;
use crate::origin;
use crate::settings::Settings;
use crate::shared::Shared;

const PAGE: &str = include_str!("console.html");

/// The page needs nothing from elsewhere and talks to nobody else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The time that a sample covers.
const PERIOD: Duration = Duration::from_secs(1);

/// How many samples are kept: those of a minute.
const MAX_SAMPLES: usize = 60;

/// How many invocations a burst has.
const BURST: usize = 64;

/// How many characters of an event or a reply the list of invocations shows.
const EXCERPT: usize = 200;

/// Takes samples, for ever.
pub(crate) async fn observe(shared: Arc<Shared>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = sample(&shared);
        let mut samples = lock(&shared.samples);
        samples.push_back(sample);
        if samples.len() > MAX_SAMPLES {
            samples.pop_front();
        }
    }
}

/// What has happened since the last sample. Durations are in microseconds.
fn sample(shared: &Shared) -> Value {
    let pid = *shared.pid.borrow();
    let mut activity = shared.invocations.take_activity();
    let durations = &mut activity.durations;
    durations.sort_unstable();
    let percentile = |percent: usize| {
        let rank = (durations.len() * percent).div_ceil(100).saturating_sub(1);
        durations.get(rank).copied().map(micros)
    };
    json!({
        "ended": Utc::now().timestamp_millis(),
        "busy": activity.most_busy,
        "gone": activity.gone,
        "invocations": durations.len(),
        "p50": percentile(50),
        "p99": percentile(99),
        "throttled": activity.throttled,
        "functionErrors": activity.function_errors,
        "memory": pid.map(memory::of_tree),
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// What an open page must know about the function.
fn function(settings: &Settings) -> Value {
    json!({
        "name": settings.function_name,
        "workers": settings.max_concurrency,
        "attached": settings.attach.is_some(),
    })
}

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(page))
        .route("/console/live", get(live))
        .route("/console/burst", post(burst))
        .route("/console/invocations", get(last_invocations))
        .route("/console/invocations/{request_id}", get(invocation))
        .route("/console/output", get(output))
        .route_layer(middleware::from_fn(origin::only_own_page))
}

async fn page(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ];
    let mut function = function(&shared.settings);
    function["examples"] = json!(shared.settings.examples());
    // `</script>` must not occur in the page's JSON.
    let embedded = function.to_string().replace('<', r"\u003c");
    (headers, PAGE.replace("{{function}}", &embedded))
}

/// What an open page asks for again and again. Nothing here waits: a browser has six connections for
/// all pages of this server together.
async fn live(State(shared): State<Arc<Shared>>) -> Response {
    let newest = shared.invocations.history.newest_first();
    json_response(&json!({
        "function": function(&shared.settings),
        "runs": shared.invocations.has_environment(),
        "pid": *shared.pid.borrow(),
        "samples": *lock(&shared.samples),
        "newest": newest.first().map(|past| past.request_id.to_string()),
        "printed": shared.logs.output_count(),
    }))
}

/// Invokes the function with the same event many times at once, more than a browser would.
async fn burst(State(shared): State<Arc<Shared>>, body: Body) -> Result<Response, ApiError> {
    let event = body::read_event(&shared, body).await?;
    let mut calls = JoinSet::new();
    for _ in 0..BURST {
        let (shared, event) = (Arc::clone(&shared), event.clone());
        calls.spawn(async move { invoke_with(&shared, event).await });
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
    Ok(json_response(&json!({
        "replies": replies,
        "functionErrors": function_errors,
        "throttled": throttled,
    })))
}

/// The last invocations in short, the newest first.
async fn last_invocations(State(shared): State<Arc<Shared>>) -> Response {
    let invocations = shared.invocations.history.newest_first();
    let invocations = invocations.iter().map(|past| summary(past));
    json_response(&json!({ "invocations": invocations.collect::<Value>() }))
}

fn summary(past: &Past) -> Value {
    let mut summary = json!({
        "requestId": past.request_id.to_string(),
        "ended": past.ended.timestamp_millis(),
        "event": excerpt(&past.event),
    });
    match &past.outcome {
        Ok(reply) => {
            summary["reply"] = excerpt(&reply.payload).into();
            summary["functionError"] = reply.function_error.into();
            summary["duration"] = micros(past.duration).into();
        }
        Err(error) => {
            summary["refused"] = json!({
                "status": error.status.as_u16(),
                "type": error.error_type,
                "message": error.message,
            });
        }
    }
    summary
}

fn excerpt(text: &[u8]) -> String {
    // No character takes more than four bytes.
    let start = String::from_utf8_lossy(&text[..text.len().min(4 * EXCERPT)]);
    start.chars().take(EXCERPT).collect()
}

/// One of the last invocations, with its whole event and reply and its log lines.
async fn invocation(
    State(shared): State<Arc<Shared>>,
    extract::Path(request_id): extract::Path<String>,
) -> Result<Response, ApiError> {
    let past = shared.invocations.history.newest_first();
    let is_it = |past: &Arc<Past>| past.request_id.to_string() == request_id;
    let past = past.into_iter().find(is_it).ok_or_else(|| {
        let message = format!("Invocation {request_id} is no longer among the last");
        ApiError::not_found(message)
    })?;
    let mut whole = summary(&past);
    whole["event"] = String::from_utf8_lossy(&past.event).into();
    if let Ok(reply) = &past.outcome {
        whole["reply"] = String::from_utf8_lossy(&reply.payload).into();
    }
    whole["log"] = texts(&shared.logs.of(past.request_id));
    Ok(json_response(&whole))
}

/// The last lines that the function printed without a request id.
async fn output(State(shared): State<Arc<Shared>>) -> Response {
    json_response(&json!({ "lines": texts(&shared.logs.output()) }))
}

fn texts(lines: &[Arc<str>]) -> Value {
    lines.iter().map(|line| &**line).collect()
}
