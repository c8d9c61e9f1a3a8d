//! Splits a load over generators, which are invocations of the load tester as a Lambda function.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use humantime::format_duration;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::aws::ServiceError;
use crate::load::{Load, Schedule};
use crate::measured::{Measured, unix_ms};
use crate::merge::MAX_APART;
use crate::report::{Part, Report};
use crate::run::GRACE;
use crate::share::{SPARE, Share};
use crate::target::{INVOCATION_TIMEOUT, Target};
use crate::terminal::{Display, excerpt, say};

/// The time between the invocation of the generators and their start: for cold starts and warm-up.
const LEAD: Duration = Duration::from_secs(3);

/// The longest timeout that Lambda allows.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(15);

/// The function that generates load, and what each of its invocations sends.
pub(crate) struct Generators {
    target: Arc<Target>,
    loads: Vec<Load>,
    timeout: Duration,
}

impl Generators {
    /// # Errors
    ///
    /// If one of them would have nothing to send, the function does not exist, or its timeout is too
    /// short.
    pub(crate) async fn check(target: Target, load: &Load, count: NonZeroU16) -> Result<Self> {
        let loads = split(load, count)?;
        let description = target.describe().await.context("--generator-function")?;
        let timeout = description
            .timeout
            .map_or(LONGEST_TIMEOUT, |timeout| timeout.min(LONGEST_TIMEOUT));
        let most = timeout.saturating_sub(LEAD + GRACE + INVOCATION_TIMEOUT + SPARE);
        let duration = load.due().map(|due| due.time).or(load.duration);
        let duration = duration.unwrap_or_default();
        ensure!(
            !most.is_zero() && duration <= most,
            "the load takes {}, and a generator with a timeout of {} s can send for {}: give a shorter \
             load, or the generators a longer timeout (Lambda's limit is 900 s)",
            format_duration(duration),
            timeout.as_secs(),
            format_duration(most)
        );
        Ok(Self {
            target: Arc::new(target),
            loads,
            timeout,
        })
    }

    /// Invokes the generators, and adds up what they measured. All of them get `share`, each with its
    /// own part of the load.
    ///
    /// # Errors
    ///
    /// If a report is damaged, of another version, or made by a clock that differs: nothing is merged.
    pub(crate) async fn run(
        self,
        share: &Share,
        is_quiet: bool,
        stop: &CancellationToken,
    ) -> Result<(Measured, Vec<Part>)> {
        let start = SystemTime::now() + LEAD;
        let (count, duration) = (self.loads.len(), share.load.duration);
        // Lambda itself ends the invocation first.
        let limit = self.timeout + INVOCATION_TIMEOUT;
        let replied = Arc::new(AtomicUsize::new(0));
        let mut generators = Vec::new();
        for (load, index) in self.loads.into_iter().zip(0..) {
            let share = Share {
                start_unix_ms: unix_ms(start),
                load,
                warm_up: part(share.warm_up, index, count as u64),
                ..share.clone()
            };
            let (target, replied) = (Arc::clone(&self.target), Arc::clone(&replied));
            generators.push(tokio::spawn(async move {
                let reply = invoke(&target, share, limit).await;
                replied.fetch_add(1, Ordering::Relaxed);
                reply
            }));
        }
        let _display = Display::start(is_quiet, move || {
            let replied = replied.load(Ordering::Relaxed);
            progress(count, replied, start, duration)
        });
        let merged = async {
            let (mut parts, mut all) = (Vec::new(), Vec::new());
            for (generator, number) in generators.into_iter().zip(1..) {
                let name = format!("generator {number} of {count}");
                let reply = generator.await?.with_context(|| name.clone())?;
                parts.push(Part {
                    name,
                    requests: reply.as_ref().map_or(0, requests),
                    problem: match &reply {
                        Ok(measured) => problem(measured, start),
                        Err(problem) => Some(problem.clone()),
                    },
                });
                all.extend(reply);
            }
            Ok((Measured::sum(all), parts))
        };
        tokio::pin!(merged);
        tokio::select! {
            merged = &mut merged => merged,
            () = stop.cancelled() => {
                say(
                    "nothing can end the generators: waiting for their reports; Ctrl-C again leaves \
                     without them",
                );
                merged.await
            }
        }
    }
}

