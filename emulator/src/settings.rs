//! What to run, and how.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Parser, value_parser};

/// The account that every local function belongs to.
pub(crate) const ACCOUNT_ID: &str = "123456789012";

/// The Region that every local function runs in.
pub(crate) const REGION: &str = "us-east-1";

/// The memory that the function is told it has, in MiB: the least on Managed Instances, 1 vCPU.
pub(crate) const MEMORY_MIB: u32 = 2048;

/// The version that Managed Instances invoke: they run published versions only.
pub(crate) const PUBLISHED: &str = "$LATEST.PUBLISHED";

/// How many example events there may be.
const MAX_EXAMPLES: usize = 100;

/// How many bytes an example event may have.
const MAX_EXAMPLE: u64 = 64 * 1024;

/// RIE's.
const LIBRARY_PATH: &str = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:\
    /var/task:/var/task/lib:/opt/lib";

/// What to run, and how.
#[derive(Clone, Debug, Parser)]
#[command(next_help_heading = "Function")]
pub struct Settings {
    /// The function's executable.
    #[arg(skip)]
    pub bootstrap: PathBuf,
    /// Arguments of the executable. Lambda passes none.
    #[arg(skip)]
    pub arguments: Vec<OsString>,
    /// Environment variables for the function. They override the variables that Lambda sets.
    #[arg(skip)]
    pub environment: Vec<(OsString, OsString)>,
    /// The name by which callers invoke the function: 1 to 64 of `[a-zA-Z0-9-_]`.
    #[arg(skip)]
    pub function_name: String,
    /// How many invocations the function handles at once (`AWS_LAMBDA_MAX_CONCURRENCY`)
    #[arg(long = "concurrency", global = true, value_name = "N", default_value = "8",
          value_parser = value_parser!(u16).range(1..=1600))]
    pub max_concurrency: u16,
    /// How long an invocation may take, in seconds; 0 for no limit, to attach a debugger
    ///
    /// Without a limit, the function is told a deadline in a year.
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10",
          value_parser = value_parser!(u64).range(0..=5400).map(Duration::from_secs))]
    pub timeout: Duration,
    /// How long the function may take to poll for the first time. Zero means no limit.
    #[arg(skip = Duration::from_secs(130))]
    pub init_timeout: Duration,
    /// How long the function may take to end after SIGTERM, before SIGKILL follows. Only a function with
    /// an extension gets SIGTERM.
    #[arg(skip = Duration::from_millis(600))] // RIE's
    pub termination_grace: Duration,
    /// How many events may wait while all workers are busy, instead of being throttled
    #[arg(long, global = true, value_name = "N", default_value = "0")]
    pub queue: usize,
    /// How long an event may wait for a worker between its reply and its next poll, which is usually
    /// less than a millisecond. A worker that takes longer counts as gone.
    #[arg(skip = Duration::from_secs(1))]
    pub return_limit: Duration,
    /// How long a caller may take to send the head of its request, and then its body.
    #[arg(skip = Duration::from_secs(20))]
    pub read_timeout: Duration,
    /// Where to serve the Runtime API to a function that somebody else starts, for example in a
    /// debugger, and may start again. The bootstrap is not run then.
    #[arg(skip)]
    pub attach: Option<SocketAddr>,
    /// Where to serve the Invoke API and the console; port 0 is any free port
    #[arg(
        long = "listen",
        help_heading = "Serving",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9000"
    )]
    pub invoke_address: SocketAddr,
    /// Where to serve the function URL
    #[arg(
        long = "function-url",
        help_heading = "Serving",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9001"
    )]
    pub function_url_address: SocketAddr,
    /// A folder with example events for the console. It offers each file `*.json` of at most 64 KB, by
    /// its name.
    #[arg(skip)]
    pub events: Option<PathBuf>,
    /// Whether to copy what the function prints to standard error.
    #[arg(skip)]
    pub echo: bool,
}

