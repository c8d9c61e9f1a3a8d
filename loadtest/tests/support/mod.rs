//! A fake Invoke API, and the load tester as a process.

use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path as UrlPath;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::prelude::{BASE64_STANDARD, Engine};
use emulator::{Emulator, Settings};
use fibonacci_generator::{event, reply};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// No wait of a test takes as long on any machine, unless what it waits for never happens.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// Nothing listens on the port of tcpmux.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:1";

/// An Invoke API for one function, `fibonacci-generator`, on a port of its own.
pub(crate) struct InvokeApi {
    pub(crate) address: SocketAddr,
    invocations: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl InvokeApi {
    /// `reply` gets the number of each invocation, from 0, its headers and its payload.
    pub(crate) fn start<A, F>(reply: A) -> Self
    where
        A: Fn(Invocation) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        Self::describe(&json!({}), reply)
    }

    /// `description` is added to the configuration of the function.
    pub(crate) fn describe<A, F>(description: &Value, reply: A) -> Self
    where
        A: Fn(Invocation) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let invocations = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&invocations);
        let invoke = async move |UrlPath(name): UrlPath<String>, headers, payload| {
            if name != "fibonacci-generator" {
                return service_error(StatusCode::NOT_FOUND, "ResourceNotFoundException");
            }
            let invocation = Invocation {
                number: count.fetch_add(1, Ordering::Relaxed),
                headers,
                payload,
            };
            reply(invocation).await
        };
        let mut configuration = json!({
            "FunctionName": "fibonacci-generator", "Version": "$LATEST", "Timeout": 900, "MemorySize": 2048,
        });
        let members = configuration.as_object_mut().unwrap();
        members.extend(description.as_object().unwrap().clone());
        let describe = async move |UrlPath(name): UrlPath<String>| match &*name {
            "fibonacci-generator" => configuration.to_string().into_response(),
            _ => service_error(StatusCode::NOT_FOUND, "ResourceNotFoundException"),
        };
        let capacity_provider = json!({"CapacityProvider": {
            "State": "Active",
            "InstanceRequirements": {"Architectures": ["arm64"]},
            "CapacityProviderScalingConfig": {"MaxVCpuCount": 12},
        }});
        let capacity_provider = capacity_provider.to_string();
        let function = "/2015-03-31/functions/{name}";
        let router = Router::new()
            .route(&format!("{function}/invocations"), post(invoke))
            .route(&format!("{function}/configuration"), get(describe))
            .route(
                "/2025-11-30/capacity-providers/{name}",
                get(async || capacity_provider),
            );
        let (address, runtime) = serve(router);
        Self {
            address,
            invocations,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn invocations(&self) -> u64 {
        self.invocations.load(Ordering::Relaxed)
    }

    /// Runs the load tester against this Invoke API.
    pub(crate) fn run(&self, flags: &str) -> Ended {
        run(&mut self.command(flags))
    }

    /// A run against what is not a loopback address, though 0.0.0.0 reaches this machine.
    pub(crate) fn on_aws(&self, flags: &str) -> Command {
        let mut command = loadtest(flags);
        command
            .arg(format!(
                "--endpoint-url=http://0.0.0.0:{}",
                self.address.port()
            ))
            .env("AWS_REGION", "eu-north-1")
            .env("AWS_ACCESS_KEY_ID", "id")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    }

    pub(crate) fn command(&self, flags: &str) -> Command {
        let mut command = loadtest(flags);
        command.env("AWS_ENDPOINT_URL", self.url());
        command
    }
}

/// Serves on a port of its own, until the runtime is dropped.
pub(crate) fn serve(router: Router) -> (SocketAddr, Runtime) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("0.0.0.0:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async { axum::serve(listener, router).await });
    (([127, 0, 0, 1], port).into(), runtime)
}

/// An Invoke API that tells of every invocation, and replies to none until it is released.
pub(crate) fn held_back() -> (InvokeApi, mpsc::Receiver<()>, watch::Sender<bool>) {
    let (arrived, arrivals) = mpsc::channel();
    let arrived = Arc::new(Mutex::new(arrived));
    let (release, released) = watch::channel(false);
    let api = InvokeApi::start(move |invocation| {
        let _ = arrived.lock().unwrap().send(());
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|released| *released).await;
            right(invocation).await
        }
    });
    (api, arrivals, release)
}

