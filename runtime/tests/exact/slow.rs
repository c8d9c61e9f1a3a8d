//! What is slow is not dead: neither a reply nor an event is lost because something took its time.

use std::thread;
use std::time::Duration;

use test_support::{Function, REGISTERED, event};

use crate::{assert_is_content, in_every_mode, reply, take_line, take_reply};

/// Longer than anything of the function's is willing to stand still.
const LONGER_THAN_A_STALL: Duration = Duration::from_millis(1600);

const REGISTER: &str = "POST /2020-01-01/extension/register";
const NEXT_EXTENSION_EVENT: &str = "GET /2020-01-01/extension/event/next";

#[test]
fn waits_for_the_response_to_its_registration() {
    in_every_mode(Function::start_unregistered, |function, _| {
        let registration = function.extension_request();
        assert_eq!(registration.line, REGISTER);
        // It may be registered already, so it must not serve without asking for an event.
        function.assert_no_poll_for(LONGER_THAN_A_STALL);
        registration.respond(REGISTERED);
        assert_eq!(function.extension_request().line, NEXT_EXTENSION_EVENT);
        assert_eq!(function.invoke("1"), reply("1"));
        assert_is_content(function);
    });
}

#[test]
fn registers_again_if_the_connection_breaks() {
    in_every_mode(Function::start_unregistered, |function, _| {
        function.extension_request().close();
        let registration = function.extension_request();
        assert_eq!(registration.line, REGISTER);
        registration.respond(REGISTERED);
        assert_eq!(function.extension_request().line, NEXT_EXTENSION_EVENT);
        assert_eq!(function.invoke("1"), reply("1"));
        assert_is_content(function);
    });
}

#[test]
fn fails_if_an_attempt_that_broke_has_registered_it() {
    in_every_mode(Function::start_unregistered, |mut function, _| {
        function.extension_request().close();
        let error = r#"{"errorMessage": "already registered", "errorType": "Extension.InvalidExtensionState"}"#;
        function.extension_request().respond(format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{error}",
            error.len()
        ));
        take_line(&function, "ERROR", "cannot start");
        let (status, lines) = function.wait();
        assert_eq!(status.code(), Some(1));
        assert_eq!(lines, [""; 0]);
    });
}

#[test]
fn waits_for_an_event_and_for_the_rest_of_one() {
    in_every_mode(Function::start, |function, _| {
        let poll = function.poll();
        let event = event("a", "1");
        let (start, rest) = event.split_at(event.len() / 2);
        function.assert_no_poll_for(LONGER_THAN_A_STALL);
        poll.respond(start);
        function.assert_no_poll_for(LONGER_THAN_A_STALL);
        poll.respond(rest);
        take_reply(&function, "a", "1").accept();
        assert_is_content(function);
    });
}

#[test]
fn loses_nothing_while_it_stands_still() {
    in_every_mode(Function::start, |function, pipelining| {
        function.poll().dispatch("a", "1");
        let post = function.post();
        function.while_stopped(|| {
            post.accept();
            if pipelining == "on" {
                function.poll().dispatch("b", "2");
            }
            thread::sleep(LONGER_THAN_A_STALL);
        });
        if pipelining == "off" {
            function.poll().dispatch("b", "2");
        }
        take_reply(&function, "b", "2").accept();
        assert_is_content(function);
    });
}

#[test]
fn handles_the_event_behind_a_late_response() {
    in_every_mode(Function::start, |function, pipelining| {
        function.poll().dispatch("a", "1");
        let late = function.post();
        let retry = take_reply(&function, "a", "1");
        assert!(!retry.is_followed);
        assert_ne!(retry.port, late.port);
        // The reply may have been delivered, so there is nothing to warn of.
        retry.respond_with_status(410);
        if pipelining == "on" {
            late.accept();
        }
        let poll = function.poll();
        if pipelining == "on" {
            assert_eq!(poll.port, late.port, "the poll that came with the reply");
        }
        poll.dispatch("b", "2");
        take_reply(&function, "b", "2").accept();
        assert_is_content(function);
    });
}

#[test]
fn handles_an_event_in_place_of_the_response_to_a_reply() {
    in_every_mode(Function::start, |function, pipelining| {
        for (n, before) in ["", "HTTP/1.1 100 Continue\r\n\r\n"].iter().enumerate() {
            let [first, second] = ["a", "b"].map(|id| format!("{id}-{n}"));
            function.poll().dispatch(&first, "1");
            let post = function.post();
            post.respond([before.as_bytes(), &event(&second, "2")].concat());
            if pipelining == "on" {
                function.poll(); // it came with the reply, and has got its event
            }

            take_reply(&function, &first, "1").accept();
            take_reply(&function, &second, "2").accept();
        }
        assert_eq!(function.invoke("3"), reply("3"));
    });
}
