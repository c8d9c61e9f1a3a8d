//! Functions that do not start, and what their users are told.

use crate::extensions::register;
use crate::support::worker::{NEXT, runtime_api};
use crate::support::{
    Gate, PATIENCE, behaving, cases, closed, executable, http, request, scratch, within,
};
use emulator::{Emulator, Settings};
use tokio::time;

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
    executable("for-another-machine", "\x7fELF nonsense");
    let table = "
/no/such => No such file or directory (os error 2)
/tmp => it is a directory; give the path of the executable in it
FOLDER/not-executable => it is not executable; try chmod +x
FOLDER/for-another-machine => Exec format error (os error 8)
";
    let folder = plain.parent().unwrap().to_str().unwrap();
    for (bootstrap, reason) in cases(&table.replace("FOLDER", folder)) {
        let error = error(Settings::new(bootstrap)).await;
        assert_eq!(error, format!("cannot run {bootstrap}: {reason}"));
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

/// On AWS the init phase does not end before every extension has asked for its first event.
#[tokio::test]
async fn gives_up_what_does_not_start_in_time_and_leaves_nothing_behind() {
    for (registers, reason) in [
        (false, "the function did not poll within 60 seconds"),
        (
            true,
            "the function's extension \"helper\" did not ask for its first event within 60 seconds",
        ),
    ] {
        let gate = Gate::new().await;
        let settings = Settings {
            init_timeout: PATIENCE / 2,
            ..behaving(gate.address())
        };
        let (error, (process, _poll)) = tokio::join!(error(settings), async {
            let (address, process) = runtime_api(&gate).await;
            // When this gets a response, the time is running.
            http(address, "GET /2018-06-01/ping HTTP/1.1", b"").await;
            let mut poll = None;
            if registers {
                register(address, "helper", "{}").await;
                poll = Some(request(address, NEXT, b"").await);
            }
            time::pause();
            time::advance(PATIENCE / 2).await;
            time::resume();
            (process, poll)
        });
        assert!(error.starts_with(reason), "{error}");
        closed(process).await;
    }
}
