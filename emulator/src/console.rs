//! The console: a page that invokes the function and shows its workers.

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::MAX_PAYLOAD;
use crate::invocations::{Invocations, InvokeError};
use crate::invoke_api::{InvokeApi, Refusal};

/// The page.
const PAGE: &str = include_str!("console.html");

/// It needs nothing from elsewhere, and talks to nobody else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The time between two messages to an open page.
const PERIOD: Duration = Duration::from_millis(250);

/// How many invocations a burst has.
const BURST: usize = 64;

pub(crate) struct Console {
    page: Bytes,
    /// What the page has to know of the function.
    function: Value,
    api: Arc<InvokeApi>,
    invocations: Arc<Invocations>,
    /// The function's process.
    pid: watch::Receiver<Option<u32>>,
    messages: watch::Sender<String>,
    opened: Notify,
    stop: watch::Receiver<()>,
}

impl Console {
    /// Its streams end when `stop` does.
    pub(crate) fn new(
        function_name: &str,
        workers: usize,
        api: Arc<InvokeApi>,
        invocations: Arc<Invocations>,
        pid: watch::Receiver<Option<u32>>,
        stop: watch::Receiver<()>,
    ) -> Self {
        let function = json!({ "name": function_name, "workers": workers });
        // `</script>` must not occur in it.
        let embedded = function.to_string().replace('<', r"\u003c");
        Self {
            page: PAGE.replace("{{function}}", &embedded).into(),
            function,
            api,
            invocations,
            pid,
            messages: watch::Sender::default(),
            opened: Notify::new(),
            stop,
        }
    }

    /// Observes the function while a page is open, for ever.
    pub(crate) async fn observe(&self) {
        loop {
            self.opened.notified().await;
            self.invocations.look();
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while self.messages.receiver_count() > 0 {
                ticks.tick().await;
                self.messages.send_replace(self.message().to_string());
            }
            self.invocations.look_away();
        }
    }

    /// What has happened since the last one. Times are in microseconds.
    fn message(&self) -> Value {
        let (mut activity, missing) = self.invocations.look();
        let durations = &mut activity.durations;
        durations.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).saturating_sub(1);
            durations
                .get(rank)
                .map(|duration| duration.as_secs_f64() * 1e6)
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
        })
    }
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

pub(crate) fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/console/live", get(live))
        .route("/console/burst", post(burst))
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

/// Invokes the function with the same event many times at once, which a browser does not.
async fn burst(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let payload = console.api.bodies.read(&headers, body, MAX_PAYLOAD).await?;
    let mut calls = JoinSet::new();
    for _ in 0..BURST {
        let (api, payload) = (Arc::clone(&console.api), payload.clone());
        calls.spawn(async move { api.invoke(payload).await });
    }
    let (mut answered, mut function_errors, mut throttled) = (0, 0, 0);
    for answer in calls.join_all().await {
        match answer {
            Ok(reply) if reply.function_error => function_errors += 1,
            Ok(_) => answered += 1,
            Err(InvokeError::TooManyRequests) => throttled += 1,
            Err(error) => return Err(error.into()),
        }
    }
    let outcomes = json!({
        "answered": answered,
        "functionErrors": function_errors,
        "throttled": throttled,
    });
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, outcomes.to_string()).into_response())
}
