//! What the function and the Runtime API send to each other, byte by byte.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::support::{Function, PIPELINING, Peer, Request, event};
use serde_json::Value;

const REPLY: &[u8] = br#"{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{\"n\": 1, \"sequence\": [0, 1]}"}"#;
const WARN: (&str, &str) = ("AWS_LAMBDA_LOG_LEVEL", "WARN");
/// How long a test looks for a poll that must not come.
const A_WHILE: Duration = Duration::from_millis(100);

/// Starts the function once with pipelining and once without.
fn in_both_modes(test: impl Fn(Function)) {
    for pipelining in PIPELINING {
        let environment = [WARN, ("RUNTIME_API_PIPELINING", pipelining)];
        test(Function::start_with(&environment));
    }
}

fn chunked(payload: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\n\
         Transfer-Encoding: chunked\r\n\r\n{payload}"
    )
}

#[test]
fn reads_a_content_length_and_chunks() {
    let function = Function::start(1);
    for response in [
        String::from_utf8(event("id", r#"{"n": 1}"#)).unwrap(),
        chunked("8\r\n{\"n\": 1}\r\n0\r\n\r\n"),
        chunked("5\r\n{\"n\":\r\n3\r\n 1}\r\n0\r\n\r\n"),
        chunked("0005;name=value\r\n{\"n\":\r\n3\r\n 1}\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n"),
    ] {
        for one_by_one in [false, true] {
            let poll = function.poll();
            if one_by_one {
                response.bytes().for_each(|byte| poll.respond([byte]));
            } else {
                poll.respond(&response);
            }
            let post = function.post();
            assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/id/response");
            assert_eq!(post.body, REPLY, "to {response}");
            post.accept();
        }
    }
}

#[test]
fn reads_an_event_of_6_mb_in_chunks() {
    let function = Function::start(1);
    let poll = function.poll();
    poll.respond(chunked(""));
    for chunk in [
        r#"{"ignored": ""#.to_owned(),
        "x".repeat(6 * 1024 * 1024 - 100),
        r#"", "n": 1}"#.to_owned(),
    ] {
        poll.respond(format!("{:X}\r\n{chunk}\r\n", chunk.len()));
    }
    poll.respond("0\r\n\r\n");
    assert_eq!(function.post().body, REPLY);
}

#[test]
fn reads_headers_in_any_case_and_order() {
    let function = Function::start(1);
    for head in [
        "content-length: 8\r\nlambda-runtime-aws-request-id: id\r\n",
        "LAMBDA-RUNTIME-AWS-REQUEST-ID: id\r\nX-Other: é\r\nCONTENT-LENGTH: 8\r\n",
        "Lambda-Runtime-Client-Context: {\"custom\":{\"a\":1}}\r\nContent-Length:8\r\nLambda-Runtime-Aws-Request-Id:   id  \r\n",
    ] {
        let poll = function.poll();
        poll.respond(format!("HTTP/1.1 200 OK\r\n{head}\r\n{{\"n\": 1}}"));
        let post = function.post();
        assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/id/response");
        assert_eq!(post.body, REPLY);
        post.accept();
    }
}

#[test]
fn reads_past_interim_responses() {
    in_both_modes(|function| {
        let poll = function.poll();
        poll.respond("HTTP/1.1 100 Continue\r\n\r\n");
        poll.dispatch("a", r#"{"n": 1}"#);
        let post = function.post();
        assert_eq!(post.body, REPLY);
        post.respond("HTTP/1.1 103 Early Hints\r\nContent-Length: x\r\n\r\n");
        post.accept();
        assert_eq!(function.poll().port(), post.port());
        assert_eq!(function.terminate(), [] as [Value; 0]);
    });
}

#[test]
fn keeps_its_connection() {
    in_both_modes(|function| {
        let poll = function.poll();
        let first = poll.port();
        poll.dispatch("a", "{}");
        let post = function.post();
        assert_eq!(post.port(), first);
        post.accept();
        assert_eq!(function.poll().port(), first);
    });
}

#[test]
fn opens_another_connection_if_it_is_told_to() {
    for close in [
        "HTTP/1.1 200 OK\r\nConnection: close",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, Close",
        "HTTP/1.0 200 OK",
    ] {
        in_both_modes(|function| {
            let poll = function.poll();
            poll.respond(format!(
                "{close}\r\nLambda-Runtime-Aws-Request-Id: a\r\nContent-Length: 8\r\n\r\n{{\"n\": 1}}"
            ));
            let post = function.post();
            assert_eq!(post.body, REPLY);
            assert_ne!(post.port(), poll.port());
            post.accept();
            assert_eq!(function.poll().port(), post.port());
        });
    }
}

#[test]
fn sends_the_next_poll_with_a_reply_and_with_an_error() {
    for (pipelining, is_followed) in [("on", true), ("off", false)] {
        let function = Function::start_with(&[("RUNTIME_API_PIPELINING", pipelining)]);
        for n in [0, 10, 1001] {
            function.poll().dispatch("a", format!(r#"{{"n": {n}}}"#));
            let post = function.post();
            assert_eq!(post.is_followed, is_followed, "{pipelining}");
            post.accept();
        }
    }
}

#[test]
fn sends_polls_on_their_own_if_the_runtime_api_does_not_take_two_requests_at_once() {
    for peer in [Peer::DropsWhatFollows, Peer::ClosesAfterOne] {
        let function = Function::start_under(peer, &[("AWS_LAMBDA_LOG_LEVEL", "INFO")]);
        for _ in 0..3 {
            function.poll().dispatch("a", r#"{"n": 1}"#);
            let post = function.post();
            assert!(!post.is_followed, "{peer:?}");
            post.accept();
        }
        function.poll();
        assert_eq!(function.terminate(), [] as [Value; 0]);
    }
}

#[test]
fn serves_if_it_cannot_register_an_extension() {
    for (peer, problem) in [
        (
            Peer::RefusesRegistration,
            "HTTP status 403: {\"status\":\"OK\"} ",
        ),
        (Peer::ClosesAtRegistration, "unexpected end of file"),
        (Peer::HoldsRegistration, "no progress for 1 s"),
    ] {
        let function = Function::start_under(peer, &[]);
        let _held = (peer == Peer::HoldsRegistration).then(|| function.post());
        let line = function.json_line();
        assert_eq!(line["level"], "WARN");
        assert_eq!(
            line["fields"]["message"],
            "cannot register an extension, so Lambda will not send SIGTERM"
        );
        assert_eq!(line["fields"]["problem"], problem);
        assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
    }
}

/// A Runtime API's way of dropping the poll that came with a reply.
type Drop = fn(Request);

const DROPS: [Drop; 4] = [
    |post| post.respond_and_close("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"),
    |post| {
        post.respond_and_close(
            "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        );
    },
    |post| post.respond_and_close("HTTP/1.0 202 Accepted\r\nContent-Length: 0\r\n\r\n"),
    |post| {
        post.respond_and_close(
            "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        );
    },
];

#[test]
fn sends_a_poll_again_at_once_if_it_was_dropped_behind_a_reply() {
    for drop_poll in DROPS {
        let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "ERROR")]);
        for _ in 0..5 {
            function.poll().dispatch("a", r#"{"n": 1}"#);
            let post = function.post();
            assert!(post.is_followed);
            let first = post.port();
            drop_poll(post);
            let poll = function.poll();
            assert_ne!(poll.port(), first);
            // A poll that gets its event in between shows that the Runtime API still cooperates.
            poll.dispatch("b", r#"{"n": 1}"#);
            let post = function.post();
            assert!(post.is_followed);
            post.accept();
        }
        function.poll();
        assert_eq!(function.terminate(), [] as [Value; 0]);
    }
}

#[test]
fn stops_sending_polls_with_replies_if_two_in_a_row_are_dropped() {
    for drop_poll in DROPS {
        let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "INFO")]);
        for _ in 0..2 {
            function.poll().dispatch("a", r#"{"n": 1}"#);
            let post = function.post();
            assert!(post.is_followed);
            drop_poll(post);
        }
        function.poll().dispatch("b", r#"{"n": 1}"#);
        let post = function.post();
        assert!(!post.is_followed);
        post.accept();
        function.poll();
        let lines = function.terminate();
        let informed: Vec<_> = lines
            .iter()
            .filter(|line| line["level"] == "INFO")
            .collect();
        assert_eq!(informed.len(), 1, "{lines:?}");
        assert_eq!(
            informed[0]["fields"]["message"],
            "the Runtime API drops polls sent with a reply; sending them on their own"
        );
    }
}

#[test]
fn posts_again_beside_the_poll_that_is_under_way() {
    let function = Function::start_with(&[WARN]);
    for status in [500, 503] {
        function.poll().dispatch("a", r#"{"n": 1}"#);
        let post = function.post();
        post.respond_with_status(status);
        // The next event is here before the reply to this one has been accepted.
        let poll = function.poll();
        assert_eq!(poll.port(), post.port());
        poll.dispatch("b", r#"{"n": 1}"#);

        let retry = function.post();
        assert_eq!(retry.line, "POST /2018-06-01/runtime/invocation/a/response");
        assert_eq!(retry.body, REPLY);
        assert_ne!(retry.port(), post.port());
        assert!(!retry.is_followed);
        retry.accept();

        let next = function.post();
        assert_eq!(next.line, "POST /2018-06-01/runtime/invocation/b/response");
        assert_eq!(next.port(), post.port());
        next.accept();
    }
    function.poll();
    assert_eq!(function.terminate(), [] as [Value; 0]);
}

#[test]
fn sends_a_poll_again_at_once_if_a_kept_connection_was_closed() {
    in_both_modes(|function| {
        for _ in 0..3 {
            assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
            let poll = function.poll();
            let first = poll.port();
            poll.close();
            let poll = function.poll();
            assert_ne!(poll.port(), first);
            poll.dispatch("a", r#"{"n": 1}"#);
            function.post().accept();
        }
        function.poll();
        // It is no outage.
        assert_eq!(function.terminate(), [] as [Value; 0]);
    });
}

#[test]
fn replies_to_each_of_the_invocations_in_flight_at_once() {
    const WORKERS: u16 = 64;
    for pipelining in PIPELINING {
        let function = Function::start_with(&[
            ("AWS_LAMBDA_MAX_CONCURRENCY", &WORKERS.to_string()),
            ("RUNTIME_API_PIPELINING", pipelining),
        ]);
        let polls: Vec<_> = (0..WORKERS).map(|_| function.poll()).collect();
        function.assert_no_poll_for(A_WHILE);

        // All have begun to arrive before the first is whole.
        let events: Vec<_> = (0..WORKERS)
            .map(|n| event(&format!("id-{n}"), format!(r#"{{"n": {n}}}"#)))
            .collect();
        for (poll, event) in polls.iter().zip(&events) {
            poll.respond(&event[..event.len() / 2]);
        }
        for index in (0..events.len()).map(|index| index * 37 % events.len()) {
            polls[index].respond(&events[index][events[index].len() / 2..]);
        }

        let mut posts: Vec<_> = (0..WORKERS).map(|_| function.post()).collect();
        posts.sort_by_key(|post| post.body.len());
        for (n, post) in posts.iter().enumerate() {
            let expected = format!("POST /2018-06-01/runtime/invocation/id-{n}/response");
            assert_eq!(post.line, expected);
            let body = str::from_utf8(&post.body).unwrap();
            assert!(
                body.contains(&format!(r#""{{\"n\": {n}, \"sequence\": [0"#)),
                "{body}"
            );
        }
        for post in posts.iter().rev() {
            post.accept();
        }
        for _ in 0..WORKERS {
            function.poll();
        }
    }
}

#[test]
fn waits_for_an_event_without_a_deadline_but_not_for_the_rest_of_one() {
    let function = Function::start_with(&[WARN]);
    let poll = function.poll();
    function.assert_no_poll_for(Duration::from_millis(1500));
    let begun = Instant::now();
    poll.respond("H");

    let retry = function.poll();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!((&poll.connection).read(&mut [0]).unwrap(), 0, "closed");
    let line = function.json_line();
    assert_eq!(line["fields"]["problem"], "no progress for 1 s");
    retry.dispatch("a", r#"{"n": 1}"#);
    assert_eq!(function.post().body, REPLY);
}

#[test]
fn reports_an_event_that_does_not_arrive_whole() {
    let head = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\n";
    let with_chunks = |chunks| format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let cases = [
        (
            format!("{head}Content-Length: 8\r\n\r\n{{\"n\""),
            "unexpected end of file",
        ),
        (
            format!("{head}Content-Length: 6357000\r\n\r\n"),
            "a body of more than 6356992 bytes",
        ),
        (
            format!("{head}Content-Length: 99999999999999999999\r\n\r\n"),
            "an unusable Content-Length",
        ),
        (
            format!("{head}Content-Length: +2\r\n\r\n{{}}"),
            "an unusable Content-Length",
        ),
        (
            with_chunks("ffffffffffffffff\r\n"),
            "a body of more than 6356992 bytes",
        ),
        (with_chunks("x\r\n"), "not the size of a chunk"),
        (
            with_chunks("00000000000000002\r\n{}\r\n0\r\n\r\n"),
            "not the size of a chunk",
        ),
        (
            with_chunks("2\r\n{}\r\n\r\n\r\n"),
            "not the size of a chunk",
        ),
        (
            with_chunks("2\r\n{}\r\n;name=value\r\n\r\n"),
            "not the size of a chunk",
        ),
        (
            with_chunks("1\r\n{}\r\n0\r\n\r\n"),
            "a chunk that is longer than its size",
        ),
        (
            format!("{head}\r\n{{\"n\": 1}}"),
            "neither a Content-Length nor chunks",
        ),
    ];
    in_both_modes(|function| {
        for (response, problem) in &cases {
            function.poll().respond_and_close(response);
            let post = function.post();
            assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/a/error");
            let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
            assert_eq!(diagnostic["errorType"], "Runtime.UnreadableEvent");
            assert_eq!(diagnostic["errorMessage"], *problem);
            post.accept();
        }
        assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
    });
}

#[test]
fn polls_again_after_a_response_that_is_no_event() {
    in_both_modes(|function| {
        let long_request_id = format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {}\r\nContent-Length: 2\r\n\r\n{{}}",
            "a".repeat(257)
        );
        for response in [
            &*long_request_id,
            "",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a/b\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            function.poll().respond_and_close(response);
        }
        assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
        let warning = function.json_line();
        assert_eq!(
            warning["fields"]["message"],
            "cannot get an invocation from the Runtime API; retrying"
        );
        function.poll();
        // The other failures belong to the same outage, if the machine is not too slow for that.
        for line in function.terminate() {
            assert_eq!(line["fields"]["message"], warning["fields"]["message"]);
        }
    });
}

#[test]
fn backs_off_while_there_is_no_runtime_api() {
    let function = Function::start_with(&[("AWS_LAMBDA_MAX_CONCURRENCY", "8")]);
    let begun = Instant::now();
    let mut refusals = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        function.poll().close();
        refusals += 1;
    }
    // Each of 8 workers pauses for 10 ms, 20, 40 … 250, or half of it.
    assert!(refusals <= 8 * 14, "{refusals} refusals");

    let polls: Vec<_> = (0..8).map(|_| function.poll()).collect();
    for (n, poll) in polls.iter().enumerate() {
        poll.dispatch(&format!("id-{n}"), r#"{"n": 1}"#);
    }
    for _ in 0..8 {
        assert_eq!(function.post().body, REPLY);
    }
}

#[test]
fn posts_again_on_a_new_connection_if_one_breaks_and_only_once() {
    let breaks: [fn(Request); 2] = [Request::close, |post| post.respond_and_close("HTTP/1.1 20")];
    in_both_modes(|function| {
        for break_off in breaks {
            function.poll().dispatch("a", r#"{"n": 1}"#);
            let post = function.post();
            let first = post.port();
            break_off(post);
            let retry = function.post();
            assert_eq!(retry.line, "POST /2018-06-01/runtime/invocation/a/response");
            assert_eq!(retry.body, REPLY);
            assert_ne!(retry.port(), first);
            assert!(!retry.is_followed);
            retry.accept();
            assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);

            function.poll().dispatch("b", r#"{"n": 1}"#);
            break_off(function.post());
            break_off(function.post());
            assert_is_lost(&function.json_line(), "b");
            assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
        }
        function.poll();
        assert_eq!(function.terminate(), [] as [Value; 0]);
    });
}

#[test]
fn posts_again_if_the_runtime_api_fails_and_only_once() {
    in_both_modes(|function| {
        for status in [500, 503] {
            function.poll().dispatch("a", r#"{"n": 1}"#);
            let post = function.post();
            post.respond_with_status(status);
            let retry = function.post();
            assert_eq!(retry.line, "POST /2018-06-01/runtime/invocation/a/response");
            assert_eq!(retry.body, REPLY);
            assert_ne!(retry.port(), post.port());
            retry.accept();

            function.poll().dispatch("b", r#"{"n": 1}"#);
            function.post().respond_with_status(status);
            function.post().respond_with_status(status);
            assert_is_lost(&function.json_line(), "b");
        }
        assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
        function.poll();
        assert_eq!(function.terminate(), [] as [Value; 0]);
    });
}

#[track_caller]
fn assert_is_lost(line: &Value, request_id: &str) {
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["fields"]["requestId"], request_id);
    assert_eq!(line["fields"]["message"], "could not deliver the response");
}

#[test]
fn gives_up_a_post_that_makes_no_progress() {
    in_both_modes(|function| {
        function.poll().dispatch("a", r#"{"n": 1}"#);
        let _no_response = function.post();
        let retry = function.post();
        retry.respond_with_status(410);
        function.poll();
        // The reply may have been delivered, so there is nothing to warn of.
        assert_eq!(function.terminate(), [] as [Value; 0]);
    });
}

#[test]
fn accepts_a_204_with_a_content_length() {
    in_both_modes(|function| {
        function.poll().dispatch("a", r#"{"n": 1}"#);
        let post = function.post();
        post.respond("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
        let poll = function.poll();
        assert_eq!(poll.port(), post.port());
        assert_eq!(function.terminate(), [] as [Value; 0]);
    });
}

#[test]
fn logs_a_refused_reply_and_goes_on() {
    in_both_modes(|function| {
        for status in [400, 403, 410, 413] {
            function.poll().dispatch("a", r#"{"n": 1}"#);
            function.post().respond_with_status(status);
            let line = function.json_line();
            assert_eq!(line["level"], "WARN");
            assert_eq!(line["fields"]["requestId"], "a");
            assert_eq!(line["fields"]["message"], "response refused");
            assert_eq!(line["fields"]["status"], status);
            assert_eq!(line["fields"]["refusal"], "{\"status\":\"OK\"} ");
        }
        assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
    });
}

#[test]
fn logs_at_most_a_kilobyte_of_a_refusal() {
    in_both_modes(|function| {
        for (len, logged) in [(1_000, 1_000), (4_000, 1_024), (100_000, 1_024)] {
            function.poll().dispatch("a", r#"{"n": 1}"#);
            let refusal = "\"".repeat(len);
            let response =
                format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {len}\r\n\r\n{refusal}");
            let post = function.post();
            if len > 4 * 1024 {
                // The function does not read it all.
                post.respond_and_close(response);
            } else {
                post.respond(response);
            }
            let line = function.json_line();
            assert_eq!(line["fields"]["refusal"], refusal[..logged]);
        }
        assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
    });
}

#[test]
fn prints_nothing_if_nothing_is_wrong() {
    for pipelining in PIPELINING {
        let function = Function::start_with(&[
            ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
            ("RUNTIME_API_PIPELINING", pipelining),
        ]);
        for payload in [r#"{"n": 1}"#, "{}", "not JSON"] {
            function.invoke(payload);
        }
        function.poll();
        assert_eq!(function.terminate(), [] as [Value; 0]);
    }
}
