//! The function under load, through the Invoke API.

use std::fmt;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use bytes::Bytes;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::aws::{Operation, Service, ServiceError};
use crate::events::{Event, WrongReply};
use crate::http::{Client, Response};

/// An invocation that takes longer has failed: the function replies within milliseconds.
pub(crate) const INVOCATION_TIMEOUT: Duration = Duration::from_mins(1);

/// What is percent-encoded in a path or a query.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The name of a function, with a version or an alias.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct FunctionName {
    /// Function to invoke: its name or ARN
    #[arg(
        long = "function-name",
        value_name = "NAME",
        default_value = "fibonacci-generator",
        value_parser = NonEmptyStringValueParser::new()
    )]
    #[serde(rename = "function_name")]
    pub name: String,

    /// Version or alias to invoke
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub qualifier: Option<String>,
}

/// A function that a run invokes.
pub(crate) struct Target {
    service: Service,
    function: FunctionName,
    pub invoke: Operation,
}

/// What became of a request.
pub(crate) enum Outcome {
    /// The reply is what was expected, or nothing was expected.
    Ok,
    /// Refused with status 429.
    Throttled,
    /// The function failed: the error that the service reports for it.
    FunctionError(String),
    /// The reply is not what was expected.
    WrongReply(WrongReply),
    /// No reply: no connection, a timeout, an error of the service.
    Transport(String),
}

/// What Lambda says about a function before a run.
pub(crate) struct Description {
    pub timeout: Option<Duration>,
    /// Without ARN and qualifier.
    pub function_name: String,
    /// The version that invocations reach.
    pub version: String,
    /// vCPUs of an execution environment on Managed Instances.
    pub vcpus: Option<f64>,
    /// The name of the capacity provider, on Managed Instances.
    pub capacity_provider: Option<String>,
}

impl Target {
    pub(crate) fn new(service: Service, function: FunctionName) -> Result<Self> {
        let path = function.path("invocations");
        let invoke =
            service.operation(Method::POST, &path, [("content-type", "application/json")])?;
        Ok(Self {
            service,
            function,
            invoke,
        })
    }

    /// Makes sure that the function exists, and describes it.
    ///
    /// # Errors
    ///
    /// If the function cannot be described, with advice.
    pub(crate) async fn describe(&self) -> Result<Description> {
        let path = self.function.path("configuration");
        let response = self.get(&path).await.map_err(|error| self.advise(&error))?;
        let configuration = response.json().map_err(|error| self.advise(&error))?;
        let text = |pointer: &str| Some(configuration.pointer(pointer)?.as_str()?.to_owned());
        let fleet = "/CapacityProviderConfig/LambdaManagedInstancesCapacityProviderConfig";
        let arn = text(&format!("{fleet}/CapacityProviderArn"));
        let name = |arn: String| Some(arn.rsplit(':').next()?.to_owned());
        let number = |pointer: &str| configuration.pointer(pointer)?.as_f64();
        let gib_per_vcpu = number(&format!("{fleet}/ExecutionEnvironmentMemoryGiBPerVCpu"));
        Ok(Description {
            timeout: configuration["Timeout"].as_u64().map(Duration::from_secs),
            function_name: text("/FunctionName").unwrap_or_default(),
            // On Managed Instances, an invocation without a qualifier reaches what is published.
            version: match text("/Version") {
                Some(version) if version != "$LATEST" => version,
                _ => "$LATEST.PUBLISHED".to_owned(),
            },
            vcpus: number("/MemorySize")
                .zip(gib_per_vcpu)
                .map(|(mib, gib)| mib / 1024.0 / gib),
            capacity_provider: arn.and_then(name),
        })
    }

    /// Describes a capacity provider in words. Without a permission for that, it has only a name, as the
    /// emulator's has.
    pub(crate) async fn describe_fleet(&self, name: &str) -> String {
        let fleet = format!("capacity provider {name}");
        if self.is_loopback() {
            return fleet;
        }
        let path = format!("/2025-11-30/capacity-providers/{}", encode(name));
        let response = self.get(&path).await.and_then(|response| response.json());
        let provider = &response.unwrap_or_default()["CapacityProvider"];
        let Some(state) = provider["State"].as_str() else {
            return fleet;
        };
        let architecture = provider["InstanceRequirements"]["Architectures"][0].as_str();
        let architecture = architecture.unwrap_or("x86_64");
        let ceiling = match provider["CapacityProviderScalingConfig"]["MaxVCpuCount"].as_u64() {
            Some(ceiling) => format!("at most {ceiling} vCPUs"),
            None => "no vCPU ceiling set".to_owned(),
        };
        format!("{fleet}: {state}, {architecture}, {ceiling}")
    }

    async fn get(&self, path: &str) -> Result<Response> {
        let operation = self.service.operation(Method::GET, path, [])?;
        operation.call(Bytes::new()).await
    }

    fn advise(&self, error: &Error) -> Error {
        let service_error = error.downcast_ref::<ServiceError>();
        let advice = match service_error.and_then(|error| error.code.as_deref()) {
            Some("ResourceNotFoundException") => {
                "check the function's name, --qualifier and the Region"
            }
            Some("AccessDeniedException") => {
                "the load tester needs lambda:InvokeFunction, lambda:GetFunctionConfiguration and \
                 lambda:GetCapacityProvider"
            }
            _ if service_error.is_some() => "nothing was sent",
            _ if self.service.endpoint.is_loopback() => "is the emulator running? (`cargo local`)",
            _ => "check the Region and the network",
        };
        anyhow!("{}: {error:#} ({advice})", self.url())
    }

    pub(crate) fn url(&self) -> String {
        self.service.endpoint.url("/")
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.service.endpoint.is_loopback()
    }

    /// A connection for one caller.
    pub(crate) fn client(&self) -> Client {
        self.service.client()
    }
}

impl FunctionName {
    fn path(&self, operation: &str) -> String {
        let path = format!("/2015-03-31/functions/{}/{operation}", encode(&self.name));
        match &self.qualifier {
            Some(qualifier) => format!("{path}?Qualifier={}", encode(qualifier)),
            None => path,
        }
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.qualifier {
            Some(qualifier) => write!(f, ":{qualifier}"),
            None => Ok(()),
        }
    }
}

impl Response {
    pub(crate) fn is_throttled(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// How many bytes the function has sent.
    pub(crate) fn reply_bytes(&self) -> u64 {
        let length = self.body.iter().map(|piece| piece.len() as u64).sum();
        if self.status.is_success() { length } else { 0 }
    }

    /// The function's own error, if it failed.
    pub(crate) fn function_error(&self) -> Option<String> {
        self.headers.get("x-amz-function-error")?;
        Some(String::from_utf8_lossy(&self.body.concat()).into_owned())
    }
}

impl Outcome {
    pub(crate) fn of(response: Result<Response>, event: &Event) -> Self {
        let response = match response {
            Ok(response) => response,
            Err(error) => return Self::Transport(format!("{error:#}")),
        };
        if response.is_throttled() {
            return Self::Throttled;
        }
        if !response.status.is_success() {
            return Self::Transport(ServiceError::of(&response).to_string());
        }
        if let Some(error) = response.function_error() {
            return Self::FunctionError(error);
        }
        match event.verify(&response.body) {
            Ok(()) => Self::Ok,
            Err(wrong_reply) => Self::WrongReply(wrong_reply),
        }
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
