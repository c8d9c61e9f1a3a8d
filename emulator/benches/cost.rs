//! What the emulator costs: the CPU time of its process per invocation, next to that of a bare axum
//! server with the same three requests (`/next`, `/response`, Invoke) and the same bytes.
//!
//! `cargo bench -p emulator --bench cost` measures; a word after `--` selects rows. Each server is a
//! process of its own, and so are callers and the function. The servers take turns, and the table
//! shows medians over the rounds. The emulator may cost 1.3 times as much as the bare server. The last
//! column is what it costs with its console open, relative to without.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use emulator::{Emulator, Settings};
use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The N of the replies.
const INDICES: [usize; 2] = [10, 1000];
const CALLERS: [u16; 2] = [8, 64];
const EVENT: &str = r#"{"n": 10}"#;
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |index: usize| -> Result<usize> {
        Ok(arguments
            .get(index)
            .ok_or("an argument is missing")?
            .parse()?)
    };
    match arguments.first().map(String::as_str) {
        Some("function") => function(number(1)?, number(2)?),
        Some("emulator") => serve_emulator(number(1)?, number(2)?),
        Some("bare") => serve_bare(number(1)?),
        _ => compare(&arguments),
    }
}

/// The function's reply for N = `index`.
fn reply(index: usize) -> String {
    let event = format!(r#"{{"n": {index}}}"#);
    let reply = Reply::from(event::parse(event.as_bytes()));
    String::from_utf8_lossy(&reply.slices().concat()).into_owned()
}

fn compare(arguments: &[String]) -> Result<()> {
    // `cargo bench` passes --bench. Without it this is a test, as with other harnesses.
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let short = has("--test") || !has("--bench");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    println!("CPU µs of the server per invocation   emulator  bare axum  ratio  console open");
    for callers in CALLERS {
        for index in INDICES {
            let row = format!("cost/{index}/{callers} callers");
            if filter.is_some_and(|filter| !row.contains(filter.as_str())) {
                continue;
            }
            let (rounds, invocations) = match (short, index) {
                (true, _) => (1, 4 * usize::from(callers)),
                (false, 10) => (ROUNDS, 20_000),
                (false, _) => (ROUNDS, 8_000),
            };
            let cost_of_emulator = |has_console: bool| {
                let server = Server::emulator(callers, index)?;
                let _console = has_console.then(|| server.open_console()).transpose()?;
                server.cost(callers, invocations)
            };
            let (mut emulator, mut bare) = (Vec::new(), Vec::new());
            let (mut ratio, mut open_ratio) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                // The machine drifts, so neither always comes last.
                let opens_first = round % 2 == 1;
                let first = cost_of_emulator(opens_first)?;
                let second = cost_of_emulator(!opens_first)?;
                let (closed, open) = if opens_first {
                    (second, first)
                } else {
                    (first, second)
                };
                let server = Server::bare(callers, index, invocations)?;
                let baseline = server.cost(callers, invocations)?;
                emulator.push(closed);
                bare.push(baseline);
                ratio.push(closed / baseline);
                open_ratio.push(open / closed);
            }
            println!(
                "{row:36} {:9.1}  {:9.1}  {:5.2}  {:12.2}",
                median(emulator),
                median(bare),
                median(ratio),
                median(open_ratio)
            );
        }
    }
    Ok(())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// This executable as a server. It prints the address of its Invoke API when it is ready, and ends
/// with its standard input.
struct Server {
    process: Child,
    stdin: Option<ChildStdin>,
    invoke: SocketAddr,
    /// The function of the bare server. The emulator starts its own.
    function: Option<Child>,
}

impl Server {
    fn emulator(workers: u16, index: usize) -> Result<Self> {
        Self::start(&["emulator".into(), workers.to_string(), index.to_string()])
    }

    fn bare(workers: u16, index: usize, invocations: usize) -> Result<Self> {
        let mut server = Self::start(&["bare".into(), index.to_string()])?;
        let function = Command::new(env::current_exe()?)
            .args([
                "function".into(),
                index.to_string(),
                invocations.to_string(),
            ])
            .env("AWS_LAMBDA_RUNTIME_API", server.invoke.to_string())
            .env("AWS_LAMBDA_MAX_CONCURRENCY", workers.to_string())
            .spawn()?;
        server.function = Some(function);
        Ok(server)
    }

    fn start(arguments: &[String]) -> Result<Self> {
        let mut process = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        let stdout = process.stdout.take().ok_or("no standard output")?;
        BufReader::new(stdout).read_line(&mut address)?;
        let invoke = address.trim().parse()?;
        Ok(Self {
            stdin: process.stdin.take(),
            process,
            invoke,
            function: None,
        })
    }

    /// Opens the console's stream. Nobody reads it, since only a few kilobytes come.
    fn open_console(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.invoke)?;
        write!(
            stream,
            "GET /console/live HTTP/1.1\r\nhost: {}\r\n\r\n",
            self.invoke
        )?;
        Ok(stream)
    }

    /// Makes that many invocations. Returns the server's CPU µs per invocation.
    fn cost(mut self, callers: u16, invocations: usize) -> Result<f64> {
        let pid = Pid::from_raw(i32::try_from(self.process.id())?);
        let clock = clock_getcpuclockid(pid)?;
        let before = Duration::from(clock_gettime(clock)?);
        let head = format!(
            "POST /2015-03-31/functions/cost/invocations HTTP/1.1\r\nhost: {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{EVENT}",
            self.invoke,
            EVENT.len()
        );
        let left = AtomicUsize::new(invocations);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..callers)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let mut connection = Connection::open(self.invoke)?;
                        while take(&left) {
                            connection.exchange(head.as_bytes(), 200)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            callers
                .into_iter()
                .try_for_each(|caller| caller.join().map_err(|_| "a caller panicked")?)
        })?;
        if let Some(mut function) = self.function.take() {
            function.wait()?;
        }
        let spent = Duration::from(clock_gettime(clock)?).saturating_sub(before);
        drop(self.stdin.take());
        self.process.wait()?;
        #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
        Ok(spent.as_secs_f64() * 1e6 / invocations as f64)
    }
}

fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}

/// A connection that is kept open, with no more HTTP than the two servers speak.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; 256 * 1024],
        })
    }

    /// Sends a request and returns the head of the response, which must have this status.
    fn exchange(&mut self, request: &[u8], status: u16) -> Result<String> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            let length = self.stream.read(&mut self.buffer[filled..])?;
            if length == 0 {
                return Err("the server has closed the connection".into());
            }
            filled += length;
            let received = &self.buffer[..filled];
            let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&received[..end]).into_owned();
            let length: usize = header(&head, "content-length")?.parse()?;
            self.stream
                .read_exact(&mut self.buffer[filled..end + 4 + length])?;
            if !head.starts_with(&format!("HTTP/1.1 {status} ")) {
                return Err(head.into());
            }
            return Ok(head);
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Result<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|line| line.0.eq_ignore_ascii_case(name));
    Ok(found.ok_or_else(|| format!("no {name} in {head}"))?.1)
}

/// The function: its workers poll and post the reply for N = `index` until all together have handled
/// `invocations`.
fn function(index: usize, invocations: usize) -> Result<()> {
    let runtime_api: SocketAddr = env::var("AWS_LAMBDA_RUNTIME_API")?.parse()?;
    let workers: usize = env::var("AWS_LAMBDA_MAX_CONCURRENCY")?.parse()?;
    let left = AtomicUsize::new(invocations);
    let reply = reply(index);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut connection = Connection::open(runtime_api)?;
                    let invocation = "/2018-06-01/runtime/invocation";
                    let next = format!("GET {invocation}/next HTTP/1.1\r\nhost: {runtime_api}\r\n\r\n");
                    while take(&left) {
                        let event = connection.exchange(next.as_bytes(), 200)?;
                        let request_id = header(&event, "lambda-runtime-aws-request-id")?;
                        let invocation_id = header(&event, "lambda-runtime-invocation-id")?;
                        let response = format!(
                            "POST {invocation}/{request_id}/response HTTP/1.1\r\nhost: {runtime_api}\r\n\
                             lambda-runtime-invocation-id: {invocation_id}\r\n\
                             content-length: {}\r\n\r\n{reply}",
                            reply.len()
                        );
                        connection.exchange(response.as_bytes(), 202)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })
}

fn announce(invoke: SocketAddr) -> io::Result<()> {
    println!("{invoke}");
    // The end comes when the other end is closed.
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

#[tokio::main]
async fn serve_emulator(workers: usize, index: usize) -> Result<()> {
    let mut settings = Settings::new(env::current_exe()?);
    settings.arguments = vec![
        "function".into(),
        index.to_string().into(),
        usize::MAX.to_string().into(),
    ];
    settings.function_name = "cost".into();
    settings.max_concurrency = NonZeroU16::new(workers.try_into()?);
    let emulator = Emulator::start(settings).await?;
    emulator.wait_for_polls(|polls| polls == workers).await;
    let address = emulator.invoke_address();
    tokio::task::spawn_blocking(move || announce(address)).await??;
    Ok(())
}

#[tokio::main]
async fn serve_bare(index: usize) -> Result<()> {
    let event = [
        ("content-type", "application/json"),
        (
            "lambda-runtime-aws-request-id",
            "156cb537-e2d4-11e8-9b34-d36013741fb9",
        ),
        (
            "lambda-runtime-invocation-id",
            "6bc1b5f0-3c1e-4f43-8d0f-2c50b5a5a5a5",
        ),
        ("lambda-runtime-deadline-ms", "1542409706888"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:cost",
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
        ),
    ];
    let replied = [
        ("content-type", "application/json"),
        ("x-amzn-requestid", "156cb537-e2d4-11e8-9b34-d36013741fb9"),
        ("x-amz-executed-version", "$LATEST.PUBLISHED"),
    ];
    let accepted = (
        StatusCode::ACCEPTED,
        [("content-type", "application/json")],
        "{\"status\":\"OK\"}\n",
    );
    let payload = Bytes::from(reply(index));
    let router = Router::new()
        .route(
            "/2018-06-01/runtime/invocation/next",
            get(async move || (event, EVENT)),
        )
        .route(
            "/2018-06-01/runtime/invocation/{request_id}/response",
            post(async move |_: Path<String>, _: HeaderMap, _: Bytes| accepted),
        )
        .route(
            "/2015-03-31/functions/{name}/invocations",
            post(async move |_: Path<String>, _: HeaderMap, _: Bytes| (replied, payload.clone())),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    tokio::task::spawn_blocking(move || announce(address)).await??;
    Ok(())
}
