//! The metrics of a run on Managed Instances.
//!
//! Every five minutes, Lambda publishes a value for each execution environment and for each instance
//! type. So the metrics are those of whole periods, from the one in which the run started to the one in
//! which it ended:
//! <https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-monitoring-metrics.html>.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Error, Result, anyhow};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::aws::{Service, ServiceError};
use crate::cost::DOLLARS_PER_MILLION_REQUESTS;
use crate::load::as_f64;
use crate::measured::unix_ms;
use crate::target::Description;
use crate::terminal::{Display, say};

const PERIOD: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_secs(15);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "AWS/Lambda";
const LIST_METRICS: &str = "GraniteServiceVersion20100801.ListMetrics";
const GET_METRIC_DATA: &str = "GraniteServiceVersion20100801.GetMetricData";

/// The metrics of a function. The last four are the reasons of throttles.
const FUNCTION_METRICS: [&str; 6] = [
    "Invocations",
    "Throttles",
    "ConcurrencyThrottles",
    "CPUThrottles",
    "MemoryThrottles",
    "DiskThrottles",
];
/// The metrics of a version's execution environments. Each environment sends one value per period, so
/// the second one, which counts values, counts environments.
const CPU: &str = "ExecutionEnvironmentCPUUtilization";
const ENVIRONMENTS: &str = "ExecutionEnvironmentConcurrency";
/// The metric of the capacity provider. There is one for each instance type.
const VCPUS: &str = "vCPUAllocated";

/// A function on Managed Instances, and where its metrics are.
pub(crate) struct Fleet {
    pub service: Service,
    pub function: Description,
    pub capacity_provider: String,
    pub dollars_per_vcpu_hour: f64,
}

/// What CloudWatch says about the fleet in the periods of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Metrics {
    pub start_unix_seconds: u64,
    pub end_unix_seconds: u64,
    pub invocations: Option<f64>,
    pub throttles: Option<f64>,
    pub concurrency_throttles: Option<f64>,
    pub cpu_throttles: Option<f64>,
    pub memory_throttles: Option<f64>,
    pub disk_throttles: Option<f64>,
    /// On average.
    pub execution_environments: Option<f64>,
    pub cpu_utilization_percent: Option<f64>,
    /// On average.
    pub vcpus_allocated: Option<f64>,
    pub cpu_microseconds_per_invocation: Option<f64>,
    pub dollars_per_vcpu_hour: f64,
    pub dollars_per_million_invocations: Option<f64>,
    /// Metrics without a value in these periods, or why none could be read.
    pub missing: Vec<String>,
}

/// The values of a metric, by the start of their period.
type Values = BTreeMap<u64, f64>;

struct Reader<'a> {
    fleet: &'a Fleet,
    /// In seconds since 1970, multiples of [`PERIOD`].
    start: u64,
    end: u64,
}

impl Fleet {
    /// Waits for the metrics of a run, and returns those that came in time.
    ///
    /// `replies` is how many of the function's replies the load tester itself has seen.
    pub(crate) async fn metrics(
        &self,
        run: (SystemTime, SystemTime),
        replies: u64,
        limit: Duration,
        is_quiet: bool,
        stop: &CancellationToken,
    ) -> Metrics {
        let seconds = |time: SystemTime| unix_ms(time) / 1000;
        let period = PERIOD.as_secs();
        let reader = Reader {
            fleet: self,
            start: seconds(run.0) / period * period,
            end: (seconds(run.1) / period + 1) * period,
        };
        let started = Instant::now();
        // After an interrupted run they are read once, and the next Ctrl-C ends the process.
        let may_wait = !stop.is_cancelled();
        if may_wait {
            say(&format!(
                "waiting for CloudWatch's metrics of these minutes, for {} at most; Ctrl-C reports without them",
                humantime::format_duration(limit)
            ));
        }
        let _display = Display::start(is_quiet || !may_wait, move || {
            let left = limit.saturating_sub(started.elapsed()).as_secs();
            format!("waiting for CloudWatch, {left} s left")
        });
        let mut values = Err(anyhow!("interrupted"));
        loop {
            tokio::select! {
                read = reader.values() => values = read,
                () = stop.cancelled(), if may_wait => {}
            }
            let is_final = match &values {
                Ok(values) => reader.is_complete(values, replies),
                Err(error) => is_refusal(error),
            };
            let left = limit.saturating_sub(started.elapsed());
            if !is_final && !left.is_zero() && !stop.is_cancelled() {
                tokio::select! {
                    () = sleep(POLL.min(left)) => continue,
                    () = stop.cancelled() => {}
                }
            }
            return match values {
                Ok(values) => reader.metrics(&values),
                Err(error) => Metrics {
                    missing: vec![format!("all of them: {error:#}")],
                    ..reader.metrics(&BTreeMap::new())
                },
            };
        }
    }
}

