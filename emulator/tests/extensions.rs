//! The Extensions API.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::worker::{Function, NEXT};
use crate::support::{Gate, Response, function, http, request, response, within, workers};
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
    let mut settings = workers(1);
    settings.arguments = vec!["app.handler".into()];
    Function::start_after(settings, async |runtime_api| {
        let registered = register(runtime_api, NAME, r#"{"events":[]}"#).await;
        assert_eq!(registered.status, 200);
        let id = registered.header("lambda-extension-identifier").unwrap();
        assert!(Uuid::try_parse(id).is_ok());
        let expected = json!({
            "functionName": "function",
            "functionVersion": "$LATEST.PUBLISHED",
            "handler": "app.handler",
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
            (
                NAME,
                r#"{"Events":["INVOKE"]}"#,
                "Extension.InvalidEventType",
            ),
            (NAME, r#"{"events":[null]}"#, "Extension.InvalidEventType"),
            (NAME, "not JSON", "InvalidRequestFormat"),
            (NAME, "[]", "InvalidRequestFormat"),
            (NAME, "", "InvalidRequestFormat"),
            (NAME, "{} {}", "InvalidRequestFormat"),
            (NAME, r#"{"events":"INVOKE"}"#, "InvalidRequestFormat"),
            (NAME, r#"{"events":[1]}"#, "InvalidRequestFormat"),
            (
                NAME,
                r#"{"configurationKeys":["A"]}"#,
                "InvalidRequestFormat",
            ),
        ] {
            let refusal = refused(runtime_api, headers, body).await;
            assert_eq!(refusal, forbidden(error_type), "{body}");
        }
        let harmless = r#"{"events":["INVOKE"],"events":null,"other":1}"#;
        let registered = register(runtime_api, NAME, harmless).await;
        assert_eq!(registered.status, 200);
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
    for path in [
        "GET /2020-01-01/extension/event/next",
        "POST /2020-01-01/extension/init/error",
        "POST /2020-01-01/extension/exit/error",
        "PUT /2022-07-01/telemetry",
    ] {
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
            let head = format!("{path} HTTP/1.1\n{header}");
            let refused = http(function.runtime_api, &head, b"").await;
            let error_type = json!(error_type);
            assert_eq!(
                (refused.status, &refused.json()["errorType"]),
                (403, &error_type),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn refuses_a_second_request_for_the_first_event() {
    Function::start_after(workers(1), async |runtime_api| {
        let registered = register(runtime_api, NAME, "{}").await;
        let id = registered.header("lambda-extension-identifier").unwrap();
        let next = "GET /2020-01-01/extension/event/next HTTP/1.1";
        let head = format!("{next}\nlambda-extension-identifier: {id}");
        // Whichever of the two comes first, the other is refused.
        let mut one = request(runtime_api, &head, b"").await;
        let mut other = request(runtime_api, &head, b"").await;
        let refused = tokio::select! {
            refused = response(&mut one) => refused,
            refused = response(&mut other) => refused,
        };
        // The other's request stays open.
        std::mem::forget((one, other));
        let error_type = refused.json()["errorType"].take();
        assert_eq!(
            (refused.status, error_type),
            (403, json!("Extension.InvalidExtensionState"))
        );
    })
    .await;
}

#[tokio::test]
async fn takes_note_of_an_extensions_errors() {
    Function::start_after(workers(1), async |runtime_api| {
        let registered = register(runtime_api, NAME, "{}").await;
        let id = registered.header("lambda-extension-identifier").unwrap();
        for path in ["init/error", "exit/error"] {
            let head = format!(
                "POST /2020-01-01/extension/{path} HTTP/1.1
                 lambda-extension-identifier: {id}"
            );
            let refused = http(runtime_api, &head, b"{}").await;
            let error_type = refused.json()["errorType"].take();
            assert_eq!(
                (refused.status, error_type),
                (403, json!("Extension.MissingHeader"))
            );
            let head = format!("{head}\nlambda-extension-function-error-type: Helper.Broken");
            assert_eq!(http(runtime_api, &head, b"{}").await.status, 202);
        }
        become_ready(runtime_api, &registered).await;
    })
    .await;
}

/// On AWS the init phase does not end before every extension has asked for its first event.
#[tokio::test]
async fn does_not_start_while_an_extension_is_not_ready() {
    // A slow machine needs more time to come as far as the registration.
    for seconds in [2, 8, 32] {
        let gate = Gate::new().await;
        let mut settings = function();
        settings.environment = vec![("BEHAVIOUR".into(), gate.address().to_string().into())];
        settings.init_timeout = Duration::from_secs(seconds);
        let never_ready = async {
            let mut process = BufReader::new(gate.entered().await);
            let mut address = String::new();
            process.read_line(&mut address).await.ok()?;
            let runtime_api = address.trim().parse().ok()?;
            let _registered = register(runtime_api, NAME, "{}").await;
            let _poll = request(runtime_api, NEXT, b"").await;
            std::future::pending::<Option<()>>().await
        };
        let started = tokio::select! {
            started = within("the start to fail", Emulator::start(settings)) => started,
            Some(()) = never_ready => unreachable!("it is pending"),
        };
        let error = started.unwrap_err();
        let StartError::TimedOut { extension, .. } = &error else {
            panic!("{error}");
        };
        if extension.is_some() {
            let expected = format!(
                "the function's extension \"helper\" did not ask for its first event within \
                 {seconds} seconds"
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
            return;
        }
    }
    panic!("it never came as far as the registration");
}

#[tokio::test]
async fn says_that_there_is_no_telemetry() {
    Function::start_after(workers(1), async |runtime_api| {
        let registered = register(runtime_api, NAME, "{}").await;
        let id = registered.header("lambda-extension-identifier").unwrap();
        let head = format!("PUT /2022-07-01/telemetry HTTP/1.1\nlambda-extension-identifier: {id}");
        let response = http(runtime_api, &head, b"{}").await;
        assert_eq!(response.status, 202);
        assert_eq!(response.json()["errorType"], "Telemetry.NotSupported");
        become_ready(runtime_api, &registered).await;
    })
    .await;
}
