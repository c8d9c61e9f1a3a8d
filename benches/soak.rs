//! Invokes one process many times, checks every reply, and watches the process's memory and file
//! descriptors.
//!
//! `cargo bench --bench soak -- --duration 3600` runs for an hour.

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use emulator::{Emulator, Settings};
use fibonacci_generator::{event, reply};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

/// Invocations at once.
const CONCURRENCY: u16 = 8;
/// The first sample is taken after this part of the time.
const WARM_UP_PART: u32 = 10;

#[derive(Parser)]
struct Flags {
    /// Run for so many seconds. Without this it does not run, so that `cargo bench` stays short
    #[arg(long)]
    duration: Option<u64>,
    /// Make one short pass, to see that everything works
    #[arg(long)]
    test: bool,
    #[arg(long, hide = true)]
    bench: bool,
    /// Run only if `soak` contains this
    #[arg(default_value = "")]
    filter: String,
}

/// Events and their right replies: every N, and one of each invalid kind.
fn events() -> Vec<(String, Vec<u8>)> {
    let valid = (0..=1000).map(|n| format!(r#"{{"n": {n}}}"#));
    let invalid = ["{}", r#"{"n": "1"}"#, r#"{"n": -1}"#, r#"{"n": 1001}"#];
    valid
        .chain(invalid.map(str::to_owned))
        .map(|payload| {
            let reply = reply::slices(event::parse(payload.as_bytes()));
            (payload, reply.concat())
        })
        .collect()
}

/// Resident bytes and open file descriptors of the function's process, if it runs.
fn sample(emulator: &Emulator) -> Option<(u64, usize)> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", emulator.pid()?)).ok()?;
    Some((emulator.resident_bytes()?, descriptors.count()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    if !"soak".contains(&flags.filter) {
        return Ok(());
    }
    let Some(seconds) = flags.duration.or(flags.test.then_some(1)) else {
        println!("soak runs only for a given time: cargo bench --bench soak -- --duration 60");
        return Ok(());
    };
    let duration = Duration::from_secs(seconds);
    let mut settings = Settings::new(emulator::build_function()?);
    settings.max_concurrency = CONCURRENCY;
    settings.queue = CONCURRENCY.into();
    let emulator = Arc::new(Emulator::start(settings).await?);

    let events = Arc::new(events());
    let invocations = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CONCURRENCY {
        let (emulator, events) = (Arc::clone(&emulator), Arc::clone(&events));
        let invocations = Arc::clone(&invocations);
        callers.spawn(async move {
            let mut index = usize::from(caller);
            loop {
                let (payload, expected) = &events[index];
                let reply = emulator.invoke(payload.clone()).await.expect("a reply");
                assert!(reply.payload == expected[..], "a wrong reply to {payload}");
                invocations.fetch_add(1, Relaxed);
                // 389 has no factor in common with the number of events, so this reaches all.
                index = (index + 389) % events.len();
            }
        });
    }

    let begun = Instant::now();
    sleep(duration / WARM_UP_PART).await;
    let (first_rss, first_descriptors) = sample(&emulator).ok_or("the function died")?;
    let (mut most_rss, mut most_descriptors) = (first_rss, first_descriptors);
    let mut ticks = interval(Duration::from_millis(500));
    while begun.elapsed() < duration {
        ticks.tick().await;
        let (rss, descriptors) = sample(&emulator).ok_or("the function died")?;
        most_rss = most_rss.max(rss);
        most_descriptors = most_descriptors.max(descriptors);
        if let Some(ended) = callers.try_join_next() {
            ended?;
        }
    }
    callers.shutdown().await;

    println!(
        "{} invocations in {:.0} s, 0 wrong, at most {} polls at once",
        invocations.load(Relaxed),
        begun.elapsed().as_secs_f64(),
        emulator.most_polls()
    );
    println!("RSS       {first_rss} bytes after a tenth of the time, at most {most_rss} since");
    println!("open file descriptors {first_descriptors}, at most {most_descriptors} since");
    println!("log lines {}", emulator.lines().len());
    if most_rss - first_rss >= 1024 * 1024 || most_descriptors > first_descriptors {
        return Err("memory grew by 1 MiB or more, or file descriptors by one or more".into());
    }
    Ok(())
}
