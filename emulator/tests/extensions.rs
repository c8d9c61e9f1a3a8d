//! The Extensions API.

use std::net::SocketAddr;

use crate::support::worker::Function;
use crate::support::{Response, cases, http, request, request_bytes, response, send};
use emulator::Settings;
use serde_json::json;
use uuid::Uuid;

/// The head of a registration under a name, with other headers on lines of their own.
fn registration(name: &str) -> String {
    format!("POST /2020-01-01/extension/register HTTP/1.1\nlambda-extension-name: {name}")
}

pub(crate) async fn register(runtime_api: SocketAddr, name: &str, body: &str) -> Response {
    http(runtime_api, &registration(name), body.as_bytes()).await
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

/// Asserts that a request is answered with this status and type of error.
fn is_refused(response: &Response, status: u16, error_type: &str) {
    let told = response.json()["errorType"].take();
    assert_eq!((response.status, told), (status, error_type.into()));
}

#[tokio::test]
async fn registers_internal_extensions() {
    let handler = |settings: &mut Settings| settings.arguments = vec!["app.handler".into()];
    let before = async |runtime_api| {
        // A registration and a ping in one write get their responses in order.
        let head = registration("helper");
        let register_helper = request_bytes(runtime_api, &head, br#"{"events":[]}"#);
        let ping = request_bytes(runtime_api, "GET /2018-06-01/ping HTTP/1.1", b"");
        let mut connection = send(runtime_api, &[register_helper, ping].concat()).await;
        let registered = response(&mut connection).await;
        let pinged = response(&mut connection).await;
        assert_eq!((pinged.status, &*pinged.text()), (200, "pong"));
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

        let accept = "another\nlambda-extension-accept-feature: other, accountId";
        let registered = register(runtime_api, accept, "{}").await;
        assert_eq!(registered.json()["accountId"], "123456789012");
        become_ready(runtime_api, &registered).await;
    };
    Function::start_with(handler, before).await;
}

#[tokio::test]
async fn refuses_the_registrations_that_aws_refuses() {
    let before = async |runtime_api| {
        let table = r#"
{"events":["INVOKE"]} => Extension.InvalidEventType
{"events":["SHUTDOWN"]} => Extension.InvalidEventType
{"events":[null]} => Extension.InvalidEventType
not JSON => InvalidRequestFormat
[] => InvalidRequestFormat
 => InvalidRequestFormat
{} {} => InvalidRequestFormat
{"events":"INVOKE"} => InvalidRequestFormat
{"events":[1]} => InvalidRequestFormat
"#;
        for (body, error_type) in cases(table) {
            let refused = register(runtime_api, "helper", body).await;
            is_refused(&refused, 403, error_type);
        }
        let line = "POST /2020-01-01/extension/register HTTP/1.1";
        let nameless = http(runtime_api, line, br#"{"events":[]}"#).await;
        is_refused(&nameless, 403, "Extension.InvalidExtensionName");
        let harmless = r#"{"events":["INVOKE"],"events":null,"other":1}"#;
        let registered = register(runtime_api, "helper", harmless).await;
        assert_eq!(registered.status, 200);
        become_ready(runtime_api, &registered).await;
        let again = register(runtime_api, "helper", "{}").await;
        is_refused(&again, 403, "Extension.InvalidExtensionState");
    };
    let function = Function::start_with(|_| {}, before).await;
    let late = register(function.runtime_api, "late", r#"{"events":[]}"#).await;
    is_refused(&late, 403, "Extension.RegistrationClosed");
}

#[tokio::test]
async fn refuses_an_extension_that_it_does_not_know() {
    let function = Function::start().await;
    for line in [
        "GET /2020-01-01/extension/event/next",
        "PUT /2022-07-01/telemetry",
    ] {
        let unknown = "lambda-extension-identifier: 156cb537-e2d4-11e8-9b34-d36013741fb9";
        for (header, problem) in [
            ("", "Missing"),
            ("lambda-extension-identifier: me", "Invalid"),
            (unknown, "Unknown"),
        ] {
            let head = format!("{line} HTTP/1.1\n{header}");
            let refused = http(function.runtime_api, &head, b"").await;
            let error_type = format!("Extension.{problem}ExtensionIdentifier");
            is_refused(&refused, 403, &error_type);
        }
    }
}

#[tokio::test]
async fn has_no_telemetry_and_waits_once_for_an_extensions_first_event() {
    let before = async |runtime_api| {
        let registered = register(runtime_api, "helper", "{}").await;
        let telemetry = head("PUT /2022-07-01/telemetry", &registered);
        let telemetry = http(runtime_api, &telemetry, b"{}").await;
        is_refused(&telemetry, 202, "Telemetry.NotSupported");
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
        is_refused(&refused, 403, "Extension.InvalidExtensionState");
    };
    Function::start_with(|_| {}, before).await;
}
