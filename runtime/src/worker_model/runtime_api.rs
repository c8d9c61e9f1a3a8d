//! The model of the Runtime API, and what it knows of the workers.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lambda_runtime::Diagnostic;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::{Instant, advance, sleep, timeout};

use super::choices::Choices;
use super::connection::{Connection, settle_down};
use super::log::Log;
use super::{
    ACCEPTED_SAYING_CLOSE, ALMOST_A_STALL, AN_EVENT, CONNECTS, Cut, EARLY_POLLS, NOTHING,
    OnConnect, OnPoll, OnPost, POLLS, POSTS, Read, Response, STALL_LIMIT, Shutdown, Then,
};
use crate::pipe::{self, Connect};
use crate::worker::Workers;
use crate::{Invocation, Reply};

/// How long the last attempt to post may stand still.
const LATE_LIMIT: Duration = Duration::from_mins(1);
/// How long the process stands still.
const STANDSTILL: Duration = Duration::from_millis(1_600);
/// So much of that may count.
const COUNTED: Duration = Duration::from_millis(20);
/// Failures that are further apart belong to two outages.
const OUTAGE_GAP: Duration = Duration::from_secs(2);
const DRAIN_LIMIT: Duration = Duration::from_millis(400);
/// How long nothing is in flight before the process ends.
const QUIET: Duration = Duration::from_millis(10);
/// By how much a timer may be late.
const TICK: Duration = Duration::from_millis(1);
/// After so many polls in a row that are dropped behind a reply, none is sent with a reply.
const MAX_DROPPED_POLLS: u32 = 2;
/// Lines about a post.
const REFUSED: &str = " refused requestId";
const DELIVERED_ALREADY: &str = " may have been delivered already requestId";
const UNDELIVERED: &str = "could not deliver the ";

/// Something that a worker waits for: a response, or an attempt to connect.
struct Arrival {
    worker: Option<task::Id>,
    at: Instant,
    /// Of the request; empty for an attempt to connect.
    head: String,
    /// When the request arrived with which it was sent.
    pipelined_at: Option<Instant>,
    connection: Result<Connection, Connect>,
}

impl Arrival {
    fn is_poll(&self) -> bool {
        self.head.starts_with("GET ")
    }
}

/// What has become of an event whose head has arrived whole.
#[derive(Debug)]
struct Accepted {
    id: String,
    worker: Option<task::Id>,
    payload: String,
    /// Whether an error is due instead of a reply.
    is_error: bool,
    is_readable: bool,
    attempts: usize,
    /// The line that says why the post was in vain; empty if it was not. `None` before its end is known.
    settled: Option<&'static str>,
}

impl Accepted {
    /// Makes it what this response to a poll makes of it. Returns the response in two parts.
    fn shape(&mut self, on_poll: OnPoll) -> (String, String) {
        let OnPoll(response, cut, then) = on_poll;
        let mut len = self.payload.len();
        match response {
            Response::Event => {}
            Response::Panic => {
                "\"panic\"".clone_into(&mut self.payload);
                len = self.payload.len();
            }
            Response::TooLarge => {
                self.payload.clear();
                len = 7_000_000;
            }
            Response::Other(response) => {
                self.is_readable = false;
                return (response.to_owned(), String::new());
            }
        }
        self.is_readable =
            response != Response::TooLarge && (cut == Cut::Nowhere || then != Then::Close);
        self.is_error = !self.is_readable || response == Response::Panic;
        let head = format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn\r\nContent-Length: {len}\r\n\r\n",
            self.id
        );
        let mut first = format!("{head}{}", self.payload);
        let rest = first.split_off(match cut {
            Cut::Nowhere => first.len(),
            Cut::AfterFirstByte => 1,
            Cut::InHead => head.len() - 3,
            Cut::AfterHead => head.len(),
            Cut::InPayload => head.len() + 1,
        });
        (first, rest)
    }
}

/// When something is due.
type Due = RangeInclusive<Instant>;

fn due_now() -> Due {
    Instant::now()..=Instant::now()
}

