//! Sends requests when they are due, and times them.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Events};
use crate::http::Response;
use crate::load::{Due, Load, Schedule, to_usize};
use crate::measured::{Measured, unix_ms};
use crate::recorder::{Outcomes, Recorder};
use crate::share::Share;
use crate::target::{INVOCATION_TIMEOUT, Outcome, Target};
use crate::terminal::Display;

/// How long callers may still send what was due when the schedule ends.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// With fewer callers than this, a thread goes to sleep and wakes up for nearly every request.
const CALLERS_PER_THREAD: usize = 16;

struct Run {
    target: Arc<Target>,
    events: Vec<Event>,
    is_in_turn: bool,
    load: Load,
    started: Instant,
    /// How many requests there are to send.
    requests: u64,
    /// How many of them the callers have taken.
    taken: AtomicU64,
    /// With a schedule, a permit for each request that is due and not taken.
    due: Semaphore,
    /// Nothing more is sent once it is cancelled.
    stop: CancellationToken,
    recorder: Arc<Mutex<Recorder>>,
}

/// Warms up, waits for the start, and sends the load. `None` if it is stopped before it starts.
pub(crate) async fn measure(
    target: &Arc<Target>,
    share: &Share,
    is_quiet: bool,
    stop: &CancellationToken,
) -> Result<Option<Measured>> {
    let (events, load) = (&share.events, share.load);
    let mut warmed_up = Recorder::default();
    if share.warm_up > 0 {
        let load = Load {
            requests: Some(share.warm_up),
            duration: None,
            schedule: None,
            ..load
        };
        warmed_up = run(target, events, load, true, stop).await?.recorder;
    }
    let start = UNIX_EPOCH + Duration::from_millis(share.start_unix_ms);
    let wait = start.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(None),
        () = tokio::time::sleep(wait) => {}
    }
    let mut measured = run(target, events, load, is_quiet, stop).await?;
    measured.warm_up_outcomes = warmed_up.outcomes;
    let recorder = &mut measured.recorder;
    recorder.reply_bytes += warmed_up.reply_bytes;
    recorder.add_examples(warmed_up.wrong_replies, warmed_up.errors);
    Ok(Some(measured))
}

/// Sends until everything is sent or `stop` is cancelled, and waits for the replies.
async fn run(
    target: &Arc<Target>,
    events: &Events,
    load: Load,
    is_quiet: bool,
    stop: &CancellationToken,
) -> Result<Measured> {
    let recorder = Arc::new(Mutex::<Recorder>::default());
    let all = load.due();
    let (started_at, started, cpu) = (SystemTime::now(), Instant::now(), cpu_time());
    let display = Display::start(is_quiet, {
        let recorder = Arc::clone(&recorder);
        move || progress(&lock(&recorder), started, &load)
    });
    let run = Arc::new(Run {
        target: Arc::clone(target),
        events: events.all(),
        is_in_turn: events.are_in_turn(),
        load,
        started,
        requests: all.map_or(load.requests.unwrap_or(u64::MAX), |all| all.requests),
        taken: AtomicU64::new(0),
        due: Semaphore::new(0),
        stop: stop.child_token(),
        recorder: Arc::clone(&recorder),
    });
    // A thread, not a task: tokio's timer has a resolution of 1 ms, too coarse for 100,000 requests per
    // second.
    let pacing = load.schedule.map(|schedule| {
        let run = Arc::clone(&run);
        thread::Builder::new().spawn(move || run.pace(&schedule))
    });
    let pacing = pacing.transpose()?;
    let mut callers = JoinSet::new();
    for callers_of_thread in divide(load.concurrency.get().into()) {
        let run = Arc::clone(&run);
        callers.spawn_blocking(move || run.call_on_this_thread(callers_of_thread));
    }

    let limit = all.map_or(load.duration, |all| Some(all.time.saturating_add(GRACE)));
    let ended = tokio::select! {
        ended = join(&mut callers) => ended,
        () = tokio::time::sleep(limit.unwrap_or(Duration::MAX)) => Ok(()),
        () = stop.cancelled() => Ok(()),
    };
    run.stop.cancel();
    run.due.close();
    let (stopped, interrupted) = (started.elapsed(), stop.is_cancelled());
    if let Some(pacing) = pacing {
        pacing.thread().unpark();
    }
    ended?;
    join(&mut callers).await?;
    drop(display);

    let elapsed = started.elapsed();
    let mut recorder = std::mem::take(&mut *lock(&recorder));
    let due = load.schedule.zip(all).map(|(schedule, all)| {
        let due = if interrupted && stopped < all.time {
            Due {
                requests: schedule.requests(stopped).min(all.requests),
                time: stopped,
                ..all
            }
        } else {
            all
        };
        let taken = run.taken.load(Ordering::Relaxed);
        recorder.unsent(&schedule, taken..due.requests, elapsed);
        due
    });
    Ok(Measured {
        runs: vec![format!("{:016x}", fastrand::u64(..))],
        started_unix_ms: unix_ms(started_at),
        elapsed_seconds: elapsed.as_secs_f64(),
        concurrency: load.concurrency.get().into(),
        due,
        interrupted,
        warm_up_outcomes: Outcomes::default(),
        cpu_seconds: Some(cpu_time().saturating_sub(cpu).as_secs_f64()),
        recorder,
    })
}

