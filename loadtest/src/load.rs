//! Sends requests when they are due, and times them.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::events::Event;
use crate::recorder::Recorder;
use crate::target::{self, Outcome, Target};

/// How long callers may still take up what was due when the run ends.
const GRACE: Duration = Duration::from_secs(1);

/// A throttled request is sent up to this often, with `--retry`.
const ATTEMPTS: u32 = 10;
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// What to send, and when.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Requests in flight at once, at most.
    pub concurrency: NonZeroU16,
    pub requests: Option<u64>,
    pub duration: Option<Duration>,
    /// Without one, each caller sends as soon as it has its reply.
    pub schedule: Option<Schedule>,
    pub retry: bool,
}

/// When requests are due.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    pub rate_per_second: u32,
    /// The rate rises from 0 in this time, linearly.
    pub ramp: Duration,
}

/// A run that has ended.
pub(crate) struct Ended {
    pub recorder: Recorder,
    pub elapsed: Duration,
    /// Requests that were due, and how long it took until the last of them was.
    pub due: Option<(u64, Duration)>,
    pub interrupted: bool,
}

struct Run {
    target: Arc<Target>,
    events: Arc<[Event]>,
    load: Load,
    started: Instant,
    /// A permit for each request that is due, or past the last of them.
    permits: Semaphore,
    /// Requests that are due.
    due: AtomicU64,
    /// Permits that were taken.
    taken: AtomicU64,
    stop: CancellationToken,
    paused: watch::Receiver<bool>,
    recorder: Mutex<Recorder>,
}

impl Schedule {
    /// When the request of this number is due, from the start.
    pub(crate) fn due(&self, request: u64) -> Duration {
        let rate = f64::from(self.rate_per_second);
        let ramp = self.ramp.as_secs_f64();
        let during_ramp = rate * ramp / 2.0;
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact for the first 2^53 requests"
        )]
        let request = request as f64;
        let seconds = if request < during_ramp {
            (2.0 * ramp * request / rate).sqrt()
        } else {
            ramp + (request - during_ramp) / rate
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many requests are due within this time.
    pub(crate) fn requests(&self, time: Duration) -> u64 {
        let rate = f64::from(self.rate_per_second);
        let (time, ramp) = (time.as_secs_f64(), self.ramp.as_secs_f64());
        let requests = if time < ramp {
            rate * time * time / (2.0 * ramp)
        } else {
            rate * (time - ramp / 2.0)
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and saturates"
        )]
        let requests = requests.ceil() as u64;
        requests
    }
}

/// Sends until the load is sent or `stop` is cancelled, and waits for what was sent.
pub(crate) async fn run(
    target: Arc<Target>,
    events: Arc<[Event]>,
    load: Load,
    recorder: Recorder,
    stop: CancellationToken,
    paused: watch::Receiver<bool>,
) -> Result<Ended> {
    let requests = load.requests.unwrap_or(u64::MAX);
    let (permits, due) = match load.schedule {
        Some(_) => (0, 0),
        None => (
            usize::try_from(requests)
                .unwrap_or(usize::MAX)
                .saturating_add(usize::from(load.concurrency.get()))
                .min(Semaphore::MAX_PERMITS),
            requests,
        ),
    };
    let run = Arc::new(Run {
        target,
        events,
        load,
        started: Instant::now(),
        permits: Semaphore::new(permits),
        due: AtomicU64::new(due),
        taken: AtomicU64::new(0),
        stop: stop.child_token(),
        paused,
        recorder: Mutex::new(recorder),
    });
    let mut callers = JoinSet::new();
    for _ in 0..load.concurrency.get() {
        callers.spawn(Arc::clone(&run).call());
    }

    let mut scheduled = None;
    if let Some(schedule) = load.schedule {
        // Not a task: tokio's clock ticks in milliseconds, a thread's is good to 0.1 ms.
        let (stop_pacing, stopped) = mpsc::channel();
        let mut pacing = tokio::task::spawn_blocking({
            let run = Arc::clone(&run);
            move || run.pace(schedule, &stopped)
        });
        let paced = tokio::select! {
            paced = &mut pacing => paced,
            () = stop.cancelled() => {
                drop(stop_pacing);
                pacing.await
            }
        };
        scheduled = Some(paced?);
        run.permits.add_permits(usize::from(load.concurrency.get()));
        tokio::select! {
            ended = join(&mut callers) => ended?,
            () = tokio::time::sleep(GRACE) => {}
        }
    } else {
        tokio::select! {
            ended = join(&mut callers) => ended?,
            () = elapse(load.duration) => {}
            () = stop.cancelled() => {}
        }
    }
    run.stop.cancel();
    run.permits.close();
    join(&mut callers).await?;

    let elapsed = run.started.elapsed();
    let run = Arc::into_inner(run).context("a caller outlived the run")?;
    let mut recorder = run
        .recorder
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let due = run.due.into_inner();
    if let Some(schedule) = load.schedule {
        for request in run.taken.into_inner()..due {
            recorder.unsent(elapsed.saturating_sub(schedule.due(request)));
        }
    }
    Ok(Ended {
        recorder,
        elapsed,
        due: scheduled.map(|time| (due, time)),
        interrupted: stop.is_cancelled(),
    })
}