/// What is known of a worker.
#[derive(Default)]
struct Worker {
    /// Polls that have failed since it last had an event.
    failures: u32,
    next_poll: Option<Due>,
    /// When it connects to post again.
    next_attempt: Option<Due>,
    /// Polls in a row that were sent with a reply and dropped.
    dropped_polls: u32,
}

/// Awaits something for every other event.
async fn handler(invocation: &Invocation) -> Result<Reply, Diagnostic> {
    let payload = invocation.payload();
    assert_eq!(invocation.function_arn(), Some("arn"));
    if !payload.ends_with(b"0}") {
        task::yield_now().await;
    }
    if payload == b"\"panic\"" {
        resume_unwind(Box::new("on purpose")); // without the hook, which prints
    }
    Ok(reply(payload).into_iter().collect())
}

/// Longer than a pipe.
fn reply(payload: &[u8]) -> [Bytes; 4] {
    [b"[", &*payload.repeat(100), payload, b"]"].map(Bytes::copy_from_slice)
}

pub(super) struct RuntimeApi<'a> {
    choices: &'a mut Choices,
    workers: Arc<Workers>,
    /// How many there are.
    count: usize,
    /// Whether polls should come with replies.
    pipelines: bool,
    connects: mpsc::UnboundedReceiver<Connect>,
    requests: mpsc::UnboundedReceiver<Arrival>,
    request_sender: mpsc::UnboundedSender<Arrival>,
    waiting: Vec<Arrival>,
    invocations: Vec<Accepted>,
    shutdown_began: Rc<Cell<Option<Instant>>>,
    known: HashMap<Option<task::Id>, Worker>,
    last_settled: Instant,
    /// How often the process has stood still since shutdown began.
    standstills: u32,
    last_failure: Option<Instant>,
    outages: usize,
}

impl<'a> RuntimeApi<'a> {
    pub(super) async fn run(count: u16, pipelines: bool, choices: &'a mut Choices, log: &Log) {
        log.clear();
        let connects = pipe::connects();
        let max_concurrency = NonZeroU16::new(count).unwrap();
        let workers = Arc::new(Workers::new("host", max_concurrency, pipelines));
        let serving = workers.clone().run::<DuplexStream>(handler, 0, 1);
        let mut running = task::spawn_local(async {
            serving.await;
            Instant::now()
        });
        let (request_sender, requests) = mpsc::unbounded_channel();
        let mut this = Self {
            choices,
            workers,
            count: count.into(),
            pipelines,
            connects,
            requests,
            request_sender,
            waiting: Vec::new(),
            invocations: Vec::new(),
            shutdown_began: Rc::default(),
            known: HashMap::new(),
            last_settled: Instant::now(),
            standstills: 0,
            last_failure: None,
            outages: 0,
        };
        let mut ended = None;
        let mut harmless_steps = 4 * this.count;
        while harmless_steps > 0 {
            harmless_steps -= usize::from(this.choices.are_over());
            tokio::select! {
                biased;
                end = &mut running => {
                    ended = Some(end.unwrap());
                    break;
                }
                () = this.step() => {}
            }
        }
        if this.is_draining() && ended.is_none() {
            let end = timeout(DRAIN_LIMIT + TICK, &mut running).await;
            ended = Some(end.expect("the shutdown ends").unwrap());
        }
        this.check(ended, log, pipelines && !this.pipelines);
        running.abort();
    }

    fn is_draining(&self) -> bool {
        self.shutdown_began.get().is_some()
    }

    fn is_after_shutdown(&self, at: Instant) -> bool {
        self.shutdown_began.get().is_some_and(|began| at >= began)
    }

