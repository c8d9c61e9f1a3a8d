//! The read-only operations that SDK waiters, IDE toolkits and deployment scripts call, for the one
//! function that there is.

use std::ffi::OsStr;
use std::fs;
use std::path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::api_error::ApiError;
use crate::function_name::FunctionName;
use crate::http::{AMZN_REQUEST_ID, header_value, json_response};
use crate::origin;
use crate::settings::{MEMORY_MIB, PUBLISHED, Settings, arn};
use crate::shared::Shared;

const LATEST: &str = "$LATEST";

/// The one capacity provider.
const CAPACITY_PROVIDER: &str = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:local";

const ROLE: &str = "arn:aws:iam::123456789012:role/local";

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/2015-03-31/functions", get(list_functions))
        .route("/2015-03-31/functions/", get(list_functions))
        .route(
            "/2015-03-31/functions/{name}",
            read("lambda:GetFunction", function),
        )
        .route(
            "/2015-03-31/functions/{name}/configuration",
            read("lambda:GetFunctionConfiguration", |_, it| it.clone()),
        )
        .route(
            "/2021-10-31/functions/{name}/url",
            read("lambda:GetFunctionUrlConfig", function_url_config),
        )
        .route(
            "/2025-11-30/functions/{name}/function-scaling-config",
            read("lambda:GetFunctionScalingConfig", function_scaling_config),
        )
        .route(
            "/2025-11-30/capacity-providers/{name}",
            get(get_capacity_provider),
        )
        // The configuration may hold secrets, in the environment variables.
        .route_layer(middleware::from_fn(origin::only_own_page))
}

type Api = State<Arc<Shared>>;

/// An operation that describes the version that a request names, given its configuration.
fn read(
    action: &'static str,
    describe: fn(&Settings, &Value) -> Value,
) -> MethodRouter<Arc<Shared>> {
    get(
        async move |State(shared): Api,
                    name: Result<Path<String>, PathRejection>,
                    query: RawQuery| {
            let settings = &shared.settings;
            let configuration = configuration(settings, name, query, action)?;
            Ok::<_, ApiError>(respond(&describe(settings, &configuration)))
        },
    )
}

fn function(settings: &Settings, configuration: &Value) -> Value {
    let bootstrap = &settings.bootstrap;
    // A file URL holds an absolute path.
    let path = path::absolute(bootstrap).unwrap_or_else(|_| bootstrap.clone());
    let location = format!("file://{}", path.display());
    json!({
        "Configuration": configuration,
        "Code": { "RepositoryType": "local", "Location": location },
    })
}

fn function_url_config(settings: &Settings, configuration: &Value) -> Value {
    let modified = &configuration["LastModified"];
    json!({
        "FunctionUrl": format!("http://{}/", settings.function_url_address),
        "FunctionArn": configuration["FunctionArn"],
        "AuthType": "NONE",
        "InvokeMode": "BUFFERED",
        "CreationTime": modified,
        "LastModifiedTime": modified,
    })
}

/// There is always exactly one execution environment.
fn function_scaling_config(_: &Settings, configuration: &Value) -> Value {
    let scaling = json!({ "MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 1 });
    json!({
        "FunctionArn": configuration["FunctionArn"],
        "AppliedFunctionScalingConfig": scaling,
        "RequestedFunctionScalingConfig": scaling,
    })
}

async fn get_capacity_provider(
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let name = name.map(|Path(name)| name).unwrap_or_default();
    if name != "local" && name != CAPACITY_PROVIDER {
        let message = format!("Capacity provider not found: {name}");
        return Err(ApiError::not_found(message));
    }
    Ok(respond(&json!({
        "CapacityProvider": {
            "CapacityProviderArn": CAPACITY_PROVIDER,
            "State": "Active",
            "VpcConfig": { "SubnetIds": [], "SecurityGroupIds": [] },
            "PermissionsConfig": { "CapacityProviderOperatorRoleArn": ROLE },
            "InstanceRequirements": { "Architectures": [architecture()] },
        },
    })))
}

async fn list_functions(State(shared): Api, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let all = form_urlencoded::parse(query.as_bytes())
        .any(|(key, value)| key == "FunctionVersion" && value == "ALL");
    let settings = &shared.settings;
    let mut functions = vec![describe_version(settings, None)];
    if all {
        functions.push(describe_version(settings, Some(PUBLISHED)));
    }
    respond(&json!({ "Functions": functions }))
}

fn respond(body: &Value) -> Response {
    let request_id = header_value(Uuid::new_v4());
    ([(AMZN_REQUEST_ID, request_id)], json_response(body)).into_response()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        architecture => architecture,
    }
}

/// The configuration of the version that a request names.
fn configuration(
    settings: &Settings,
    name: Result<Path<String>, PathRejection>,
    query: RawQuery,
    action: &str,
) -> Result<Value, ApiError> {
    let FunctionName { name, qualifier } = FunctionName::read(name, query, action)?;
    let qualifier = qualifier.as_deref();
    if name != settings.function_name || !matches!(qualifier, None | Some(LATEST | PUBLISHED)) {
        return Err(ApiError::function_not_found(&name, qualifier));
    }
    let mut configuration = describe_version(settings, qualifier);
    configuration["State"] = "Active".into();
    configuration["LastUpdateStatus"] = "Successful".into();
    Ok(configuration)
}

/// What `ListFunctions` says of a version.
fn describe_version(settings: &Settings, qualifier: Option<&str>) -> Value {
    let metadata = fs::metadata(&settings.bootstrap).ok();
    let modified = metadata.as_ref().and_then(|file| file.modified().ok());
    let text = |text: &OsStr| text.to_string_lossy().into_owned();
    let variables =
        (settings.environment.iter()).map(|(name, value)| (text(name), Value::from(text(value))));
    json!({
        "FunctionName": settings.function_name,
        "FunctionArn": arn(&settings.function_name, qualifier),
        "Version": qualifier.unwrap_or(LATEST),
        "Description": "",
        "Runtime": "provided.al2023",
        "Handler": settings.handler(),
        "Role": ROLE,
        "PackageType": "Zip",
        "CodeSize": metadata.map_or(0, |file| file.len()),
        "LastModified": DateTime::<Utc>::from(modified.unwrap_or(SystemTime::UNIX_EPOCH))
            .format("%Y-%m-%dT%H:%M:%S.000%z")
            .to_string(),
        "MemorySize": MEMORY_MIB,
        // The API model allows 1 to 5400 seconds.
        "Timeout": match settings.timeout.as_secs() {
            0 if settings.timeout.is_zero() => 5400,
            seconds => seconds.clamp(1, 5400),
        },
        "EphemeralStorage": { "Size": 512 },
        "Architectures": [architecture()],
        "Environment": { "Variables": variables.collect::<Map<_, _>>() },
        "TracingConfig": { "Mode": "PassThrough" },
        "LoggingConfig": { "LogFormat": "JSON", "LogGroup": settings.log_group() },
        "CapacityProviderConfig": {
            "LambdaManagedInstancesCapacityProviderConfig": {
                "CapacityProviderArn": CAPACITY_PROVIDER,
                "PerExecutionEnvironmentMaxConcurrency": settings.max_concurrency,
                "ExecutionEnvironmentMemoryGiBPerVCpu": 2.0,
            },
        },
    })
}
