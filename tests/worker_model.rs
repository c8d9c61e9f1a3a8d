//! Every order of what can reach a worker, to some depth, against what a worker promises.
//!
//! The workers run over pipes and on a clock that stands still while there is something to do. The
//! Runtime API at the other end chooses what happens at each step; a run is a sequence of choices,
//! and the runs enumerate the sequences.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{env, panic, thread};

use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::runtime_api::Socket;
use fibonacci_generator::sequence::Index;
use fibonacci_generator::worker::Workers;
use lambda_runtime::tracing::field::{Field, Visit};
use lambda_runtime::tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher, span};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task;
use tokio::time::{Instant, sleep, timeout};

/// Shorter than a reply, so that the end of one is still unsent when its head has arrived.
const PIPE_LEN: usize = 512;
const STALL_LIMIT: Duration = Duration::from_secs(1);
const ALMOST_A_STALL: Duration = Duration::from_millis(999);
const DRAIN_LIMIT: Duration = Duration::from_millis(400);
/// How long nothing is in hand before the process ends.
const QUIET: Duration = Duration::from_millis(10);
/// What a timer may be late.
const TICK: Duration = Duration::from_millis(1);
/// The first index that is asked for; its reply is longer than a pipe.
const FIRST_INDEX: u16 = 100;

/// What a worker's attempt to connect meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnConnect {
    Accept,
    AcceptLate,
    AcceptAndClose,
    Refuse,
    Stall,
}

/// What a poll is answered with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnPoll {
    Event,
    EventThenClose,
    EventInParts(Cut),
    /// The start of an event, then the end of the connection.
    EventCut(Cut),
    /// The start of an event, then nothing.
    EventStalls(Cut),
    /// An event on which the handler panics.
    Panic,
    TooLarge,
    Close,
    Answer(&'static str),
}

/// Where an event is cut in two.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    AfterFirstByte,
    InHead,
    AfterHead,
    InPayload,
}

/// What a post meets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnPost {
    Accept,
    AcceptThenClose,
    AcceptInParts,
    Status(u16),
    CloseDuring,
    CloseAfter,
    CutInHead,
    CutInBody,
    StallDuring,
    StallAfter,
}

/// When the process is told to shut down.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shutdown {
    NotNow,
    BeforeThis,
    /// A moment after this has begun.
    DuringThis,
}

const CONNECTS: &[OnConnect] = &[
    OnConnect::Accept,
    OnConnect::AcceptLate,
    OnConnect::AcceptAndClose,
    OnConnect::Refuse,
    OnConnect::Stall,
];
const POLLS: &[OnPoll] = &[
    OnPoll::Event,
    OnPoll::EventThenClose,
    OnPoll::EventInParts(Cut::AfterFirstByte),
    OnPoll::EventInParts(Cut::InHead),
    OnPoll::EventInParts(Cut::AfterHead),
    OnPoll::EventInParts(Cut::InPayload),
    OnPoll::EventCut(Cut::AfterFirstByte),
    OnPoll::EventCut(Cut::InHead),
    OnPoll::EventCut(Cut::AfterHead),
    OnPoll::EventCut(Cut::InPayload),
    OnPoll::EventStalls(Cut::AfterFirstByte),
    OnPoll::EventStalls(Cut::InHead),
    OnPoll::EventStalls(Cut::AfterHead),
    OnPoll::EventStalls(Cut::InPayload),
    OnPoll::Panic,
    OnPoll::TooLarge,
    OnPoll::Close,
    OnPoll::Answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
    OnPoll::Answer("HTTP/1.1 204 No Content\r\n\r\n"),
    OnPoll::Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    OnPoll::Answer("nonsense\r\n\r\n"),
];
const POSTS: &[OnPost] = &[
    OnPost::Accept,
    OnPost::AcceptThenClose,
    OnPost::AcceptInParts,
    OnPost::Status(400),
    OnPost::Status(410),
    OnPost::Status(413),
    OnPost::Status(500),
    OnPost::CloseDuring,
    OnPost::CloseAfter,
    OnPost::CutInHead,
    OnPost::CutInBody,
    OnPost::StallDuring,
    OnPost::StallAfter,
];