    /// Waits until every worker waits for something, and lets something happen to one.
    async fn step(&mut self) {
        self.wait_for_workers().await;
        if self.waiting.is_empty() {
            return sleep(TICK).await;
        }
        self.waiting.sort_by(|a, b| a.head.cmp(&b.head));

        let mut shutdown = Shutdown::NotNow;
        if !self.is_draining() {
            shutdown = self.choices.choose(&[
                Shutdown::NotNow,
                Shutdown::BeforeThis,
                Shutdown::DuringThis,
            ]);
        }
        let (workers, began) = (self.workers.clone(), self.shutdown_began.clone());
        let drain = async {
            sleep(TICK).await; // What has arrived has arrived before it.
            workers.drain();
            began.set(Some(Instant::now()));
        };
        let mut which = 0;
        if self.waiting.len() > 1 {
            which = (self.choices).choose(&(0..self.waiting.len()).collect::<Vec<_>>());
        }
        let arrival = self.waiting.remove(which);
        match shutdown {
            Shutdown::NotNow => self.respond(arrival).await,
            Shutdown::BeforeThis => {
                drain.await;
                self.respond(arrival).await;
            }
            Shutdown::DuringThis => {
                tokio::join!(self.respond(arrival), drain);
            }
        }
    }

    async fn respond(&mut self, arrival: Arrival) {
        let (is_poll, at, head) = (arrival.is_poll(), arrival.at, arrival.head);
        match arrival.connection {
            Err(connect) => self.on_connect(connect).await,
            Ok(connection) if is_poll => {
                assert!(head.starts_with("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n"));
                let is_pipelined = arrival.pipelined_at.is_some();
                self.on_poll(at, is_pipelined, connection).await;
            }
            Ok(connection) => self.on_post(at, &head, connection).await,
        }
    }

    async fn wait_for_workers(&mut self) {
        settle_down().await;
        let invocations = self.invocations.iter();
        let in_flight = invocations.filter(|invocation| invocation.settled.is_none());
        let busy: HashSet<_> = in_flight.map(|invocation| invocation.worker).collect();
        assert!(self.workers.in_flight() >= busy.len(), "not in flight");
        loop {
            let waiting: HashSet<_> = self.waiting.iter().map(|arrival| arrival.worker).collect();
            let patience = if waiting.len() == self.count {
                settle_down().await;
                Duration::ZERO
            } else if self.is_draining() {
                TICK // A worker that would poll again ends instead.
            } else {
                Duration::from_secs(5)
            };
            let arrival = timeout(patience, async {
                tokio::select! {
                    biased;
                    Some(connect) = self.connects.recv() => Arrival {
                        worker: connect.worker,
                        at: connect.at,
                        head: String::new(),
                        pipelined_at: None,
                        connection: Err(connect),
                    },
                    Some(request) = self.requests.recv() => request,
                }
            });
            match arrival.await {
                Ok(arrival) => self.waiting.push(arrival),
                Err(_) if patience.is_zero() || self.is_draining() => break,
                Err(elapsed) => panic!("a worker is lost: {elapsed}"),
            }
        }
        let mut things = HashSet::new();
        for arrival in &self.waiting {
            let is_new = things.insert((arrival.worker, arrival.is_poll()));
            assert!(is_new, "a worker does two things at once");
            let is_late = self.is_after_shutdown(arrival.pipelined_at.unwrap_or(arrival.at));
            assert!(
                !is_late || !arrival.is_poll(),
                "a poll after shutdown began"
            );
        }
    }

    /// An event for this worker.
    fn next_event(&self, worker: Option<task::Id>) -> Accepted {
        let number = 100 + self.invocations.len();
        Accepted {
            id: format!("id-{number}"),
            worker,
            payload: format!("{{\"n\": {number}}}"),
            is_error: false,
            is_readable: true,
            attempts: 0,
            settled: None,
        }
    }

    /// The invocation that the worker is at, of those in flight.
    fn in_flight(&self, worker: Option<task::Id>) -> Option<usize> {
        let mut invocations = self.invocations.iter();
        invocations
            .position(|invocation| invocation.worker == worker && invocation.settled.is_none())
    }

    fn known(&mut self, worker: Option<task::Id>) -> &mut Worker {
        self.known.entry(worker).or_default()
    }