impl Run {
    /// Adds a permit for each request when it is due.
    fn pace(&self, schedule: &Schedule) {
        let mut added = 0;
        while !self.due.is_closed() {
            let due = schedule.requests(self.started.elapsed());
            // Where the ramp ends, rounding may make one request fewer of it.
            let due = due.clamp(added, self.requests);
            self.due.add_permits(to_usize(due - added));
            added = due;
            if due == self.requests {
                // Each caller finds that nothing is left.
                self.due.add_permits(self.load.concurrency.get().into());
                return;
            }
            thread::park_timeout(schedule.due(due).saturating_sub(self.started.elapsed()));
        }
    }

    /// Callers stay on their thread: moving one to another thread costs as much CPU time as a request.
    fn call_on_this_thread(self: Arc<Self>, callers: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a thread of callers")?;
        runtime.block_on(async {
            let mut calling: JoinSet<()> = (0..callers).map(|_| Arc::clone(&self).call()).collect();
            while let Some(ended) = calling.join_next().await {
                ended.context("a caller failed")?;
            }
            Ok(())
        })
    }

    /// Sends one request after the other.
    async fn call(self: Arc<Self>) {
        let (mut client, invoke) = (self.target.client(), &self.target.invoke);
        while let Some((from, event)) = self.next().await {
            let payload = event.payload.clone();
            let response = invoke.send(&mut client, payload, INVOCATION_TIMEOUT).await;
            let at = self.started.elapsed();
            let bytes = response.as_ref().map_or(0, Response::reply_bytes);
            // The clock has stopped before the comparison.
            let outcome = Outcome::of(response, event);
            let mut recorder = lock(&self.recorder);
            recorder.reply_bytes += bytes;
            recorder.replied(at, at.saturating_sub(from), outcome);
        }
    }

    /// Waits for the next request, and returns the time from which its latency counts.
    async fn next(&self) -> Option<(Duration, &Event)> {
        if self.load.schedule.is_some() {
            self.due.acquire().await.ok()?.forget();
        } else if self.stop.is_cancelled() {
            return None;
        }
        let request = self.taken.fetch_add(1, Ordering::Relaxed);
        if request >= self.requests {
            return None;
        }
        let schedule = self.load.schedule;
        let from =
            schedule.map_or_else(|| self.started.elapsed(), |schedule| schedule.due(request));
        let count = self.events.len();
        let index = if self.is_in_turn {
            to_usize(request % count as u64)
        } else {
            fastrand::usize(..count)
        };
        Some((from, &self.events[index]))
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

/// A line about a run in progress.
fn progress(recorder: &Recorder, started: Instant, load: &Load) -> String {
    let elapsed = started.elapsed().as_secs();
    let of = match (load.duration, load.requests) {
        (Some(duration), _) => format!(" of {} s", duration.as_secs()),
        (None, _) => String::new(),
    };
    let (outcomes, latencies) = (recorder.outcomes, &recorder.latencies.0);
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
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    time.map_or(Duration::ZERO, Duration::from)
}

/// No critical section can panic half-way, so the data behind a poisoned lock are still good.
fn lock(recorder: &Mutex<Recorder>) -> std::sync::MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}
