//! Sends requests when they are due, and times them.

use std::num::{NonZero, NonZeroU16};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Events};
use crate::http::Response;
use crate::recorder::Recorder;
use crate::target::{Caller, INVOCATION_TIMEOUT, Outcome, Target};

/// How long callers may still send what was due when the schedule ends.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// With fewer callers than this, a thread goes to sleep and wakes up for nearly every request.
const CALLERS_PER_THREAD: usize = 16;

/// With `--retry`, a throttled request is sent up to this often.
const ATTEMPTS: u32 = 10;
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// What to send, and when.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Requests in flight at once, at most.
    pub concurrency: NonZeroU16,
    pub requests: Option<u64>,
    pub duration: Option<Duration>,
    /// `None` if each caller sends its next request when it has its reply.
    pub schedule: Option<Schedule>,
    pub retry: bool,
}

/// When requests are due.
///
/// A generator sends its share of a schedule: request `first`, and every `step`th after it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Schedule {
    pub rate_per_second: u32,
    /// The rate rises linearly from 0 during this time.
    pub ramp: Duration,
    pub first: u64,
    pub step: u64,
}

/// A run that has ended.
pub(crate) struct Ended {
    pub recorder: Recorder,
    pub started: SystemTime,
    pub elapsed: Duration,
    pub due: Option<Due>,
    pub interrupted: bool,
    /// CPU time of this process during the run.
    pub cpu: Duration,
}

/// Requests that were due according to the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Due {
    pub requests: u64,
    /// How long the schedule lasted.
    pub time: Duration,
}

struct Run {
    events: Arc<[Event]>,
    load: Load,
    started: Instant,
    source: Source,
    /// Nothing more is sent once it is cancelled.
    stop: CancellationToken,
    recorder: Arc<Mutex<Recorder>>,
}

/// Where callers get the number of their next request.
enum Source {
    /// Numbers below a limit.
    Counter { next: AtomicU64, limit: u64 },
    /// Numbers that are due.
    Schedule {
        schedule: Schedule,
        due: AsyncMutex<mpsc::UnboundedReceiver<u64>>,
    },
}

impl Schedule {
    /// When the request of this number is due, counted from the start.
    pub(crate) fn due(&self, request: u64) -> Duration {
        let rate = f64::from(self.rate_per_second);
        let ramp = self.ramp.as_secs_f64();
        let during_ramp = rate * ramp / 2.0;
        let request = request.saturating_mul(self.step).saturating_add(self.first);
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
        requests.saturating_sub(self.first).div_ceil(self.step)
    }
}

/// Warms up, waits for the start, and sends the load. `None` if it is stopped before it starts.
pub(crate) async fn measure(
    target: &Arc<Target>,
    events: &Events,
    load: Load,
    warm_up: u64,
    start: Option<SystemTime>,
    stop: &CancellationToken,
    watch: impl FnOnce(Arc<Mutex<Recorder>>),
) -> Result<Option<(Recorder, Ended)>> {
    let events: Arc<[Event]> = events.all().into();
    let mut warmed_up = Recorder::new()?;
    if warm_up > 0 {
        let load = Load {
            requests: Some(warm_up),
            duration: None,
            schedule: None,
            ..load
        };
        let ended = run(target, Arc::clone(&events), load, stop.clone(), |_| ()).await?;
        warmed_up = ended.recorder;
    }
    let wait = start.and_then(|start| start.duration_since(SystemTime::now()).ok());
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(None),
        () = tokio::time::sleep(wait.unwrap_or_default()) => {}
    }
    let ended = run(target, events, load, stop.clone(), watch).await?;
    Ok(Some((warmed_up, ended)))
}

