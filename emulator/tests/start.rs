//! Functions that do not start, and what their users are told.

use std::time::Duration;

use crate::support::{Gate, call, executable, function, http, payload, scratch, start, within};
use emulator::{Emulator, Settings, StartError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

async fn error(settings: Settings) -> String {
    let start = within("the start to fail", Emulator::start(settings));
    let error = start.await.unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than a line: {error}");
    error
}

fn behaving(behaviour: impl Into<String>) -> Settings {
    let mut settings = function();
    settings
        .environment
        .push(("BEHAVIOUR".into(), behaviour.into().into()));
    settings
}

#[tokio::test]
async fn says_which_address_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = function();
    settings.invoke_address = taken.local_addr().unwrap();
    let error = error(settings).await;
    let address = taken.local_addr().unwrap();
    assert!(
        error.starts_with(&format!("cannot listen on {address} for the Invoke API: ")),
        "{error}"
    );
}

#[tokio::test]
async fn says_that_the_bootstrap_does_not_exist() {
    let error = error(Settings::new("/no/such/bootstrap")).await;
    assert_eq!(
        error,
        "cannot run /no/such/bootstrap: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn says_that_the_bootstrap_is_a_directory() {
    let error = error(Settings::new("/tmp")).await;
    assert_eq!(
        error,
        "cannot run /tmp: it is a directory; give the path of the executable in it"
    );
}

#[tokio::test]
async fn says_that_the_bootstrap_is_not_executable() {
    let path = scratch("not-executable");
    std::fs::write(&path, "").unwrap();
    let error = error(Settings::new(&path)).await;
    assert!(
        error.ends_with("not-executable: it is not executable; try chmod +x"),
        "{error}"
    );
}

#[tokio::test]
async fn says_that_the_bootstrap_is_for_another_machine() {
    let path = executable("not-an-executable", "\x7fELF nonsense");
    let error = error(Settings::new(&path)).await;
    assert!(error.ends_with("Exec format error (os error 8)"), "{error}");
}

#[tokio::test]
async fn says_what_a_function_printed_before_it_ended() {
    let error = error(behaving("exit")).await;
    assert_eq!(
        error,
        "the function ended before its first poll (exit status: 7); \
         it last printed: cannot find my table"
    );
}

#[tokio::test]
async fn gives_up_on_a_function_that_never_polls() {
    let mut settings = behaving("hang");
    settings.init_timeout = Duration::from_millis(300);
    let start = within("the start to fail", Emulator::start(settings));
    let error = start.await.unwrap_err();
    assert!(matches!(error, StartError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn passes_on_the_error_of_init() {
    let gate = Gate::new().await;
    let settings = behaving(gate.address().to_string());
    let (error, ()) = tokio::join!(error(settings), async {
        let mut process = BufReader::new(gate.entered().await);
        let mut address = String::new();
        let told = process.read_line(&mut address);
        within("the Runtime API's address", told).await.unwrap();
        let head = "POST /2018-06-01/runtime/init/error HTTP/1.1";
        let body = br#"{"errorType": "Config.Missing", "errorMessage": "no table"}"#;
        let response = http(address.trim().parse().unwrap(), head, body).await;
        assert_eq!(
            (response.status, &*response.text()),
            (202, "{\"status\":\"OK\"}\n")
        );
    });
    assert_eq!(
        error,
        "the function could not start: Config.Missing: no table"
    );
}

#[tokio::test]
async fn refuses_an_error_of_init_from_a_function_that_has_started() {
    let emulator = start(function()).await;
    let reply = call(&emulator, r#"{"environment": {}}"#).await;
    let environment = payload(&reply);
    let address = environment["AWS_LAMBDA_RUNTIME_API"].as_str().unwrap();
    let head = "POST /2018-06-01/runtime/init/error HTTP/1.1";
    let refused = http(address.parse().unwrap(), head, b"{}").await;
    assert_eq!(
        (refused.status, &refused.json()["errorType"]),
        (403, &"InvalidStateTransition".into())
    );
}
