//! What becomes of a handler's panic.

use serde_json::{Value, json};
use test_support::Function;

use crate::{assert_is_content, in_every_mode, reply, take_line};

#[test]
fn reports_a_panic_and_goes_on() {
    in_every_mode(Function::start, |function, _| {
        for (request_id, payload, message) in [
            ("a", "\"panic\"", "on purpose"),
            ("b", "\"panic twice\"", "no message"),
            ("c", "\"panic\"", "on purpose"),
        ] {
            function.poll().dispatch(request_id, payload);
            let post = function.post();
            post.accept();
            assert_eq!(post.posted(), (request_id, "error"));
            let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
            assert_eq!(
                diagnostic,
                json!({"errorType": "Function.Panic", "errorMessage": message})
            );
            let line = take_line(&function, "ERROR", &format!("panicked: {message}"));
            assert_eq!(line["requestId"], request_id);
            let location = line["location"].as_str().unwrap();
            assert!(location.contains("handlers/mod.rs:"), "{location}");
        }
        assert_eq!(function.invoke("1"), reply("1"));
        assert_is_content(function);
    });
}

#[test]
fn restarts_a_worker_that_died() {
    in_every_mode(Function::start, |function, pipelining| {
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
        if pipelining == "on" {
            function.poll(); // it came with the reply
        }
        assert_eq!(function.invoke("1"), reply("1"));
        assert_is_content(function);
    });
}
