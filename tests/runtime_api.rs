//! What the function and the Runtime API say to each other, byte by byte.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::support::{Function, Request, event};
use serde_json::Value;

const REPLY: &[u8] = br#"{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{\"n\": 1, \"sequence\": [0, 1]}"}"#;

#[test]
fn reads_a_content_length_and_chunks() {
    let function = Function::start(1);
    let chunked = |payload: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\nTransfer-Encoding: chunked\r\n\r\n{payload}"
        )
    };
    for answer in [
        String::from_utf8(event("id", r#"{"n": 1}"#)).unwrap(),
        chunked("8\r\n{\"n\": 1}\r\n0\r\n\r\n"),
        chunked("5\r\n{\"n\":\r\n3\r\n 1}\r\n0\r\n\r\n"),
        chunked("0005;name=value\r\n{\"n\":\r\n3\r\n 1}\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n"),
    ] {
        for one_by_one in [false, true] {
            let poll = function.poll();
            if one_by_one {
                answer.bytes().for_each(|byte| poll.answer([byte]));
            } else {
                poll.answer(&answer);
            }
            let post = function.post();
            assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/id/response");
            assert_eq!(post.body, REPLY, "to {answer}");
            post.accept();
        }
    }
}

#[test]
fn reads_an_event_of_6_mb_in_chunks() {
    let function = Function::start(1);
    let poll = function.poll();
    poll.answer("HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in [
        r#"{"ignored": ""#.to_owned(),
        "x".repeat(6 * 1024 * 1024 - 100),
        r#"", "n": 1}"#.to_owned(),
    ] {
        poll.answer(format!("{:X}\r\n{chunk}\r\n", chunk.len()));
    }
    poll.answer("0\r\n\r\n");
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
        function
            .poll()
            .answer(format!("HTTP/1.1 200 OK\r\n{head}\r\n{{\"n\": 1}}"));
        let post = function.post();
        assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/id/response");
        assert_eq!(post.body, REPLY);
        post.accept();
    }
}

#[test]
fn keeps_its_connection() {
    let function = Function::start(1);
    let poll = function.poll();
    let first = poll.port();
    poll.dispatch("a", "{}");
    let post = function.post();
    assert_eq!(post.port(), first);
    post.accept();
    assert_eq!(function.poll().port(), first);
}

#[test]
fn opens_another_connection_where_it_is_told_to() {
    let function = Function::start(1);
    let poll = function.poll();
    poll.answer("HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\nConnection: close\r\nContent-Length: 8\r\n\r\n{\"n\": 1}");
    let post = function.post();
    assert_eq!(post.body, REPLY);
    assert_ne!(post.port(), poll.port());
    post.answer("HTTP/1.1 202 Accepted\r\nConnection: close\r\n\r\n");
    assert_ne!(function.poll().port(), post.port());
}

#[test]
fn answers_invocations_in_flight_at_once_each_with_its_own_reply() {
    const WORKERS: u16 = 64;
    let function = Function::start(WORKERS);
    let polls: Vec<_> = (0..WORKERS).map(|_| function.poll()).collect();
    function.assert_no_poll_for(Duration::from_millis(100));

    // All have begun to arrive before the first is whole.
    let events: Vec<_> = (0..WORKERS)
        .map(|n| event(&format!("id-{n}"), format!(r#"{{"n": {n}}}"#)))
        .collect();
    for (poll, event) in polls.iter().zip(&events) {
        poll.answer(&event[..event.len() / 2]);
    }
    for index in (0..events.len()).map(|index| index * 37 % events.len()) {
        polls[index].answer(&events[index][events[index].len() / 2..]);
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

#[test]
fn waits_for_an_event_without_a_deadline_but_not_for_the_rest_of_one() {
    let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "WARN")]);
    let poll = function.poll();
    function.assert_no_poll_for(Duration::from_millis(1500));
    let begun = Instant::now();
    poll.answer("H");

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
    let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "WARN")]);
    let head = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\n";
    for (rest, problem) in [
        ("Content-Length: 8\r\n\r\n{\"n\"", "unexpected end of file"),
        (
            "Content-Length: 6357000\r\n\r\n",
            "a body of more than 6356992 bytes",
        ),
        (
            "Content-Length: 99999999999999999999\r\n\r\n",
            "an unusable Content-Length",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "a body of more than 6356992 bytes",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nx\r\n",
            "not the size of a chunk",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
            "a chunk that is longer than its size",
        ),
        ("\r\n{\"n\": 1}", "neither a Content-Length nor chunks"),
    ] {
        let poll = function.poll();
        poll.answer(format!("{head}{rest}"));
        poll.close();
        let post = function.post();
        assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/a/error");
        let diagnostic: Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(diagnostic["errorType"], "Runtime.UnreadableEvent");
        assert_eq!(diagnostic["errorMessage"], problem);
        post.accept();
    }
    assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
}

