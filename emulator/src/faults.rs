//! Faults of the Runtime API, to see how a function copes with them.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::lock::lock;

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

/// The faults that are still to happen.
pub(crate) struct Faults {
    faults: Mutex<VecDeque<Fault>>,
    left: watch::Sender<usize>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            faults: Mutex::default(),
            left: watch::Sender::new(0),
        }
    }

    pub(crate) fn inject(&self, new: impl IntoIterator<Item = Fault>) {
        let mut faults = lock(&self.faults);
        faults.extend(new);
        self.left.send_replace(faults.len());
    }

    /// Removes and returns the oldest fault of a kind, for it to happen now.
    pub(crate) fn take(&self, is_of_kind: impl Fn(Fault) -> bool) -> Option<Fault> {
        if *self.left.borrow() == 0 {
            return None;
        }
        let mut faults = lock(&self.faults);
        let place = faults.iter().position(|fault| is_of_kind(*fault))?;
        let fault = faults.remove(place);
        self.left.send_replace(faults.len());
        fault
    }

    /// How many faults are still to happen.
    pub(crate) fn left(&self) -> watch::Receiver<usize> {
        self.left.subscribe()
    }
}
