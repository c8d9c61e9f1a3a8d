//! The metrics of a run on Managed Instances.
//!
//! Every five minutes, Lambda publishes a value for each execution environment and for each instance
//! type. So the metrics are those of whole periods, from the one in which the run started to the one in
//! which it ended:
//! <https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-monitoring-metrics.html>.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::aws::{Service, ServiceError};
use crate::cost::DOLLARS_PER_MILLION_REQUESTS;
use crate::load::as_f64;
use crate::measured::Measured;
use crate::target::Description;
use crate::terminal::{Display, say};

const PERIOD: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_secs(15);
const NAMESPACE: &str = "AWS/Lambda";
const LIST_METRICS: &str = "GraniteServiceVersion20100801.ListMetrics";
const GET_METRIC_DATA: &str = "GraniteServiceVersion20100801.GetMetricData";

/// The metrics of a function, and their names in a report. The last four are the reasons of throttles.
const FUNCTION_METRICS: [(&str, &str); 6] = [
    ("Invocations", "invocations"),
    ("Throttles", "throttles"),
    ("ConcurrencyThrottles", "concurrency_throttles"),
    ("CPUThrottles", "cpu_throttles"),
    ("MemoryThrottles", "memory_throttles"),
    ("DiskThrottles", "disk_throttles"),
];
/// The metrics of a version's execution environments. Each environment sends one value per period, so
/// the second one, which counts values, counts environments.
const CPU: &str = "ExecutionEnvironmentCPUUtilization";
const ENVIRONMENTS: &str = "ExecutionEnvironmentConcurrency";
/// The metric of the capacity provider. There is one for each instance type.
const VCPUS: &str = "vCPUAllocated";

/// A function on Managed Instances, where its metrics are, and the periods of a run.
pub(crate) struct Fleet {
    service: Service,
    function: Description,
    dollars_per_vcpu_hour: f64,
    /// In seconds since 1970, multiples of [`PERIOD`].
    start: u64,
    end: u64,
    /// How many replies of the function the load tester itself has seen, right or wrong.
    replies: u64,
}

/// What CloudWatch says about the fleet in the periods of the run.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Metrics {
    pub start_unix_seconds: u64,
    pub end_unix_seconds: u64,
    pub dollars_per_vcpu_hour: f64,
    /// Sums, averages, and what follows from them, by name.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
    /// Metrics without a value in these periods, or why none could be read.
    pub missing: Vec<String>,
}

/// The values of each metric, by the start of their period.
type Values = BTreeMap<&'static str, BTreeMap<u64, f64>>;

impl Fleet {
    pub(crate) fn new(
        service: Service,
        function: Description,
        dollars_per_vcpu_hour: f64,
        run: &Measured,
    ) -> Self {
        let started = Duration::from_millis(run.started_unix_ms);
        let ended = started + Duration::from_secs_f64(run.elapsed_seconds);
        let period = PERIOD.as_secs();
        let period_of = |time: Duration| time.as_secs() / period * period;
        let mut all = run.recorder.outcomes;
        all.add(&run.warm_up_outcomes);
        let replies = [all.ok, all.function_error, all.wrong_reply];
        Self {
            service,
            function,
            dollars_per_vcpu_hour,
            start: period_of(started),
            end: period_of(ended) + period,
            replies: replies.into_iter().fold(0, u64::saturating_add),
        }
    }