/// Splits a load into one for each generator.
///
/// # Errors
///
/// If one of them would have nothing to send.
fn split(load: &Load, generators: NonZeroU16) -> Result<Vec<Load>> {
    let count = u64::from(generators.get());
    let concurrency = load.concurrency.get();
    for (flag, all) in [
        ("--concurrency", Some(concurrency.into())),
        ("--requests", load.requests),
        ("--rate", load.due().map(|due| due.requests)),
    ] {
        ensure!(
            all.is_none_or(|all| all >= count),
            "{flag} leaves nothing for some of {count} generators: give more, or fewer --generators"
        );
    }
    (0..generators.get())
        .map(|index| {
            let part = |all: u64| part(all, index.into(), count);
            Ok(Load {
                concurrency: u16::try_from(part(concurrency.into()))?.try_into()?,
                requests: load.requests.map(part),
                schedule: load.schedule.map(|schedule| Schedule {
                    first: index.into(),
                    step: count,
                    ..schedule
                }),
                ..*load
            })
        })
        .collect()
}

/// Divides a number among `count`, so that the parts add up to it.
fn part(all: u64, index: u64, count: u64) -> u64 {
    all / count + u64::from(index < all % count)
}

/// Sends a share to a generator. Returns what it measured, or why there is no report of it.
///
/// # Errors
///
/// If the reply is not a report that can be merged.
async fn invoke(
    target: &Target,
    mut share: Share,
    limit: Duration,
) -> Result<Result<Measured, String>> {
    share.sent_unix_ms = unix_ms(SystemTime::now());
    let event = serde_json::to_vec(&share)?;
    let mut client = target.client();
    let response = target.invoke.send(&mut client, event.into(), limit).await;
    let response = match response {
        Ok(response) => response,
        Err(error) => return Ok(Err(format!("failed: {error:#}"))),
    };
    let arrived = unix_ms(SystemTime::now());
    if !response.status.is_success() {
        let error = ServiceError::of(&response);
        let is_throttled = response.is_throttled();
        let problem = if is_throttled { "throttled" } else { "failed" };
        return Ok(Err(format!("{problem}: {error}")));
    }
    if let Some(error) = response.function_error() {
        let json = serde_json::from_str::<Value>(&error).unwrap_or_default();
        let message = json["errorMessage"].as_str().unwrap_or(&error);
        return Ok(Err(format!("failed: {}", excerpt(message))));
    }
    let no_generator = "its reply is not a load tester's";
    let report = Report::parse(&response.body.concat()).context(no_generator)?;
    let replied = report.replied_unix_ms.context(no_generator)?;
    // The generator itself refuses to be behind.
    let ahead = Duration::from_millis(replied.saturating_sub(arrived));
    ensure!(
        ahead <= MAX_APART,
        "its clock is at least {:.1} s ahead of this machine's: set both right",
        ahead.as_secs_f64()
    );
    Ok(Ok(report.measured))
}

fn requests(measured: &Measured) -> u64 {
    measured.recorder.outcomes.requests()
}

/// What is wrong with what a generator measured.
fn problem(measured: &Measured, start: SystemTime) -> Option<String> {
    let late = measured.started_unix_ms.saturating_sub(unix_ms(start));
    let late = Duration::from_millis(late);
    let mut problems = Vec::new();
    if late > MAX_APART {
        problems.push(format!("started {:.1} s late", late.as_secs_f64()));
    }
    if measured.interrupted {
        problems.push("its timeout came before it had sent everything".to_owned());
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn progress(count: usize, replied: usize, start: SystemTime, duration: Option<Duration>) -> String {
    let now = SystemTime::now();
    if let Ok(wait) = start.duration_since(now) {
        return format!(
            "{count} generators start in {:.0} s",
            wait.as_secs_f64().ceil()
        );
    }
    let elapsed = now.duration_since(start).unwrap_or_default().as_secs();
    let of = duration.map(|duration| format!(" of {} s", duration.as_secs()));
    let of = of.unwrap_or_default();
    format!("{elapsed} s{of}, {replied} of {count} generators have replied")
}
