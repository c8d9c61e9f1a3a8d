//! What more than one thread of the function's process writes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;
use std::{env, process, thread};

use emulator::{Emulator, Settings};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::task::JoinSet;

const WORKERS: u16 = 4;
const INVOCATIONS: usize = 400;

/// 64 bytes of memory.
#[derive(Debug, Default)]
struct CacheLine {
    /// The threads that have written it, with the address of the last instruction that did.
    writers: HashMap<String, u64>,
    last_writer: String,
    /// How often another thread than the last one wrote it.
    moves: usize,
}

/// The cache lines that are written, from lackey's trace, in which valgrind says which thread runs.
fn written_lines(trace: impl BufRead) -> HashMap<u64, CacheLine> {
    let address = |at: &str| u64::from_str_radix(at.split(',').next().unwrap().trim(), 16).unwrap();
    let mut lines = HashMap::<_, CacheLine>::new();
    let (mut thread, mut instruction) = (String::new(), 0);
    for line in trace.lines() {
        let line = line.unwrap();
        if let Some((_, scheduled)) = line.split_once("SCHED[") {
            if let Some((number, _)) = scheduled.split_once("]:  acquired lock") {
                number.clone_into(&mut thread);
            }
        } else if let Some(at) = line.strip_prefix("I  ") {
            instruction = address(at);
        } else if let Some(at) = line.strip_prefix(" S ").or(line.strip_prefix(" M ")) {
            let line = lines.entry(address(at) / 64).or_default();
            if line.last_writer != thread {
                line.moves += usize::from(!line.last_writer.is_empty());
                thread.clone_into(&mut line.last_writer);
            }
            line.writers.insert(thread.clone(), instruction);
        }
    }
    lines
}

/// Prints each line that several threads write, with the addresses of instructions that do. For
/// their names, build with `CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=1`, and
/// give `addr2line` the addresses less 0x108000, where valgrind loads the executable.
///
/// This needs the executable that ships: with all features of the workspace, tokio looks for
/// orphaned processes whenever a thread has nothing to do, and locks a mutex for that.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs valgrind and two CPUs"]
async fn no_two_threads_write_one_cache_line_per_invocation() {
    let fifo = env::temp_dir().join(format!("fibonacci-generator-writes-{}", process::id()));
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut settings = Settings::new("/usr/bin/valgrind");
    settings.arguments = vec![
        "--tool=lackey".into(),
        "--trace-mem=yes".into(),
        "--trace-sched=yes".into(),
        "--fair-sched=yes".into(),
        format!("--log-file={}", fifo.display()).into(),
        emulator::build_function().unwrap().into(),
    ];
    settings.max_concurrency = WORKERS;
    settings.init_timeout = Duration::from_mins(2);
    settings.timeout = Duration::from_mins(2);
    settings.queue = WORKERS.into();
    let reading = thread::spawn({
        let fifo = fifo.clone();
        move || written_lines(BufReader::new(File::open(fifo).unwrap()))
    });
    let emulator = Emulator::start(settings).await;
    fs::remove_file(fifo).unwrap();
    let emulator = Arc::new(emulator.unwrap());
    let mut callers = JoinSet::new();
    for _ in 0..WORKERS {
        let emulator = emulator.clone();
        callers.spawn(async move {
            for _ in 0..INVOCATIONS / usize::from(WORKERS) {
                emulator.invoke(r#"{"n": 10}"#).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    drop(emulator);

    let lines = reading.join().unwrap();
    let threads: HashSet<_> = lines.values().map(|line| &line.last_writer).collect();
    assert!(threads.len() > 2, "only {threads:?}");
    let mut shared: Vec<_> = lines.iter().filter(|(_, line)| line.moves > 0).collect();
    shared.sort_by_key(|(at, _)| **at);
    let count = shared.len();
    println!("{count} cache lines have been written by more than one thread:");
    for (at, CacheLine { writers, moves, .. }) in &shared {
        println!("{:x}: {moves} moves, {writers:x?}", *at * 64);
    }
    shared.retain(|(_, line)| line.moves > INVOCATIONS / 10);
    assert!(shared.is_empty(), "{shared:x?}");
}
