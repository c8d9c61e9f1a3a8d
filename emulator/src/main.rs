//! `cargo local`: a function of Lambda Managed Instances, run on this machine.

use std::io::{Read, Write, stderr, stdin, stdout};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use emulator::{Emulator, Settings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a function as Lambda Managed Instances do: one process, several invocations at once.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    function: FunctionArgs,
    #[command(flatten)]
    listen: ListenArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the Invoke API, a console and a function URL until Ctrl-C (the default)
    Serve,
    /// Invoke the function once and print its reply
    ///
    /// Exits with 0 only if the function answered. What it logs goes to standard error.
    Invoke {
        /// The event: JSON, `-` for standard input, or `@FILE`
        event: String,
    },
}

#[derive(Args)]
struct FunctionArgs {
    /// The function's executable [default: this workspace's, built with `cargo build --release`]
    #[arg(long, global = true, value_name = "PATH")]
    bootstrap: Option<PathBuf>,
    /// How many invocations the function handles at once (`AWS_LAMBDA_MAX_CONCURRENCY`)
    #[arg(long, global = true, value_name = "N", default_value = "8")]
    concurrency: NonZeroU16,
    /// How long an invocation may take, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10",
          value_parser = clap::value_parser!(u64).range(1..=5400))]
    timeout: u64,
    /// How many more invocations may wait while all workers are busy, instead of being refused
    #[arg(long, global = true, value_name = "N", default_value = "0")]
    queue: usize,
    /// An environment variable for the function; may be repeated
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
}

#[derive(Args)]
struct ListenArgs {
    /// Where to serve the Invoke API and the console
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9000"
    )]
    listen: SocketAddr,
    /// Where to serve the function URL
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9001"
    )]
    function_url: SocketAddr,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be NAME=VALUE".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_target(false)
        .with_ansi(false)
        // They would go to standard error, too, and a panic with them where it is closed.
        .log_internal_errors(false)
        .init();
    // Each caller takes a descriptor, and there may be thousands.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Error = Box<dyn std::error::Error>;

async fn run(cli: Cli) -> Result<ExitCode, Error> {
    let bootstrap = match cli.function.bootstrap {
        Some(path) => path,
        None => emulator::build_function()?,
    };
    let mut settings = Settings::new(bootstrap);
    settings.max_concurrency = Some(cli.function.concurrency);
    settings.timeout = Duration::from_secs(cli.function.timeout);
    settings.queue = cli.function.queue;
    settings.environment = cli
        .function
        .env
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    settings.echo = true;
    let mut end = End::new()?;
    match cli.command {
        Some(Command::Invoke { event }) => {
            let event = read_event(&event)?;
            tokio::select! {
                code = invoke(settings, event) => code,
                () = end.requested() => Ok(ExitCode::FAILURE),
            }
        }
        Some(Command::Serve) | None => {
            settings.invoke_address = cli.listen.listen;
            settings.function_url_address = cli.listen.function_url;
            let function_name = settings.function_name.clone();
            let emulator = tokio::select! {
                emulator = Emulator::start(settings) => emulator?,
                () = end.requested() => return Ok(ExitCode::FAILURE),
            };
            // It serves all the same where standard output is closed.
            let _ = writeln!(stdout(), "{}", invitation(&emulator, &function_name));
            end.requested().await;
            emulator.terminate().await;
            Ok(ExitCode::SUCCESS)
        }
    }
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

async fn invoke(settings: Settings, event: Vec<u8>) -> Result<ExitCode, Error> {
    let emulator = Emulator::start(settings).await?;
    let reply = emulator.invoke(event).await;
    emulator.terminate().await;
    let reply = reply?;
    let mut out = stdout().lock();
    out.write_all(&reply.payload)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(if reply.function_error {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn invitation(emulator: &Emulator, function_name: &str) -> String {
    let (invoke, url) = (emulator.invoke_address(), emulator.function_url_address());
    format!(
        "\
{function_name} is ready. Ctrl-C ends it. Try

  aws lambda invoke --endpoint-url http://{invoke} --region us-east-1 --no-sign-request \\
    --function-name {function_name} --cli-binary-format raw-in-base64-out \\
    --payload '{{\"n\": 10}}' response.json && cat response.json

  curl http://{invoke}/2015-03-31/functions/{function_name}/invocations -d '{{\"n\": 10}}'

  curl 'http://{url}/?n=10'

or open http://{invoke}/ in a browser: it shows the workers at work.
"
    )
}

/// Whoever wants the emulator to end: Ctrl-C, `kill`, or a terminal that is closed.
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
