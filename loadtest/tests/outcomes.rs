//! What comes back is told apart, and every byte of it is compared.

use std::convert::Infallible;
use std::env;
use std::process::{ExitCode, exit};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fibonacci_generator::{event, reply};
use lmi_runtime::Invocation;
use serde_json::json;
use test_support::own_test;
use tokio::runtime::Runtime;

use crate::support::{
    InvokeApi, emulator, loadtest, report, right, right_reply, run, service_error, stderr, stdout,
    throttled, within,
};

#[test]
fn passes_if_every_reply_is_right() {
    let api = InvokeApi::start(right);

    let output = api.run("-n 500 -c 4 --n 0..=1000");

    assert!(output.status.success(), "{output:?}");
    assert_eq!(api.invocations(), 500);
    let text = stdout(&output);
    assert!(text.contains("ok  500 (100.00 %)"), "{text}");
    assert!(text.contains("latency in ms, from sending"), "{text}");
    assert!(text.contains("us per request"), "{text}");
    assert!(!text.contains("failed:"), "{text}");
}

/// Is the function in a process that the test below starts.
#[test]
fn function() {
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        return;
    }
    let code = lmi_runtime::run(async |invocation: &Invocation| {
        Ok::<_, Infallible>(reply::slices(event::parse(invocation.payload())))
    });
    exit(i32::from(code != ExitCode::SUCCESS));
}

#[test]
fn expects_what_the_function_replies_to_a_mix_of_events() {
    let runtime = Runtime::new().unwrap();
    let function = own_test("outcomes::function");
    let mut settings = ::emulator::Settings::new(function.get_program());
    settings.arguments = function.get_args().map(ToOwned::to_owned).collect();
    settings.function_name = "fibonacci-generator".to_owned();
    settings.queue = 8;
    let emulator = emulator(&runtime, settings);
    let url = format!("http://{}", emulator.invoke_address());

    for events in ["--mix", "--n 0..=1000"] {
        let mut command = loadtest("-n 2000 -c 8 -w 16 -o json");
        let output = run(command
            .args(["--endpoint-url", &url])
            .args(events.split(' ')));

        assert!(output.status.success(), "{output:?}");
        assert_eq!(report(&output)["outcomes"]["ok"], 2000);
        assert_eq!(report(&output)["warm_up_outcomes"]["ok"], 16);
    }
    within(&runtime, "the end", emulator.terminate());
}

#[test]
fn finds_one_wrong_digit_in_2_000_replies() {
    let api = InvokeApi::start(async |invocation| {
        let mut reply = right_reply(&invocation.payload);
        if invocation.number == 1_777 {
            let last_digit = reply.len() - br#"]}"}"#.len() - 1;
            reply[last_digit] ^= 1;
        }
        reply.into_response()
    });

    let output = api.run("-n 2000 -c 8 --n 90 -o json");

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("wrong replies: 1"), "{output:?}");
    let report = report(&output);
    assert_eq!(report["outcomes"]["ok"], 1_999);
    assert_eq!(report["outcomes"]["wrong_reply"], 1);
    let wrong = &report["wrong_replies"][0];
    assert_eq!(wrong["n"], 90);
    assert_eq!(wrong["event"], r#"{"n": 90}"#);
    // F(90) = 2880067194370816120
    let offset = right_reply(br#"{"n": 90}"#).len() - br#"0]}"}"#.len();
    assert_eq!(wrong["offset"], offset);
    assert_eq!(wrong["expected"], r#"0]}"}"#);
    assert_eq!(wrong["received"], r#"1]}"}"#);
}

#[test]
fn a_wrong_reply_while_warming_up_fails_the_run_too() {
    let api = InvokeApi::start(async |invocation| {
        if invocation.number == 0 {
            Response::default()
        } else {
            right(invocation).await
        }
    });

    let output = api.run("-w 5 -n 20");

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stdout(&output);
    assert!(
        text.contains(r#"wrong reply to {"n": 10} at offset 0"#),
        "{text}"
    );
    assert!(text.contains("failed: wrong replies: 1"), "{text}");
    assert!(text.contains("ok  20 (100.00 %)"), "{text}");
}

#[test]
fn counts_throttles_and_fails_over_the_share_allowed() {
    let api = InvokeApi::start(async |invocation| match invocation.number % 4 {
        0 => throttled(),
        _ => right(invocation).await,
    });
    let sent = |flags: &str| api.run(&format!("-n 100 -o json {flags}"));

    let output = sent("");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(&output)["outcomes"]["throttled"], 25);
    assert_eq!(report(&output)["outcomes"]["ok"], 75);
    assert_eq!(report(&output)["throttled_percent"], 25.0);

    assert!(sent("--max-throttled 25%").status.success());
    let output = sent("--max-throttled 24.9");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("throttled: 25.00 %, more than --max-throttled 24.9"),
        "{output:?}"
    );
}

#[test]
fn retries_throttled_requests_and_counts_the_retries() {
    let api = InvokeApi::start(async |invocation| match invocation.number % 2 {
        0 => throttled(),
        _ => right(invocation).await,
    });

    let output = api.run("-n 10 --retry --max-throttled 0 -o json");

    assert!(output.status.success(), "{output:?}");
    assert_eq!(report(&output)["outcomes"]["ok"], 10);
    assert_eq!(report(&output)["retries"], 10);
    assert_eq!(api.invocations(), 20);
}

#[test]
fn gives_up_on_a_request_that_is_throttled_ten_times() {
    let api = InvokeApi::start(async |_| throttled());

    let output = api.run("-n 1 --retry -o json");

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(report(&output)["outcomes"]["throttled"], 1);
    assert_eq!(report(&output)["retries"], 9);
    assert_eq!(api.invocations(), 10);
    assert!(stderr(&output).contains("no reply was right"), "{output:?}");
}

/// Lambda's replies are 6 MB at most.
#[test]
fn stops_reading_a_response_that_does_not_end() {
    let api = InvokeApi::start(async |_| {
        let piece = Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1 << 20]));
        Body::from_stream(futures_util::stream::repeat(piece)).into_response()
    });

    let output = api.run("-n 3 -c 3");

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stdout(&output);
    assert!(
        text.contains("3 x transport: the response is longer than 8 MiB"),
        "{text}"
    );
}

#[test]
fn tells_function_errors_from_transport_errors() {
    let api = InvokeApi::start(async |invocation| match invocation.number {
        3 => {
            let message = r#"{"errorType": "Unhandled", "errorMessage": "boom"}"#;
            ([("x-amz-function-error", "Unhandled")], message).into_response()
        }
        5 => service_error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
        // Shorter than the length announced.
        7 => {
            let chunks = [Ok("{"), Err("cut")];
            let cut = Body::from_stream(futures_util::stream::iter(chunks));
            ([("content-length", "100")], cut).into_response()
        }
        _ => right(invocation).await,
    });

    let output = api.run("-n 20 -o json");

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = report(&output);
    assert_eq!(report["outcomes"]["ok"], 17);
    assert_eq!(report["outcomes"]["function_error"], 1);
    assert_eq!(report["outcomes"]["transport"], 2);
    let errors = report["errors"].to_string();
    assert!(errors.contains("boom"), "{errors}");
    assert!(
        errors.contains("ServiceException: ServiceException of the test"),
        "{errors}"
    );
    assert_eq!(
        report["violations"],
        json!(["function errors: 1", "transport errors: 2"])
    );
}
