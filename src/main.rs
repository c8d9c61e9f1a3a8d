//! The function's process: its log, its signals and its threads.

use std::io::{self, Write};
use std::num::{NonZero, NonZeroU16};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::time::Duration;
use std::{env, panic, thread};

use fibonacci_generator::reply::Reply;
use fibonacci_generator::worker::{self, Workers};
use fibonacci_generator::{event, extension, log};
use lambda_runtime::tracing::{debug, error, warn};
use nix::sys::signal::SigSet;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A drain takes up to 400 ms. Longer than that, the process does not wait for a handler.
const EXIT_LIMIT: Duration = Duration::from_millis(420);

fn main() -> ExitCode {
    let Ok(runtime_api) = env::var("AWS_LAMBDA_RUNTIME_API") else {
        // eprintln! would panic if standard error is closed.
        let _ = writeln!(
            io::stderr(),
            "fibonacci-generator is an AWS Lambda function and runs where AWS_LAMBDA_RUNTIME_API \
             is set; try it with: cargo local invoke '{{\"n\": 10}}'"
        );
        return ExitCode::FAILURE;
    };
    log::init();
    panic::set_hook(Box::new(worker::log_panic));
    match serve(&runtime_api) {
        Ok(()) => process::exit(0), // whatever a thread is still doing
        Err(problem) => {
            error!(%problem, "cannot start");
            ExitCode::FAILURE
        }
    }
}

/// Serves invocations until a signal ends that.
fn serve(runtime_api: &str) -> io::Result<()> {
    let runtime = new_runtime()?;
    // Before the first request, because from then on the process may have something to lose.
    let mut signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    let Some(registration) = runtime.block_on(async {
        tokio::select! {
            registration = extension::register::<TcpStream>(runtime_api) => Some(registration),
            () = signals.receive() => None,
        }
    }) else {
        return Ok(()); // nothing has been polled
    };
    if let Err(problem) = &registration.extension {
        warn!(%problem, "cannot register an extension, so Lambda will not send SIGTERM");
    }
    let max_concurrency = max_concurrency();
    let workers = Arc::new(Workers::new(
        runtime_api,
        max_concurrency,
        pipelines() && registration.takes_requests_ahead,
        |payload| Reply::from(event::parse(payload)),
    ));

    // One thread for each CPU has its share of the workers. A worker stays on its thread, so the
    // threads have nothing to synchronize. This one stays free to end the process.
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cpus.min(max_concurrency.get().into());
    let share_of = |thread| workers.clone().run::<TcpStream>(thread, threads);
    let mut own = Vec::new();
    let mut others = Vec::new();
    for thread in 0..threads {
        match start_thread(share_of(thread)) {
            Ok(ended) => others.push(ended),
            Err(problem) => {
                warn!(%problem, "cannot start a thread; the main thread runs its workers");
                own.push(share_of(thread));
            }
        }
    }

    runtime.block_on(async {
        let mut shares: JoinSet<_> = own.into_iter().collect();
        for ended in others {
            shares.spawn(async { drop(ended.await) });
        }
        signals.receive().await;
        workers.drain();
        debug!("draining");
        let _ = timeout(EXIT_LIMIT, shares.join_all()).await;
        let in_flight = workers.in_flight();
        if in_flight > 0 {
            warn!(in_flight, "shutting down with invocations in flight");
        }
    });
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens for these signals instead of being killed by them. Call it while the process has
    /// one thread.
    fn listen() -> io::Result<Self> {
        // A signal that arrives between two steps of this would be lost. Blocked, it waits.
        SigSet::all().thread_block()?;
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        // The parent process may have blocked them, too.
        SigSet::all().thread_unblock()?;
        Ok(signals)
    }

    async fn receive(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn new_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs a share of the workers on a thread of its own. The result completes when they have ended.
fn start_thread(
    share: impl Future<Output = ()> + Send + 'static,
) -> io::Result<oneshot::Receiver<()>> {
    let runtime = new_runtime()?;
    let (sender, ended) = oneshot::channel();
    thread::Builder::new().spawn(move || {
        runtime.block_on(share);
        let _ = sender.send(());
    })?;
    Ok(ended)
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

/// Whether the next poll may travel with a reply.
fn pipelines() -> bool {
    let value = env::var_os("RUNTIME_API_PIPELINING").unwrap_or("on".into());
    if value != "on" && value != "off" {
        warn!(value = %value.display(), "RUNTIME_API_PIPELINING is invalid; using on");
    }
    value != "off"
}
