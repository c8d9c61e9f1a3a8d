//! A fake Invoke API, and the load tester as a process.

pub(crate) mod tls;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use fibonacci_generator::{event, reply::Reply};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// No wait of a test takes as long on any machine, unless what it waits for never happens.
pub(crate) const BOUND: Duration = Duration::from_mins(1);

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
        Self::describe(json!({}), reply)
    }

    /// `description` is added to the configuration of the function, but for its `Date`, which is that of
    /// the response.
    pub(crate) fn describe<A, F>(description: Value, reply: A) -> Self
    where
        A: Fn(Invocation) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let invocations = Arc::new(AtomicU64::new(0));
        let router = router(description, &invocations, reply);
        runtime.spawn(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await
        });
        Self {
            address,
            invocations,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.address.port())
    }

    pub(crate) fn invocations(&self) -> u64 {
        self.invocations.load(Ordering::Relaxed)
    }

    /// Runs the load tester against this Invoke API.
    pub(crate) fn load(&self, flags: &[&str]) -> Output {
        run(&mut self.command(flags))
    }

    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = loadtest(flags);
        command.env("AWS_ENDPOINT_URL", self.url());
        command
    }
}

pub(crate) struct Invocation {
    pub(crate) number: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

pub(crate) fn router<A, F>(description: Value, invocations: &Arc<AtomicU64>, reply: A) -> Router
where
    A: Fn(Invocation) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let invoke = {
        let invocations = Arc::clone(invocations);
        async move |UrlPath(name): UrlPath<String>, headers: HeaderMap, payload: Bytes| {
            if name != "fibonacci-generator" {
                return service_error(StatusCode::NOT_FOUND, "ResourceNotFoundException");
            }
            let number = invocations.fetch_add(1, Ordering::Relaxed);
            reply(Invocation {
                number,
                headers,
                payload,
            })
            .await
        }
    };
    let configuration = async |UrlPath(name): UrlPath<String>, State(description): State<Value>| {
        if name != "fibonacci-generator" {
            return service_error(StatusCode::NOT_FOUND, "ResourceNotFoundException");
        }
        let mut configuration = json!({
            "FunctionName": "fibonacci-generator", "Version": "$LATEST", "Timeout": 900, "MemorySize": 2048,
        });
        let members = configuration.as_object_mut().unwrap();
        members.extend(description.as_object().unwrap().clone());
        // Of the response; without it, the server sets the time of this machine.
        let date = members.remove("Date");
        let date = date.map(|date| [("date", date.as_str().unwrap().to_owned())]);
        (date.map(AppendHeaders), configuration.to_string()).into_response()
    };
    let capacity_provider = async |UrlPath(name): UrlPath<String>| {
        json!({"CapacityProvider": {
            "CapacityProviderArn": format!("arn:aws:lambda:us-east-1:123456789012:capacity-provider:{name}"),
            "State": "Active",
            "InstanceRequirements": {"Architectures": ["arm64"]},
            "CapacityProviderScalingConfig": {"MaxVCpuCount": 12},
        }})
        .to_string()
    };
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .route(
            "/2015-03-31/functions/{name}/configuration",
            get(configuration),
        )
        .route(
            "/2025-11-30/capacity-providers/{name}",
            get(capacity_provider),
        )
        .with_state(description)
}

/// The configuration of a function on the capacity provider `fleet`.
pub(crate) fn on_managed_instances() -> Value {
    json!({"CapacityProviderConfig": {"LambdaManagedInstancesCapacityProviderConfig": {
        "CapacityProviderArn": "arn:aws:lambda:us-east-1:123456789012:capacity-provider:fleet",
        "ExecutionEnvironmentMemoryGiBPerVCpu": 2.0,
    }}})
}

/// The load tester, where nothing of AWS is configured.
pub(crate) fn loadtest(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(flags)
        .env_clear()
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

/// Runs a process to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait(child)
}

/// Waits for the end of a process, and kills it if it does not come.
pub(crate) fn wait(child: Child) -> Output {
    let pid = child.id().to_string();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    ended.recv_timeout(BOUND).map_or_else(
        |_| {
            let _ = Command::new("kill").args(["-9", &pid]).status();
            panic!("the load tester has not ended within {BOUND:?}: {ended:?}")
        },
        Result::unwrap,
    )
}

pub(crate) fn right_reply(payload: &[u8]) -> Vec<u8> {
    Reply::from(event::parse(payload)).slices().concat()
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

pub(crate) fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no JSON report ({error}): {output:?}"))
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Expects one line that says what is wrong, and nothing else.
pub(crate) fn refused(command: &mut Command, complaint: &str) {
    let output = run(command);
    let stderr = stderr(&output);
    assert!(!output.status.success(), "{command:?}");
    assert!(stderr.contains(complaint), "{command:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
    assert_eq!(stdout(&output), "", "{command:?}");
}

/// A path for a file of a test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A port of this machine where nothing listens.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