/// One of each kind that takes no time, so that what other workers wait for does not stall.
const FEW_CONNECTS: &[OnConnect] = &[OnConnect::Accept, OnConnect::Refuse];
const FEW_POLLS: &[OnPoll] = &[
    OnPoll::Event,
    OnPoll::EventCut(Cut::InHead),
    OnPoll::EventCut(Cut::InPayload),
    OnPoll::Close,
];
const FEW_POSTS: &[OnPost] = &[
    OnPost::Accept,
    OnPost::AcceptThenClose,
    OnPost::Status(413),
    OnPost::CloseDuring,
];

const NEVER: &[Shutdown] = &[Shutdown::NotNow];
const ANY_TIME: &[Shutdown] = &[Shutdown::NotNow, Shutdown::BeforeThis, Shutdown::DuringThis];

/// What there is to choose from.
type Alphabet = (
    &'static [OnConnect],
    &'static [OnPoll],
    &'static [OnPost],
    &'static [Shutdown],
);

#[test]
fn one_worker_keeps_its_promises_whatever_happens_to_it() {
    assert!(explore(1, 4, (CONNECTS, POLLS, POSTS, NEVER)) > 1_000);
}

#[test]
fn one_worker_keeps_its_promises_whenever_it_is_shut_down() {
    assert!(explore(1, 3, (CONNECTS, POLLS, POSTS, ANY_TIME)) > 1_000);
}

#[test]
fn one_worker_keeps_its_promises_whatever_happens_in_a_row() {
    assert!(explore(1, 6, (FEW_CONNECTS, FEW_POLLS, FEW_POSTS, ANY_TIME)) > 1_000);
}

#[test]
fn workers_keep_their_promises_side_by_side() {
    assert!(explore(2, 4, (FEW_CONNECTS, FEW_POLLS, FEW_POSTS, ANY_TIME)) > 1_000);
}

/// Runs every sequence of choices in so many steps, and in as many more as `MODEL_STEPS` says, once
/// the workers have connected; what follows is harmless. Returns how many there are.
fn explore(workers: u16, steps: usize, alphabet: Alphabet) -> usize {
    silence_the_handler();
    let more = env::var("MODEL_STEPS").map_or(0, |steps| steps.parse().unwrap());
    let mut choices = Choices::new(steps + more);
    let mut runs = 0;
    loop {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(RuntimeApi::run(workers, alphabet, &mut choices));
        runs += 1;
        if !choices.advance() {
            println!("{runs} runs");
            return runs;
        }
    }
}

/// A sequence of choices, each with the count of what there was to choose from.
struct Choices {
    depth: usize,
    is_open: bool,
    taken: Vec<(usize, usize)>,
    at: usize,
    /// What happened so far, for the reader of a failure.
    story: Vec<String>,
}

impl Choices {
    fn new(depth: usize) -> Self {
        Self {
            depth,
            is_open: false,
            taken: Vec::new(),
            at: 0,
            story: Vec::new(),
        }
    }

    fn choose<T: Copy + Debug>(&mut self, from: &[T]) -> T {
        let mut choice = 0;
        if self.is_open {
            if self.at == self.taken.len() {
                self.taken.push((0, from.len()));
            }
            let (taken, count) = self.taken[self.at];
            assert_eq!(count, from.len(), "the run repeats itself");
            choice = taken;
            self.at += 1;
        }
        self.story.push(format!("{:?}", from[choice]));
        from[choice]
    }

    /// Turns to the next sequence; tells whether there is one.
    fn advance(&mut self) -> bool {
        self.at = 0;
        self.story.clear();
        while let Some((choice, count)) = self.taken.pop() {
            if choice + 1 < count {
                self.taken.push((choice + 1, count));
                return true;
            }
        }
        false
    }
}

