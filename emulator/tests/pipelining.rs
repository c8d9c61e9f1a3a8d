//! Requests to the Runtime API that are sent ahead of responses, and faults among them.

use crate::support::worker::{Connection, Function, NEXT, kept_alive, post_request};
use crate::support::{all_poll, within};
use emulator::{Fault, Settings};
use tokio::io::AsyncReadExt;

fn poll() -> String {
    kept_alive(NEXT, "")
}

/// A function whose one worker polls on a connection that is kept open.
async fn one_worker() -> (Function, Connection) {
    let mut function = Function::start().await;
    drop(function.poll.take());
    let no_poll = function.emulator.wait_for_polls(|polls| polls == 0);
    within("the poll to be given up", no_poll).await;
    let mut connection = Connection::open(function.runtime_api).await;
    connection.send(&[poll()]).await;
    all_poll(&function.emulator, 1).await;
    (function, connection)
}

#[tokio::test]
async fn serves_a_reply_and_the_next_poll_in_one_write_in_order() {
    let (function, mut connection) = one_worker().await;
    for number in 0..100 {
        // Large replies fill more than one read of the server.
        let length = if number % 2 == 0 { 10 } else { 100_000 };
        let reply = format!("\"{}\"", "x".repeat(length));
        let call = function.call(number.to_string());
        let event = connection.receive().await.unwrap();
        assert_eq!(event.text(), number.to_string());
        let post = post_request(&event, &reply);
        connection.send(&[post, poll()]).await;
        assert_eq!(connection.receive().await.unwrap().status, 202);
        assert_eq!(call.await.unwrap().payload, reply);
        // The poll counts although its connection has sent nothing since.
        all_poll(&function.emulator, 1).await;
    }
    assert_eq!(function.emulator.most_polls(), 1);
}

/// What a client sees that sends its next poll behind a reply when a fault hits the reply.
async fn statuses_after(fault: Fault) -> Vec<Option<u16>> {
    let (function, mut connection) = one_worker().await;
    let pending = function.call("1");
    let event = connection.receive().await.unwrap();
    function.emulator.inject([fault]);
    let reply = format!("\"{}\"", "x".repeat(100_000));
    let post = post_request(&event, &reply);
    connection.send(&[post, poll()]).await;
    let first = connection.receive().await.map(|response| response.status);
    let mut statuses = vec![first];
    let is_refused = matches!(fault, Fault::PostStatus(_));
    if is_refused || matches!(fault, Fault::PostReset | Fault::PostBodyReset) {
        let mut again = Connection::open(function.runtime_api).await;
        again.reply(&event, "2").await;
        assert_eq!(&pending.await.unwrap().payload[..], b"2");
    } else {
        assert_eq!(pending.await.unwrap().payload, reply);
    }
    // Whatever became of the poll, the next event reaches the function.
    let next = function.call("3");
    if !is_refused {
        let rest = connection.receive().await;
        assert!(rest.is_none(), "{fault:?}: {rest:?}");
        connection = Connection::open(function.runtime_api).await;
        connection.send(&[poll()]).await;
    }
    let event = connection.receive().await.unwrap();
    if is_refused {
        statuses.push(Some(event.status));
    }
    assert_eq!(event.text(), "3", "{fault:?}");
    connection.reply(&event, "4").await;
    assert_eq!(&next.await.unwrap().payload[..], b"4", "{fault:?}");
    statuses
}

#[tokio::test]
async fn serves_the_poll_behind_a_reply_unless_the_connection_breaks() {
    for (fault, statuses) in [
        (Fault::PostStatus(400), &[Some(400), Some(200)][..]),
        (Fault::PostStatus(500), &[Some(500), Some(200)]),
        (Fault::PostReset, &[None]),
        (Fault::PostBodyReset, &[None]),
        (Fault::PostResponseReset, &[None]),
        (Fault::PostResponseCut, &[None]),
        (Fault::PostClose, &[Some(202)]),
        (Fault::PollDiscarded, &[Some(202)]),
    ] {
        assert_eq!(statuses_after(fault).await, statuses, "{fault:?}");
    }
}

#[tokio::test]
async fn breaks_off_in_the_head_of_an_event_or_behind_it() {
    for (fault, has_whole_head) in [(Fault::EventHeadCut, false), (Fault::EventBodyCut, true)] {
        let mut function = Function::start().await;
        function.emulator.inject([fault]);
        let _call = function.call("{}");
        let mut poll = function.poll.take().unwrap();
        let mut received = Vec::new();
        let end = poll.read_to_end(&mut received);
        within("the end of the connection", end).await.unwrap();
        let received = String::from_utf8(received).unwrap();
        assert!(received.starts_with("HTTP/1.1 20"), "{received}");
        let end = received.find("\r\n\r\n").map(|end| end + 4);
        assert_eq!(end, has_whole_head.then_some(received.len()), "{received}");
    }
}

#[tokio::test]
async fn says_that_it_closes_the_connection_or_does_not() {
    for (fault, header) in [
        (Fault::PostClose, Some("close")),
        (Fault::PollDiscarded, None),
    ] {
        let (function, mut connection) = one_worker().await;
        let pending = function.call("1");
        let event = connection.receive().await.unwrap();
        function.emulator.inject([fault]);
        // Nothing follows, and the connection ends all the same.
        let accepted = connection.reply(&event, "2").await;
        assert_eq!(accepted.header("connection"), header);
        assert!(connection.receive().await.is_none(), "{fault:?}");
        assert_eq!(&pending.await.unwrap().payload[..], b"2");
    }
}

/// With two workers, the event that a broken poll does not get goes to the other one at once.
#[tokio::test]
async fn hands_the_event_to_another_poll() {
    for fault in [
        Fault::PostReset,
        Fault::PostResponseReset,
        Fault::PostClose,
        Fault::PollDiscarded,
    ] {
        let two = |settings: &mut Settings| settings.max_concurrency = 2;
        let mut function = Function::start_with(two, async |_| {}).await;
        let first = function.call("1");
        let event = function.next().await;
        let mut broken = Connection::open(function.runtime_api).await;
        let mut sound = Connection::open(function.runtime_api).await;
        sound.send(&[poll()]).await;
        all_poll(&function.emulator, 1).await;
        function.emulator.inject([fault]);
        broken.send(&[post_request(&event, "2"), poll()]).await;
        while broken.receive().await.is_some() {}
        let second = function.call("3");
        let event = sound.receive().await.unwrap();
        assert_eq!(event.text(), "3", "{fault:?}");
        sound.reply(&event, "4").await;
        assert_eq!(&second.await.unwrap().payload[..], b"4");
        first.abort();
    }
}
