//! What comes back is told apart, and every byte of it is compared.

use std::convert::Infallible;

use ::emulator::Settings;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use test_support::own_test;
use tokio::runtime::Runtime;

use crate::support::{
    InvokeApi, assert_contains, emulator, loadtest, right, right_reply, run, service_error,
    throttled, within,
};

#[test]
fn passes_if_every_reply_is_right() {
    let api = InvokeApi::start(right);

    let text = api.run("-n 500 -c 4 --n 0..=1000").passed().stdout;

    assert_eq!(api.invocations(), 500);
    assert_contains(&text, "ok  500 (100.00 %)");
    assert_contains(&text, "latency in ms, from sending");
    assert_contains(&text, "us per request");
    assert!(!text.contains("failed:"), "{text}");
}

/// Is the function in a process that the test below starts.
#[test]
fn function() {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        let _ = lmi_runtime::run(async |invocation: &lmi_runtime::Invocation| {
            Ok::<_, Infallible>(right_reply(invocation.payload()))
        });
        std::process::exit(0);
    }
}

#[test]
fn expects_what_the_function_replies_to_a_mix_of_events() {
    let runtime = Runtime::new().unwrap();
    let function = own_test("outcomes::function");
    let mut settings = Settings::new(function.get_program());
    settings.arguments = function.get_args().map(ToOwned::to_owned).collect();
    settings.function_name = "fibonacci-generator".to_owned();
    settings.queue = 8;
    let emulator = emulator(&runtime, settings);
    let url = format!("http://{}", emulator.invoke_address());

    let flags = format!("-n 2000 -c 8 -w 16 -o json --mix --endpoint-url {url}");
    let report = run(&mut loadtest(&flags)).passed().report();

    assert_eq!(report["outcomes"]["ok"], 2000);
    assert_eq!(report["warm_up_outcomes"]["ok"], 16);
    assert_eq!(report["capacity_provider"], "capacity provider local");
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

    let ended = api.run("-n 2000 -c 8 --n 90 -o json").failed();

    assert_contains(&ended.stderr, "wrong replies: 1");
    let report = ended.report();
    assert_eq!(report["outcomes"]["ok"], 1_999);
    assert_eq!(report["outcomes"]["wrong_reply"], 1);
    // F(90) = 2880067194370816120
    let offset = right_reply(br#"{"n": 90}"#).len() - br#"0]}"}"#.len();
    let wrong = json!([{
        "event": r#"{"n": 90}"#, "offset": offset,
        "expected": r#"0]}"}"#, "received": r#"1]}"}"#,
    }]);
    assert_eq!(report["wrong_replies"], wrong);
}

#[test]
fn a_wrong_reply_while_warming_up_fails_the_run_too() {
    let api = InvokeApi::start(async |invocation| match invocation.number {
        0 => Response::default(),
        _ => right(invocation).await,
    });

    let text = api.run("-w 5 -n 20").failed().stdout;

    assert_contains(&text, r#"wrong reply to {"n": 10} at offset 0"#);
    assert_contains(&text, "failed: wrong replies: 1");
    assert_contains(&text, "ok  20 (100.00 %)");
}

#[test]
fn counts_throttles_and_fails_over_what_is_allowed() {
    let api = InvokeApi::start(async |invocation| match invocation.number % 4 {
        0 => throttled(),
        _ => right(invocation).await,
    });
    let sent = |flags: &str| api.run(&format!("-n 100 -o json {flags}"));

    let report = sent("").passed().report();
    assert_eq!(report["outcomes"]["throttled"], 25);
    assert_eq!(report["outcomes"]["ok"], 75);
    assert_eq!(report["throttled_percent"], 25.0);

    sent("--max-throttled 25 --max-p99 1m").passed();
    for (flags, complaint) in [
        (
            "--max-throttled 24.9",
            "throttled: 25.00 %, more than --max-throttled 24.9",
        ),
        ("--max-p99 1us", "ms, more than --max-p99 1us"),
    ] {
        assert_contains(&sent(flags).failed().stderr, complaint);
    }
}

/// Lambda's replies are 6 MB at most.
#[test]
fn stops_reading_a_response_that_does_not_end_or_comes_in_tiny_pieces() {
    let api = InvokeApi::start(async |invocation| {
        let piece = match invocation.number {
            0 => Bytes::from_static(b"x"),
            _ => Bytes::from(vec![b'x'; 1 << 20]),
        };
        let pieces = futures_util::stream::repeat(Ok::<_, Infallible>(piece));
        Body::from_stream(pieces).into_response()
    });

    let text = api.run("-n 4 -c 4").failed().stdout;

    assert_contains(
        &text,
        "1 x transport: the response is in more than 65536 pieces",
    );
    assert_contains(&text, "3 x transport: the response is longer than 8 MiB");
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

    let report = api.run("-n 20 -o json").failed().report();

    let counts = ["ok", "function_error", "transport"].map(|name| &report["outcomes"][name]);
    assert_eq!(counts, [17, 1, 2]);
    let errors = report["errors"].to_string();
    assert_contains(&errors, "boom");
    assert_contains(&errors, "ServiceException: ServiceException of the test");
    let violations = json!(["function errors: 1", "transport errors: 2"]);
    assert_eq!(report["violations"], violations);
}
