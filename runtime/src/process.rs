//! The function's process: its log, its signals and its threads.

use std::io::{self, Write};
use std::num::{NonZero, NonZeroU16};
use std::path::Path;
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;
use std::{env, panic, thread};

use lambda_runtime::tracing::{debug, error, warn};
use nix::sys::signal::SigSet;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, LocalOptions, LocalRuntime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::worker::{self, Workers, running_time};
use crate::{Handler, extension, log};

/// A drain takes up to 400 ms. Longer than that, the process does not wait for a handler.
const EXIT_LIMIT: Duration = Duration::from_millis(420);

/// Serves invocations with this handler until SIGTERM or SIGINT.
///
/// `AWS_LAMBDA_MAX_CONCURRENCY` workers, one for each invocation at once, are spread over a thread
/// per CPU; unset or 1 is ordinary Lambda. A worker stays on its thread, so a handler that computes
/// for long holds up the thread's other workers: see [`spawn_blocking`]. `RUNTIME_API_PIPELINING`
/// set to `off` sends polls on their own. `AWS_LAMBDA_LOG_FORMAT` and `AWS_LAMBDA_LOG_LEVEL` say what
/// is logged on standard output, unless the process has set a `tracing` subscriber before. Panics are
/// logged there, too, by a hook that replaces any other.
///
/// Within another runtime, such as that of `#[tokio::main]`, it blocks the thread that calls it. What
/// was spawned on a `current_thread` runtime then stands still.
///
/// Returns at once, with a failure, if the process does not run in Lambda or cannot start. After a
/// signal, ends the process with status 0, when nothing is in flight or after 420 ms at the latest.
///
/// [`spawn_blocking`]: https://docs.rs/tokio/latest/tokio/task/fn.spawn_blocking.html
#[must_use = "it is the exit code of the process"]
pub fn run(handler: impl Handler) -> ExitCode {
    let Ok(runtime_api) = env::var("AWS_LAMBDA_RUNTIME_API") else {
        let name = env::args_os().next().unwrap_or_default();
        let name = Path::new(&name).file_name().unwrap_or_default().display();
        // eprintln! would panic if standard error is closed.
        let _ = writeln!(
            io::stderr(),
            "{name} is an AWS Lambda function and runs where AWS_LAMBDA_RUNTIME_API is set; \
             try it with: cargo local"
        );
        return ExitCode::FAILURE;
    };
    log::init();
    panic::set_hook(Box::new(worker::log_panic));
    let serve = move || serve(&runtime_api, &handler);
    let served = if Handle::try_current().is_err() {
        serve()
    } else {
        // Within a runtime, such as that of `#[tokio::main]`, no other can start.
        let thread = thread::Builder::new().spawn(serve);
        let panicked = |_| Err(io::Error::other("panicked"));
        thread.and_then(|thread| thread.join().unwrap_or_else(panicked))
    };
    match served {
        Ok(()) => process::exit(0), // whatever a thread is still doing
        Err(problem) => {
            error!(%problem, "cannot start");
            ExitCode::FAILURE
        }
    }
}

/// Serves invocations until a signal ends that.
fn serve(runtime_api: &str, handler: &impl Handler) -> io::Result<()> {
    let runtime = new_runtime()?;
    let _context = runtime.enter();
    // Before the first request, because from then on the process may have something to lose.
    let mut shutdown = pin!(listen_for_signals()?);
    let Some(registration) = runtime.block_on(async {
        tokio::select! {
            registration = extension::register::<TcpStream>(runtime_api) => Some(registration),
            () = &mut shutdown => None,
        }
    }) else {
        return Ok(()); // nothing has been polled
    };
    let registration = registration?;
    if let Err(problem) = &registration.extension {
        warn!(%problem, "cannot register an extension, so Lambda will not send SIGTERM");
    }
    let pipelines = pipelines() && registration.pipelines;
    let max_concurrency = max_concurrency();
    let workers = Arc::new(Workers::new(runtime_api, max_concurrency, pipelines));

    // One thread for each CPU has its share of the workers. A worker stays on its thread, so the
    // threads have nothing to synchronize. This one stays free to end the process.
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cpus.min(max_concurrency.get().into());
    debug!(workers = max_concurrency, threads, pipelines, "starting");
    let mut shares = JoinSet::new();
    let (ready, are_ready) = mpsc::channel();
    // None polls before all can: an event would be lost if the process ended.
    let start = Arc::new(Barrier::new(threads + 1));
    for thread in 0..threads {
        let (workers, handler) = (workers.clone(), handler.clone());
        let (ready, start) = (ready.clone(), start.clone());
        let (ends, ended) = oneshot::channel::<()>();
        thread::Builder::new().spawn(move || {
            let runtime = match new_runtime() {
                Ok(runtime) => runtime,
                Err(problem) => return drop(ready.send(Err(problem))),
            };
            let _ = ready.send(Ok(()));
            drop(ready);
            start.wait();
            runtime.block_on(workers.run::<TcpStream>(handler, thread, threads));
            drop(ends); // before the runtime waits for what the handler has spawned
        })?;
        shares.spawn(async { drop(ended.await) });
    }
    drop(ready);
    for _ in 0..threads {
        let is_ready = are_ready.recv();
        is_ready.unwrap_or_else(|_| Err(io::Error::other("a thread died")))?;
    }
    start.wait();

    runtime.block_on(async {
        tokio::select! {
            () = &mut shutdown => {}
            Some(_) = shares.join_next() => return Err(io::Error::other("a thread died")),
        }
        workers.drain();
        debug!("draining");
        tokio::select! {
            _ = shares.join_all() => {}
            () = running_time(EXIT_LIMIT) => {}
        }
        let in_flight = workers.in_flight();
        if in_flight > 0 {
            warn!(in_flight, "shutting down with invocations in flight");
        }
        Ok(())
    })
}

/// Listens for SIGTERM and SIGINT instead of being killed by them. Call it while the process has one
/// thread. The result completes when one has arrived.
fn listen_for_signals() -> io::Result<impl Future<Output = ()>> {
    // A signal that arrives between two steps of this would be lost. Blocked, it waits.
    SigSet::all().thread_block()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The parent process may have blocked them, too.
    SigSet::all().thread_unblock()?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn new_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// How many invocations Lambda sends to this process at once.
fn max_concurrency() -> NonZeroU16 {
    let Some(value) = env::var_os("AWS_LAMBDA_MAX_CONCURRENCY") else {
        return NonZeroU16::MIN;
    };
    let parsed = value.to_str().and_then(|value| value.parse().ok());
    parsed.unwrap_or_else(|| {
        warn!(value = %value.display(), "AWS_LAMBDA_MAX_CONCURRENCY is invalid; using 1");
        NonZeroU16::MIN
    })
}

/// Whether polls may be pipelined.
fn pipelines() -> bool {
    let value = env::var_os("RUNTIME_API_PIPELINING").unwrap_or("on".into());
    if value != "on" && value != "off" {
        warn!(value = %value.display(), "RUNTIME_API_PIPELINING is invalid; using on");
    }
    value != "off"
}