    /// Chooses what happens. What other workers would wait for takes no time.
    fn choose<T: Copy + Debug + 'static>(
        &mut self,
        from: &[T],
        takes_time: impl Fn(&T) -> bool,
    ) -> T {
        let is_possible = |it: &&T| self.count == 1 || !takes_time(it);
        let from: Vec<_> = from.iter().filter(is_possible).copied().collect();
        self.choices.choose(&from)
    }

    async fn on_connect(&mut self, connect: Connect) {
        let (worker, at) = (connect.worker, connect.at);
        let is_to_post = self.in_flight(worker).is_some();
        let known = self.known(worker);
        let due = if is_to_post {
            &mut known.next_attempt
        } else {
            &mut known.next_poll
        };
        assert_in_time(due.take(), at);
        let takes_time = |it: &OnConnect| matches!(it, OnConnect::AcceptLate | OnConnect::Stall);
        match self.choose(&CONNECTS, takes_time) {
            OnConnect::Accept => return self.receive(Connection::accept(connect), None),
            OnConnect::AcceptLate => {
                sleep(ALMOST_A_STALL).await;
                return self.receive(Connection::accept(connect), None);
            }
            OnConnect::AcceptAndClose => {
                drop(Connection::accept(connect));
                if let Some(index) = self.in_flight(worker) {
                    self.invocations[index].attempts += 1;
                    if self.invocations[index].attempts == 2 {
                        self.settle(index, UNDELIVERED, due_now());
                    }
                    return;
                }
            }
            OnConnect::Refuse => drop(connect),
            OnConnect::Stall => {
                connect.given_up().await;
                assert!((STALL_LIMIT..=STALL_LIMIT + TICK).contains(&at.elapsed()));
            }
        }
        // Nothing of a post has been sent, so its worker connects again.
        if !is_to_post {
            self.fail(worker);
        }
    }

    async fn on_poll(&mut self, at: Instant, is_pipelined: bool, mut connection: Connection) {
        let worker = connection.worker;
        assert!(!connection.is_spent);
        let is_early = self.in_flight(worker).is_some();
        if !is_early {
            let due = self.known(worker).next_poll.take();
            assert_in_time(due.filter(|_| !is_pipelined), at); // if it was, it has been out before
        }
        let mut late = connection.owed;
        if late.starts_with("HTTP") {
            // The poll's response may come in its place.
            late = self.choices.choose(&[late, ACCEPTED_SAYING_CLOSE, ""]);
            connection.is_spent = late.is_empty();
        }
        connection.owed = "";
        let mut on_poll = if late == ACCEPTED_SAYING_CLOSE {
            NOTHING
        } else {
            let polls = &POLLS[..if is_early { EARLY_POLLS } else { POLLS.len() }];
            self.choose(polls, |poll| poll.2.takes_time())
        };
        if connection.is_spent
            && let Response::Other(response) = on_poll.0
            && response.starts_with("HTTP")
        {
            // It passes for the late response.
            late = response;
            on_poll = NOTHING;
        }
        let mut event = self.next_event(worker);
        let (first, rest) = event.shape(on_poll);
        let is_readable = event.is_readable;
        let is_accepted = is_readable || first.contains(&event.id) && first.contains("\r\n\r\n");
        if is_accepted {
            self.invocations.push(event);
        }
        connection.send(late).await;
        if is_pipelined && first.is_empty() {
            self.note_dropped_poll(worker);
        } else if is_pipelined {
            self.known(worker).dropped_polls = 0;
        }
        connection.send(&first).await;
        if on_poll.2 != Then::Close {
            if let Then::GoOn(later) = on_poll.2 {
                sleep(later).await;
                connection.send(&rest).await;
            }
            connection.has_responded = true;
            return self.receive(connection, None);
        }
        if is_readable && !connection.is_spent {
            // After an event out of order, the connection would not be used again.
            let index = self.in_flight(worker).unwrap();
            self.invocations[index].attempts += 1;
        }
        if first.is_empty() && (connection.has_responded || is_pipelined) {
            // A kept connection may close at any time.
            if !is_early {
                self.known(worker).next_poll = Some(due_now());
            }
        } else if !is_accepted {
            self.fail(worker);
        }
    }

    async fn on_post(&mut self, at: Instant, head: &str, mut connection: Connection) {
        assert!(!connection.is_spent);
        let (id, resource) = head
            .strip_prefix("POST /2018-06-01/runtime/invocation/")
            .and_then(|head| head.split_once(' ')?.0.split_once('/'))
            .unwrap();
        let index = (self.invocations.iter()).position(|invocation| invocation.id == id);
        let index = index.expect("an invocation that was dispatched");
        let invocation = &mut self.invocations[index];
        assert_eq!(invocation.settled, None, "a post too many");
        let is_error = invocation.is_error;
        assert_eq!(resource, if is_error { "error" } else { "response" });
        invocation.attempts += 1;
        assert!(invocation.attempts <= 2);
        let is_last = invocation.attempts == 2;
        assert!(!is_last || !connection.has_responded, "the same connection");
        let (worker, is_readable) = (invocation.worker, invocation.is_readable);
        let reply = reply(invocation.payload.as_bytes()).concat();
        let may_be_followed = !is_last && is_readable && !self.is_after_shutdown(at);

        // Without a poll on this connection, no event can come.
        let posts = &POSTS[..POSTS.len() - usize::from(is_last)];
        let on_post = self.choose(posts, |post| post.3.takes_time());
        let OnPost(read, response, sent, then) = on_post;
        let is_read = read == Read::All || is_error; // an error is short
        let mut is_followed = false;
        if is_read {
            let (_, len) = head.split_once("content-length: ").unwrap();
            let body = connection.receive_exact(len.trim_end().parse().unwrap());
            let is_right = body.await == reply || is_error;
            assert!(is_right, "the reply to another invocation");
            is_followed = connection.is_followed().await;
            // Of several workers, one may stop the others from pipelining at any time.
            let expected = self.pipelines && may_be_followed;
            assert!(is_followed == expected || self.count > 1);
            assert!(!is_followed || may_be_followed);
        }
        if on_post == AN_EVENT {
            return self.send_event_instead(connection, is_followed).await;
        }
        let (first, rest) = response.split_at(sent);
        connection.send(first).await;
        let mut is_kept = true;
        let mut due = None;
        match then {
            Then::Keep => {}
            Then::Close => is_kept = false,
            Then::GoOn(later) => {
                sleep(later).await;
                connection.send(rest).await;
            }
            Then::GoOnUnseen => {
                self.standstills += u32::from(self.is_draining());
                advance(STANDSTILL).await;
                settle_down().await; // its timers elapse before it looks at its sockets
                connection.send(rest).await;
            }
            Then::Stall => {
                let limit = if is_last && !is_read {
                    LATE_LIMIT
                } else {
                    STALL_LIMIT
                };
                let given_up = Instant::now() + limit;
                due = Some(given_up..=given_up + TICK);
                sleep(limit + TICK).await;
                settle_down().await;
                // It stays open if a poll is out on it, or if the post may yet be taken.
                let stays_open = is_followed || is_last && first.is_empty();
                if is_read {
                    assert_eq!(connection.is_given_up().await, !stays_open);
                }
                connection.owed = rest;
                is_kept = is_followed;
            }
        }
        if is_kept {
            connection.has_responded = !first.is_empty() || then != Then::Stall;
            self.receive(connection, is_followed.then_some(at));
        } else if is_followed {
            self.note_dropped_poll(worker);
        }

        let status = match then {
            Then::Close | Then::Stall if !first.contains("\r\n\r\n") => "none",
            _ => &response[9..12],
        };
        let line = match status {
            "202" => "",
            "400" | "410" if is_last => DELIVERED_ALREADY,
            "400" | "410" | "413" => REFUSED,
            _ if is_last => UNDELIVERED,
            _ => {
                self.known(worker).next_attempt = due;
                return;
            }
        };
        self.settle(index, line, due.unwrap_or_else(due_now));
    }

    /// Sends an event where the response to a post is due. It is the response to the poll that
    /// follows, if one does.
    async fn send_event_instead(&mut self, mut connection: Connection, is_followed: bool) {
        let worker = connection.worker;
        if is_followed {
            connection.receive_head().await.expect("a poll");
            self.known(worker).dropped_polls = 0;
        }
        let mut event = self.next_event(worker);
        let (response, _) = event.shape(POLLS[0]);
        self.invocations.push(event);
        connection.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        connection.send(&response).await;
        connection.is_spent = true;
        self.receive(connection, None);
    }

    /// The worker is done with this invocation.
    fn settle(&mut self, index: usize, line: &'static str, next_poll: Due) {
        let invocation = &mut self.invocations[index];
        invocation.settled = Some(line);
        let (worker, is_readable) = (invocation.worker, invocation.is_readable);
        self.last_settled = Instant::now();
        let known = self.known(worker);
        known.next_poll = Some(next_poll);
        if is_readable {
            known.failures = 0;
        } else {
            self.fail(worker);
        }
    }

    /// The worker's poll failed, or will before it reaches this end.
    fn fail(&mut self, worker: Option<task::Id>) {
        let now = Instant::now();
        self.last_settled = now;
        let last = self.last_failure.replace(now);
        self.outages += usize::from(last.is_none_or(|last| now - last > OUTAGE_GAP));
        let known = self.known(worker);
        let back_off = Duration::from_millis(250.min(10 << known.failures.min(5)));
        known.failures += 1;
        let due = known.next_poll.take().unwrap_or_else(due_now);
        known.next_poll = Some(*due.start() + back_off / 2..=*due.end() + back_off + TICK);
    }

    /// A poll that the worker sent with a reply is lost with its connection.
    fn note_dropped_poll(&mut self, worker: Option<task::Id>) {
        let known = self.known(worker);
        known.dropped_polls += 1;
        if known.dropped_polls >= MAX_DROPPED_POLLS {
            self.pipelines = false;
        }
    }

    /// Waits for a request on this connection, while others go on.
    fn receive(&self, mut connection: Connection, pipelined_at: Option<Instant>) {
        let requests = self.request_sender.clone();
        task::spawn_local(async move {
            if let Some(head) = connection.receive_head().await {
                let _ = requests.send(Arrival {
                    worker: connection.worker,
                    at: Instant::now(),
                    head,
                    pipelined_at,
                    connection: Ok(connection),
                });
            }
        });
    }

    /// Asserts that all is as promised in the end.
    fn check(&self, ended: Option<Instant>, log: &Log, has_stopped: bool) {
        let began = self.shutdown_began.get();
        let mut is_cut_short = false;
        assert_eq!(began.is_some(), ended.is_some());
        if let (Some(began), Some(ended)) = (began, ended) {
            let stood_still = STANDSTILL * self.standstills;
            let took = (ended - began).saturating_sub(stood_still);
            assert!(took <= DRAIN_LIMIT + TICK, "{took:?}");
            is_cut_short = took + TICK + COUNTED * self.standstills >= DRAIN_LIMIT;
            if !is_cut_short {
                let idle = ended - began.max(self.last_settled);
                assert!(idle <= QUIET + 2 * TICK + stood_still, "{idle:?}");
                assert!(ended - began >= QUIET, "{took:?}");
                assert_eq!(self.workers.in_flight(), 0);
            }
        }
        for invocation in &self.invocations {
            let count = |text| log.count(Some(&invocation.id), text);
            let Some(line) = invocation.settled else {
                assert!(is_cut_short || began.is_none(), "{invocation:?}");
                continue;
            };
            for text in [REFUSED, DELIVERED_ALREADY, UNDELIVERED] {
                assert_eq!(count(text), usize::from(text == line), "{invocation:?}");
            }
            let unreadable = count("the event is unreadable");
            assert_eq!(unreadable, usize::from(!invocation.is_readable));
        }
        let informed = log.count(None, "drops pipelined polls");
        let expected = usize::from(has_stopped);
        // In a drain, the worker may not get to it. Of several workers, each may see it.
        let is_right = informed == expected || began.is_some() && informed == 0;
        assert!(is_right || self.count > 1, "{informed} of {expected}");
        if began.is_none() {
            let lines = log.count(None, "cannot get an invocation");
            assert_eq!(lines, self.outages, "of one line for each outage");
        }
    }
}

fn assert_in_time(due: Option<Due>, at: Instant) {
    if let Some(due) = due {
        assert!(due.contains(&at), "{at:?}, due {due:?}");
    }
}
