//! The metrics of a run, from CloudWatch.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{
    InvokeApi, NOWHERE, assert_contains, line_with, on_managed_instances, right, run, signal,
    start, wait,
};

/// A server of moto, which imitates CloudWatch. It ends when this is dropped.
struct Moto {
    url: String,
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
        let at = line.find("http://").unwrap();
        let url = line[at..].trim().to_owned();
        Self { url, server }
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
        let authorization =
            "AWS4-HMAC-SHA256 Credential=id/20260101/eu-north-1/monitoring/aws4_request";
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "60"])
            .args(["--header", "content-type: application/x-amz-json-1.0"])
            .args(["--header", &format!("authorization: {authorization}")])
            .args([
                "--header",
                "x-amz-target: GraniteServiceVersion20100801.PutMetricData",
            ])
            .args(["--data", &body, &self.url]);
        run(&mut curl).passed();
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A load on a function that Lambda says is on Managed Instances.
fn command(api: &InvokeApi, cloudwatch: &str, limit: &str, format: &str) -> Command {
    let flags = format!("-n 20 -o {format} --vcpu-hour 0.06 --cloudwatch {limit}");
    let mut command = api.on_aws(&flags);
    command.env("AWS_ENDPOINT_URL_CLOUDWATCH", cloudwatch);
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
    let api = InvokeApi::describe(&on_managed_instances(), right);
    let before = unix_seconds();
    let mut child = start(&mut command(&api, &moto.url, "100s", "json"));
    let waiting = "waiting for CloudWatch's metrics";
    line_with(child.stderr.take().unwrap(), waiting);

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
        let of_others = json!({"CapacityProviderName": "other", "InstanceType": "c7g.2xlarge"});
        put("Throttles", &[4.0, 3.0], &function);
        put("CPUThrottles", &[5.0], &function);
        put("ConcurrencyThrottles", &[2.0], &function);
        let cpu = "ExecutionEnvironmentCPUUtilization";
        put(cpu, &[50.0, 50.0, 20.0], &environments);
        let concurrency = "ExecutionEnvironmentConcurrency";
        put(concurrency, &[8.0, 8.0, 1.0], &environments);
        put("vCPUAllocated", &[2.0], &of_type("c7i.xlarge"));
        put("vCPUAllocated", &[4.0], &of_type("c7g.2xlarge"));
        put("vCPUAllocated", &[99.0], &of_others);
        put("Invocations", &[600_000.0, 400_000.0], &function);
    }

    let report = wait(child).passed().report();
    let metrics = &report["cloudwatch"];
    let number = |name: &str| metrics[name].as_f64().unwrap_or(f64::NAN);
    let count = (number("end_unix_seconds") - number("start_unix_seconds")) / 300.0;
    for (name, expected) in [
        ("invocations", count * 1e6),
        ("throttles", count * 7.0),
        ("cpu_throttles", count * 5.0),
        ("concurrency_throttles", count * 2.0),
        ("execution_environments", 3.0),
        ("cpu_utilization_percent", 40.0),
        ("vcpus_allocated", 6.0),
        // 120 % of one vCPU for 300 s, divided by a million.
        ("cpu_microseconds_per_invocation", 360.0),
        // 6 vCPUs for a twelfth of an hour at $0.06, and $0.20 for the requests.
        ("dollars_per_million_invocations", 0.23),
    ] {
        let difference = (number(name) - expected).abs();
        assert!(difference < 1e-6, "{name} is not {expected}: {metrics}");
    }
    assert_eq!(
        metrics["missing"],
        json!(["MemoryThrottles", "DiskThrottles"])
    );
}

#[test]
#[ignore = "needs moto"]
fn names_metrics_that_do_not_arrive_in_time() {
    let moto = Moto::start();
    let api = InvokeApi::describe(&on_managed_instances(), right);

    let report = run(&mut command(&api, &moto.url, "1s", "json"))
        .passed()
        .report();

    let missing = report["cloudwatch"]["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 9, "{missing:?}");
    assert_eq!(report["cloudwatch"]["invocations"], Value::Null);
}

#[test]
fn reports_without_metrics_if_cloudwatch_cannot_be_reached() {
    let api = InvokeApi::describe(&on_managed_instances(), right);

    let ended = run(&mut command(&api, NOWHERE, "1s", "text")).passed();

    let waiting = "waiting for CloudWatch's metrics of these minutes, for 1s at most";
    assert_contains(&ended.stderr, waiting);
    let missing = format!("missing  all of them: {NOWHERE}/: cannot connect");
    assert_contains(&ended.stdout, &missing);
    assert_contains(&ended.stdout, "ok  20 (100.00 %)");
}

#[test]
fn a_signal_ends_the_wait_for_a_cloudwatch_that_hangs() {
    let api = InvokeApi::describe(&on_managed_instances(), right);
    // It accepts connections and never replies.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());

    let mut child = start(&mut command(&api, &url, "1h", "json"));
    line_with(child.stderr.take().unwrap(), "Ctrl-C reports");
    signal("-INT", child.id());

    let missing = &wait(child).passed().report()["cloudwatch"]["missing"];
    assert_eq!(*missing, json!(["all of them: interrupted"]));
}
