//! The model of the Runtime API, and what it knows of the workers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lambda_runtime::Diagnostic;
use lambda_runtime::tracing::{Dispatch, dispatcher};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::task;
use tokio::time::{Instant, sleep, timeout};

use super::choices::Choices;
use super::log::Log;
use super::pipe::{self, Connect, Connection, Pipe};
use super::{
    Alphabet, Configuration, Cut, ON_PURPOSE, OnConnect, OnLateResponse, OnPoll, OnPost, Shutdown,
};
use crate::worker::Workers;
use crate::{Invocation, Reply};

const STALL_LIMIT: Duration = Duration::from_secs(1);
/// How long the last attempt to post may stand still.
const LATE_LIMIT: Duration = Duration::from_mins(1);
const ALMOST_A_STALL: Duration = Duration::from_millis(999);
/// How long the process stands still.
const STANDSTILL: Duration = Duration::from_millis(1_600);
/// Failures that are further apart belong to two outages.
const OUTAGE_GAP: Duration = Duration::from_secs(2);
const DRAIN_LIMIT: Duration = Duration::from_millis(400);
/// How long nothing is in flight before the process ends.
const QUIET: Duration = Duration::from_millis(10);
/// So much of it may count.
const COUNTED: Duration = Duration::from_millis(20);
/// By how much a timer may be late.
const TICK: Duration = Duration::from_millis(1);
/// The first index that is asked for. Its reply is longer than a pipe.
const FIRST_INDEX: u16 = 100;
/// After so many polls in a row that are dropped behind a reply, none is sent with a reply.
const MAX_DROPPED_POLLS: u32 = 2;

/// What a poll may meet while its worker is still posting the reply before it.
const EARLY_POLLS: &[OnPoll] = &[OnPoll::Event, OnPoll::Panic, OnPoll::Close];

/// Something that a worker waits for.
enum Arrival {
    Connect(Connect),
    Request(Request),
}

impl Arrival {
    fn worker(&self) -> task::Id {
        match self {
            Self::Connect(connect) => connect.worker,
            Self::Request(request) => request.connection.worker,
        }
    }

    /// Empty for an attempt to connect.
    fn head(&self) -> &str {
        match self {
            Self::Connect(_) => "",
            Self::Request(request) => &request.head,
        }
    }
}

#[derive(Debug)]
struct Request {
    at: Instant,
    head: String,
    connection: Connection,
    is_after_shutdown: bool,
    /// Whether it was sent together with the request before it.
    is_pipelined: bool,
}

impl Request {
    fn is_poll(&self) -> bool {
        self.head.starts_with("GET ")
    }

    fn content_length(&self) -> usize {
        let (_, len) = self.head.split_once("content-length: ").unwrap();
        len.trim_end().parse().unwrap()
    }
}

/// What has become of an event whose head has arrived whole.
#[derive(Debug)]
struct Accepted {
    worker: task::Id,
    index: u16,
    /// Whether an error is due instead of a reply.
    is_error: bool,
    is_readable: bool,
    attempts: usize,
    deliveries: usize,
    is_settled: bool,
}

impl Accepted {
    fn new(worker: task::Id, index: u16) -> Self {
        Self {
            worker,
            index,
            is_error: false,
            is_readable: true,
            attempts: 0,
            deliveries: 0,
            is_settled: false,
        }
    }
}

/// What is known of a worker.
#[derive(Default)]
struct Worker {
    /// Polls that have failed since it last had an event.
    failures: u32,
    next_poll: Option<Due>,
    /// Polls in a row that were sent with a reply and dropped.
    dropped_polls: u32,
}

/// When something is due.
struct Due {
    since: Instant,
    least: Duration,
    most: Duration,
}

