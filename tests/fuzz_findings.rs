//! What fuzzing found, through the binary as it ships.

use crate::support::Function;

const HEAD: &str = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id\r\n";

/// Asserts that this answer to a poll is reported as unreadable.
#[track_caller]
fn assert_unreadable(rest: &str) {
    let function = Function::start(1);
    function.poll().answer(format!("{HEAD}{rest}"));
    let post = function.post();
    post.accept();
    assert_eq!(post.line, "POST /2018-06-01/runtime/invocation/id/error");
}

#[test]
fn closes_a_connection_that_is_to_be_closed_among_other_options() {
    let function = Function::start(1);
    let poll = function.poll();
    poll.answer(format!(
        "{HEAD}Connection: keep-alive, Close\r\nContent-Length: 2\r\n\r\n{{}}"
    ));
    assert_ne!(function.post().port(), poll.port());
}

#[test]
fn refuses_chunks_that_end_without_a_last_one() {
    assert_unreadable("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n\r\n\r\n");
    assert_unreadable("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n;name=value\r\n\r\n");
}

#[test]
fn refuses_a_content_length_with_a_sign() {
    assert_unreadable("Content-Length: +2\r\n\r\n{}");
}

#[test]
fn refuses_the_size_of_a_chunk_in_more_than_16_digits() {
    assert_unreadable("Transfer-Encoding: chunked\r\n\r\n00000000000000002\r\n{}\r\n0\r\n\r\n");
}
