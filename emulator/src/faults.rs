//! Faults of the Runtime API, to see how a function copes with them.

use std::collections::VecDeque;

use tokio::sync::watch;

/// What goes wrong, once, with a request to the Runtime API.
///
/// No fault loses an event. If a fault breaks a connection, requests behind it on that connection are
/// not served; an event that does not reach its poll goes to another poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection of a poll is reset at once.
    PollReset,
    /// A poll gets a response with this status at once.
    PollStatus(u16),
    /// A poll gets an event without the headers of the Runtime API. The event itself goes to another
    /// poll.
    EventWithoutHeaders,
    /// The response to a poll breaks off in its head. The event goes to another poll.
    EventHeadCut,
    /// The response to a poll breaks off after its head, so that the function knows the request id.
    /// The invocation stays with that function.
    EventBodyCut,
    /// The connection is reset before a reply or error is read.
    PostReset,
    /// The connection is reset while a reply or error is read.
    PostBodyReset,
    /// A reply or error gets a response with this status and is not accepted. The connection lives.
    PostStatus(u16),
    /// A reply or error is accepted; then the connection is reset.
    PostResponseReset,
    /// A reply or error is accepted; then the response breaks off in its head.
    PostResponseCut,
    /// A reply or error is accepted. The response says `Connection: close`, and whatever follows on
    /// the connection, such as the next poll, is discarded.
    PostClose,
    /// A reply or error is accepted, and the response says nothing unusual. Then the connection is
    /// closed, and whatever follows on it, such as the next poll, is discarded.
    PollDiscarded,
}

impl Fault {
    pub(crate) fn is_of_poll(self) -> bool {
        matches!(self, Self::PollReset | Self::PollStatus(_))
    }

    pub(crate) fn is_of_event(self) -> bool {
        matches!(
            self,
            Self::EventWithoutHeaders | Self::EventHeadCut | Self::EventBodyCut
        )
    }

    pub(crate) fn is_of_post(self) -> bool {
        !self.is_of_poll() && !self.is_of_event()
    }
}

/// The faults that are still to happen, the oldest first.
#[derive(Default)]
pub(crate) struct Faults(watch::Sender<VecDeque<Fault>>);

impl Faults {
    pub(crate) fn inject(&self, new: impl IntoIterator<Item = Fault>) {
        self.0.send_modify(|faults| faults.extend(new));
    }

    /// Removes and returns the oldest fault of a kind, for it to happen now.
    pub(crate) fn take(&self, is_of_kind: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut taken = None;
        self.0.send_if_modified(|faults| {
            let place = faults.iter().position(|fault| is_of_kind(*fault));
            taken = place.and_then(|place| faults.remove(place));
            taken.is_some()
        });
        taken
    }

    /// Waits until all have happened.
    pub(crate) async fn wait_for_all(&self) {
        // The sender is ours, so this cannot fail.
        let _ = self.0.subscribe().wait_for(VecDeque::is_empty).await;
    }
}