impl Drop for Choices {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("after {:#?}", self.story);
        }
    }
}

/// Something that a worker waits for.
#[derive(Debug)]
struct Arrival {
    worker: task::Id,
    at: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Connect(oneshot::Sender<Pipe>),
    Request(Request),
}

#[derive(Debug)]
struct Request {
    head: String,
    /// The part of the body that has been read.
    body: Vec<u8>,
    connection: Connection,
    is_after_shutdown: bool,
}

impl Arrival {
    fn head(&self) -> &str {
        match &self.what {
            What::Connect(_) => "",
            What::Request(request) => &request.head,
        }
    }
}

/// What has become of an event whose head has arrived whole.
#[derive(Debug)]
struct Accepted {
    worker: task::Id,
    index: u16,
    /// Whether the answer is to be an error.
    is_error: bool,
    is_readable: bool,
    attempts: usize,
    deliveries: usize,
    is_settled: bool,
}

type Handler = fn(&[u8]) -> Reply;

/// The Runtime API, and what it knows of the workers.
struct RuntimeApi<'a> {
    choices: &'a mut Choices,
    alphabet: Alphabet,
    max_concurrency: usize,
    workers: Arc<Workers<Handler>>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    sender: mpsc::UnboundedSender<Arrival>,
    waiting: Vec<Arrival>,
    invocations: BTreeMap<String, Accepted>,
    shutdown: watch::Sender<(Option<Instant>, Option<Instant>)>,
    polls: HashMap<task::Id, Polls>,
    last_settled: Instant,
}

/// A worker's polls.
#[derive(Default)]
struct Polls {
    /// Failures since it last had an event.
    failures: u32,
    /// Since when the next is due, after how long at least and at most.
    due: Option<(Instant, Duration, Duration)>,
}

impl<'a> RuntimeApi<'a> {
    async fn run(max_concurrency: u16, alphabet: Alphabet, choices: &'a mut Choices) {
        let log = Log::default();
        let _logging = dispatcher::set_default(&Dispatch::new(log.clone()));
        let (sender, arrivals) = mpsc::unbounded_channel();
        let handler: Handler = |payload| {
            assert!(payload != b"\"panic\"", "{ON_PURPOSE}");
            Reply::from(event::parse(payload))
        };
        let workers = Arc::new(Workers::new("host", handler));
        ARRIVALS.set(Some(sender.clone()));
        let max = NonZeroU16::new(max_concurrency).unwrap();
        let running = tokio::spawn(workers.clone().run::<Pipe>(max));

        let mut this = Self {
            choices,
            alphabet,
            max_concurrency: max.get().into(),
            workers,
            arrivals,
            sender,
            waiting: Vec::new(),
            invocations: BTreeMap::new(),
            shutdown: watch::channel((None, None)).0,
            polls: HashMap::new(),
            last_settled: Instant::now(),
        };
        let open = this.max_concurrency..this.max_concurrency + this.choices.depth;
        let mut ended = this.shutdown.subscribe();
        for step in 0..open.end + 4 * this.max_concurrency {
            this.choices.is_open = open.contains(&step);
            tokio::select! {
                biased;
                _ = ended.wait_for(|(_, ended)| ended.is_some()) => break,
                () = this.step() => {}
            }
        }
        this.check(&log).await;
        running.abort();
    }

    fn is_draining(&self) -> bool {
        self.shutdown.borrow().0.is_some()
    }

