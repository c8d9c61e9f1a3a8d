//! `cargo local`: a function of Lambda Managed Instances, run on this machine.

mod thread;
mod watch;

use std::io::{Read, Write, stdin, stdout};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use emulator::{Emulator, Settings, StandardError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::thread::{Error, on_thread};
use crate::watch::Watch;

/// How long to wait for the last lines on standard error.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Run a function as Lambda Managed Instances do: one process, several invocations at once
///
/// Without a command it serves the Invoke API, a console and a function URL until Ctrl-C.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    function: FunctionArgs,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Invoke the function once and print its reply
    ///
    /// The exit status is 0 only if the function succeeds. Its log goes to standard error.
    Invoke {
        /// The event: JSON, `-` for standard input, or `@FILE`
        event: String,
    },
}

#[derive(Args)]
struct FunctionArgs {
    /// The function's executable [default: this repository's function, built with `cargo build
    /// --release`]
    #[arg(long, global = true, value_name = "PATH")]
    bootstrap: Option<PathBuf>,
    /// The name to invoke the function by: 1 to 64 letters, digits, `-` and `_` [default: that of
    /// the executable]
    #[arg(long, global = true, value_name = "NAME", value_parser = function_name)]
    function_name: Option<String>,
    /// How many invocations the function handles at once (`AWS_LAMBDA_MAX_CONCURRENCY`)
    #[arg(long, global = true, value_name = "N", default_value = "8",
          value_parser = clap::value_parser!(u16).range(1..=1600))]
    concurrency: u16,
    /// How long an invocation may take, in seconds; 0 for no limit, to attach a debugger
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10",
          value_parser = clap::value_parser!(u64).range(0..=5400))]
    timeout: u64,
    /// How many events may wait while all workers are busy, instead of being throttled
    #[arg(long, global = true, value_name = "N", default_value = "0")]
    queue: usize,
    /// An environment variable for the function; may be repeated
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
}

#[derive(Args)]
struct ServeArgs {
    /// Where to serve the Invoke API and the console
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Where to serve the function URL
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    function_url: SocketAddr,
    /// Rebuild the function when a source file changes, and replace the running one; with
    /// `--bootstrap`, replace it when the executable changes
    #[arg(long)]
    watch: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be NAME=VALUE".to_owned()),
    }
}

fn function_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("it must be 1 to 64 letters, digits, '-' and '_'".to_owned())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(|| StandardError)
        .with_target(false)
        .with_ansi(false)
        .init();
    // The standard hook would block if standard error is not read.
    panic::set_hook(Box::new(|panic| say(&panic.to_string())));
    // Each caller takes a descriptor, and there may be thousands.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let code = run(cli).await.unwrap_or_else(|error| {
        say(&format!("error: {error}"));
        ExitCode::FAILURE
    });
    StandardError.flush_within(LAST_LINES);
    code
}

fn say(line: &str) {
    // One write, so that no line of the function gets between. It never fails.
    let _ = StandardError.write_all(format!("{line}\n").as_bytes());
}

async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let mut end = End::new()?;
    let watch = (cli.serve.watch).then(|| Watch::new(cli.function.bootstrap.clone()));
    let settings = tokio::select! {
        settings = settings(cli.function) => settings?,
        () = end.requested() => return Ok(ExitCode::FAILURE),
    };
    match cli.command {
        Some(Command::Invoke { event }) => tokio::select! {
            code = invoke(settings, event) => code,
            () = end.requested() => Ok(ExitCode::FAILURE),
        },
        None => serve(settings, cli.serve, watch, end).await,
    }
}

/// Builds the function, if need be.
async fn settings(function: FunctionArgs) -> Result<Settings, Error> {
    let mut settings = Settings::new(match function.bootstrap {
        Some(path) => path,
        None => on_thread(emulator::build_function).await??,
    });
    if let Some(name) = function.function_name {
        settings.function_name = name;
    }
    settings.max_concurrency = NonZeroU16::new(function.concurrency);
    settings.timeout = Duration::from_secs(function.timeout);
    if settings.timeout.is_zero() {
        settings.init_timeout = Duration::ZERO;
    }
    settings.queue = function.queue;
    settings.environment = (function.env.into_iter())
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    settings.echo = true;
    Ok(settings)
}

async fn invoke(settings: Settings, event: String) -> Result<ExitCode, Error> {
    let event = on_thread(move || read_event(&event)).await??;
    let emulator = Emulator::start(settings).await?;
    let reply = emulator.invoke(event).await;
    // What the function prints at its end does not belong to the invocation.
    emulator.stop_echo();
    emulator.terminate().await;
    let reply = reply?;
    let mut line = Vec::from(reply.payload);
    line.push(b'\n');
    on_thread(move || {
        let mut out = stdout().lock();
        out.write_all(&line)?;
        out.flush()
    })
    .await??;
    Ok(if reply.function_error {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn read_event(event: &str) -> Result<Vec<u8>, Error> {
    let mut payload = Vec::new();
    match event.strip_prefix('@') {
        Some(path) => {
            payload =
                std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        }
        None if event == "-" => {
            let read = stdin().read_to_end(&mut payload);
            read.map_err(|error| format!("cannot read standard input: {error}"))?;
        }
        None => payload.extend_from_slice(event.as_bytes()),
    }
    Ok(payload)
}

async fn serve(
    mut settings: Settings,
    serve: ServeArgs,
    watch: Option<Watch>,
    mut end: End,
) -> Result<ExitCode, Error> {
    settings.invoke_address = serve.listen;
    settings.function_url_address = serve.function_url;
    let function_name = settings.function_name.clone();
    let emulator = tokio::select! {
        emulator = Emulator::start(settings) => emulator?,
        () = end.requested() => return Ok(ExitCode::FAILURE),
    };
    let invitation = invitation(&emulator, &function_name);
    // It serves even if standard output is closed, or full and nobody reads it.
    let invite = on_thread(move || stdout().write_all(invitation.as_bytes()));
    let run = async {
        let _ = invite.await;
        if let Some(watch) = watch {
            watch.run(&emulator).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = run => {}
        () = end.requested() => {}
    }
    tokio::select! {
        _ = emulator.terminate() => {}
        // A second signal ends it at once.
        () = end.requested() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn invitation(emulator: &Emulator, function_name: &str) -> String {
    let (invoke, url) = (emulator.invoke_address(), emulator.function_url_address());
    let process = emulator.pid().unwrap_or_default();
    format!(
        "\
{function_name} is running as process {process}. Ctrl-C ends it. Try

  aws lambda invoke --endpoint-url http://{invoke} --region us-east-1 --no-sign-request \\
    --function-name {function_name} --cli-binary-format raw-in-base64-out \\
    --payload '{{\"n\": 10}}' response.json && cat response.json

  curl http://{invoke}/2015-03-31/functions/{function_name}/invocations -d '{{\"n\": 10}}'

  curl 'http://{url}/?n=10'

or open http://{invoke}/ in a browser to watch the workers.
"
    )
}

/// The signals that end the emulator: Ctrl-C, `kill`, or a terminal that is closed.
struct End([Signal; 3]);

impl End {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
