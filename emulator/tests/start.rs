//! Functions that do not start, and what their users are told.

use crate::support::worker::runtime_api;
use crate::support::{Gate, behaving, executable, http, scratch, within};
use emulator::{Emulator, Settings};

async fn error(settings: Settings) -> String {
    let start = within("the start to fail", Emulator::start(settings));
    let error = start.await.unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than a line: {error}");
    error
}

#[tokio::test]
async fn says_why_the_bootstrap_cannot_be_run() {
    let plain = scratch("not-executable");
    std::fs::write(&plain, "").unwrap();
    let foreign = executable("for-another-machine", "\x7fELF nonsense");
    for (bootstrap, reason) in [
        (
            "/no/such".as_ref(),
            "No such file or directory (os error 2)",
        ),
        (
            "/tmp".as_ref(),
            "it is a directory; give the path of the executable in it",
        ),
        (&*plain, "it is not executable; try chmod +x"),
        (&*foreign, "Exec format error (os error 8)"),
    ] {
        let error = error(Settings::new(bootstrap)).await;
        assert_eq!(
            error,
            format!("cannot run {}: {reason}", bootstrap.display())
        );
    }
}

#[tokio::test]
async fn passes_on_the_error_of_init() {
    let gate = Gate::new().await;
    let (error, ()) = tokio::join!(error(behaving(gate.address())), async {
        let (address, _process) = runtime_api(&gate).await;
        let head = "POST /2018-06-01/runtime/init/error HTTP/1.1";
        let body = br#"{"errorType": "Config.Missing", "errorMessage": "no table"}"#;
        let response = http(address, head, body).await;
        let accepted = (202, "{\"status\":\"OK\"}\n");
        assert_eq!((response.status, &*response.text()), accepted);
    });
    let expected = "the function could not start: Config.Missing: no table";
    assert_eq!(error, expected);
}
