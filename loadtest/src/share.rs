//! The load tester as a Lambda function: sends a share of a load, and replies with its report.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Error, Result, bail, ensure};
use fibonacci_generator::sequence::MAX_INDEX;
use lmi_runtime::{Diagnostic, Invocation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::aws::Aws;
use crate::events::Events;
use crate::flags::Limits;
use crate::http::Endpoint;
use crate::load::Load;
use crate::measured::unix_ms;
use crate::merge::MAX_APART;
use crate::report::{Report, Subject};
use crate::run;
use crate::target::{FunctionName, INVOCATION_TIMEOUT, Target};

/// The version of the event. A change that older generators cannot follow raises it.
pub(crate) const VERSION: u64 = 4;

/// The time that a generator needs between the last reply it waits for and its own timeout.
pub(crate) const SPARE: Duration = Duration::from_secs(2);

/// The event of a generator.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Share {
    pub version: u64,
    /// When the event was sent, by the sender's clock, in milliseconds since 1970.
    pub sent_unix_ms: u64,
    /// When all generators start.
    pub start_unix_ms: u64,
    #[serde(flatten)]
    pub function: FunctionName,
    /// The Invoke API of the function.
    pub endpoint_url: String,
    pub events: Events,
    pub warm_up: u64,
    pub load: Load,
}

/// Handles an invocation of a generator.
pub(crate) async fn handle(invocation: &Invocation) -> Result<Vec<u8>, Diagnostic> {
    let received = SystemTime::now();
    let sent = async {
        let share = Share::parse(invocation.payload(), received)?;
        let deadline = invocation.deadline().context("no deadline")?;
        let report = send(share, received, deadline).await?;
        Ok(serde_json::to_vec(&report)?)
    };
    sent.await.map_err(|error: Error| Diagnostic {
        error_type: "Generator.Error".to_owned(),
        error_message: format!("{error:#}"),
    })
}

async fn send(share: Share, received: SystemTime, deadline: SystemTime) -> Result<Report> {
    let endpoint = Endpoint::parse(&share.endpoint_url)?;
    let aws = Aws::find(Some(&endpoint)).await?;
    let lambda = aws.lambda(Some(endpoint))?;
    let target = Arc::new(Target::new(lambda, share.function.clone())?);
    let stop = CancellationToken::new();
    // In time for the last replies to arrive before Lambda ends the invocation.
    let until = deadline
        .duration_since(received)
        .unwrap_or_default()
        .saturating_sub(INVOCATION_TIMEOUT + SPARE);
    let timer = async {
        tokio::time::sleep(until).await;
        stop.cancel();
        std::future::pending().await
    };
    let measured = tokio::select! {
        measured = run::measure(&target, &share, true, &stop) => measured?,
        never = timer => never,
    };
    let mut measured = measured.context("the generator's timeout is too short to send anything")?;
    if std::env::var("AWS_LAMBDA_MAX_CONCURRENCY").is_ok_and(|most| most != "1") {
        // Other shares may have used this process at the same time.
        measured.cpu_seconds = None;
    }
    let (subject, limits) = (Subject::new(&share), Limits::default());
    let mut report = Report::new(subject, None, measured, Vec::new(), &limits);
    report.replied_unix_ms = Some(unix_ms(SystemTime::now()));
    Ok(report)
}

impl Share {
    fn parse(event: &[u8], received: SystemTime) -> Result<Self> {
        let event: Value = serde_json::from_slice(event)?;
        let version = event.get("version").and_then(Value::as_u64);
        if version.is_some_and(|version| version != VERSION) {
            bail!(
                "the share is of version {}, the generator of version {VERSION}: deploy it again",
                event["version"]
            );
        }
        let share: Self = serde_json::from_value(event)
            .context("this function takes shares of a load, from `cargo loadtest --generators`")?;
        let has_events = match &share.events {
            Events::N(range) => !range.is_empty() && *range.end() <= MAX_INDEX,
            Events::Mix => true,
            Events::Given { events, .. } => !events.is_empty(),
        };
        ensure!(has_events, "the share has no valid events");
        let generators = share.load.schedule.map_or(1, |schedule| schedule.step);
        share.load.check(generators)?;
        let behind = share.sent_unix_ms.saturating_sub(unix_ms(received));
        let behind = Duration::from_millis(behind);
        ensure!(
            behind <= MAX_APART,
            "the generator's clock is {:.1} s behind the sender's",
            behind.as_secs_f64()
        );
        Ok(share)
    }
}
