//! What to run, and how.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

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
#[derive(Clone, Debug)]
pub struct Settings {
    /// The function's executable.
    pub bootstrap: PathBuf,
    /// Arguments of the executable. Lambda passes none.
    pub arguments: Vec<OsString>,
    /// Environment variables for the function. They override the variables that Lambda sets.
    pub environment: Vec<(OsString, OsString)>,
    /// The name by which callers invoke the function: 1 to 64 of `[a-zA-Z0-9-_]`.
    pub function_name: String,
    /// `AWS_LAMBDA_MAX_CONCURRENCY`. `None` leaves the variable unset, as on ordinary Lambda.
    pub max_concurrency: Option<NonZeroU16>,
    /// How long an invocation may take. Zero means no limit, so that a debugger can stop the
    /// function; the function is then told a deadline in a year.
    pub timeout: Duration,
    /// How long the function may take to poll for the first time. Zero means no limit.
    pub init_timeout: Duration,
    /// How long the function may take to end after SIGTERM, before SIGKILL follows. Only a function with
    /// an extension gets SIGTERM.
    pub termination_grace: Duration,
    /// How many events may wait while all workers are busy.
    pub queue: usize,
    /// How long an event may wait for a worker between its reply and its next poll, which is usually
    /// less than a millisecond. A worker that takes longer counts as gone.
    pub return_limit: Duration,
    /// How long a caller may take to send the head of its request, and then its body.
    pub read_timeout: Duration,
    /// Where to serve the Runtime API to a function that somebody else starts, for example in a
    /// debugger. The bootstrap is not run then. Such a function may be started again: it is taken for
    /// another process when it polls after all its connections have been closed.
    pub attach: Option<SocketAddr>,
    /// Where to serve the Invoke API and the console. Port 0 is any free port.
    pub invoke_address: SocketAddr,
    /// Where to serve the function URL. Port 0 is any free port.
    pub function_url_address: SocketAddr,
    /// A folder with example events for the console. It offers each file `*.json` of at most 64 KB, by
    /// its name.
    pub events: Option<PathBuf>,
    /// Whether to copy what the function prints to standard error.
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
            arguments: Vec::new(),
            environment: Vec::new(),
            max_concurrency: NonZeroU16::new(8),
            timeout: Duration::from_secs(10),
            init_timeout: Duration::from_secs(130),
            // RIE's.
            termination_grace: Duration::from_millis(600),
            queue: 0,
            return_limit: Duration::from_secs(1),
            read_timeout: Duration::from_secs(20),
            attach: None,
            invoke_address: any_port,
            function_url_address: any_port,
            events: None,
            echo: false,
        }
    }

    /// The names and texts of the example events.
    #[must_use]
    pub fn examples(&self) -> Vec<(String, String)> {
        let files = self.events.iter().flat_map(fs::read_dir).flatten();
        let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
        paths.retain(|path| {
            let is_small = |file: fs::Metadata| file.is_file() && file.len() <= MAX_EXAMPLE;
            path.extension().is_some_and(|kind| kind == "json")
                && path.metadata().is_ok_and(is_small)
        });
        paths.sort_unstable();
        let example = |path: &PathBuf| {
            let name = path.file_stem()?.to_string_lossy().into_owned();
            let text = fs::read_to_string(path).ok()?;
            Some((name, text.trim_end().to_owned()))
        };
        paths
            .iter()
            .filter_map(example)
            .take(MAX_EXAMPLES)
            .collect()
    }

    /// The version that callers invoke.
    pub(crate) fn version(&self) -> &'static str {
        match self.max_concurrency {
            Some(_) => PUBLISHED,
            None => "$LATEST",
        }
    }

    pub(crate) fn workers(&self) -> usize {
        self.max_concurrency
            .map_or(1, |workers| workers.get().into())
    }

    pub(crate) fn log_group(&self) -> String {
        format!("/aws/lambda/{}", self.function_name)
    }

    /// The last argument, as in RIE.
    pub(crate) fn handler(&self) -> Cow<'_, str> {
        let handler = self.arguments.last();
        handler.map_or("bootstrap".into(), |handler| handler.to_string_lossy())
    }

    /// The variables that Lambda sets, after
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html> and RIE.
    pub(crate) fn lambda_environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("_HANDLER", self.handler().into_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_SESSION_TOKEN", "test".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", self.function_name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", self.version().to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MIB.to_string()),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", self.log_group()),
            (
                "AWS_LAMBDA_LOG_STREAM_NAME",
                format!("local/[{}]", self.version()),
            ),
            ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
            // RIE leaves the address empty, which some X-Ray SDKs refuse to start with.
            ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000".to_owned()),
            ("_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1".to_owned()),
            ("_AWS_XRAY_DAEMON_PORT", "2000".to_owned()),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
            ("LANG", "en_US.UTF-8".to_owned()),
            ("LD_LIBRARY_PATH", LIBRARY_PATH.to_owned()),
            ("TZ", ":UTC".to_owned()),
        ];
        let initialization_type = match self.max_concurrency {
            Some(_) => "lambda-managed-instances",
            None => "on-demand",
        };
        let kind = initialization_type.to_owned();
        variables.push(("AWS_LAMBDA_INITIALIZATION_TYPE", kind));
        let workers = self.max_concurrency.map(|workers| workers.to_string());
        variables.extend(workers.map(|workers| ("AWS_LAMBDA_MAX_CONCURRENCY", workers)));
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
    let name = named_after.unwrap_or_default().to_string_lossy();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(64)
        .collect();
    if name.is_empty() {
        "function".to_owned()
    } else {
        name
    }
}

/// The ARN of a function of this account and Region, without a qualifier.
pub(crate) fn arn(function_name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{function_name}")
}