pub(crate) struct Invocation {
    pub(crate) number: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// The configuration of a function on the capacity provider `fleet`.
pub(crate) fn on_managed_instances() -> Value {
    json!({"CapacityProviderConfig": {"LambdaManagedInstancesCapacityProviderConfig": {
        "CapacityProviderArn": "arn:aws:lambda:us-east-1:123456789012:capacity-provider:fleet",
        "ExecutionEnvironmentMemoryGiBPerVCpu": 2.0,
    }}})
}

/// What a report says that CloudWatch saw.
pub(crate) fn metrics() -> Value {
    json!({
        "start_unix_seconds": 1_795_615_800, "end_unix_seconds": 1_795_616_400,
        "invocations": 1_234_567.0, "throttles": 70.0,
        "concurrency_throttles": 20.0, "cpu_throttles": 50.0,
        "execution_environments": 3.25, "cpu_utilization_percent": 41.2, "vcpus_allocated": 6.0,
        "cpu_microseconds_per_invocation": 17.4,
        "dollars_per_vcpu_hour": 0.0684, "dollars_per_million_invocations": 0.31,
        "missing": ["MemoryThrottles", "DiskThrottles"],
    })
}

/// The load tester with these flags, where nothing of AWS is configured.
pub(crate) fn loadtest(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(flags.split_whitespace())
        .current_dir(scratch(""))
        .env_clear()
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn passed(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn failed(self) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        self
    }

    /// The JSON report on standard output.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON report ({error}): {self:?}"))
    }
}

#[track_caller]
pub(crate) fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text}");
}

/// Starts a process of which the test reads both outputs.
pub(crate) fn start(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Runs a process to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    wait(start(command))
}

/// Waits for the end of a process, and kills it if it does not come.
pub(crate) fn wait(child: Child) -> Ended {
    let pid = child.id();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(BOUND) else {
        signal("-9", pid);
        panic!("the load tester has not ended within {BOUND:?}: {ended:?}")
    };
    let output = output.unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The latencies in a report, in microseconds.
pub(crate) fn histogram(report: &Value) -> Histogram<u64> {
    let bytes = BASE64_STANDARD.decode(report["histogram"].as_str().unwrap());
    let mut bytes = &*bytes.unwrap();
    Deserializer::new().deserialize(&mut bytes).unwrap()
}

pub(crate) fn right_reply(payload: &[u8]) -> Vec<u8> {
    reply::slices(event::parse(payload)).concat()
}

pub(crate) async fn right(invocation: Invocation) -> Response {
    right_reply(&invocation.payload).into_response()
}

pub(crate) fn service_error(status: StatusCode, kind: &str) -> Response {
    let message = json!({"Message": format!("{kind} of the test")}).to_string();
    (status, [("x-amzn-errortype", kind)], message).into_response()
}

pub(crate) fn throttled() -> Response {
    service_error(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException")
}

/// Expects one line that says what is wrong, and nothing else.
#[track_caller]
pub(crate) fn refused(command: &mut Command, complaint: &str) {
    let ended = run(command);
    assert!(
        ended.code.is_some_and(|code| code > 0),
        "{command:?}: {ended:?}"
    );
    assert_contains(&ended.stderr, complaint);
    assert_eq!(ended.stderr.lines().count(), 1, "{command:?}: {ended:?}");
    assert_eq!(ended.stdout, "", "{command:?}");
}

/// The path of a file of a test, in a folder of this process. Those of earlier ones are removed.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loadtest");
        for folder in fs::read_dir(&all).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(folder.file_name()).exists() {
                let _ = fs::remove_dir_all(folder.path());
            }
        }
        let folder = all.join(std::process::id().to_string());
        fs::create_dir_all(&folder).unwrap();
        folder
    });
    FOLDER.join(name)
}

/// Writes a file of a test, and returns its name, which is enough for the load tester.
pub(crate) fn file(name: &str, text: &str) -> String {
    fs::write(scratch(name), text).unwrap();
    name.to_owned()
}

/// Waits for something of an emulator.
pub(crate) fn within<T>(runtime: &Runtime, what: &str, future: impl Future<Output = T>) -> T {
    runtime
        .block_on(async { tokio::time::timeout(BOUND, future).await })
        .unwrap_or_else(|_| panic!("{what} has not come within {BOUND:?}"))
}

/// An emulator of which all workers poll.
pub(crate) fn emulator(runtime: &Runtime, mut settings: Settings) -> Emulator {
    // No test depends on how fast a worker polls again.
    settings.return_limit = BOUND;
    let workers = settings.max_concurrency.into();
    let emulator = within(runtime, "the start", Emulator::start(settings)).unwrap();
    let polls = emulator.wait_for_polls(|polls| polls >= workers);
    within(runtime, "every worker's poll", polls);
    emulator
}

/// Waits for a line of a process that has this part, and reads the rest of its lines.
pub(crate) fn line_with(from: impl Read + Send + 'static, part: &'static str) -> String {
    let (sender, found) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if line.contains(part) {
                let _ = sender.send(line);
            }
        }
    });
    let line = found.recv_timeout(BOUND);
    line.unwrap_or_else(|_| panic!("no line with {part:?}"))
}

pub(crate) fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