impl Due {
    fn now() -> Self {
        Self {
            since: Instant::now(),
            least: Duration::ZERO,
            most: Duration::ZERO,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct ShutdownTimes {
    begun: Option<Instant>,
    ended: Option<Instant>,
}

/// Awaits something for every other event.
async fn handler(invocation: &Invocation) -> Result<Reply, Diagnostic> {
    let payload = invocation.payload();
    assert_eq!(invocation.function_arn(), Some("arn"));
    if !payload.ends_with(b"0}") {
        task::yield_now().await;
    }
    assert!(payload != b"\"panic\"", "{ON_PURPOSE}");
    Ok(reply(payload).into_iter().collect())
}

/// Longer than a pipe.
fn reply(payload: &[u8]) -> [Bytes; 4] {
    [
        b"[".to_vec(),
        payload.repeat(100),
        payload.to_vec(),
        b"]".to_vec(),
    ]
    .map(Bytes::from)
}

pub(super) struct RuntimeApi<'a> {
    choices: &'a mut Choices,
    alphabet: Alphabet,
    configuration: Configuration,
    /// Whether polls should come with replies.
    pipelines: bool,
    workers: Arc<Workers>,
    connects: mpsc::UnboundedReceiver<Connect>,
    requests: mpsc::UnboundedReceiver<Request>,
    request_sender: mpsc::UnboundedSender<Request>,
    waiting: Vec<Arrival>,
    invocations: BTreeMap<String, Accepted>,
    shutdown: watch::Sender<ShutdownTimes>,
    known: HashMap<task::Id, Worker>,
    last_settled: Instant,
    /// For how long the process has stood still since shutdown began.
    stood_still: Duration,
    last_failure: Option<Instant>,
    outages: usize,
}

impl<'a> RuntimeApi<'a> {
    pub(super) async fn run(
        configuration: Configuration,
        alphabet: Alphabet,
        choices: &'a mut Choices,
    ) {
        let log = Log::default();
        let _logging = dispatcher::set_default(&Dispatch::new(log.clone()));
        let (connect_sender, connects) = mpsc::unbounded_channel();
        pipe::connect_to(connect_sender);
        let max_concurrency = NonZeroU16::new(configuration.workers).unwrap();
        let pipelines = configuration.pipelines;
        let workers = Arc::new(Workers::new("host", max_concurrency, pipelines));
        let shutdown = watch::Sender::new(ShutdownTimes::default());
        let running = task::spawn_local({
            let (workers, shutdown) = (workers.clone(), shutdown.clone());
            async move {
                workers.run::<Pipe>(handler, 0, 1).await;
                shutdown.send_modify(|times| times.ended = Some(Instant::now()));
            }
        });

        let (request_sender, requests) = mpsc::unbounded_channel();
        let mut this = Self {
            choices,
            alphabet,
            configuration,
            pipelines,
            workers,
            connects,
            requests,
            request_sender,
            waiting: Vec::new(),
            invocations: BTreeMap::new(),
            shutdown,
            known: HashMap::new(),
            last_settled: Instant::now(),
            stood_still: Duration::ZERO,
            last_failure: None,
            outages: 0,
        };
        let workers = usize::from(configuration.workers);
        let open = workers..workers + this.choices.depth;
        let mut times = this.shutdown.subscribe();
        for step in 0..open.end + 4 * workers {
            this.choices.is_open = open.contains(&step);
            tokio::select! {
                biased;
                _ = times.wait_for(|times| times.ended.is_some()) => break,
                () = this.step() => {}
            }
        }
        this.check(&log).await;
        running.abort();
    }

    fn is_draining(&self) -> bool {
        self.shutdown.borrow().begun.is_some()
    }

    /// Waits until every worker waits for something, and lets something happen to one.
    async fn step(&mut self) {
        self.wait_for_workers().await;
        if self.waiting.is_empty() {
            return sleep(TICK).await;
        }
        self.waiting.sort_by(|a, b| a.head().cmp(b.head()));

        let mut shutdown = Shutdown::NotNow;
        if !self.is_draining() {
            shutdown = self.choices.choose(self.alphabet.shutdowns);
            match shutdown {
                Shutdown::NotNow => {}
                Shutdown::BeforeThis => {
                    begin_shutdown(&self.workers, &self.shutdown);
                }
                Shutdown::DuringThis => {
                    let (workers, shutdown) = (self.workers.clone(), self.shutdown.clone());
                    tokio::spawn(async move {
                        sleep(TICK).await;
                        begin_shutdown(&workers, &shutdown);
                    });
                }
            }
        }
        let which: Vec<usize> = (0..self.waiting.len()).collect();
        let which = if which.len() > 1 {
            self.choices.choose(&which)
        } else {
            0
        };
        match self.waiting.remove(which) {
            Arrival::Connect(connect) => self.on_connect(connect).await,
            Arrival::Request(request) if request.is_poll() => self.on_poll(request).await,
            Arrival::Request(request) => self.on_post(request).await,
        }
        while shutdown == Shutdown::DuringThis && !self.is_draining() {
            sleep(TICK).await;
        }
    }

    async fn wait_for_workers(&mut self) {
        loop {
            // A worker that would poll again ends instead.
            let patience = if self.is_draining() {
                TICK
            } else {
                Duration::from_secs(5)
            };
            let waiting: HashSet<_> = self.waiting.iter().map(Arrival::worker).collect();
            let patience = if waiting.len() < usize::from(self.configuration.workers) {
                patience
            } else {
                settle_down().await;
                Duration::ZERO
            };
            let arrival = timeout(patience, async {
                tokio::select! {
                    biased;
                    Some(connect) = self.connects.recv() => Arrival::Connect(connect),
                    Some(request) = self.requests.recv() => Arrival::Request(request),
                }
            });
            match arrival.await {
                Ok(arrival) => self.waiting.push(arrival),
                Err(_) if patience.is_zero() || self.is_draining() => break,
                Err(elapsed) => panic!("a worker is lost: {elapsed}"),
            }
        }
        for arrival in &self.waiting {
            let is_poll = |arrival: &Arrival| arrival.head().starts_with("GET ");
            let others = self.waiting.iter().filter(|other| {
                other.worker() == arrival.worker() && is_poll(other) == is_poll(arrival)
            });
            assert_eq!(others.count(), 1, "a worker does two things at once");
            if let Arrival::Request(request) = arrival {
                let is_late = request.is_poll() && request.is_after_shutdown;
                assert!(!is_late, "a poll after shutdown began");
            }
        }
    }

    fn next_id(&self) -> (u16, String) {
        let index = FIRST_INDEX + u16::try_from(self.invocations.len()).unwrap();
        (index, format!("id-{index}"))
    }

    /// The invocation that the worker is at, of those in flight.
    fn in_flight(&mut self, worker: task::Id) -> Option<(&String, &mut Accepted)> {
        let mut invocations = self.invocations.iter_mut();
        invocations.find(|(_, invocation)| invocation.worker == worker && !invocation.is_settled)
    }

    async fn on_connect(&mut self, connect: Connect) {
        let (worker, at) = (connect.worker, connect.at);
        if self.in_flight(worker).is_none() {
            self.assert_due(worker, at);
        }
        match self.choices.choose(self.alphabet.connects) {
            OnConnect::Accept => return self.receive(connect.accept(), None),
            OnConnect::AcceptLate => {
                sleep(ALMOST_A_STALL).await;
                return self.receive(connect.accept(), None);
            }
            OnConnect::AcceptAndClose => {
                drop(connect.accept());
                if let Some((id, invocation)) = self.in_flight(worker) {
                    invocation.attempts += 1;
                    if invocation.attempts == 2 {
                        let id = id.clone();
                        self.settle(&id);
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
        if self.in_flight(worker).is_none() {
            self.fail(worker);
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table of what can happen")]
    async fn on_poll(&mut self, mut poll: Request) {
        assert!(
            poll.head
                .starts_with("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n")
        );
        assert!(!poll.connection.is_spent);
        let worker = poll.connection.worker;
        let is_early = self.in_flight(worker).is_some();
        if !is_early {
            self.assert_due(worker, poll.at);
        }
        let (index, id) = self.next_id();
        let payload = payload(index);
        let mut on_late_response = OnLateResponse::Arrives;
        if poll.connection.owed.starts_with("HTTP") {
            on_late_response = self.choices.choose(&[
                OnLateResponse::Arrives,
                OnLateResponse::ArrivesSayingClose,
                OnLateResponse::Never,
            ]);
        }
        let mut owed = match on_late_response {
            OnLateResponse::Arrives => mem::take(&mut poll.connection.owed),
            OnLateResponse::ArrivesSayingClose => poll.connection.owed.replacen("\r\n", CLOSE, 1),
            OnLateResponse::Never => String::new(),
        };
        let mut on_poll = match on_late_response {
            OnLateResponse::ArrivesSayingClose => OnPoll::Close,
            _ if is_early => self.choices.choose(EARLY_POLLS),
            _ => self.choices.choose(self.alphabet.polls),
        };
        if on_late_response == OnLateResponse::Never {
            poll.connection.is_spent = true;
            // It passes for the late response.
            if let OnPoll::Respond(response) = on_poll
                && response.starts_with("HTTP")
            {
                response.clone_into(&mut owed);
                on_poll = OnPoll::Close;
            }
        }
        let (payload, len) = match on_poll {
            OnPoll::Panic => ("\"panic\"", 7),
            OnPoll::TooLarge => ("", 7_000_000),
            _ => (&*payload, payload.len()),
        };
        let head = head_of_event(&id, len);
        let mut interim = "";
        if on_poll == OnPoll::EventInParts(Cut::AfterInterim) {
            interim = INTERIM;
        }
        let (first, rest) = match on_poll {
            OnPoll::EventInParts(cut) | OnPoll::EventCut(cut) => {
                let event = format!("{interim}{head}{payload}");
                let (first, rest) = event.split_at(match cut {
                    Cut::AfterInterim => interim.len(),
                    Cut::AfterFirstByte => 1,
                    Cut::InHead => head.len() - 3,
                    Cut::AfterHead => head.len(),
                    Cut::InPayload => head.len() + 1,
                });
                (first.to_owned(), rest.to_owned())
            }
            OnPoll::Respond(response) => (response.to_owned(), String::new()),
            OnPoll::Close => (String::new(), String::new()),
            _ => (format!("{head}{payload}"), String::new()),
        };

        let is_accepted = first.contains(&id) && first.len() >= head.len();
        let is_whole = matches!(
            on_poll,
            OnPoll::Event | OnPoll::EventThenClose | OnPoll::EventInParts(_) | OnPoll::Panic
        );
        let accepted = Accepted {
            is_error: !is_whole || on_poll == OnPoll::Panic,
            is_readable: is_whole,
            ..Accepted::new(worker, index)
        };
        if is_accepted || is_whole {
            self.invocations.insert(id, accepted);
        }
        send(&mut poll.connection, &owed).await;
        if first.is_empty() {
            if poll.is_pipelined {
                self.note_dropped_poll(worker);
            }
        } else {
            if poll.is_pipelined {
                self.known.entry(worker).or_default().dropped_polls = 0;
            }
            send(&mut poll.connection, &first).await;
        }
        let may_be_closed = poll.connection.has_responded || poll.is_pipelined;
        match on_poll {
            OnPoll::EventInParts(_) => {
                sleep(2 * STALL_LIMIT).await;
                send(&mut poll.connection, &rest).await;
                poll.connection.has_responded = true;
                self.receive(poll.connection, None);
            }
            OnPoll::Event | OnPoll::Panic => {
                poll.connection.has_responded = true;
                self.receive(poll.connection, None);
            }
            OnPoll::EventThenClose => {
                drop(poll.connection);
                // After an event out of order, the connection is not used again.
                if on_late_response != OnLateResponse::Never {
                    self.in_flight(worker).unwrap().1.attempts += 1;
                }
            }
            _ => drop(poll.connection),
        }
        if on_poll == OnPoll::Close && may_be_closed {
            // A kept connection may close at any time.
            if !is_early {
                self.known.entry(worker).or_default().next_poll = Some(Due::now());
            }
        } else if !is_accepted && !is_whole {
            self.fail(worker);
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table of what can happen")]
    async fn on_post(&mut self, mut post: Request) {
        assert!(!post.connection.is_spent);
        let (id, resource) = post
            .head
            .strip_prefix("POST /2018-06-01/runtime/invocation/")
            .and_then(|head| head.split_once(' ')?.0.split_once('/'))
            .unwrap();
        let invocation = self
            .invocations
            .get_mut(id)
            .expect("an invocation that was dispatched");
        assert!(!invocation.is_settled, "a post too many");
        let expected = if invocation.is_error {
            "error"
        } else {
            "response"
        };
        assert_eq!(resource, expected);
        invocation.attempts += 1;
        assert!(invocation.attempts <= 2);
        let (id, index, is_error) = (id.to_owned(), invocation.index, invocation.is_error);
        let (worker, is_readable) = (invocation.worker, invocation.is_readable);
        let is_last = invocation.attempts == 2;
        let may_be_followed = !is_last && is_readable && !post.is_after_shutdown;

        let mut on_post = self.choices.choose(self.alphabet.posts);
        if on_post == OnPost::Event && invocation.attempts == 2 {
            on_post = OnPost::Accept; // no poll has been sent on this connection
        }
        if invocation.is_error {
            on_post = match on_post {
                // An error is short.
                OnPost::CloseDuring => OnPost::CloseAfter,
                OnPost::RefuseDuring => OnPost::Status(413),
                OnPost::StallDuring => OnPost::StallAfter,
                _ => on_post,
            };
        }
        let mut is_followed = false;
        if !matches!(
            on_post,
            OnPost::CloseDuring | OnPost::RefuseDuring | OnPost::StallDuring
        ) {
            let len = post.content_length();
            let body = post.connection.receive_exact(len).await;
            if !is_error {
                let is_right = body == reply(payload(index).as_bytes()).concat();
                assert!(is_right, "the reply to another invocation");
            }
            let expected = self.pipelines && may_be_followed;
            is_followed = post.connection.is_followed().await;
            // Of several workers, one may stop the others from pipelining at any time.
            assert!(is_followed == expected || self.configuration.workers > 1);
            assert!(!is_followed || may_be_followed);
        }
        let request_id = format!("\r\nLambda-Runtime-Aws-Request-Id: {id}\r\n");
        let respond = |status| format!("HTTP/1.1 {status} Status\r\nContent-Length: 2\r\n\r\n{{}}");
        let (status, response) = match on_post {
            OnPost::Accept
            | OnPost::AcceptThenClose
            | OnPost::AcceptInParts
            | OnPost::AcceptUnseen
            | OnPost::StallInBody => (202, respond(202)),
            OnPost::LongRefusal => {
                let body = "x".repeat(6_000);
                (
                    413,
                    format!("HTTP/1.1 413 Status\r\nContent-Length: 6000\r\n\r\n{body}"),
                )
            }
            OnPost::AcceptSayingClose => (202, respond(202).replacen("\r\n", CLOSE, 1)),
            OnPost::Status(status) => (status, respond(status)),
            OnPost::RefuseDuring => (413, respond(413)),
            OnPost::CutInHead => (0, "HTTP/1.1 20".to_owned()),
            OnPost::CutInBody => (202, respond(202).trim_end_matches('}').to_owned()),
            _ => (0, String::new()),
        };
        let (first, rest) = response.split_at(match on_post {
            OnPost::AcceptInParts => 9,
            OnPost::AcceptUnseen => 0,
            OnPost::StallInBody => response.len() - 1,
            _ => response.len(),
        });
        send(&mut post.connection, first).await;
        let mut is_kept = false;
        match on_post {
            OnPost::AcceptInParts => {
                sleep(ALMOST_A_STALL).await;
                send(&mut post.connection, rest).await;
                is_kept = true;
            }
            OnPost::AcceptUnseen => {
                self.send_while_stopped(&mut post.connection, rest).await;
                is_kept = true;
            }
            OnPost::Accept | OnPost::LongRefusal | OnPost::Status(_) => is_kept = true,
            OnPost::Event => {
                self.send_event_instead(post, is_followed).await;
                return;
            }
            // The poll behind the reply is under way, and may get an event.
            OnPost::StallAfter | OnPost::StallInBody if is_followed => {
                sleep(STALL_LIMIT + TICK).await;
                assert!(!post.connection.is_given_up(), "a poll is out on it");
                post.connection.owed = match on_post {
                    // It may name the invocation, as an event does.
                    OnPost::StallAfter => respond(202).replacen("\r\n", &request_id, 1),
                    _ => rest.to_owned(),
                };
                is_kept = true;
            }
            OnPost::StallAfter if is_last => {
                sleep(STALL_LIMIT + TICK).await;
                assert!(!post.connection.is_given_up(), "it may yet be taken");
            }
            OnPost::StallDuring if is_last => {
                assert_given_up(&mut post.connection, LATE_LIMIT).await;
            }
            OnPost::StallAfter | OnPost::StallDuring | OnPost::StallInBody => {
                assert_given_up(&mut post.connection, STALL_LIMIT).await;
            }
            _ => {}
        }
        if is_kept {
            post.connection.has_responded = on_post != OnPost::StallAfter;
            self.receive(
                post.connection,
                is_followed.then_some(post.is_after_shutdown),
            );
        } else {
            drop(post.connection);
            if is_followed {
                self.note_dropped_poll(worker);
            }
        }

        let invocation = self.invocations.get_mut(&id).unwrap();
        if status == 202 {
            invocation.deliveries += 1;
        }
        if matches!(status, 200..300 | 400..500) || invocation.attempts == 2 {
            self.settle(&id);
        }
    }

    /// Sends an event where the response to a post is due. It is the response to the poll that
    /// follows, if one does.
    async fn send_event_instead(&mut self, mut post: Request, is_followed: bool) {
        if is_followed {
            post.connection.receive_head().await.expect("a poll");
            self.known
                .entry(post.connection.worker)
                .or_default()
                .dropped_polls = 0;
        }
        let (index, id) = self.next_id();
        let payload = payload(index);
        let head = head_of_event(&id, payload.len());
        let accepted = Accepted::new(post.connection.worker, index);
        self.invocations.insert(id, accepted);
        send(&mut post.connection, &format!("{INTERIM}{head}{payload}")).await;
        post.connection.is_spent = true;
        self.receive(post.connection, None);
    }

    async fn send_while_stopped(&mut self, connection: &mut Connection, bytes: &str) {
        if self.is_draining() {
            self.stood_still += STANDSTILL;
        }
        connection.send_while_stopped(bytes, STANDSTILL).await;
    }

    /// The worker is done with this invocation.
    fn settle(&mut self, id: &str) {
        let invocation = self.invocations.get_mut(id).unwrap();
        invocation.is_settled = true;
        let (worker, is_readable) = (invocation.worker, invocation.is_readable);
        self.last_settled = Instant::now();
        let known = self.known.entry(worker).or_default();
        known.next_poll = Some(Due::now());
        if is_readable {
            known.failures = 0;
        } else {
            self.fail(worker);
        }
    }

    /// The worker's poll failed, or will before it reaches this end.
    fn fail(&mut self, worker: task::Id) {
        let now = Instant::now();
        self.last_settled = now;
        let last = self.last_failure.replace(now);
        self.outages += usize::from(last.is_none_or(|last| now - last > OUTAGE_GAP));
        let known = self.known.entry(worker).or_default();
        let back_off = Duration::from_millis(250.min(10 << known.failures.min(5)));
        known.failures += 1;
        let due = known.next_poll.get_or_insert_with(Due::now);
        due.least += back_off / 2;
        due.most += back_off + TICK;
    }

    /// A poll that the worker sent with a reply is lost with its connection.
    fn note_dropped_poll(&mut self, worker: task::Id) {
        let known = self.known.entry(worker).or_default();
        known.dropped_polls += 1;
        if known.dropped_polls >= MAX_DROPPED_POLLS {
            self.pipelines = false;
        }
    }

    /// Asserts that the worker asks for an invocation when it should.
    fn assert_due(&mut self, worker: task::Id, at: Instant) {
        let known = self.known.entry(worker).or_default();
        if let Some(Due { since, least, most }) = known.next_poll.take() {
            let waited = at - since;
            assert!(waited >= least, "{waited:?} of {least:?}");
            assert!(waited <= most, "{waited:?} of {most:?}");
            assert!(waited <= Duration::from_secs(1));
        }
    }

    /// Waits for a request on this connection, while others go on. If it was pipelined,
    /// `pipelined_after_shutdown` is whether the request before it was sent after shutdown began.
    fn receive(&self, mut connection: Connection, pipelined_after_shutdown: Option<bool>) {
        let (requests, shutdown) = (self.request_sender.clone(), self.shutdown.subscribe());
        task::spawn_local(async move {
            if let Some(head) = connection.receive_head().await {
                let is_after_shutdown = shutdown.borrow().begun.is_some();
                let _ = requests.send(Request {
                    at: Instant::now(),
                    head,
                    connection,
                    is_after_shutdown: pipelined_after_shutdown.unwrap_or(is_after_shutdown),
                    is_pipelined: pipelined_after_shutdown.is_some(),
                });
            }
        });
    }

    /// Asserts that all is as promised in the end.
    async fn check(&mut self, log: &Log) {
        if self.is_draining() {
            let mut times = self.shutdown.subscribe();
            let ended = times.wait_for(|times| times.ended.is_some());
            let ended = timeout(DRAIN_LIMIT + TICK, ended).await;
            ended.expect("the shutdown ends").unwrap();
        }
        let times = *self.shutdown.borrow();
        let mut is_cut_short = false;
        if let (Some(begun), Some(ended)) = (times.begun, times.ended) {
            let took = (ended - begun).saturating_sub(self.stood_still);
            assert!(took <= DRAIN_LIMIT + TICK, "{took:?}");
            is_cut_short = took + TICK + self.stood_still.min(COUNTED) >= DRAIN_LIMIT;
            if !is_cut_short {
                let idle = ended - begun.max(self.last_settled);
                assert!(idle <= QUIET + 2 * TICK + self.stood_still, "{idle:?}");
                assert!(ended - begun >= QUIET, "{took:?}");
                assert_eq!(self.workers.in_flight(), 0);
            }
        }
        for (id, invocation) in &self.invocations {
            let losses = log.count(id, &["could not deliver", "refused", "delivered already"]);
            if invocation.is_settled {
                assert_eq!(invocation.deliveries + losses, 1, "{id}: {invocation:?}");
                if invocation.attempts == 1 {
                    assert_eq!(losses, log.count(id, &["refused"]), "{id}: {invocation:?}");
                }
                assert_eq!(
                    log.count(id, &["the event is unreadable"]),
                    usize::from(!invocation.is_readable)
                );
            } else {
                assert!(
                    is_cut_short || times.begun.is_none(),
                    "{id}: {invocation:?}"
                );
            }
        }
        if times.begun.is_none() {
            let lines = log.count("", &["cannot get an invocation"]);
            assert_eq!(lines, self.outages, "of one line for each outage");
        }
        let informed = log.count("", &["drops pipelined polls"]);
        let has_stopped = self.configuration.pipelines && !self.pipelines;
        assert!(informed <= usize::from(has_stopped) || self.configuration.workers > 1);
        if times.begun.is_none() {
            assert!(informed == usize::from(has_stopped) || self.configuration.workers > 1);
        }
    }
}

fn payload(index: u16) -> String {
    format!("{{\"n\": {index}}}")
}

fn head_of_event(id: &str, len: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {id}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn\r\nContent-Length: {len}\r\n\r\n"
    )
}

const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const CLOSE: &str = "\r\nConnection: close\r\n";

fn begin_shutdown(workers: &Workers, shutdown: &watch::Sender<ShutdownTimes>) {
    workers.drain();
    shutdown.send_modify(|times| times.begun = Some(Instant::now()));
}

async fn send(connection: &mut Connection, bytes: &str) {
    // The function may have given the connection up.
    let _ = connection.stream.write_all(bytes.as_bytes()).await;
}

/// Lets the function do what it can do without waiting.
async fn settle_down() {
    for _ in 0..5 {
        task::yield_now().await;
    }
}

/// Asserts that the function gives this connection up after so long.
async fn assert_given_up(connection: &mut Connection, limit: Duration) {
    let begun = Instant::now();
    let given_up = timeout(2 * limit, connection.given_up()).await;
    given_up.expect("given up");
    assert!((limit..=limit + TICK).contains(&begun.elapsed()));
}
