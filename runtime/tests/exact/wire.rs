//! What the function and the Runtime API send to each other, byte by byte.

use std::collections::BTreeMap;

use serde_json::Value;
use test_support::{Function, REGISTERED, event};

use crate::{
    NEXT_EXTENSION_EVENT, assert_is_content, in_every_mode, reply, start, take_line, take_reply,
    with_workers,
};

fn chunked(request_id: &str, chunks: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {request_id}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{chunks}"
    )
}

#[test]
fn reads_a_content_length_and_chunks_without_a_word() {
    in_every_mode(Function::start, |function, _| {
        for (n, chunks) in [
            "8\r\n{\"n\": 1}\r\n0\r\n\r\n",
            "5\r\n{\"n\":\r\n3\r\n 1}\r\n0\r\n\r\n",
            "0005;name=value\r\n{\"n\":\r\n3\r\n 1}\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
        ]
        .iter()
        .enumerate()
        {
            let request_id = n.to_string();
            let poll = function.poll();
            poll.respond(chunked(&request_id, chunks));
            let post = take_reply(&function, &request_id, r#"{"n": 1}"#);
            assert_eq!(post.port, poll.port, "something of {chunks} is left");
            post.accept();
        }
        assert_eq!(function.invoke("not JSON"), reply("not JSON"));
        assert_is_content(function);
    });
}

#[test]
fn carries_6_mb_in_chunks_and_back() {
    in_every_mode(Function::start, |function, _| {
        let payload = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
        let (start, rest) = payload.split_at(100);
        let poll = function.poll();
        poll.respond(chunked("a", ""));
        for chunk in [start, rest] {
            poll.respond(format!("{:X}\r\n{chunk}\r\n", chunk.len()));
        }
        poll.respond("0\r\n\r\n");
        assert!(function.post().body == reply(&payload));
    });
}

#[test]
fn reads_headers_in_any_case_and_order() {
    let function = start("direct", &[]);
    for (n, head) in [
        "content-length: 8\r\nlambda-runtime-aws-request-id: 0\r\n",
        "LAMBDA-RUNTIME-AWS-REQUEST-ID: 1\r\nX-Other: é\r\nCONTENT-LENGTH: 8\r\n",
        "Lambda-Runtime-Client-Context: {\"custom\":{\"a\":1}}\r\nContent-Length:8\r\n\
         Lambda-Runtime-Aws-Request-Id:   2  \r\n",
    ]
    .iter()
    .enumerate()
    {
        let poll = function.poll();
        poll.respond(format!("HTTP/1.1 200 OK\r\n{head}\r\n{{\"n\": 1}}"));
        take_reply(&function, &n.to_string(), r#"{"n": 1}"#).accept();
    }
}

#[test]
fn reads_past_interim_responses_and_takes_a_204_for_empty() {
    in_every_mode(Function::start, |function, _| {
        let poll = function.poll();
        poll.respond("HTTP/1.1 100 Continue\r\n\r\n");
        poll.dispatch("a", "1");
        let post = take_reply(&function, "a", "1");
        post.respond("HTTP/1.1 103 Early Hints\r\nContent-Length: x\r\n\r\n");
        post.settle("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n");
        assert_is_content(function);
    });
}

#[test]
fn keeps_its_connection_unless_it_is_told_to_close_it() {
    const INVOCATIONS: usize = 10;
    for (status_line, closes) in [
        ("HTTP/1.1 200 OK", false),
        ("HTTP/1.1 200 OK\r\nConnection: close", true),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive, Close", true),
        ("HTTP/1.0 200 OK", true),
    ] {
        in_every_mode(Function::start, |function, _| {
            let mut kept = 0;
            for n in 0..INVOCATIONS {
                let poll = function.poll();
                poll.respond(format!(
                    "{status_line}\r\nLambda-Runtime-Aws-Request-Id: {n}\r\nContent-Length: 1\r\n\r\n1"
                ));
                let post = take_reply(&function, &n.to_string(), "1");
                kept += usize::from(post.port == poll.port);
                post.accept();
            }
            // A post that gets no response for 1 s, because the machine is slow, costs its connection.
            let is_right = if closes {
                kept == 0
            } else {
                kept > INVOCATIONS / 2
            };
            assert!(is_right, "kept {kept} times at {status_line}");
        });
    }
}

#[test]
fn sends_polls_on_their_own_if_the_runtime_api_does_not_take_two_requests_at_once() {
    in_every_mode(Function::start_unregistered, |function, _| {
        let registration = function.extension_request();
        assert!(registration.is_followed);
        registration.respond_and_drop_what_follows(REGISTERED);
        assert_eq!(function.extension_request().line, NEXT_EXTENSION_EVENT);
        for request_id in ["a", "b", "c"] {
            function.poll().dispatch(request_id, "1");
            let post = function.post();
            assert!(!post.is_followed);
            post.accept();
        }
        assert_is_content(function);
    });
}

#[test]
fn serves_if_it_cannot_register_an_extension() {
    in_every_mode(Function::start_unregistered, |function, _| {
        function.extension_request().respond_with_status(403);
        let message = "cannot register an extension, so Lambda will not send SIGTERM";
        let line = take_line(&function, "WARN", message);
        assert_eq!(line["problem"], "HTTP status 403: {\"status\":\"OK\"} ");
        assert_eq!(function.invoke("1"), reply("1"));
    });
}

#[test]
fn posts_again_and_only_once() {
    in_every_mode(Function::start, |function, pipelining| {
        function.poll().dispatch("a", "1");
        let post = function.post();
        post.respond_with_status(500);
        if pipelining == "on" {
            // The next event is here before the reply to this one has been accepted.
            let poll = function.poll();
            assert_eq!(poll.port, post.port);
            poll.dispatch("b", "2");
        }
        let retry = take_reply(&function, "a", "1");
        assert!(!retry.is_followed);
        retry.accept();

        if pipelining == "off" {
            function.poll().dispatch("b", "2");
        }
        for _ in 0..2 {
            take_reply(&function, "b", "2").close();
        }
        let line = take_line(&function, "ERROR", "could not deliver the response");
        assert_eq!(line["requestId"], "b");
        assert_eq!(function.invoke("3"), reply("3"));
        assert_is_content(function);
    });
}

#[test]
fn replies_to_each_of_the_invocations_in_flight_at_once() {
    const WORKERS: usize = 64;
    in_every_mode(with_workers(WORKERS), |function, _| {
        let polls: Vec<_> = (0..WORKERS).map(|_| function.poll()).collect();

        // All have begun to arrive before the first is whole.
        let events: Vec<_> = (0..WORKERS)
            .map(|n| event(&n.to_string(), n.to_string()))
            .collect();
        function.while_stopped(|| {
            for (poll, event) in polls.iter().zip(&events) {
                poll.respond(&event[..event.len() / 2]);
            }
            for index in (0..WORKERS).map(|index| index * 37 % WORKERS) {
                polls[index].respond(&events[index][events[index].len() / 2..]);
            }
        });

        let mut posts = BTreeMap::new();
        for _ in 0..WORKERS {
            let post = function.post();
            let (request_id, what) = post.posted();
            assert_eq!((what, &post.body), ("response", &reply(request_id)));
            posts.insert(request_id.parse::<usize>().unwrap(), post);
        }
        assert!(posts.keys().copied().eq(0..WORKERS));
        for post in posts.values().rev() {
            post.accept();
        }
        for _ in 0..WORKERS {
            function.poll();
        }
    });
}

#[test]
fn reports_an_event_that_does_not_arrive_whole() {
    // What follows the request id, and what is reported.
    let cases = [
        "Content-Length: 8\r\n\r\n{\"n\" -> unexpected end of file",
        "Content-Length: 6357000\r\n\r\n -> a body of more than 6356992 bytes",
        "Content-Length: 99999999999999999999\r\n\r\n -> an unusable Content-Length",
        "Content-Length: +2\r\n\r\n{} -> an unusable Content-Length",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n -> a body of more than 6356992 bytes",
        "Transfer-Encoding: chunked\r\n\r\nx\r\n -> not the size of a chunk",
        "Transfer-Encoding: chunked\r\n\r\n00000000000000002\r\n{}\r\n0\r\n\r\n -> not the size of a chunk",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n\r\n\r\n -> not the size of a chunk",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n;name=value\r\n\r\n -> not the size of a chunk",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n -> a chunk that is longer than its size",
        "\r\n{\"n\": 1} -> neither a Content-Length nor chunks",
    ];
    in_every_mode(Function::start, |function, _| {
        for (n, case) in cases.iter().enumerate() {
            let (rest, problem) = case.split_once(" -> ").unwrap();
            let request_id = n.to_string();
            function.poll().respond_and_close(format!(
                "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {n}\r\n{rest}"
            ));
            let post = function.post();
            assert_eq!(post.posted(), (&*request_id, "error"));
            let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
            assert_eq!(diagnostic["errorType"], "Runtime.UnreadableEvent");
            assert_eq!(diagnostic["errorMessage"], problem, "{case}");
            post.accept();
        }
        assert_eq!(function.invoke("1"), reply("1"));
    });
}

#[test]
fn polls_again_after_a_response_that_is_no_event() {
    in_every_mode(Function::start, |function, _| {
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
        assert_eq!(function.invoke("1"), reply("1"));
        let message = "cannot get an invocation from the Runtime API; retrying";
        take_line(&function, "WARN", message);
        function.poll();
        // The other failures belong to the same outage, if the machine is not too slow for that.
        for line in function.terminate() {
            assert_eq!(line["fields"]["message"], message);
        }
    });
}

#[test]
fn logs_a_refused_reply_and_at_most_a_kilobyte_of_the_reason() {
    in_every_mode(Function::start, |function, _| {
        // The worker model has 400 and 410, which mean something else if a post was the second.
        for (status, len, logged) in [
            (403, 1_000, 1_000),
            (404, 4_000, 1_024),
            (413, 100_000, 1_024),
        ] {
            function.poll().dispatch(&status.to_string(), "1");
            let refusal = "\"".repeat(len);
            let response =
                format!("HTTP/1.1 {status} Status\r\nContent-Length: {len}\r\n\r\n{refusal}");
            function.post().settle(response);
            let line = take_line(&function, "WARN", "response refused");
            assert_eq!(line["requestId"], status.to_string());
            assert_eq!(line["status"], status);
            assert_eq!(line["refusal"], refusal[..logged]);
        }
        assert_eq!(function.invoke("1"), reply("1"));
        assert_is_content(function);
    });
}