    /// Waits until every worker waits for something, and lets something happen to one.
    async fn step(&mut self) {
        while self.waiting.len() < self.max_concurrency {
            // One that would poll again ends instead.
            let patience = if self.is_draining() {
                TICK
            } else {
                Duration::from_secs(5)
            };
            match timeout(patience, self.arrivals.recv()).await {
                Ok(arrival) => self.waiting.push(arrival.unwrap()),
                Err(_) if self.is_draining() => break,
                Err(elapsed) => panic!("a worker is lost: {elapsed}"),
            }
        }
        assert!(self.arrivals.is_empty(), "more than the workers");
        for arrival in &self.waiting {
            if let What::Request(request) = &arrival.what {
                let is_late = request.head.starts_with("GET ") && request.is_after_shutdown;
                assert!(!is_late, "a poll after shutdown began");
            }
        }
        if self.waiting.is_empty() {
            return sleep(TICK).await;
        }
        self.waiting.sort_by(|a, b| a.head().cmp(b.head()));

        let mut shutdown = Shutdown::NotNow;
        if !self.is_draining() {
            shutdown = self.choices.choose(self.alphabet.3);
            match shutdown {
                Shutdown::NotNow => {}
                Shutdown::BeforeThis => {
                    self.shut_down(Duration::ZERO);
                    task::yield_now().await;
                    if self.shutdown.borrow().1.is_some() {
                        return;
                    }
                }
                Shutdown::DuringThis => self.shut_down(TICK),
            }
        }
        let which: Vec<usize> = (0..self.waiting.len()).collect();
        let which = if which.len() > 1 {
            self.choices.choose(&which)
        } else {
            0
        };
        let Arrival { worker, at, what } = self.waiting.remove(which);
        match what {
            What::Connect(connecting) => self.on_connect(worker, at, connecting).await,
            What::Request(request) if request.head.starts_with("GET ") => {
                self.on_poll(worker, at, request).await;
            }
            What::Request(request) => self.on_post(request).await,
        }
        while shutdown == Shutdown::DuringThis && !self.is_draining() {
            sleep(TICK).await;
        }
    }

