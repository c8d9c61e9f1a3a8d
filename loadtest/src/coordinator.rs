//! Splits a load over generators, which are invocations of the load tester as a Lambda function.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_smithy_types::date_time::{DateTime, Format};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::aws::ServiceError;
use crate::http::Response;
use crate::load::{Load, Schedule, as_f64};
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

/// What a generator measured, or why there is no report of it, which the merged report names.
type Reply = Result<Measured, String>;

/// Splits a load into one for each generator.
///
/// # Errors
///
/// If one of them would have nothing to send.
pub(crate) fn split(load: &Load, generators: NonZeroU16) -> Result<Vec<Load>> {
    let count = u64::from(generators.get());
    let is_enough = |what: &str, all: u64| {
        ensure!(
            all >= count,
            "{what} leaves nothing for some of {count} generators: give more, or fewer --generators"
        );
        Ok(())
    };
    let concurrency = load.concurrency.get();
    is_enough(&format!("--concurrency {concurrency}"), concurrency.into())?;
    if let Some(requests) = load.requests {
        is_enough(&format!("--requests {requests}"), requests)?;
    }
    if let (Some(schedule), Some(duration)) = (load.schedule, load.duration) {
        let rate = schedule.rate_per_second;
        is_enough(
            &format!("--rate {rate} for {duration:?}"),
            schedule.requests(duration),
        )?;
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

/// Makes sure that the generators can send such a load.
///
/// # Errors
///
/// If the function does not exist, its timeout is too short, or Lambda's clock differs from this machine's.
pub(crate) async fn check(target: &Target, load: &Load) -> Result<Duration> {
    let sent = unix_ms(SystemTime::now());
    let description = target.describe().await?;
    let date = description.date.as_deref();
    let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
    if let Some(date) = date.and_then(|date| u64::try_from(date.to_millis().ok()?).ok()) {
        // The header is in whole seconds, and a server may reuse it for a second.
        let now = unix_ms(SystemTime::now());
        check_clock("Lambda's clock", (date, now), (date + 2_000, sent))?;
    }
    let timeout = description
        .timeout
        .map_or(LONGEST_TIMEOUT, |timeout| timeout.min(LONGEST_TIMEOUT));
    let overhead = LEAD + GRACE + INVOCATION_TIMEOUT + SPARE;
    let duration = load.due().map(|due| due.time).or(load.duration);
    let duration = duration.unwrap_or_default();
    let longest = LONGEST_TIMEOUT.saturating_sub(overhead);
    ensure!(
        duration <= longest,
        "the load takes {}, and Lambda ends an invocation after {} minutes: with --generators, a load \
         can take at most {}",
        humantime::format_duration(duration),
        LONGEST_TIMEOUT.as_secs() / 60,
        humantime::format_duration(longest)
    );
    let needed = duration + overhead;
    ensure!(
        needed <= timeout,
        "the generators' timeout is {} s, and they need {} s: `aws lambda \
         update-function-configuration --timeout 900 --function-name {}` raises it",
        timeout.as_secs(),
        needed.as_secs_f64().ceil(),
        target.function().name
    );
    Ok(timeout)
}

/// Invokes the generators, and adds up what they measured. All of them get `share`, each with its own
/// part of the load.
///
/// # Errors
///
/// If a report is damaged, of another version, or made by a clock that differs: nothing is merged.
pub(crate) async fn run(
    target: &Arc<Target>,
    share: &Share,
    loads: Vec<Load>,
    timeout: Duration,
    is_quiet: bool,
    stop: &CancellationToken,
) -> Result<(Measured, Vec<Part>)> {
    let start = SystemTime::now() + LEAD;
    let (count, duration, warm_up) = (loads.len(), share.load.duration, share.warm_up);
    let mut generators = JoinSet::new();
    for (index, load) in loads.into_iter().enumerate() {
        let mut caller = target.caller();
        let mut share = Share {
            start_unix_ms: unix_ms(start),
            load,
            warm_up: part(warm_up, index as u64, count as u64),
            ..share.clone()
        };
        generators.spawn(async move {
            share.sent_unix_ms = unix_ms(SystemTime::now());
            let event = serde_json::to_vec(&share)?;
            // Lambda itself ends the invocation first.
            let limit = timeout + INVOCATION_TIMEOUT;
            let response = caller.invoke(event.into(), limit).await;
            anyhow::Ok((index, read(response, share.sent_unix_ms)))
        });
    }

    let count_replied = Arc::new(AtomicUsize::new(0));
    let display = Display::start(is_quiet, {
        let count_replied = Arc::clone(&count_replied);
        move || {
            let replied = count_replied.load(Ordering::Relaxed);
            progress(count, replied, start, duration)
        }
    });
    let mut replies = BTreeMap::new();
    let mut is_told = false;
    loop {
        tokio::select! {
            reply = generators.join_next() => match reply {
                Some(reply) => {
                    let (index, reply) = reply??;
                    replies.insert(index, reply);
                    count_replied.store(replies.len(), Ordering::Relaxed);
                }
                None => break,
            },
            () = stop.cancelled(), if !is_told => {
                is_told = true;
                say(
                    "nothing can end the generators: waiting for their reports; Ctrl-C again leaves \
                     without them",
                );
            }
        }
    }
    drop(display);
    merge(replies.into_values(), start)
}

fn merge(
    replies: impl ExactSizeIterator<Item = Result<Reply>>,
    start: SystemTime,
) -> Result<(Measured, Vec<Part>)> {
    let (mut parts, mut all) = (Vec::new(), Vec::new());
    let count = replies.len();
    for (reply, number) in replies.zip(1..) {
        let name = format!("generator {number} of {count}");
        let (requests, problem) = match reply.with_context(|| name.clone())? {
            Err(problem) => (0, Some(problem)),
            Ok(measured) => {
                let late = measured.started_unix_ms.saturating_sub(unix_ms(start));
                let late = Duration::from_millis(late);
                let requests = measured.recorder.outcomes.requests();
                let interrupted = measured.interrupted;
                all.push(measured);
                let mut problems = Vec::new();
                if late > MAX_APART {
                    problems.push(format!("started {:.1} s late", late.as_secs_f64()));
                }
                if interrupted {
                    problems.push("its timeout came before it had sent everything".to_owned());
                }
                let problem = (!problems.is_empty()).then(|| problems.join("; "));
                (requests, problem)
            }
        };
        parts.push(Part {
            name,
            requests,
            problem,
        });
    }
    Ok((Measured::sum(all), parts))
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

/// # Errors
///
/// If the reply is not a report that can be merged.
fn read(response: Result<Response>, sent: u64) -> Result<Reply> {
    let arrived = unix_ms(SystemTime::now());
    let response = match response {
        Ok(response) => response,
        Err(error) => return Ok(Err(format!("failed: {error:#}"))),
    };
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
    let report = Report::parse(&response.body.concat())?;
    let clock = report.clock;
    let clock = clock.context("its reply is not a generator's: is it the load tester?")?;
    // The generator received the event after we sent it, and replied before the reply arrived here.
    let (received, replied) = (clock.received_unix_ms, clock.replied_unix_ms);
    check_clock("its clock", (replied, arrived), (received, sent))?;
    Ok(Ok(report.measured))
}

/// Refuses a clock that differs from ours by more than [`MAX_APART`]. Both pairs are times in
/// milliseconds, by that clock and by ours: first when theirs was read earlier, then when it was read
/// later.
fn check_clock(whose: &str, earlier: (u64, u64), later: (u64, u64)) -> Result<()> {
    let limit = MAX_APART.as_secs_f64();
    let ahead = |(theirs, ours): (u64, u64)| (as_f64(theirs) - as_f64(ours)) / 1e3;
    let (least, most) = (ahead(earlier), ahead(later));
    ensure!(
        least <= limit,
        "{whose} is at least {least:.1} s ahead of this machine's: set both right"
    );
    ensure!(
        most >= -limit,
        "{whose} is at least {:.1} s behind this machine's: set both right",
        -most
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_second_for_all_we_know() {
        let check = |least: u64, most: u64| check_clock("it", (least, 10_000), (most, 10_000));
        for (least, most) in [(5_000, 15_000), (11_000, 19_000), (1_000, 9_000)] {
            assert!(check(least, most).is_ok(), "{least} {most}");
        }
        let error = |least, most| check(least, most).unwrap_err().to_string();
        assert!(error(11_001, 19_000).contains("1.0 s ahead"));
        assert!(error(1_000, 7_500).contains("2.5 s behind"));
    }
}