    /// Waits for the metrics, and returns those that came in time.
    pub(crate) async fn metrics(
        &self,
        limit: Duration,
        is_quiet: bool,
        stop: &CancellationToken,
    ) -> Metrics {
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
                read = self.values() => values = read,
                () = stop.cancelled(), if may_wait => {}
            }
            let is_final = match &values {
                Ok(values) => self.is_complete(values),
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
                Ok(values) => self.report(&values),
                Err(error) => Metrics {
                    missing: vec![format!("all of them: {error:#}")],
                    ..self.report(&Values::new())
                },
            };
        }
    }

    async fn values(&self) -> Result<Values> {
        let capacity_provider = &self.function.capacity_provider;
        let function_name = &self.function.function_name;
        let version = &self.function.version;
        let function = json!([{"Name": "FunctionName", "Value": function_name}]);
        let environments = json!([
            {"Name": "CapacityProviderName", "Value": capacity_provider},
            {"Name": "FunctionName", "Value": function_name},
            {"Name": "Resource", "Value": format!("{function_name}:{version}")},
        ]);
        let mut wanted = FUNCTION_METRICS
            .map(|(name, _)| (name, "Sum", function.clone()))
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

        let mut values = Values::new();
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
                let time = Duration::try_from_secs_f64(time).unwrap_or_default();
                *values
                    .entry(name)
                    .or_default()
                    .entry(time.as_secs())
                    .or_default() += value;
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
        let operation = self.service.operation(Method::POST, "/", headers)?;
        let response = operation.call(serde_json::to_vec(input)?.into()).await;
        response
            .with_context(|| self.service.endpoint.url("/"))?
            .json()
    }

    /// Whether no more values will come.
    fn is_complete(&self, values: &Values) -> bool {
        let last = self.end - PERIOD.as_secs();
        let mut fleet = [CPU, ENVIRONMENTS, VCPUS].into_iter();
        sum(values, "Invocations").unwrap_or_default() >= as_f64(self.replies)
            && fleet.all(|name| values.get(name).is_some_and(|one| one.contains_key(&last)))
    }

    fn report(&self, values: &Values) -> Metrics {
        let sum = |name: &str| sum(values, name);
        let average = |name: &str| Some(sum(name)? / as_f64(values.get(name)?.len() as u64));
        let ratio = |one: f64, other: Option<f64>| Some(one / other.filter(|other| *other > 0.0)?);
        let invocations = sum("Invocations");
        let period = PERIOD.as_secs_f64();
        let cpu_seconds = sum(CPU)
            .zip(self.function.vcpus)
            .map(|(percent, vcpus)| percent / 100.0 * vcpus * period);
        let price = self.dollars_per_vcpu_hour;
        let dollars = sum(VCPUS).map(|vcpus| vcpus * period / 3600.0 * price);
        let per_million = dollars.and_then(|dollars| ratio(dollars * 1e6, invocations));
        let of_function = FUNCTION_METRICS.map(|(metric, name)| (name, sum(metric)));
        let of_fleet = [
            ("execution_environments", average(ENVIRONMENTS)),
            (
                "cpu_utilization_percent",
                sum(CPU).and_then(|percent| ratio(percent, sum(ENVIRONMENTS))),
            ),
            ("vcpus_allocated", average(VCPUS)),
            (
                "cpu_microseconds_per_invocation",
                cpu_seconds.and_then(|seconds| ratio(seconds * 1e6, invocations)),
            ),
            (
                "dollars_per_million_invocations",
                per_million.map(|dollars| dollars + DOLLARS_PER_MILLION_REQUESTS),
            ),
        ];
        let all = of_function.into_iter().chain(of_fleet);
        let known = all.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Metrics {
            start_unix_seconds: self.start,
            end_unix_seconds: self.end,
            dollars_per_vcpu_hour: price,
            values: known.collect(),
            missing: self.missing(values),
        }
    }

    fn missing(&self, values: &Values) -> Vec<String> {
        // Reasons are published only if there are throttles.
        let function_metrics = match sum(values, "Throttles") {
            Some(0.0) => &FUNCTION_METRICS[..2],
            _ => &FUNCTION_METRICS[..],
        };
        let names = function_metrics.iter().map(|(name, _)| *name);
        let all = names.chain([CPU, ENVIRONMENTS, VCPUS]);
        let mut missing: Vec<String> = all
            .filter(|name| !values.contains_key(name))
            .map(str::to_owned)
            .collect();
        if self.function.vcpus.is_none() {
            missing.push(
                "ExecutionEnvironmentMemoryGiBPerVCpu of the function's configuration".to_owned(),
            );
        }
        missing
    }
}

/// Whether a request would be refused again, for lack of a permission for example.
fn is_refusal(error: &Error) -> bool {
    error.downcast_ref::<ServiceError>().is_some_and(|error| {
        let code = error.code.as_deref().unwrap_or_default();
        error.status.is_client_error() && !code.starts_with("Throttling")
    })
}

fn sum(values: &Values, name: &str) -> Option<f64> {
    Some(values.get(name)?.values().sum())
}