/// Sends until everything is sent or `stop` is cancelled, and waits for the replies.
///
/// `watch` gets the recorder at the start, to read it during the run.
pub(crate) async fn run(
    target: &Arc<Target>,
    events: Arc<[Event]>,
    load: Load,
    stop: CancellationToken,
    watch: impl FnOnce(Arc<Mutex<Recorder>>),
) -> Result<Ended> {
    let recorder = Arc::new(Mutex::new(Recorder::new()?));
    watch(Arc::clone(&recorder));
    let (pacing, source) = if let Some(schedule) = load.schedule {
        let (sender, due) = mpsc::unbounded_channel();
        let due = AsyncMutex::new(due);
        (Some((schedule, sender)), Source::Schedule { schedule, due })
    } else {
        let next = AtomicU64::new(0);
        let limit = load.requests.unwrap_or(u64::MAX);
        (None, Source::Counter { next, limit })
    };
    let (started_at, started, cpu) = (SystemTime::now(), Instant::now(), cpu_time());
    let run = Arc::new(Run {
        events,
        load,
        started,
        source,
        stop: stop.child_token(),
        recorder: Arc::clone(&recorder),
    });
    let mut callers = JoinSet::new();
    for callers_of_thread in divide(load.concurrency.get().into()) {
        let new = (0..callers_of_thread).map(|_| target.caller()).collect();
        let run = Arc::clone(&run);
        callers.spawn_blocking(move || run.call_on_this_thread(new));
    }

    let mut due = None;
    if let Some((schedule, sender)) = pacing {
        // A thread, not a task: tokio's timer has a resolution of 1 ms, too coarse for 100,000
        // requests per second.
        let (stop_pacing, stopped) = blocking::channel();
        let mut pacing =
            tokio::task::spawn_blocking(move || pace(&load, schedule, started, &sender, &stopped));
        let paced = tokio::select! {
            paced = &mut pacing => paced,
            () = stop.cancelled() => {
                drop(stop_pacing);
                pacing.await
            }
        };
        due = Some(paced?);
        tokio::select! {
            ended = join(&mut callers) => ended?,
            () = tokio::time::sleep(GRACE) => {}
            () = stop.cancelled() => {}
        }
    } else {
        tokio::select! {
            ended = join(&mut callers) => ended?,
            () = elapse(load.duration) => {}
            () = stop.cancelled() => {}
        }
    }
    run.stop.cancel();
    join(&mut callers).await?;

    Ok(Ended {
        recorder: std::mem::replace(&mut *lock(&recorder), Recorder::new()?),
        started: started_at,
        elapsed: started.elapsed(),
        due,
        interrupted: stop.is_cancelled(),
        cpu: cpu_time().saturating_sub(cpu),
    })
}

/// Sends the number of each request when it is due.
fn pace(
    load: &Load,
    schedule: Schedule,
    started: Instant,
    sender: &mpsc::UnboundedSender<u64>,
    stopped: &blocking::Receiver<()>,
) -> Due {
    let requests = load.requests.unwrap_or(u64::MAX);
    let duration = load.duration.unwrap_or(Duration::MAX);
    for request in 0..requests {
        let due = schedule.due(request);
        if due >= duration {
            return Due {
                requests: request,
                time: duration,
            };
        }
        while let Some(wait) = due.checked_sub(started.elapsed())
            && !wait.is_zero()
        {
            if stopped.recv_timeout(wait) == Err(blocking::RecvTimeoutError::Disconnected) {
                return Due {
                    requests: request,
                    time: started.elapsed(),
                };
            }
        }
        if sender.send(request).is_err() {
            return Due {
                requests: request,
                time: started.elapsed(),
            };
        }
    }
    Due {
        requests,
        time: schedule.due(requests),
    }
}