impl Run {
    /// Issues a permit whenever a request is due, and returns how long there were any.
    fn pace(&self, schedule: Schedule, stopped: &mpsc::Receiver<()>) -> Duration {
        let requests = self.load.requests.unwrap_or(u64::MAX);
        let duration = self.load.duration.unwrap_or(Duration::MAX);
        for request in 0..requests {
            let due = schedule.due(request);
            if due >= duration {
                return duration;
            }
            while let Some(wait) = due.checked_sub(self.started.elapsed())
                && !wait.is_zero()
            {
                if stopped.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Disconnected) {
                    return self.started.elapsed();
                }
            }
            self.due.store(request + 1, Ordering::Relaxed);
            self.permits.add_permits(1);
        }
        schedule.due(requests)
    }

    /// Sends one request after the other.
    async fn call(self: Arc<Self>) {
        let mut paused = self.paused.clone();
        loop {
            if *paused.borrow() {
                tokio::select! {
                    _ = paused.wait_for(|paused| !paused) => {}
                    () = self.stop.cancelled() => {}
                }
            }
            match self.permits.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return,
            }
            let request = self.taken.fetch_add(1, Ordering::Relaxed);
            if request >= self.due.load(Ordering::Relaxed) {
                return;
            }
            let event = &self.events[fastrand::usize(..self.events.len())];
            let from = match self.load.schedule {
                Some(schedule) => schedule.due(request),
                None => self.started.elapsed(),
            };
            let (answer, retries) = self.invoke(event).await;
            let at = self.started.elapsed();

            let outcome = Outcome::of(answer, event);
            let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
            recorder.answered(at, at.saturating_sub(from), retries, event, outcome);
        }
    }

    /// Returns the last answer and how many came before it.
    async fn invoke(&self, event: &Event) -> (Result<InvokeOutput, SdkError<InvokeError>>, u32) {
        let mut back_off = FIRST_BACK_OFF;
        let mut retries = 0;
        loop {
            let answer = self.target.invoke(event).await;
            let is_throttled = answer.as_ref().is_err_and(target::is_throttled);
            if !(is_throttled && self.load.retry && retries + 1 < ATTEMPTS) {
                return (answer, retries);
            }
            tokio::select! {
                () = self.stop.cancelled() => return (answer, retries),
                () = tokio::time::sleep(back_off.mul_f64(fastrand::f64())) => {}
            }
            retries += 1;
            back_off = LONGEST_BACK_OFF.min(back_off * 2);
        }
    }
}

async fn join(callers: &mut JoinSet<()>) -> Result<()> {
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    Ok(())
}

async fn elapse(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        rate_per_second: 100,
        ramp: Duration::from_secs(2),
    };

    #[test]
    fn requests_come_closer_together_until_the_ramp_ends() {
        assert_eq!(SCHEDULE.due(0), Duration::ZERO);
        assert_eq!(SCHEDULE.due(25), Duration::from_secs(1));
        assert_eq!(SCHEDULE.due(100), Duration::from_secs(2));
        assert_eq!(SCHEDULE.due(101), Duration::from_millis(2010));
        assert_eq!(SCHEDULE.due(200), Duration::from_secs(3));
    }

    #[test]
    fn as_many_requests_are_due_within_a_time_as_are_due_before_it() {
        for time in [0.5, 1.0, 1.99, 2.0, 2.015, 3.0].map(Duration::from_secs_f64) {
            let requests = SCHEDULE.requests(time);
            assert!(SCHEDULE.due(requests - 1) < time, "{time:?}");
            assert!(SCHEDULE.due(requests) >= time, "{time:?}");
        }
    }
}
