//! Requests to the Runtime API that are sent ahead of responses, and faults among them.

use crate::support::worker::Function;
use crate::support::{Connection, all_poll, receive, response, within};
use emulator::{Fault, Reply};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

/// A function whose one worker has an event, the connection on which it got that, and its caller.
async fn invoked() -> (Function, Connection, JoinHandle<Reply>) {
    let mut function = Function::start().await;
    let connection = function.poll.take().unwrap();
    let call = function.call("1");
    (function, connection, call)
}

#[tokio::test]
async fn serves_a_reply_and_the_next_poll_in_one_write_in_order() {
    let (function, mut connection, mut call) = invoked().await;
    for number in 1..100 {
        // Large replies fill more than one read of the server.
        let length = if number % 2 == 0 { 10 } else { 100_000 };
        let reply = format!("\"{}\"", "x".repeat(length));
        let event = response(&mut connection).await;
        assert_eq!(event.text(), number.to_string());
        function
            .reply_and_poll(&mut connection, &event, &reply)
            .await;
        assert_eq!(response(&mut connection).await.status, 202);
        assert_eq!(call.await.unwrap().payload, reply);
        // The poll counts although its connection has sent nothing since.
        all_poll(&function.emulator, 1).await;
        call = function.call((number + 1).to_string());
    }
    assert_eq!(function.emulator.most_polls(), 1);
}

/// A client sends its next poll behind a reply. When a fault hits the reply, it sees this status, and
/// gets the next event on this connection or not.
#[tokio::test]
async fn serves_the_poll_behind_a_reply_unless_the_connection_breaks() {
    for (fault, is_accepted, status, is_served) in [
        (Fault::PostStatus(400), false, Some(400), true),
        (Fault::PostStatus(500), false, Some(500), true),
        (Fault::PostReset, false, None, false),
        (Fault::PostBodyReset, false, None, false),
        (Fault::PostResponseReset, true, None, false),
        (Fault::PostResponseCut, true, None, false),
        (Fault::PostClose, true, Some(202), false),
        (Fault::PollDiscarded, true, Some(202), false),
    ] {
        let (mut function, mut connection, pending) = invoked().await;
        let event = response(&mut connection).await;
        function.emulator.inject([fault]);
        let mut reply = format!("\"{}\"", "x".repeat(100_000));
        function
            .reply_and_poll(&mut connection, &event, &reply)
            .await;
        let first = receive(&mut connection).await;
        let got = first.as_ref().map(|response| response.status);
        assert_eq!(got, status, "{fault:?}");
        // It is told of the end of the connection, or not.
        let end = first.as_ref().and_then(|first| first.header("connection"));
        let is_told = matches!(fault, Fault::PostClose);
        assert_eq!(end, is_told.then_some("close"), "{fault:?}");
        if !is_accepted {
            "2".clone_into(&mut reply);
            function.reply(&event, b"2").await;
        }
        assert_eq!(pending.await.unwrap().payload, reply, "{fault:?}");
        // Whatever became of the poll, the next event reaches the function.
        let next = function.call("3");
        let mut event = receive(&mut connection).await;
        assert_eq!(event.is_some(), is_served, "{fault:?}: {event:?}");
        if !is_served {
            event = Some(function.next().await);
        }
        let event = event.unwrap();
        assert_eq!(event.text(), "3", "{fault:?}");
        function.reply(&event, b"4").await;
        assert_eq!(&next.await.unwrap().payload[..], b"4", "{fault:?}");
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

/// With two workers, the event that a broken poll does not get goes to the other one at once.
#[tokio::test]
async fn hands_the_event_to_another_poll() {
    for fault in [
        Fault::PostReset,
        Fault::PostResponseReset,
        Fault::PostClose,
        Fault::PollDiscarded,
    ] {
        let mut function = Function::start_workers(2).await;
        let first = function.call("1");
        let mut broken = function.poll.take().unwrap();
        let event = response(&mut broken).await;
        function.poll().await;
        all_poll(&function.emulator, 1).await;
        function.emulator.inject([fault]);
        function.reply_and_poll(&mut broken, &event, "2").await;
        while receive(&mut broken).await.is_some() {}
        let second = function.call("3");
        let event = function.next().await;
        assert_eq!(event.text(), "3", "{fault:?}");
        function.reply(&event, b"4").await;
        assert_eq!(&second.await.unwrap().payload[..], b"4", "{fault:?}");
        first.abort();
    }
}