impl Run {
    /// Callers stay on their thread: moving one to another thread costs as much CPU time as a request.
    fn call_on_this_thread(self: Arc<Self>, callers: Vec<Caller>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut calling: JoinSet<()> = callers
                .into_iter()
                .map(|caller| Arc::clone(&self).call(caller))
                .collect();
            while let Some(ended) = calling.join_next().await {
                ended.context("a caller failed")?;
            }
            Ok(())
        })
    }

    /// Sends one request after the other.
    async fn call(self: Arc<Self>, mut caller: Caller) {
        while let Some((due, event)) = self.next().await {
            let (response, retries) = self.invoke(&mut caller, event).await;
            let at = self.started.elapsed();
            // The clock has stopped before the comparison with the table.
            let outcome = Outcome::of(response, event);
            lock(&self.recorder).replied(at, at.saturating_sub(due), retries, event, outcome);
        }
    }

    /// Waits for the next request, and returns the time from which its latency counts.
    async fn next(&self) -> Option<(Duration, &Event)> {
        let due = match &self.source {
            Source::Counter { next, limit } => {
                if self.stop.is_cancelled() || next.fetch_add(1, Ordering::Relaxed) >= *limit {
                    return None;
                }
                self.started.elapsed()
            }
            Source::Schedule { schedule, due } => loop {
                let due = schedule.due(due.lock().await.recv().await?);
                if !self.stop.is_cancelled() {
                    break due;
                }
                lock(&self.recorder).unsent(self.started.elapsed().saturating_sub(due));
            },
        };
        Some((due, &self.events[fastrand::usize(..self.events.len())]))
    }

    /// Returns the last response, and how many requests preceded it.
    async fn invoke(&self, caller: &mut Caller, event: &Event) -> (Result<Response>, u32) {
        let mut back_off = FIRST_BACK_OFF;
        let mut retries = 0;
        loop {
            let response = caller
                .invoke(event.payload.clone(), INVOCATION_TIMEOUT)
                .await;
            let is_throttled = response.as_ref().is_ok_and(Response::is_throttled);
            if !(is_throttled && self.load.retry && retries + 1 < ATTEMPTS) {
                return (response, retries);
            }
            tokio::select! {
                () = self.stop.cancelled() => return (response, retries),
                () = tokio::time::sleep(back_off.mul_f64(fastrand::f64())) => {}
            }
            retries += 1;
            back_off = LONGEST_BACK_OFF.min(back_off * 2);
        }
    }
}

async fn join(threads: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = threads.join_next().await {
        ended.context("a thread of callers failed")??;
    }
    Ok(())
}

/// Divides callers among threads, of which there are no more than CPUs.
fn divide(callers: usize) -> impl Iterator<Item = usize> {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = callers.div_ceil(CALLERS_PER_THREAD).min(cpus);
    (0..threads).map(move |index| callers / threads + usize::from(index < callers % threads))
}

async fn elapse(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// A line about a run in progress.
pub(crate) fn progress(recorder: &Mutex<Recorder>, started: Instant, load: &Load) -> String {
    let elapsed = started.elapsed().as_secs();
    let of = match (load.duration, load.requests) {
        (Some(duration), _) => format!(" of {} s", duration.as_secs()),
        (None, _) => String::new(),
    };
    let recorder = lock(recorder);
    let (outcomes, latencies) = (recorder.outcomes, &recorder.microseconds);
    let milliseconds =
        |quantile| Duration::from_micros(latencies.value_at_quantile(quantile)).as_secs_f64() * 1e3;
    format!(
        "{elapsed} s{of}  {} ok  {} throttled  {} failed  p50 {:.1} ms  p99 {:.1} ms",
        outcomes.ok,
        outcomes.throttled,
        outcomes.failed(),
        milliseconds(0.5),
        milliseconds(0.99)
    )
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let time = |time: TimeVal| {
        let microseconds = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(microseconds.try_into().unwrap_or_default())
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// No critical section can panic half-way, so the data behind a poisoned lock are still good.
pub(crate) fn lock(recorder: &Mutex<Recorder>) -> std::sync::MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        rate_per_second: 100,
        ramp: Duration::from_secs(2),
        first: 0,
        step: 1,
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

    #[test]
    fn the_shares_of_a_schedule_make_up_the_schedule() {
        let shares = (0..3).map(|first| Schedule {
            first,
            step: 3,
            ..SCHEDULE
        });
        let time = Duration::from_secs(3);
        let mut due: Vec<_> = shares
            .flat_map(|share| (0..share.requests(time)).map(move |request| share.due(request)))
            .collect();
        due.sort();
        let whole: Vec<_> = (0..SCHEDULE.requests(time))
            .map(|request| SCHEDULE.due(request))
            .collect();
        assert_eq!(due, whole);
    }
}