/// Whether a request would be refused again, for lack of a permission for example.
fn is_refusal(error: &Error) -> bool {
    error.downcast_ref::<ServiceError>().is_some_and(|error| {
        let code = error.code.as_deref().unwrap_or_default();
        error.status.is_client_error() && !code.starts_with("Throttling")
    })
}

fn sum(values: &BTreeMap<&str, Values>, name: &str) -> Option<f64> {
    Some(values.get(name)?.values().sum())
}

impl Reader<'_> {
    async fn values(&self) -> Result<BTreeMap<&'static str, Values>> {
        let capacity_provider = &self.fleet.capacity_provider;
        let function_name = &self.fleet.function.function_name;
        let version = &self.fleet.function.version;
        let function = json!([{"Name": "FunctionName", "Value": function_name}]);
        let environments = json!([
            {"Name": "CapacityProviderName", "Value": capacity_provider},
            {"Name": "FunctionName", "Value": function_name},
            {"Name": "Resource", "Value": format!("{function_name}:{version}")},
        ]);
        let mut wanted = FUNCTION_METRICS
            .map(|name| (name, "Sum", function.clone()))
            .to_vec();
        wanted.push((CPU, "Sum", environments.clone()));
        wanted.push((ENVIRONMENTS, "SampleCount", environments));
        // Lambda chooses the instance types.
        let list = json!({
            "Namespace": NAMESPACE,
            "MetricName": VCPUS,
            "Dimensions": [{"Name": "CapacityProviderName", "Value": capacity_provider}, {"Name": "InstanceType"}],
        });
        let list = self.call(LIST_METRICS, &list).await?;
        for metric in list["Metrics"].as_array().into_iter().flatten() {
            wanted.push((VCPUS, "Sum", metric["Dimensions"].clone()));
        }
        let queries: Vec<Value> = wanted
            .iter()
            .enumerate()
            .map(|(index, (name, statistic, dimensions))| {
                json!({"Id": format!("m{index}"), "MetricStat": {
                    "Metric": {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": dimensions},
                    "Period": PERIOD.as_secs(),
                    "Stat": statistic,
                }})
            })
            .collect();
        let get =
            json!({"StartTime": self.start, "EndTime": self.end, "MetricDataQueries": queries});
        let data = self.call(GET_METRIC_DATA, &get).await?;

        let mut values: BTreeMap<&str, Values> = BTreeMap::new();
        for result in data["MetricDataResults"].as_array().into_iter().flatten() {
            let id = result["Id"]
                .as_str()
                .and_then(|id| id.strip_prefix('m')?.parse::<usize>().ok());
            let Some((name, ..)) = id.and_then(|id| wanted.get(id)) else {
                continue;
            };
            let list = |key: &str| result[key].as_array().into_iter().flatten();
            let list = |key: &str| list(key).filter_map(Value::as_f64);
            for (time, value) in list("Timestamps").zip(list("Values")) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "seconds since 1970"
                )]
                let time = time as u64;
                *values.entry(name).or_default().entry(time).or_default() += value;
            }
        }
        Ok(values)
    }

    /// An operation of the AWS JSON protocol.
    async fn call(&self, operation: &'static str, input: &Value) -> Result<Value> {
        let headers = [
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", operation),
        ];
        let operation = self.fleet.service.operation(Method::POST, "/", headers)?;
        let response = operation
            .call(serde_json::to_vec(input)?.into(), REQUEST_TIMEOUT)
            .await;
        response
            .with_context(|| self.fleet.service.endpoint.url("/"))?
            .json()
    }

    /// Whether no more values will come.
    fn is_complete(&self, values: &BTreeMap<&str, Values>, replies: u64) -> bool {
        let last = self.end - PERIOD.as_secs();
        let mut fleet = [CPU, ENVIRONMENTS, VCPUS].into_iter();
        sum(values, "Invocations").unwrap_or_default() >= as_f64(replies)
            && fleet.all(|name| values.get(name).is_some_and(|one| one.contains_key(&last)))
    }

    fn metrics(&self, values: &BTreeMap<&str, Values>) -> Metrics {
        let sum = |name: &str| sum(values, name);
        let average = |name: &str| Some(sum(name)? / as_f64(values.get(name)?.len() as u64));
        let invocations = sum("Invocations");
        let per_invocation = |value: f64| Some(value / invocations.filter(|all| *all > 0.0)?);
        let period = PERIOD.as_secs_f64();
        let samples = sum(ENVIRONMENTS).filter(|samples| *samples > 0.0);
        let cpu_seconds = sum(CPU)
            .zip(self.fleet.function.vcpus)
            .map(|(percent, vcpus)| percent / 100.0 * vcpus * period);
        let price = self.fleet.dollars_per_vcpu_hour;
        let dollars = sum(VCPUS).map(|vcpus| vcpus * period / 3600.0 * price);
        Metrics {
            start_unix_seconds: self.start,
            end_unix_seconds: self.end,
            invocations,
            throttles: sum("Throttles"),
            concurrency_throttles: sum("ConcurrencyThrottles"),
            cpu_throttles: sum("CPUThrottles"),
            memory_throttles: sum("MemoryThrottles"),
            disk_throttles: sum("DiskThrottles"),
            execution_environments: average(ENVIRONMENTS),
            cpu_utilization_percent: sum(CPU)
                .zip(samples)
                .map(|(percent, samples)| percent / samples),
            vcpus_allocated: average(VCPUS),
            cpu_microseconds_per_invocation: cpu_seconds
                .and_then(per_invocation)
                .map(|seconds| seconds * 1e6),
            dollars_per_vcpu_hour: price,
            dollars_per_million_invocations: dollars
                .and_then(per_invocation)
                .map(|dollars| dollars * 1e6 + DOLLARS_PER_MILLION_REQUESTS),
            missing: self.missing(values),
        }
    }

    fn missing(&self, values: &BTreeMap<&str, Values>) -> Vec<String> {
        // Reasons are published only if there are throttles.
        let function_metrics = match sum(values, "Throttles") {
            Some(0.0) => &FUNCTION_METRICS[..2],
            _ => &FUNCTION_METRICS[..],
        };
        let all = function_metrics.iter().chain(&[CPU, ENVIRONMENTS, VCPUS]);
        let mut missing: Vec<String> = all
            .copied()
            .filter(|name| !values.contains_key(name))
            .map(str::to_owned)
            .collect();
        if self.fleet.function.vcpus.is_none() {
            missing.push(
                "ExecutionEnvironmentMemoryGiBPerVCpu of the function's configuration".to_owned(),
            );
        }
        missing
    }
}

impl Metrics {
    /// How many of the metrics there are.
    pub(crate) fn count(&self) -> usize {
        let values = serde_json::to_value(self).unwrap_or_default();
        let values = values.as_object().into_iter().flat_map(Map::values);
        values.filter(|value| value.is_number()).count()
    }
}