impl Settings {
    /// Settings for a function with 8 workers and no queue, served on free ports of 127.0.0.1.
    ///
    /// An invocation may take 10 seconds, and the start 130 seconds, the least that Managed
    /// Instances allow. The function is named after its executable, or after the executable's
    /// directory if that is called `bootstrap`.
    #[must_use]
    pub fn new(bootstrap: impl Into<PathBuf>) -> Self {
        let bootstrap = bootstrap.into();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            // If its path cannot be made absolute, it cannot be run either.
            function_name: function_name(&path::absolute(&bootstrap).unwrap_or_default()),
            bootstrap,
            invoke_address: any_port,
            function_url_address: any_port,
            // The rest is as on a command line without flags.
            ..Self::parse_from([""])
        }
    }

    /// The names and texts of the example events.
    #[must_use]
    pub fn examples(&self) -> Vec<(String, String)> {
        let files = self.events.iter().flat_map(fs::read_dir).flatten();
        let example = |path: PathBuf| {
            let file = path.metadata().ok()?;
            let is_json = file.is_file() && path.extension()? == "json";
            let is_example = is_json && file.len() <= MAX_EXAMPLE;
            let text = is_example.then(|| fs::read_to_string(&path).ok())??;
            let name = path.file_stem()?.to_string_lossy().into_owned();
            Some((name, text.trim_end().to_owned()))
        };
        let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
        paths.sort_unstable();
        let examples = paths.into_iter().filter_map(example);
        examples.take(MAX_EXAMPLES).collect()
    }

    pub(crate) fn log_group(&self) -> String {
        format!("/aws/lambda/{}", self.function_name)
    }

    /// The last argument, as in RIE.
    pub(crate) fn handler(&self) -> Cow<'_, str> {
        let handler = self.arguments.last();
        handler.map_or("bootstrap".into(), |handler| handler.to_string_lossy())
    }

    /// The variables that make a process the function: those that Lambda sets, after
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html> and RIE, and its own.
    pub(crate) fn variables(
        &self,
        task_root: &Path,
        runtime_api: SocketAddr,
    ) -> Vec<(OsString, OsString)> {
        let lambda = [
            ("_HANDLER", &*self.handler()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_SESSION_TOKEN", "test"),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_LAMBDA_FUNCTION_NAME", &self.function_name),
            ("AWS_LAMBDA_FUNCTION_VERSION", PUBLISHED),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &MEMORY_MIB.to_string()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &self.log_group()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local/[$LATEST.PUBLISHED]"),
            (
                "AWS_LAMBDA_MAX_CONCURRENCY",
                &self.max_concurrency.to_string(),
            ),
            ("AWS_LAMBDA_RUNTIME_API", &runtime_api.to_string()),
            ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
            // RIE leaves the address empty, which some X-Ray SDKs refuse to start with.
            ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000"),
            ("_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1"),
            ("_AWS_XRAY_DAEMON_PORT", "2000"),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("LANG", "en_US.UTF-8"),
            ("LD_LIBRARY_PATH", LIBRARY_PATH),
            ("TZ", ":UTC"),
        ];
        let mut variables = vec![("LAMBDA_TASK_ROOT".into(), task_root.into())];
        variables.extend(lambda.map(|(name, value)| (name.into(), value.into())));
        variables.extend(self.environment.iter().cloned());
        variables
    }
}

fn function_name(bootstrap: &Path) -> String {
    // `..` has no name.
    let directory = bootstrap.parent();
    let directory =
        directory.map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
    let named_after = match bootstrap.file_stem() {
        Some(stem) if stem != "bootstrap" => Some(stem),
        _ => directory.as_deref().and_then(Path::file_name),
    };
    let name = named_after.unwrap_or("function".as_ref()).to_string_lossy();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = name.chars().map(|c| if allowed(c) { c } else { '-' });
    name.take(64).collect()
}

/// The ARN of a function of this account and Region, or of a version of it.
pub(crate) fn arn(function_name: &str, qualifier: Option<&str>) -> String {
    let qualifier = qualifier.map_or(String::new(), |qualifier| format!(":{qualifier}"));
    format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{function_name}{qualifier}")
}
