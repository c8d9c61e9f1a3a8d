//! Events from files, for any function.

use std::fs::{self, File};
use std::sync::{Arc, Mutex};

use axum::response::IntoResponse;

use crate::support::{InvokeApi, assert_contains, file, refused, run, scratch};

/// Replies with what it gets, and keeps it.
fn echo() -> (InvokeApi, Arc<Mutex<Vec<String>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&events);
    let api = InvokeApi::start(move |invocation| {
        let event = String::from_utf8(invocation.payload.to_vec()).unwrap();
        kept.lock().unwrap().push(event.clone());
        async move {
            let error = [("x-amz-function-error", "Unhandled")];
            match event.contains("fail").then_some(error) {
                Some(error) => (error, event).into_response(),
                None => event.into_response(),
            }
        }
    });
    (api, events)
}

#[test]
fn sends_the_events_in_turn_and_compares_every_byte() {
    let (api, events) = echo();
    let (one, two) = (file("one", r#"{"one": 1}"#), file("two", r#"{"two": 2}"#));
    let page = scratch("any-function.html");

    let flags = format!("--event {one} --event {two} -n 5 -w 1 -o json");
    let mut command = api.command(&format!("{flags} --expect {one} --expect {two} --html"));
    let report = run(command.arg(&page)).passed().report();

    let [one_sent, two_sent] = [r#"{"one": 1}"#, r#"{"two": 2}"#];
    // The warm-up begins with the first, and so does the run.
    let expected = [one_sent, one_sent, two_sent, one_sent, two_sent, one_sent];
    assert_eq!(*events.lock().unwrap(), expected);
    assert_eq!(report["outcomes"]["ok"], 5);
    assert_eq!(report["events"], format!("{one}, {two}"));
    assert_eq!(report["compared"], "every byte, with --expect");
    assert_eq!(report["reply_bytes"], 60);
    let page = fs::read_to_string(page).unwrap();
    assert_contains(&page, "every byte, with --expect");

    let ended = api.run(&format!("{flags} --expect {one} --expect {one}"));

    let report = ended.failed().report();
    assert_eq!(report["outcomes"]["wrong_reply"], 2);
    assert_eq!(report["wrong_replies"][0]["offset"], 2);
    assert_eq!(report["wrong_replies"][0]["expected"], r#"one": 1}"#);
}

#[test]
fn compares_the_status_of_proxy_replies_or_takes_whatever_is_no_error() {
    let (api, events) = echo();
    let right = file("right", r#"{"body": "", "statusCode": 201}"#);
    let wrong = file("wrong", r#"{"statusCode": 500}"#);
    let none = file("none", "[201]");
    let fail = file("fail", r#""fail""#);

    let flags = format!("--event {right} --event {wrong} --event {none} --expect-status 201 -n 3");
    let text = api.run(&flags).failed().stdout;
    for line in [
        "compared: statusCode, with 201",
        "ok  1 (",
        r#"wrong reply to {"statusCode": 500}: statusCode 500 instead of statusCode 201"#,
        "wrong reply to [201]: no statusCode instead of statusCode 201",
    ] {
        assert_contains(&text, line);
    }

    events.lock().unwrap().clear();
    let mut command = api.command(&format!("--event - --event {fail} -n 2"));
    let text = run(command.stdin(File::open(scratch(&none)).unwrap())).stdout;
    assert_eq!(*events.lock().unwrap(), ["[201]", r#""fail""#]);
    for line in [
        "compared: nothing: what is no error is ok",
        "ok  1 (",
        "failed: function errors: 1\n",
    ] {
        assert_contains(&text, line);
    }
}

#[test]
fn refuses_events_and_replies_that_do_not_match() {
    let (api, events) = echo();
    let event = file("event", "{}");
    for (flags, complaint) in [
        ("--event FILE --n 3", "cannot be used with"),
        ("--event FILE --mix", "cannot be used with"),
        ("--expect FILE", "--event <FILE>"),
        ("--expect-status 200", "--event <FILE>"),
        ("--event /nowhere", "cannot read /nowhere: No such file"),
        ("--event - --event -", "give --event - once"),
        (
            "--event FILE --event FILE --expect FILE",
            "2 --event and 1 --expect: give an --expect for",
        ),
        (
            "--event FILE --expect FILE --expect-status 200",
            "cannot be used with",
        ),
    ] {
        refused(&mut api.command(&flags.replace("FILE", &event)), complaint);
    }
    assert!(events.lock().unwrap().is_empty());
}
