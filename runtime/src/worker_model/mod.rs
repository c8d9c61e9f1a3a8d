//! What can reach a worker, in any order, against what a worker promises.
//!
//! The workers run over pipes and on a clock that stands still while there is something to do. The
//! Runtime API at the other end chooses what happens at each step: mostly what usually happens, and a
//! few surprises. A run is a sequence of choices, and the runs enumerate the sequences.

mod choices;
mod connection;
pub(crate) mod log;
mod registration;
mod runtime_api;

use std::env;
use std::time::Duration;

use choices::Choices;
use log::Log;
use runtime_api::RuntimeApi;

/// How long a connection that should move may stand still.
const STALL_LIMIT: Duration = Duration::from_secs(1);
const ALMOST_A_STALL: Duration = Duration::from_millis(998);

/// What a worker's attempt to connect meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnConnect {
    Accept,
    AcceptAndClose,
    Refuse,
    AcceptLate,
    Stall,
}

const CONNECTS: [OnConnect; 5] = [
    OnConnect::Accept,
    OnConnect::AcceptAndClose,
    OnConnect::Refuse,
    OnConnect::AcceptLate,
    OnConnect::Stall,
];

/// What happens to a connection after a response or a part of one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Keep,
    Close,
    /// So much later, the rest is sent.
    GoOn(Duration),
    /// The rest arrives while the process stands still.
    GoOnUnseen,
    /// The rest takes longer than the function waits for it.
    Stall,
}

impl Then {
    fn takes_time(self) -> bool {
        !matches!(self, Self::Keep | Self::Close)
    }
}

/// The response to a poll, of which the part before the cut is sent before `Then`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OnPoll(Response, Cut, Then);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Response {
    Event,
    /// An event on which the handler panics.
    Panic,
    /// An event that is too large.
    TooLarge,
    Other(&'static str),
}

/// Where an event is cut in two.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Nowhere,
    AfterFirstByte,
    InHead,
    AfterHead,
    InPayload,
}

/// Longer than any deadline.
const LATE: Then = Then::GoOn(Duration::from_secs(2));

const POLLS: [OnPoll; 17] = [
    OnPoll(Response::Event, Cut::Nowhere, Then::Keep),
    OnPoll(Response::Panic, Cut::Nowhere, Then::Keep),
    NOTHING,
    OnPoll(Response::Event, Cut::Nowhere, Then::Close),
    OnPoll(Response::Event, Cut::AfterFirstByte, LATE),
    OnPoll(Response::Event, Cut::InHead, LATE),
    OnPoll(Response::Event, Cut::AfterHead, LATE),
    OnPoll(Response::Event, Cut::InPayload, LATE),
    OnPoll(Response::Event, Cut::AfterFirstByte, Then::Close),
    OnPoll(Response::Event, Cut::InHead, Then::Close),
    OnPoll(Response::Event, Cut::AfterHead, Then::Close),
    OnPoll(Response::Event, Cut::InPayload, Then::Close),
    OnPoll(Response::TooLarge, Cut::Nowhere, Then::Close),
    no_event("HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n"),
    no_event("HTTP/1.1 204 No Content\r\n\r\n"),
    no_event("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    no_event("nonsense\r\n\r\n"),
];
const NOTHING: OnPoll = no_event("");

const fn no_event(response: &'static str) -> OnPoll {
    OnPoll(Response::Other(response), Cut::Nowhere, Then::Close)
}

/// How many of these a poll may meet while its worker is still posting the reply before it.
const EARLY_POLLS: usize = 3;

/// What a post meets: how much of it is read, the response, and how many bytes of the response are
/// sent before `Then`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OnPost(Read, &'static str, usize, Then);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Read {
    All,
    Head,
}

const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
const ACCEPTED_NAMING_AN_INVOCATION: &str =
    "HTTP/1.1 202 Accepted\r\nLambda-Runtime-Aws-Request-Id: a\r\nContent-Length: 2\r\n\r\n{}";
const ACCEPTED_SAYING_CLOSE: &str =
    "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
const TOO_LARGE: &str = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}";
const ALL: usize = ACCEPTED.len();
/// An event comes where the response is due.
const AN_EVENT: OnPost = OnPost(Read::All, "", 0, Then::Keep);

const POSTS: [OnPost; 18] = [
    OnPost(Read::All, ACCEPTED, ALL, Then::Keep),
    OnPost(Read::All, ACCEPTED, ALL, Then::Close),
    OnPost(Read::All, ACCEPTED, ALL - 1, Then::Close),
    OnPost(Read::All, ACCEPTED, ALL - 1, Then::Stall),
    OnPost(Read::All, ACCEPTED, 11, Then::Close),
    OnPost(Read::All, ACCEPTED, 9, Then::GoOn(ALMOST_A_STALL)),
    OnPost(Read::All, ACCEPTED, 0, Then::GoOnUnseen),
    OnPost(Read::All, ACCEPTED_NAMING_AN_INVOCATION, 0, Then::Stall),
    respond(ACCEPTED_SAYING_CLOSE, Then::Close),
    respond("", Then::Close),
    respond(
        "HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}",
        Then::Keep,
    ),
    respond(
        "HTTP/1.1 410 Gone\r\nContent-Length: 2\r\n\r\n{}",
        Then::Keep,
    ),
    respond(
        "HTTP/1.1 500 Error\r\nContent-Length: 2\r\n\r\n{}",
        Then::Keep,
    ),
    respond(TOO_LARGE, Then::Keep),
    OnPost(Read::Head, TOO_LARGE, TOO_LARGE.len(), Then::Close),
    OnPost(Read::Head, "", 0, Then::Close),
    OnPost(Read::Head, "", 0, Then::Stall),
    AN_EVENT,
];

const fn respond(response: &'static str, then: Then) -> OnPost {
    OnPost(Read::All, response, response.len(), then)
}

/// When the process is told to shut down.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shutdown {
    NotNow,
    BeforeThis,
    /// A moment after this has begun.
    DuringThis,
}

#[test]
fn one_worker_keeps_its_promises_whatever_happens_to_it() {
    explore(1, 2, 12);
}

#[test]
fn one_worker_keeps_its_promises_whatever_happens_in_a_row() {
    explore(1, 3, 8);
}

#[test]
fn workers_keep_their_promises_side_by_side() {
    explore(2, 2, 14);
}

/// Runs every sequence with so many surprises, and as many more as `MODEL_STEPS` says, among so many
/// choices, with polls pipelined and without. What follows is harmless.
fn explore(workers: u16, surprises: usize, horizon: usize) {
    let more = env::var("MODEL_STEPS").map_or(0, |steps| steps.parse().unwrap());
    let log = Log::default();
    let writer = log.clone();
    let _logging = log::listen(move || writer.clone());
    for pipelines in [true, false] {
        let runs = choices::explore(surprises + more, horizon, &async |choices: &mut Choices| {
            RuntimeApi::run(workers, pipelines, choices, &log).await;
        });
        assert!(runs > 500);
    }
}
