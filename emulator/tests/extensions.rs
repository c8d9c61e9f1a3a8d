//! The Extensions API.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::worker::{Function, NEXT, runtime_api};
use crate::support::{Gate, Response, behaving, http, request, response, within};
use emulator::{Emulator, Settings};
use serde_json::json;
use uuid::Uuid;

const NAME: &str = "lambda-extension-name: helper";

async fn register(runtime_api: SocketAddr, headers: &str, body: &str) -> Response {
    let head = format!("POST /2020-01-01/extension/register HTTP/1.1\n{headers}");
    http(runtime_api, &head, body.as_bytes()).await
}

/// The head of a request by a registered extension.
fn head(line: &str, registered: &Response) -> String {
    let id = registered.header("lambda-extension-identifier").unwrap();
    format!("{line} HTTP/1.1\nlambda-extension-identifier: {id}")
}

/// Asks for the extension's first event, which never comes.
async fn become_ready(runtime_api: SocketAddr, registered: &Response) {
    let head = head("GET /2020-01-01/extension/event/next", registered);
    std::mem::forget(request(runtime_api, &head, b"").await);
}

fn outcome(response: &Response) -> (u16, String) {
    let error_type = response.json()["errorType"].take();
    (response.status, error_type.as_str().unwrap().to_owned())
}

fn forbidden(error_type: &str) -> (u16, String) {
    (403, error_type.to_owned())
}

#[tokio::test]
async fn registers_an_internal_extension() {
    let handler = |settings: &mut Settings| settings.arguments = vec!["app.handler".into()];
    let before = async |runtime_api| {
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
    };
    Function::start_with(handler, before).await;
}

#[tokio::test]
async fn refuses_the_registrations_that_aws_refuses() {
    let before = async |runtime_api| {
        let refused = async |headers: &str, body: &str, error_type: &str| {
            let refused = register(runtime_api, headers, body).await;
            assert_eq!(outcome(&refused), forbidden(error_type), "{headers} {body}");
        };
        refused("", r#"{"events":[]}"#, "Extension.InvalidExtensionName").await;
        for body in [
            r#"{"events":["INVOKE"]}"#,
            r#"{"events":["SHUTDOWN"]}"#,
            r#"{"events":[null]}"#,
        ] {
            refused(NAME, body, "Extension.InvalidEventType").await;
        }
        for body in [
            "not JSON",
            "[]",
            "",
            "{} {}",
            r#"{"events":"INVOKE"}"#,
            r#"{"events":[1]}"#,
        ] {
            refused(NAME, body, "InvalidRequestFormat").await;
        }
        let harmless = r#"{"events":["INVOKE"],"events":null,"other":1}"#;
        let registered = register(runtime_api, NAME, harmless).await;
        assert_eq!(registered.status, 200);
        become_ready(runtime_api, &registered).await;
        refused(NAME, "{}", "Extension.InvalidExtensionState").await;
    };
    let function = Function::start_with(|_| {}, before).await;
    let late = "lambda-extension-name: late";
    let closed = register(function.runtime_api, late, r#"{"events":[]}"#).await;
    assert_eq!(outcome(&closed), forbidden("Extension.RegistrationClosed"));
}

#[tokio::test]
async fn refuses_an_extension_that_it_does_not_know() {
    let function = Function::start().await;
    for path in [
        "GET /2020-01-01/extension/event/next",
        "PUT /2022-07-01/telemetry",
    ] {
        for (id, problem) in [
            (None, "Missing"),
            (Some("me"), "Invalid"),
            (Some("156cb537-e2d4-11e8-9b34-d36013741fb9"), "Unknown"),
        ] {
            let header = id.map(|id| format!("lambda-extension-identifier: {id}"));
            let head = format!("{path} HTTP/1.1\n{}", header.unwrap_or_default());
            let refused = http(function.runtime_api, &head, b"").await;
            let error_type = format!("Extension.{problem}ExtensionIdentifier");
            assert_eq!(outcome(&refused), forbidden(&error_type), "{path}");
        }
    }
}

#[tokio::test]
async fn refuses_a_second_request_for_the_first_event() {
    let before = async |runtime_api| {
        let registered = register(runtime_api, NAME, "{}").await;
        let head = head("GET /2020-01-01/extension/event/next", &registered);
        // Whichever of the two comes first, the other is refused.
        let mut one = request(runtime_api, &head, b"").await;
        let mut other = request(runtime_api, &head, b"").await;
        let refused = tokio::select! {
            refused = response(&mut one) => refused,
            refused = response(&mut other) => refused,
        };
        // The other's request stays open.
        std::mem::forget((one, other));
        assert_eq!(
            outcome(&refused),
            forbidden("Extension.InvalidExtensionState")
        );
    };
    Function::start_with(|_| {}, before).await;
}

#[tokio::test]
async fn has_no_telemetry() {
    let before = async |runtime_api| {
        let registered = register(runtime_api, NAME, "{}").await;
        let head = head("PUT /2022-07-01/telemetry", &registered);
        let telemetry = http(runtime_api, &head, b"{}").await;
        let expected = (202, "Telemetry.NotSupported".to_owned());
        assert_eq!(outcome(&telemetry), expected);
        become_ready(runtime_api, &registered).await;
    };
    Function::start_with(|_| {}, before).await;
}

/// On AWS the init phase does not end before every extension has asked for its first event.
#[tokio::test]
async fn does_not_start_while_an_extension_is_not_ready() {
    // A slow machine needs more time to come as far as the registration.
    for seconds in [2, 8, 32] {
        let gate = Gate::new().await;
        let settings = Settings {
            init_timeout: Duration::from_secs(seconds),
            ..behaving(gate.address())
        };
        let never_ready = async {
            let (address, _process) = runtime_api(&gate).await;
            let _registered = register(address, NAME, "{}").await;
            let _poll = request(address, NEXT, b"").await;
            std::future::pending::<()>().await;
        };
        let started = tokio::select! {
            started = within("the start to fail", Emulator::start(settings)) => started,
            () = never_ready => unreachable!("it is pending"),
        };
        let error = started.unwrap_err().to_string();
        let expected = format!(
            "the function's extension \"helper\" did not ask for its first event within \
             {seconds} seconds"
        );
        if error.starts_with(&expected) {
            return;
        }
        assert!(error.starts_with("the function did not poll"), "{error}");
    }
    panic!("it never came as far as the registration");
}
