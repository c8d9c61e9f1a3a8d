//! The function under load, through the Invoke API.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, StalledStreamProtectionConfig,
};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::types::InvocationType;
use http::Uri;
use serde::Serialize;

use crate::events::{Difference, Event};

/// An invocation that takes longer has failed: the function answers within milliseconds.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The function that a run invokes.
pub(crate) struct Target {
    client: Client,
    function_name: String,
    qualifier: Option<String>,
    /// Where the Invoke API is, for people.
    pub location: String,
    pub is_local: bool,
}

/// What became of a request.
pub(crate) enum Outcome {
    /// The reply is what the table says.
    Ok,
    /// Refused with status 429.
    Throttled,
    /// The function failed: the error that the service reports for it.
    FunctionError(String),
    /// The reply is not what the table says.
    WrongReply(Difference),
    /// No answer of the function: no connection, a time-out, an error of the service.
    Transport(String),
}

/// The fleet behind the function.
#[derive(Serialize)]
pub(crate) struct CapacityProvider {
    name: String,
    state: String,
    architecture: String,
    max_vcpus: Option<i32>,
}

impl Target {
    /// Finds region and credentials as every AWS tool does; a loopback endpoint needs neither.
    pub(crate) async fn new(
        function_name: String,
        qualifier: Option<String>,
        endpoint_url: Option<&Uri>,
    ) -> Result<Self> {
        let is_local = endpoint_url.and_then(Uri::host).is_some_and(is_loopback);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if is_local {
            // Not the whole chain: it ends by waiting for an EC2 instance's metadata.
            loader = loader
                .region(
                    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                        .or_else(ProfileFileRegionProvider::new())
                        .or_else(Region::from_static("us-east-1")),
                )
                .credentials_provider(
                    CredentialsProviderChain::first_try(
                        "environment",
                        EnvironmentVariableCredentialsProvider::new(),
                    )
                    .or_else("profile", ProfileFileCredentialsProvider::builder().build())
                    .or_else(
                        "dummies",
                        Credentials::new("local", "local", None, None, "dummies"),
                    ),
                );
        }
        let config = loader.load().await;

        let Some(region) = config.region() else {
            bail!("no AWS region: set AWS_REGION or AWS_PROFILE");
        };
        let location = endpoint_url.map_or_else(|| format!("Lambda in {region}"), Uri::to_string);
        config
            .credentials_provider()
            .context("no AWS credentials")?
            .provide_credentials()
            .await
            .context("no AWS credentials: run `aws configure`, or set AWS_PROFILE")?;

        let mut builder = aws_sdk_lambda::config::Builder::from(&config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build())
            // It would watch the throughput of every reply; the time-out suffices.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(url) = endpoint_url {
            builder = builder.endpoint_url(url.to_string());
        }
        Ok(Self {
            client: Client::from_conf(builder.build()),
            function_name,
            qualifier,
            location,
            is_local,
        })
    }

    /// Makes sure that there is such a function, and looks up the fleet behind it. A local endpoint
    /// is asked to validate an invocation, since it need not know Lambda's other operations.
    pub(crate) async fn inspect(&self) -> Result<Option<CapacityProvider>> {
        if self.is_local {
            self.client
                .invoke()
                .function_name(&self.function_name)
                .set_qualifier(self.qualifier.clone())
                .invocation_type(InvocationType::DryRun)
                .send()
                .await
                .map_err(|error| self.explain(error))?;
            return Ok(None);
        }

        let configuration = self
            .client
            .get_function_configuration()
            .function_name(&self.function_name)
            .set_qualifier(self.qualifier.clone())
            .send()
            .await
            .map_err(|error| self.explain(error))?;
        let Some(name) = configuration
            .capacity_provider_config()
            .and_then(|config| config.lambda_managed_instances_capacity_provider_config())
            .and_then(|config| config.capacity_provider_arn().rsplit(':').next())
        else {
            return Ok(None);
        };
        let provider = self
            .client
            .get_capacity_provider()
            .capacity_provider_name(name)
            .send()
            .await
            .map_err(|error| self.explain(error))?
            .capacity_provider
            .with_context(|| format!("Lambda does not describe the capacity provider {name}"))?;
        Ok(Some(CapacityProvider {
            name: name.to_owned(),
            state: provider.state.to_string(),
            architecture: provider
                .instance_requirements
                .and_then(|requirements| requirements.architectures?.pop())
                .map_or_else(
                    || "x86_64".to_owned(),
                    |architecture| architecture.to_string(),
                ),
            max_vcpus: provider
                .capacity_provider_scaling_config
                .and_then(|config| config.max_v_cpu_count),
        }))
    }

    pub(crate) async fn invoke(
        &self,
        event: &Event,
    ) -> Result<InvokeOutput, SdkError<InvokeError>> {
        self.client
            .invoke()
            .function_name(&self.function_name)
            .set_qualifier(self.qualifier.clone())
            .payload(event.payload.clone())
            .send()
            .await
    }

    fn explain<E>(&self, error: SdkError<E>) -> anyhow::Error
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let advice = match error
            .as_service_error()
            .and_then(ProvideErrorMetadata::code)
        {
            Some("ResourceNotFoundException") => {
                "check --function-name, --qualifier and the region"
            }
            Some("AccessDeniedException") => {
                "the load tester needs lambda:InvokeFunction, lambda:GetFunctionConfiguration and \
                 lambda:GetCapacityProvider"
            }
            Some(_) => "nothing was sent",
            None if self.is_local => "is the emulator running? (`cargo local`)",
            None => "check the region and the network",
        };
        anyhow!("{}: {} ({advice})", self.location, describe(error))
    }
}

impl Outcome {
    pub(crate) fn of(answer: Result<InvokeOutput, SdkError<InvokeError>>, event: &Event) -> Self {
        match answer {
            Ok(output) => {
                let payload = output.payload.unwrap_or_default().into_inner();
                if output.function_error.is_some() {
                    return Self::FunctionError(String::from_utf8_lossy(&payload).into_owned());
                }
                match event.verify(&payload) {
                    Ok(()) => Self::Ok,
                    Err(difference) => Self::WrongReply(difference),
                }
            }
            Err(error) if is_throttled(&error) => Self::Throttled,
            Err(error) => Self::Transport(describe(error)),
        }
    }
}

impl fmt::Display for CapacityProvider {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            name,
            state,
            architecture,
            max_vcpus,
        } = self;
        write!(f, "capacity provider {name}: {state}, {architecture}, ")?;
        match max_vcpus {
            Some(ceiling) => write!(f, "at most {ceiling} vCPUs"),
            None => f.write_str("no vCPU ceiling set"),
        }
    }
}

pub(crate) fn is_throttled<E>(error: &SdkError<E>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 429)
}

/// One line about an error: the service's own words, or else every cause.
fn describe<E>(error: SdkError<E>) -> String
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    if let Some(service) = error.as_service_error()
        && let Some(code) = service.code()
    {
        return match service.message() {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        };
    }
    format!("{:#}", anyhow::Error::from(error))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
