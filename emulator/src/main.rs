//! `cargo local`: a function of Lambda Managed Instances, run on this machine.

mod watch;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::future::pending;
use std::io::{self, Read, Write, stdin, stdout};
use std::net::SocketAddr;
use std::panic;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use emulator::{Build, Emulator, Settings, StandardError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::level_filters::LevelFilter;

use crate::watch::{Error, Origin, Watch};

/// How long to wait for the last lines on standard error.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Run a function as Lambda Managed Instances do: one process, several invocations at once
///
/// Without a command it serves the Invoke API, a console and a function URL until Ctrl-C.
#[derive(Parser)]
#[command(
    name = "cargo local",
    bin_name = "cargo local",
    version,
    next_help_heading = "Function"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The function's executable, in place of one that is built here; `-- ARGUMENTS` at the end of the
    /// line are passed to it, as in `--bootstrap python3 -- -m awslambdaric app.handler`
    #[arg(long, global = true, value_name = "PATH",
          conflicts_with_all = ["package", "bin", "example", "features"])]
    bootstrap: Option<PathBuf>,
    /// The name to invoke the function by: 1 to 64 letters, digits, `-` and `_` [default: that of the
    /// executable; that of its folder if it is called `bootstrap`, or of the current folder if it has
    /// arguments, or with `--attach`]
    #[arg(long, global = true, value_name = "NAME", value_parser = function_name)]
    function_name: Option<String>,
    /// An environment variable for the function; without a value, the caller's own; may be repeated
    #[arg(long, global = true, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(OsString, OsString)>,
    /// A file of environment variables for the function, `NAME=VALUE` a line; may be repeated. A value
    /// with spaces needs quotes, and `$NAME` stands for a variable except in single quotes
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A line for each invocation, with its duration
    #[arg(long, short, global = true)]
    verbose: bool,
    /// Start no function: print the variables with which to start it by hand or in a debugger, and wait
    /// for it, each time it is started
    #[arg(long, help_heading = "Serving", value_name = "ADDRESS", num_args = 0..=1,
          require_equals = true, default_missing_value = "127.0.0.1:9002",
          conflicts_with_all = ["bootstrap", "watch", "package", "bin", "example", "features"])]
    attach: Option<SocketAddr>,
    /// Replace the running function, built anew, when its sources, its `--bootstrap` or one of these
    /// files and folders change
    #[arg(long, help_heading = "Serving", value_name = "PATH", num_args = 0..)]
    watch: Option<Vec<PathBuf>>,
    /// Arguments for `--bootstrap`
    #[arg(last = true, global = true, hide = true)]
    arguments: Vec<OsString>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    build: Build,
}

#[derive(Subcommand)]
enum Command {
    /// Invoke the function once and print its reply
    ///
    /// The exit status is 0 only if the function succeeds. Its log goes to standard error.
    Invoke {
        /// The event: JSON, `-` for standard input, or `@FILE`
        #[arg(allow_negative_numbers = true)]
        event: String,
    },
}

fn variable(text: &str) -> Result<(OsString, OsString), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (text, env::var_os(text)),
    };
    if name.is_empty() {
        return Err("it must be NAME=VALUE or NAME".to_owned());
    }
    let not_set = || format!("{name} is not set here; give it a value: {name}=VALUE");
    Ok((name.into(), value.ok_or_else(not_set)?))
}

fn function_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("it must be 1 to 64 letters, digits, '-' and '_'".to_owned())
}

#[tokio::main]
async fn main() {
    // Cargo runs `cargo-local local …`.
    let is_cargos = |(place, argument): &(usize, OsString)| *place == 1 && argument == "local";
    let own = env::args_os().enumerate().filter(|one| !is_cargos(one));
    let cli = Cli::parse_from(own.map(|(_, argument)| argument));
    let level = if cli.verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    tracing_subscriber::fmt()
        .with_writer(|| StandardError)
        .with_target(false)
        .with_ansi(false)
        .with_max_level(level)
        .init();
    // The standard hook would block if standard error is not read.
    panic::set_hook(Box::new(|panic| say(&panic.to_string())));
    // Each caller takes a descriptor, and there may be thousands.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let succeeded = run(cli).await.unwrap_or_else(|error| {
        say(&format!("error: {error}"));
        false
    });
    StandardError.flush_within(LAST_LINES);
    // It waits for no thread that reads standard input or writes to standard output.
    process::exit(i32::from(!succeeded))
}

fn say(line: &str) {
    // One write, so that no line of the function gets between. It never fails.
    let _ = StandardError.write_all(format!("{line}\n").as_bytes());
}

