//! What is slow is not dead: neither a reply nor an event is lost because something took its time.

use std::thread;
use std::time::Duration;

use test_support::{Function, REGISTERED, event};

use crate::{NEXT_EXTENSION_EVENT, assert_is_content, in_every_mode, reply, take_reply};

/// Longer than anything of the function's is willing to stand still.
const LONGER_THAN_A_STALL: Duration = Duration::from_millis(1600);

#[test]
fn waits_for_its_registration_for_an_event_and_for_the_rest_of_one() {
    in_every_mode(Function::start_unregistered, |function, _| {
        let registration = function.extension_request();
        assert_eq!(registration.line, "POST /2020-01-01/extension/register");
        // It may be registered already, so it must not serve without asking for an event.
        function.assert_no_poll_for(LONGER_THAN_A_STALL);
        registration.respond(REGISTERED);
        assert_eq!(function.extension_request().line, NEXT_EXTENSION_EVENT);

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
        function.poll().dispatch("a", "1");
        let post = function.post();
        post.respond("HTTP/1.1 100 Continue\r\n\r\n");
        post.respond(event("b", "2"));
        if pipelining == "on" {
            function.poll(); // it came with the reply, and has got its event
        }
        take_reply(&function, "a", "1").accept();
        take_reply(&function, "b", "2").accept();
        assert_eq!(function.invoke("3"), reply("3"));
    });
}
