//! Every order of what can reach a worker, to some depth, against what a worker promises.
//!
//! The workers run over pipes and on a clock that stands still while there is something to do. The
//! Runtime API at the other end chooses what happens at each step. A run is a sequence of choices,
//! and the runs enumerate the sequences.

mod choices;
mod log;
mod pipe;
mod registration;
mod runtime_api;

use std::{env, panic};

use choices::Choices;
use runtime_api::RuntimeApi;

/// What a worker's attempt to connect meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnConnect {
    Accept,
    AcceptLate,
    AcceptAndClose,
    Refuse,
    Stall,
}

/// What a poll meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnPoll {
    Event,
    EventThenClose,
    /// The rest takes longer than any deadline.
    EventInParts(Cut),
    /// The start of an event, then the end of the connection.
    EventCut(Cut),
    /// An event on which the handler panics.
    Panic,
    TooLarge,
    Close,
    Respond(&'static str),
}

/// Where an event is cut in two.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// The event follows an interim response.
    AfterInterim,
    AfterFirstByte,
    InHead,
    AfterHead,
    InPayload,
}

/// What a post meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnPost {
    Accept,
    /// Whatever follows the post is dropped with the connection.
    AcceptThenClose,
    /// The same, and the response says so.
    AcceptSayingClose,
    AcceptInParts,
    Status(u16),
    /// A refusal whose body is longer than what is kept of one.
    LongRefusal,
    /// The response arrives while the process stands still.
    AcceptUnseen,
    /// An event comes where the response is due.
    Event,
    CloseDuring,
    /// A refusal before all has been read, and the end of the connection.
    RefuseDuring,
    CloseAfter,
    CutInHead,
    CutInBody,
    StallDuring,
    StallAfter,
    StallInBody,
}

/// What becomes of a response that is late.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnLateResponse {
    Arrives,
    ArrivesSayingClose,
    /// What follows it comes in its place.
    Never,
}

/// When the process is told to shut down.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shutdown {
    NotNow,
    BeforeThis,
    /// A moment after this has begun.
    DuringThis,
}

/// What there is to choose from.
#[derive(Clone, Copy)]
struct Alphabet {
    connects: &'static [OnConnect],
    polls: &'static [OnPoll],
    posts: &'static [OnPost],
    shutdowns: &'static [Shutdown],
}

const ALL: Alphabet = Alphabet {
    connects: &[
        OnConnect::Accept,
        OnConnect::AcceptLate,
        OnConnect::AcceptAndClose,
        OnConnect::Refuse,
        OnConnect::Stall,
    ],
    polls: &[
        OnPoll::Event,
        OnPoll::EventThenClose,
        OnPoll::EventInParts(Cut::AfterInterim),
        OnPoll::EventInParts(Cut::AfterFirstByte),
        OnPoll::EventInParts(Cut::InHead),
        OnPoll::EventInParts(Cut::AfterHead),
        OnPoll::EventInParts(Cut::InPayload),
        OnPoll::EventCut(Cut::AfterFirstByte),
        OnPoll::EventCut(Cut::InHead),
        OnPoll::EventCut(Cut::AfterHead),
        OnPoll::EventCut(Cut::InPayload),
        OnPoll::Panic,
        OnPoll::TooLarge,
        OnPoll::Close,
        OnPoll::Respond("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
        OnPoll::Respond("HTTP/1.1 204 No Content\r\n\r\n"),
        OnPoll::Respond("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        OnPoll::Respond("nonsense\r\n\r\n"),
    ],
    posts: &[
        OnPost::Accept,
        OnPost::AcceptThenClose,
        OnPost::AcceptSayingClose,
        OnPost::AcceptInParts,
        OnPost::Status(400),
        OnPost::Status(410),
        OnPost::Status(413),
        OnPost::Status(500),
        OnPost::LongRefusal,
        OnPost::AcceptUnseen,
        OnPost::Event,
        OnPost::CloseDuring,
        OnPost::RefuseDuring,
        OnPost::CloseAfter,
        OnPost::CutInHead,
        OnPost::CutInBody,
        OnPost::StallDuring,
        OnPost::StallAfter,
        OnPost::StallInBody,
    ],
    shutdowns: &[Shutdown::NotNow, Shutdown::BeforeThis, Shutdown::DuringThis],
};

const WITHOUT_SHUTDOWN: Alphabet = Alphabet {
    shutdowns: &[Shutdown::NotNow],
    ..ALL
};

/// One of each kind that takes no time, so that nothing that other workers wait for stalls.
const FEW: Alphabet = Alphabet {
    connects: &[OnConnect::Accept, OnConnect::Refuse],
    polls: &[
        OnPoll::Event,
        OnPoll::EventCut(Cut::InHead),
        OnPoll::EventCut(Cut::InPayload),
        OnPoll::Close,
    ],
    posts: &[
        OnPost::Accept,
        OnPost::AcceptThenClose,
        OnPost::Status(413),
        OnPost::Status(500),
        OnPost::Event,
        OnPost::CloseDuring,
    ],
    ..ALL
};

/// What the function is configured with.
#[derive(Clone, Copy)]
struct Configuration {
    workers: u16,
    pipelines: bool,
}

#[test]
fn one_worker_keeps_its_promises_whatever_happens_to_it() {
    assert!(explore(1, 3, WITHOUT_SHUTDOWN) > 1_000);
}

#[test]
fn one_worker_keeps_its_promises_whenever_it_is_shut_down() {
    assert!(explore(1, 2, ALL) > 1_000);
}

#[test]
fn one_worker_keeps_its_promises_whatever_happens_in_a_row() {
    assert!(explore(1, 5, FEW) > 1_000);
}

#[test]
fn workers_keep_their_promises_side_by_side() {
    assert!(explore(2, 3, FEW) > 1_000);
}

/// Runs every sequence of choices in so many steps, and in as many more as `MODEL_STEPS` says, once
/// the workers have connected, with polls pipelined and without. What follows is harmless. Returns
/// how many runs there were.
fn explore(workers: u16, steps: usize, alphabet: Alphabet) -> usize {
    silence_the_handler();
    let more = env::var("MODEL_STEPS").map_or(0, |steps| steps.parse().unwrap());
    let mut runs = 0;
    for pipelines in [true, false] {
        let configuration = Configuration { workers, pipelines };
        runs += choices::explore(
            Choices::new(steps + more),
            &async |choices: &mut Choices| {
                RuntimeApi::run(configuration, alphabet, choices).await;
            },
        );
    }
    println!("{runs} runs");
    runs
}

const ON_PURPOSE: &str = "on purpose";

/// Keeps the panics of the handler out of the test's output.
fn silence_the_handler() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(ON_PURPOSE) {
            hook(panic);
        }
    }));
}