/// Returns whether it has succeeded.
async fn run(cli: Cli) -> Result<bool, Error> {
    let mut end = signals()?;
    let (emulator, event, watch) = tokio::select! {
        started = start(cli) => started?,
        _ = end.recv() => return Ok(false),
    };
    if let Some(event) = event {
        return tokio::select! {
            succeeded = invoke(emulator, event) => succeeded,
            _ = end.recv() => Ok(false),
        };
    }
    let watching = async {
        match watch {
            Some(watch) => watch.run(&emulator).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = watching => {}
        _ = end.recv() => {}
    }
    tokio::select! {
        _ = emulator.terminate() => {}
        // A second signal ends it at once.
        _ = end.recv() => {}
    }
    Ok(true)
}

/// Starts the function. Returns the event to invoke it with, or what to watch while it serves.
async fn start(cli: Cli) -> Result<(Emulator, Option<Vec<u8>>, Option<Watch>), Error> {
    for path in cli.watch.iter().flatten() {
        let cannot_watch = |error| format!("cannot watch {}: {error}", path.display());
        fs::metadata(path).map_err(cannot_watch)?;
    }
    let mut settings = cli.settings;
    let event = match cli.command {
        Some(Command::Invoke { .. }) if cli.attach.is_some() => {
            return Err("--attach serves until Ctrl-C: leave out `invoke`".into());
        }
        Some(Command::Invoke { event }) => {
            settings.invoke_address.set_port(0);
            settings.function_url_address.set_port(0);
            Some(spawn_blocking(move || read_event(&event)).await??)
        }
        None => None,
    };
    let current = env::current_dir()?;
    let (origin, directory) = match (cli.bootstrap, cli.attach) {
        (Some(path), _) => (Origin::Bootstrap(path), current.clone()),
        (None, Some(_)) => (Origin::Bootstrap(current.clone()), current.clone()),
        (None, None) => {
            let target = spawn_blocking(move || cli.build.find()).await??;
            let directory = target.directory().to_owned();
            (Origin::Built(Arc::new(target)), directory)
        }
    };
    let watch = (cli.watch).map(|paths| Watch::new(origin.clone(), paths));
    settings.bootstrap = origin.executable().await?;
    settings.function_name = cli.function_name.unwrap_or_else(|| {
        let named_after = if cli.arguments.is_empty() {
            &settings.bootstrap
        } else {
            &current
        };
        Settings::new(named_after).function_name
    });
    settings.arguments = cli.arguments;
    if settings.timeout.is_zero() {
        settings.init_timeout = Duration::ZERO;
    }
    for file in cli.env_file {
        let cannot_read = |error| format!("cannot read {}: {error}", file.display());
        for variable in dotenvy::from_path_iter(&file).map_err(cannot_read)? {
            let (name, value) = variable.map_err(cannot_read)?;
            settings.environment.push((name.into(), value.into()));
        }
    }
    settings.environment.extend(cli.env);
    settings.events = Some(directory.join("events"));
    settings.echo = true;
    settings.attach = cli.attach;
    let emulator = Emulator::start(settings.clone()).await?;
    if event.is_none() {
        let invitation = invitation(&emulator, &settings);
        // It serves even if standard output is closed, or full and nobody reads it.
        spawn_blocking(move || stdout().write_all(invitation.as_bytes()));
    }
    Ok((emulator, event, watch))
}

fn read_event(event: &str) -> Result<Vec<u8>, Error> {
    let (from, read) = match event.strip_prefix('@') {
        Some(path) => (path, fs::read(path)),
        None if event == "-" => {
            let mut payload = Vec::new();
            let read = stdin().read_to_end(&mut payload);
            ("standard input", read.map(|_| payload))
        }
        None => return Ok(event.into()),
    };
    read.map_err(|error| format!("cannot read {from}: {error}").into())
}

/// Prints the reply. Returns whether the function has succeeded.
async fn invoke(emulator: Emulator, event: Vec<u8>) -> Result<bool, Error> {
    let reply = emulator.invoke(event).await;
    // What the function prints at its end does not belong to the invocation.
    emulator.stop_echo();
    emulator.terminate().await;
    let reply = reply?;
    let line = [&reply.payload[..], b"\n"].concat();
    spawn_blocking(move || stdout().write_all(&line)).await??;
    Ok(!reply.function_error)
}

fn invitation(emulator: &Emulator, settings: &Settings) -> String {
    let (invoke, url) = (emulator.invoke_address(), emulator.function_url_address());
    let function_name = &settings.function_name;
    let examples = settings.examples().into_iter();
    // One that fits on a line of a shell.
    let example = examples
        .map(|(_, event)| event)
        .find(|event| !event.contains(['\n', '\'']));
    let example = example.unwrap_or("{}".to_owned());
    let started = match emulator.pid() {
        Some(process) => format!("{function_name} is running as process {process}. "),
        None => format!("Start {function_name} with\n\n{}\n", exports(emulator)),
    };
    format!(
        "\
{started}Ctrl-C ends it. Try

  aws lambda invoke --endpoint-url http://{invoke} --region us-east-1 --no-sign-request \\
    --function-name {function_name} --cli-binary-format raw-in-base64-out \\
    --payload '{example}' response.json && cat response.json

  curl http://{invoke}/2015-03-31/functions/{function_name}/invocations -d '{example}'

  curl http://{url}/

or open http://{invoke}/ in a browser to watch the workers.
"
    )
}

/// The variables with which to start the function, for a shell.
fn exports(emulator: &Emulator) -> String {
    let export = |(name, value): &(OsString, OsString)| {
        let value = value.to_string_lossy().replace('\'', r"'\''");
        format!("  export {}='{value}'\n", name.display())
    };
    emulator.variables().iter().map(export).collect()
}

/// Receives the signals that end the emulator: Ctrl-C, `kill`, or a terminal that is closed.
fn signals() -> io::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(1);
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(()).await.is_ok() {}
        });
    }
    Ok(receiver)
}
