//! What becomes of a handler's panic.

use serde_json::{Value, json};
use test_support::Function;

use crate::{INFO, assert_is_content, in_every_mode, reply, start, take_line};

#[test]
fn reports_a_panic_and_goes_on() {
    in_every_mode(Function::start, |function, _| {
        for request_id in ["a", "b", "c"] {
            function.poll().dispatch(request_id, "\"panic\"");
            let post = function.post();
            post.accept();
            assert_eq!(post.posted(), (request_id, "error"));
            let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
            assert_eq!(
                diagnostic,
                json!({"errorType": "Function.Panic", "errorMessage": "on purpose"})
            );
            let line = take_line(&function, "ERROR", "panicked: on purpose");
            assert_eq!(line["requestId"], request_id);
            let location = line["location"].as_str().unwrap();
            assert!(location.contains("tests/exact/main.rs:"), "{location}");
        }
        assert_eq!(function.invoke("1"), reply("1"));
    });
}

#[test]
fn restarts_a_worker_that_died() {
    in_every_mode(Function::start, |function, _| {
        function.poll().dispatch("a", "\"end the worker\"");
        function.post().accept();
        let mut messages: Vec<_> = (0..2)
            .map(|_| function.json_line()["fields"]["message"].clone())
            .collect();
        messages.sort_by_key(ToString::to_string);
        assert_eq!(
            messages,
            ["a worker died; restarting it", "panicked: when dropped"]
        );
    });
}

#[test]
fn reports_a_panic_whose_payload_panics() {
    in_every_mode(Function::start, |function, _| {
        function.poll().dispatch("a", "\"panic twice\"");
        let post = function.post();
        assert_eq!(post.posted(), ("a", "error"));
        post.accept();
        let line = take_line(&function, "ERROR", "panicked: no message");
        assert_eq!(line["requestId"], "a");
        assert_is_content(function);
    });
}

#[test]
fn clones_a_handler_again_if_that_panics() {
    let function = start("cloned", &[INFO]);
    assert_eq!(function.invoke("1"), reply("1"));
}
