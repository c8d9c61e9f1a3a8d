//! The Extensions API.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::worker::Function;
use crate::support::{Gate, Response, function, http, request, within, workers};
use emulator::{Emulator, StartError};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

async fn register(runtime_api: SocketAddr, headers: &str, body: &str) -> Response {
    let head = format!("POST /2020-01-01/extension/register HTTP/1.1\n{headers}");
    http(runtime_api, &head, body.as_bytes()).await
}

const NAME: &str = "lambda-extension-name: helper";

/// Asks for the extension's first event, which never comes.
async fn become_ready(runtime_api: SocketAddr, registered: &Response) {
    let id = registered.header("lambda-extension-identifier").unwrap();
    let head = format!(
        "GET /2020-01-01/extension/event/next HTTP/1.1
         lambda-extension-identifier: {id}"
    );
    std::mem::forget(request(runtime_api, &head, b"").await);
}

#[tokio::test]
async fn registers_an_internal_extension() {
    Function::start_after(workers(1), async |runtime_api| {
        let registered = register(runtime_api, NAME, r#"{"events":[]}"#).await;
        assert_eq!(registered.status, 200);
        let id = registered.header("lambda-extension-identifier").unwrap();
        assert!(Uuid::try_parse(id).is_ok());
        let expected = json!({
            "functionName": "function",
            "functionVersion": "$LATEST.PUBLISHED",
            "handler": "bootstrap",
        });
        assert_eq!(registered.json(), expected);
        become_ready(runtime_api, &registered).await;

        let accept = "lambda-extension-name: another
                      lambda-extension-accept-feature: other, accountId";
        let registered = register(runtime_api, accept, "{}").await;
        assert_eq!(registered.json()["accountId"], "123456789012");
        become_ready(runtime_api, &registered).await;
    })
    .await;
}

#[tokio::test]
async fn refuses_the_registrations_that_aws_refuses() {
    let refused = async |runtime_api, headers: &str, body: &str| {
        let response = register(runtime_api, headers, body).await;
        let error_type = response.json()["errorType"].as_str().unwrap().to_owned();
        (response.status, error_type)
    };
    let forbidden = |error_type: &str| (403, error_type.to_owned());
    let function = Function::start_after(workers(1), async |runtime_api| {
        for (headers, body, error_type) in [
            (
                NAME,
                r#"{"events":["INVOKE"]}"#,
                "Extension.InvalidEventType",
            ),
            (
                NAME,
                r#"{"events":["SHUTDOWN"]}"#,
                "Extension.InvalidEventType",
            ),
            ("", r#"{"events":[]}"#, "Extension.InvalidExtensionName"),
            (NAME, "not JSON", "InvalidRequestFormat"),
            (NAME, "[]", "InvalidRequestFormat"),
            (NAME, "", "InvalidRequestFormat"),
            (
                NAME,
                r#"{"configurationKeys":["A"]}"#,
                "InvalidRequestFormat",
            ),
        ] {
            let refusal = refused(runtime_api, headers, body).await;
            assert_eq!(refusal, forbidden(error_type), "{body}");
        }
        let registered = register(runtime_api, NAME, "{}").await;
        become_ready(runtime_api, &registered).await;
        let taken = refused(runtime_api, NAME, "{}").await;
        assert_eq!(taken, forbidden("Extension.InvalidExtensionState"));
        for number in 1..10 {
            let name = format!("lambda-extension-name: helper{number}");
            become_ready(runtime_api, &register(runtime_api, &name, "{}").await).await;
        }
        let one_more = refused(runtime_api, "lambda-extension-name: last", "{}").await;
        assert_eq!(one_more, forbidden("Extension.TooManyExtensions"));
    })
    .await;
    let late = "lambda-extension-name: late";
    let closed = refused(function.runtime_api, late, r#"{"events":[]}"#).await;
    assert_eq!(closed, forbidden("Extension.RegistrationClosed"));
}

#[tokio::test]
async fn refuses_an_extension_that_it_does_not_know() {
    let function = Function::start(workers(1)).await;
    for (header, error_type) in [
        ("", "Extension.MissingExtensionIdentifier"),
        (
            "lambda-extension-identifier: me",
            "Extension.InvalidExtensionIdentifier",
        ),
        (
            "lambda-extension-identifier: 156cb537-e2d4-11e8-9b34-d36013741fb9",
            "Extension.UnknownExtensionIdentifier",
        ),
    ] {
        let head = format!("GET /2020-01-01/extension/event/next HTTP/1.1\n{header}");
        let refused = http(function.runtime_api, &head, b"").await;
        assert_eq!(refused.status, 403);
        assert_eq!(refused.json()["errorType"], error_type);
    }
}

/// On AWS the init phase does not end before every extension has asked for its first event.
#[tokio::test]
async fn does_not_start_while_an_extension_is_not_ready() {
    let gate = Gate::new().await;
    let mut settings = function();
    settings
        .environment
        .push(("BEHAVIOUR".into(), gate.address().to_string().into()));
    settings.init_timeout = Duration::from_secs(3);
    let (started, ()) = tokio::join!(
        within("the start to fail", Emulator::start(settings)),
        async {
            let mut process = BufReader::new(gate.entered().await);
            let mut address = String::new();
            let told = process.read_line(&mut address);
            within("the Runtime API's address", told).await.unwrap();
            let runtime_api = address.trim().parse().unwrap();
            assert_eq!(register(runtime_api, NAME, "{}").await.status, 200);
            let next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1";
            std::mem::forget(request(runtime_api, next, b"").await);
            std::mem::forget(process);
        }
    );
    let error = started.unwrap_err();
    assert!(matches!(error, StartError::TimedOut { .. }), "{error}");
    let expected = "the function's extension \"helper\" did not ask for its first event within 3 \
                    seconds";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn says_that_there_is_no_telemetry() {
    let function = Function::start(workers(1)).await;
    for (path, error_type) in [
        ("/2022-07-01/telemetry", "Telemetry.NotSupported"),
        ("/2020-08-15/logs", "Logs.NotSupported"),
    ] {
        let head = format!("PUT {path} HTTP/1.1");
        let response = http(function.runtime_api, &head, b"{}").await;
        assert_eq!(response.status, 202);
        assert_eq!(response.json()["errorType"], error_type);
    }
}
