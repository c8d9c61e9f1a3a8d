//! Requests to the Runtime API that are sent ahead of responses, and faults among them.

use std::sync::Arc;

use crate::support::worker::{Connection, Function, NEXT, kept_alive, post_request};
use crate::support::{all_poll, call, within, workers};
use emulator::Fault;

fn poll() -> String {
    kept_alive(NEXT, "")
}

/// A function whose one worker polls on a connection that is kept open.
async fn one_worker() -> (Function, Connection) {
    let mut function = Function::start(workers(1)).await;
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
        let reply = format!(
            "\"{}\"",
            "x".repeat(if number % 2 == 0 { 10 } else { 100_000 })
        );
        let call = function.call(number.to_string());
        let event = connection.receive().await.unwrap();
        assert_eq!(event.text(), number.to_string());
        connection
            .send(&[post_request(&event, &reply), poll()])
            .await;
        assert_eq!(connection.receive().await.unwrap().status, 202);
        assert_eq!(call.await.unwrap().payload, reply);
        // The poll counts although its connection has sent nothing since.
        all_poll(&function.emulator, 1).await;
    }
    assert_eq!(function.emulator.most_polls(), 1);
}

/// What a client sees that sends its next poll behind a reply when a fault hits the reply.
async fn after(fault: Fault) -> (Function, Vec<Option<u16>>) {
    let (function, mut connection) = one_worker().await;
    let pending = function.call("1");
    let event = connection.receive().await.unwrap();
    function.emulator.inject([fault]);
    let reply = format!("\"{}\"", "x".repeat(100_000));
    connection
        .send(&[post_request(&event, &reply), poll()])
        .await;
    let first = connection.receive().await.map(|response| response.status);
    let mut statuses = vec![first];
    let is_accepted = !matches!(
        fault,
        Fault::PostStatus(_) | Fault::PostReset | Fault::PostBodyReset
    );
    if is_accepted {
        assert_eq!(pending.await.unwrap().payload, reply);
    } else {
        let mut again = Connection::open(function.runtime_api).await;
        again.send(&[post_request(&event, "2")]).await;
        assert_eq!(again.receive().await.unwrap().status, 202);
        assert_eq!(&pending.await.unwrap().payload[..], b"2");
    }
    // Whatever became of the poll, the next event reaches the function.
    let next = function.call("3");
    let event = if first.is_some() && matches!(fault, Fault::PostStatus(_)) {
        let event = connection.receive().await.unwrap();
        statuses.push(Some(event.status));
        event
    } else {
        let rest = connection.receive().await;
        assert!(rest.is_none(), "{fault:?}: {rest:?}");
        connection = Connection::open(function.runtime_api).await;
        connection.send(&[poll()]).await;
        connection.receive().await.unwrap()
    };
    assert_eq!(event.text(), "3", "{fault:?}");
    connection.send(&[post_request(&event, "4")]).await;
    assert_eq!(connection.receive().await.unwrap().status, 202);
    assert_eq!(&next.await.unwrap().payload[..], b"4", "{fault:?}");
    (function, statuses)
}

#[tokio::test]
async fn serves_the_poll_behind_a_refused_reply_on_a_connection_that_lives() {
    for status in [400, 500] {
        let (_function, statuses) = after(Fault::PostStatus(status)).await;
        assert_eq!(statuses, [Some(status), Some(200)]);
    }
}

#[tokio::test]
async fn gives_no_event_to_a_poll_on_a_connection_that_breaks() {
    for (fault, status) in [
        (Fault::PostReset, None),
        (Fault::PostBodyReset, None),
        (Fault::PostResponseReset, None),
        (Fault::PostResponseCut, None),
        (Fault::PostClose, Some(202)),
        (Fault::PollDiscarded, Some(202)),
    ] {
        let (_function, statuses) = after(fault).await;
        assert_eq!(statuses, [status], "{fault:?}");
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
        connection.send(&[post_request(&event, "2")]).await;
        let accepted = connection.receive().await.unwrap();
        assert_eq!(
            (accepted.status, accepted.header("connection")),
            (202, header)
        );
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
        let mut function = Function::start(workers(2)).await;
        let first = function.call("1");
        let event = function.next().await;
        let mut broken = Connection::open(function.runtime_api).await;
        let mut sound = Connection::open(function.runtime_api).await;
        sound.send(&[poll()]).await;
        all_poll(&function.emulator, 1).await;
        function.emulator.inject([fault]);
        broken.send(&[post_request(&event, "2"), poll()]).await;
        while broken.receive().await.is_some() {}
        let second = {
            let emulator = Arc::clone(&function.emulator);
            tokio::spawn(async move { call(&emulator, "3").await })
        };
        let event = sound.receive().await.unwrap();
        assert_eq!(event.text(), "3", "{fault:?}");
        sound.send(&[post_request(&event, "4")]).await;
        assert_eq!(sound.receive().await.unwrap().status, 202);
        assert_eq!(&second.await.unwrap().payload[..], b"4");
        first.abort();
    }
}