#[test]
fn polls_again_after_an_answer_that_is_no_event() {
    let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "WARN")]);
    for answer in [
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
        let poll = function.poll();
        poll.answer(answer);
        poll.close();
    }
    assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
    let warning = function.json_line();
    assert_eq!(
        warning["fields"]["message"],
        "the Runtime API gives no invocation; trying again"
    );
    // The other failures belong to the same outage.
    assert_eq!(function.terminate(), [] as [Value; 0]);
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
    // 8 workers, each after 10 ms, 20, 40 … 250, or half of it.
    assert!((8 * 6..=8 * 14).contains(&refusals), "{refusals} refusals");

    let polls: Vec<_> = (0..8).map(|_| function.poll()).collect();
    assert!(begun.elapsed() < Duration::from_secs(2));
    for (n, poll) in polls.iter().enumerate() {
        poll.dispatch(&format!("id-{n}"), r#"{"n": 1}"#);
    }
    for _ in 0..8 {
        assert_eq!(function.post().body, REPLY);
    }
}

#[test]
fn posts_again_after_a_failure_and_only_once() {
    let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "WARN")]);
    let failures: [fn(Request); 4] = [
        |post| post.answer_status(500),
        |post| post.answer_status(503),
        Request::close,
        |post| {
            post.answer("HTTP/1.1 20");
            post.close();
        },
    ];
    for fail in failures {
        function.poll().dispatch("a", r#"{"n": 1}"#);
        let post = function.post();
        let first_port = post.port();
        fail(post);
        let retry = function.post();
        assert_eq!(retry.line, "POST /2018-06-01/runtime/invocation/a/response");
        assert_eq!(retry.body, REPLY);
        assert_ne!(retry.port(), first_port);
        retry.accept();

        function.poll().dispatch("b", r#"{"n": 1}"#);
        fail(function.post());
        fail(function.post());
        let line = function.json_line();
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["fields"]["requestId"], "b");
        assert_eq!(line["fields"]["message"], "response lost");
    }
    assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
    assert_eq!(function.terminate(), [] as [Value; 0]);
}

#[test]
fn gives_up_a_post_that_makes_no_progress() {
    let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "WARN")]);
    function.poll().dispatch("a", r#"{"n": 1}"#);
    let _unanswered = function.post();
    let retry = function.post();
    retry.answer_status(410);
    function.poll();
    // The reply may have been delivered: nothing to warn of.
    assert_eq!(function.terminate(), [] as [Value; 0]);
}

#[test]
fn logs_a_refused_reply_and_goes_on() {
    let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "WARN")]);
    for status in [400, 403, 410, 413] {
        function.poll().dispatch("a", r#"{"n": 1}"#);
        function.post().answer_status(status);
        let line = function.json_line();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["fields"]["requestId"], "a");
        assert_eq!(line["fields"]["status"], status);
        assert_eq!(line["fields"]["answer"], "{\"status\":\"OK\"}\n");
    }
    assert_eq!(function.invoke(r#"{"n": 1}"#), REPLY);
}

#[test]
fn prints_nothing_where_nothing_is_wrong() {
    let function = Function::start_with(&[("AWS_LAMBDA_LOG_LEVEL", "INFO")]);
    for payload in [r#"{"n": 1}"#, "{}", "not JSON"] {
        function.invoke(payload);
    }
    function.poll();
    assert_eq!(function.terminate(), [] as [Value; 0]);
}