    fn shut_down(&self, after: Duration) {
        let (workers, shutdown) = (self.workers.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            if !after.is_zero() {
                sleep(after).await;
            }
            shutdown.send_modify(|(begun, _)| *begun = Some(Instant::now()));
            workers.drain().await;
            shutdown.send_modify(|(_, ended)| *ended = Some(Instant::now()));
        });
    }

    /// The invocation that the worker has in hand.
    fn in_hand(&mut self, worker: task::Id) -> Option<(&String, &mut Accepted)> {
        let mut invocations = self.invocations.iter_mut();
        invocations.find(|(_, invocation)| invocation.worker == worker && !invocation.is_settled)
    }

    async fn on_connect(
        &mut self,
        worker: task::Id,
        at: Instant,
        connecting: oneshot::Sender<Pipe>,
    ) {
        if self.in_hand(worker).is_none() {
            self.assert_due(worker, at);
        }
        let on_connect = self.choices.choose(self.alphabet.0);
        match on_connect {
            OnConnect::Accept | OnConnect::AcceptLate | OnConnect::AcceptAndClose => {
                if on_connect == OnConnect::AcceptLate {
                    sleep(ALMOST_A_STALL).await;
                }
                let (theirs, ours) = pipe(worker);
                let _ = connecting.send(theirs);
                if on_connect != OnConnect::AcceptAndClose {
                    return self.receive(ours);
                }
            }
            OnConnect::Refuse => drop(connecting),
            OnConnect::Stall => {
                let begun = Instant::now();
                let mut connecting = connecting;
                connecting.closed().await;
                assert!((STALL_LIMIT..=STALL_LIMIT + TICK).contains(&begun.elapsed()));
            }
        }
        match self.in_hand(worker) {
            Some((id, invocation)) => {
                invocation.attempts += 1;
                if invocation.attempts == 2 {
                    let id = id.clone();
                    self.settle(&id);
                }
            }
            None => self.fail(worker),
        }
    }

    async fn on_poll(&mut self, worker: task::Id, at: Instant, mut poll: Request) {
        assert!(
            poll.head
                .starts_with("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n")
        );
        self.assert_due(worker, at);
        let index = FIRST_INDEX + u16::try_from(self.invocations.len()).unwrap();
        let id = format!("id-{index}");
        let payload = format!("{{\"n\": {index}}}");
        let on_poll = self.choices.choose(self.alphabet.1);
        let (payload, len) = match on_poll {
            OnPoll::Panic => ("\"panic\"", 7),
            OnPoll::TooLarge => ("", 7_000_000),
            _ => (&*payload, payload.len()),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {id}\r\nContent-Length: {len}\r\n\r\n"
        );
        let (first, rest) = match on_poll {
            OnPoll::EventInParts(cut) | OnPoll::EventCut(cut) | OnPoll::EventStalls(cut) => {
                let event = format!("{head}{payload}");
                let (first, rest) = event.split_at(match cut {
                    Cut::AfterFirstByte => 1,
                    Cut::InHead => head.len() - 3,
                    Cut::AfterHead => head.len(),
                    Cut::InPayload => head.len() + 1,
                });
                (first.to_owned(), rest.to_owned())
            }
            OnPoll::Answer(answer) => (answer.to_owned(), String::new()),
            OnPoll::Close => (String::new(), String::new()),
            _ => (format!("{head}{payload}"), String::new()),
        };

        let is_accepted = first.contains(&id) && first.len() >= head.len();
        let is_whole = matches!(
            on_poll,
            OnPoll::Event | OnPoll::EventThenClose | OnPoll::EventInParts(_) | OnPoll::Panic
        );
        let accepted = Accepted {
            worker,
            index,
            is_error: !is_whole || on_poll == OnPoll::Panic,
            is_readable: is_whole,
            attempts: 0,
            deliveries: 0,
            is_settled: false,
        };
        if is_accepted || is_whole {
            self.invocations.insert(id, accepted);
        }
        if !first.is_empty() {
            poll.connection
                .stream
                .write_all(first.as_bytes())
                .await
                .unwrap();
        }
        match on_poll {
            OnPoll::EventInParts(_) => {
                sleep(ALMOST_A_STALL).await;
                poll.connection
                    .stream
                    .write_all(rest.as_bytes())
                    .await
                    .unwrap();
                self.receive(poll.connection);
            }
            OnPoll::Event | OnPoll::Panic => self.receive(poll.connection),
            OnPoll::EventThenClose => {
                drop(poll.connection);
                self.in_hand(worker).unwrap().1.attempts += 1;
            }
            OnPoll::EventStalls(_) => assert_given_up(&mut poll.connection).await,
            _ => drop(poll.connection),
        }
        if !is_accepted && !is_whole {
            self.fail(worker);
        }
    }

    async fn on_post(&mut self, mut post: Request) {
        let (id, resource) = post
            .head
            .strip_prefix("POST /2018-06-01/runtime/invocation/")
            .and_then(|head| head.split_once(' ')?.0.split_once('/'))
            .unwrap();
        let invocation = self
            .invocations
            .get_mut(id)
            .expect("an invocation that was dispatched");
        assert!(!invocation.is_settled, "an answer too many");
        assert_eq!(
            resource,
            if invocation.is_error {
                "error"
            } else {
                "response"
            }
        );
        invocation.attempts += 1;
        assert!(invocation.attempts <= 2);
        let (id, index, is_error) = (id.to_owned(), invocation.index, invocation.is_error);
        let worker = invocation.worker;

        let on_post = self.choices.choose(self.alphabet.2);
        if !matches!(on_post, OnPost::CloseDuring | OnPost::StallDuring) {
            post.receive_body().await;
            if !is_error {
                let reply = Reply::from(Index::new(index).unwrap());
                assert_eq!(
                    post.body,
                    reply.slices().concat(),
                    "the reply to another invocation"
                );
            }
        }
        let answer = |status| format!("HTTP/1.1 {status} Status\r\nContent-Length: 2\r\n\r\n{{}}");
        let (status, answer) = match on_post {
            OnPost::Accept | OnPost::AcceptThenClose | OnPost::AcceptInParts => (202, answer(202)),
            OnPost::Status(status) => (status, answer(status)),
            OnPost::CutInHead => (0, "HTTP/1.1 20".to_owned()),
            OnPost::CutInBody => (202, answer(202).trim_end_matches('}').to_owned()),
            _ => (0, String::new()),
        };
        let (first, rest) = answer.split_at(if on_post == OnPost::AcceptInParts {
            9
        } else {
            answer.len()
        });
        if !first.is_empty() {
            post.connection
                .stream
                .write_all(first.as_bytes())
                .await
                .unwrap();
        }
        let mut keeps_alive = false;
        match on_post {
            OnPost::AcceptInParts => {
                sleep(ALMOST_A_STALL).await;
                post.connection
                    .stream
                    .write_all(rest.as_bytes())
                    .await
                    .unwrap();
                keeps_alive = true;
            }
            OnPost::Accept | OnPost::Status(400..500) => keeps_alive = true,
            OnPost::StallAfter | OnPost::StallDuring => assert_given_up(&mut post.connection).await,
            _ => {}
        }
        if keeps_alive {
            self.receive(post.connection);
        } else {
            drop(post.connection);
        }

        let invocation = self.invocations.get_mut(&id).unwrap();
        if status == 202 {
            invocation.deliveries += 1;
        }
        if matches!(status, 200..300 | 400..500) || invocation.attempts == 2 {
            self.settle(&id);
            if on_post == OnPost::AcceptThenClose {
                // The next poll meets a closed connection.
                self.fail(worker);
            }
        }
    }

    /// The worker is done with this invocation.
    fn settle(&mut self, id: &str) {
        let invocation = self.invocations.get_mut(id).unwrap();
        invocation.is_settled = true;
        let (worker, is_readable) = (invocation.worker, invocation.is_readable);
        self.last_settled = Instant::now();
        if is_readable {
            let due = Some((Instant::now(), Duration::ZERO, Duration::ZERO));
            self.polls.insert(worker, Polls { failures: 0, due });
        } else {
            self.fail(worker);
        }
    }

    /// The worker's poll failed, or will before it reaches this end.
    fn fail(&mut self, worker: task::Id) {
        let now = Instant::now();
        self.last_settled = now;
        let polls = self.polls.entry(worker).or_default();
        let back_off = Duration::from_millis(250.min(10 << polls.failures.min(5)));
        polls.failures += 1;
        let due = (now, Duration::ZERO, Duration::ZERO);
        let (_, least, most) = polls.due.get_or_insert(due);
        *least += back_off / 2;
        *most += back_off + TICK;
    }

    /// Asserts that the worker asks for an invocation when it should.
    fn assert_due(&mut self, worker: task::Id, at: Instant) {
        let polls = self.polls.entry(worker).or_default();
        if let Some((since, least, most)) = polls.due.take() {
            let waited = at - since;
            assert!(waited >= least, "{waited:?} of {least:?}");
            assert!(waited <= most, "{waited:?} of {most:?}");
            assert!(waited <= Duration::from_secs(1));
        }
    }

    /// Waits for a request on this connection, while others go on.
    fn receive(&self, mut connection: Connection) {
        let (sender, shutdown) = (self.sender.clone(), self.shutdown.subscribe());
        tokio::spawn(async move {
            let mut received = Vec::new();
            loop {
                if let Some(end) = received.windows(4).position(|end| end == b"\r\n\r\n") {
                    let body = received.split_off(end + 4);
                    let head = String::from_utf8(received).unwrap();
                    let request = Request {
                        head,
                        body,
                        connection,
                        is_after_shutdown: shutdown.borrow().0.is_some(),
                    };
                    let _ = sender.send(Arrival {
                        worker: request.connection.worker,
                        at: Instant::now(),
                        what: What::Request(request),
                    });
                    return;
                }
                if connection.stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                    return;
                }
            }
        });
    }

    /// Asserts that all is as promised in the end.
    async fn check(&mut self, log: &Log) {
        if self.is_draining() {
            let mut ended = self.shutdown.subscribe();
            let ended = timeout(
                DRAIN_LIMIT + TICK,
                ended.wait_for(|(_, ended)| ended.is_some()),
            );
            ended.await.expect("the shutdown ends").unwrap();
        }
        let (begun, ended) = *self.shutdown.borrow();
        let lines = log.0.lock().unwrap();
        let count = |id: &str, messages: &[&str]| {
            let lines = lines.iter().filter(|line| line.request_id == id);
            lines
                .filter(|line| messages.iter().any(|end| line.message.ends_with(end)))
                .count()
        };

        let is_cut_short = match (begun, ended) {
            (Some(begun), Some(ended)) => {
                let took = ended - begun;
                assert!(took <= DRAIN_LIMIT + TICK, "{took:?}");
                let is_cut_short = took + TICK >= DRAIN_LIMIT;
                assert_eq!(
                    count("", &["shutting down with invocations unanswered"]),
                    usize::from(is_cut_short)
                );
                if !is_cut_short {
                    let idle = ended - begun.max(self.last_settled);
                    assert!(idle <= QUIET, "{idle:?}");
                    assert!(took >= QUIET, "{took:?}");
                }
                is_cut_short
            }
            _ => false,
        };
        for (id, invocation) in &self.invocations {
            let losses = count(id, &[" lost", " refused", " perhaps delivered"]);
            if invocation.is_settled {
                assert_eq!(invocation.deliveries + losses, 1, "{id}: {invocation:?}");
                assert_eq!(
                    count(id, &["the event is unreadable"]),
                    usize::from(!invocation.is_readable)
                );
            } else {
                assert!(is_cut_short || begun.is_none(), "{id}: {invocation:?}");
            }
        }
    }
}

