//! The metrics of a run, from CloudWatch.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{
    BOUND, ClosedPort, InvokeApi, line_with, loadtest, on_managed_instances, report, right, run,
    signal, stderr, stdout, wait,
};

/// A server of moto, which imitates CloudWatch. It ends when this is dropped.
struct Moto {
    address: SocketAddr,
    server: Child,
}

impl Moto {
    fn start() -> Self {
        let mut server = Command::new("sh")
            .args(["-c", "exec moto_server -p 0 2>&1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("moto_server can be started");
        let line = line_with(server.stdout.take().unwrap(), "Running on http://");
        let (_, address) = line.split_once("http://").unwrap();
        Self {
            address: address.trim().parse().unwrap(),
            server,
        }
    }

    /// Sends it a metric of Lambda.
    fn put(&self, name: &str, time: u64, values: &[f64], dimensions: &Value) {
        let dimensions = dimensions.as_object().unwrap().iter();
        let dimensions: Vec<_> = dimensions
            .map(|(name, value)| json!({"Name": name, "Value": value}))
            .collect();
        let data = values.iter().map(|value| {
            json!({"MetricName": name, "Timestamp": time, "Value": value, "Dimensions": dimensions})
        });
        let data: Vec<_> = data.collect();
        let body = json!({"Namespace": "AWS/Lambda", "MetricData": data}).to_string();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-amz-target: GraniteServiceVersion20100801.PutMetricData\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/monitoring/aws4_request\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(BOUND)).unwrap();
        connection.write_all((head + &body).as_bytes()).unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A load on a function that Lambda says is on Managed Instances.
///
/// 0.0.0.0 reaches this machine and is not a loopback address.
fn command(api: &InvokeApi, cloudwatch: SocketAddr, limit: &str) -> Command {
    let url = format!("http://0.0.0.0:{}", api.address.port());
    let mut command = loadtest(&format!("-n 20 --endpoint-url {url}"));
    command
        .args(["--cloudwatch", limit, "--vcpu-hour", "0.06"])
        .env(
            "AWS_ENDPOINT_URL_CLOUDWATCH",
            format!("http://{cloudwatch}"),
        )
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    command
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
#[ignore = "needs moto"]
fn reports_the_cpu_and_the_cost_of_an_invocation_once_the_metrics_arrive() {
    let moto = Moto::start();
    let api = InvokeApi::describe(on_managed_instances(), right);
    let before = unix_seconds();
    let mut command = command(&api, moto.address, "100s");
    command.args(["-o", "json"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    line_with(
        child.stderr.take().unwrap(),
        "waiting for CloudWatch's metrics",
    );

    // The run may have touched two periods of five minutes.
    let mut periods = vec![before / 300 * 300];
    periods.extend(Some(unix_seconds() / 300 * 300).filter(|period| *period > periods[0]));
    for &period in &periods {
        let time = period + 60;
        let put = |name: &str, values: &[f64], dimensions: &Value| {
            moto.put(name, time, values, dimensions);
        };
        let function = json!({"FunctionName": "fibonacci-generator"});
        let environments = json!({
            "CapacityProviderName": "fleet",
            "FunctionName": "fibonacci-generator",
            "Resource": "fibonacci-generator:$LATEST.PUBLISHED",
        });
        let of_type = |name: &str| json!({"CapacityProviderName": "fleet", "InstanceType": name});
        put("Throttles", &[4.0, 3.0], &function);
        put("CPUThrottles", &[5.0], &function);
        put("ConcurrencyThrottles", &[2.0], &function);
        put(
            "ExecutionEnvironmentCPUUtilization",
            &[50.0, 50.0, 20.0],
            &environments,
        );
        put(
            "ExecutionEnvironmentConcurrency",
            &[8.0, 8.0, 1.0],
            &environments,
        );
        put("vCPUAllocated", &[2.0], &of_type("c7i.xlarge"));
        put("vCPUAllocated", &[4.0], &of_type("c7g.2xlarge"));
        put(
            "vCPUAllocated",
            &[99.0],
            &json!({"CapacityProviderName": "other", "InstanceType": "c7g.2xlarge"}),
        );
        put("Invocations", &[600_000.0, 400_000.0], &function);
    }

    let output = wait(child);
    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    let metrics = &report["cloudwatch"];
    let number = |name: &str| metrics[name].as_f64().unwrap_or(f64::NAN);
    let expect = |name: &str, expected: f64| {
        let difference = (number(name) - expected).abs();
        assert!(difference < 1e-6, "{name} is not {expected}: {metrics}");
    };
    let count = number("end_unix_seconds") - number("start_unix_seconds");
    let count = count / 300.0;
    expect("invocations", count * 1e6);
    expect("throttles", count * 7.0);
    expect("cpu_throttles", count * 5.0);
    expect("concurrency_throttles", count * 2.0);
    expect("execution_environments", 3.0);
    expect("cpu_utilization_percent", 40.0);
    expect("vcpus_allocated", 6.0);
    // 120 % of one vCPU for 300 s, divided by a million.
    expect("cpu_microseconds_per_invocation", 360.0);
    // 6 vCPUs for a twelfth of an hour at $0.06, and $0.20 for the requests.
    expect("dollars_per_million_invocations", 0.23);
    assert_eq!(
        metrics["missing"],
        json!(["MemoryThrottles", "DiskThrottles"])
    );
}

#[test]
#[ignore = "needs moto"]
fn names_metrics_that_do_not_arrive_in_time() {
    let moto = Moto::start();
    let api = InvokeApi::describe(on_managed_instances(), right);

    let output = run(command(&api, moto.address, "1s").args(["-o", "json"]));

    assert!(output.status.success(), "{output:?}");
    let report = report(&output);
    let missing = report["cloudwatch"]["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 9, "{missing:?}");
    assert_eq!(report["cloudwatch"]["invocations"], Value::Null);
}

#[test]
fn reports_without_metrics_if_cloudwatch_cannot_be_reached() {
    let api = InvokeApi::describe(on_managed_instances(), right);
    let nowhere = ClosedPort::new();

    let output = run(&mut command(&api, nowhere.address(), "1s"));

    assert!(output.status.success(), "{output:?}");
    assert!(
        stderr(&output)
            .contains("waiting for CloudWatch's metrics of these minutes, for 1s at most"),
        "{output:?}"
    );
    let text = stdout(&output);
    assert!(
        text.contains(&format!(
            "missing  all of them: http://{}/: cannot connect",
            nowhere.address()
        )),
        "{text}"
    );
    assert!(text.contains("ok  20 (100.00 %)"), "{text}");
}

#[test]
fn a_signal_ends_the_wait_for_a_cloudwatch_that_hangs() {
    let api = InvokeApi::describe(on_managed_instances(), right);
    // It accepts connections and never replies.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = command(&api, silent.local_addr().unwrap(), "1h");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());

    let mut child = command.spawn().unwrap();
    line_with(child.stderr.take().unwrap(), "Ctrl-C reports");
    signal("-INT", child.id());
    let output = wait(child);

    let text = stdout(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("missing  all of them: interrupted"), "{text}");
}