impl Request {
    async fn receive_body(&mut self) {
        let (_, len) = self.head.split_once("content-length: ").unwrap();
        let len: usize = len.trim_end().parse().unwrap();
        while self.body.len() < len {
            assert!(
                self.connection
                    .stream
                    .read_buf(&mut self.body)
                    .await
                    .unwrap()
                    > 0
            );
        }
    }
}

/// Asserts that the function gives this connection up after a second.
async fn assert_given_up(connection: &mut Connection) {
    let begun = Instant::now();
    let given_up = timeout(2 * STALL_LIMIT, connection.open.closed()).await;
    given_up.expect("given up");
    assert!((STALL_LIMIT..=STALL_LIMIT + TICK).contains(&begun.elapsed()));
}

/// The Runtime API's end of a connection.
#[derive(Debug)]
struct Connection {
    worker: task::Id,
    stream: DuplexStream,
    /// Is closed when the function drops its end.
    open: oneshot::Sender<()>,
}

/// The function's end of a connection.
#[derive(Debug)]
struct Pipe {
    stream: DuplexStream,
    _open: oneshot::Receiver<()>,
}

fn pipe(worker: task::Id) -> (Pipe, Connection) {
    let (theirs, stream) = duplex(PIPE_LEN);
    let (open, is_open) = oneshot::channel();
    let theirs = Pipe {
        stream: theirs,
        _open: is_open,
    };
    let ours = Connection {
        worker,
        stream,
        open,
    };
    (theirs, ours)
}

thread_local! {
    /// The one Runtime API of this thread.
    static ARRIVALS: RefCell<Option<mpsc::UnboundedSender<Arrival>>> = const { RefCell::new(None) };
}

impl Socket for Pipe {
    async fn connect(_: &str) -> io::Result<Self> {
        let (connecting, connected) = oneshot::channel();
        ARRIVALS.with_borrow(|arrivals| {
            let _ = arrivals.as_ref().unwrap().send(Arrival {
                worker: task::id(),
                at: Instant::now(),
                what: What::Connect(connecting),
            });
        });
        connected
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The lines that the function logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

#[derive(Debug, Default)]
struct Line {
    request_id: String,
    message: String,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("fibonacci_generator")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "requestId" {
            value.clone_into(&mut self.request_id);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
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
