//! A local execution environment of Lambda Managed Instances.
//!
//! It runs a function's executable as Managed Instances do: one process, up to
//! `AWS_LAMBDA_MAX_CONCURRENCY` invocations at once. It serves the function the Runtime API, and
//! callers the Invoke API, a function URL and a console.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use emulator::{Emulator, Settings};
//!
//! let emulator = Emulator::start(Settings::new(emulator::build_function()?)).await?;
//! let reply = emulator.invoke(r#"{"n": 10}"#).await?;
//! assert!(!reply.function_error);
//! emulator.terminate().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`Emulator::inject`] makes its Runtime API fail in the ways that [`Fault`] lists, to see how a
//! function copes.
//!
//! # Which function
//!
//! `cargo local` runs the binary of the Rust package in the current folder: its `default-run`, or its
//! only one. `-p`, `--bin`, `--example`, `--profile` and `--features` choose another. `--bootstrap` runs
//! any executable: see `docs/bootstraps.md` for functions in other languages.
//!
//! The function's process group ends with the emulator, even after `kill -9`: its processes, their
//! children, and so on, but not a process that leaves the group (`setsid`).
//!
//! # What the function gets
//!
//! The variables that Lambda sets, and `PATH`, `HOME`, `TMPDIR`, `AWS_LAMBDA_LOG_LEVEL` and
//! `RUST_BACKTRACE` of whoever starts the emulator. `--env NAME=VALUE` and `--env-file FILE` add to them
//! or change them, and `--env NAME` passes a variable of the caller on. The credentials are placeholders
//! that no AWS service accepts, so that a function which is tried out changes nothing; to pass your own:
//! `--env AWS_ACCESS_KEY_ID --env AWS_SECRET_ACCESS_KEY --env AWS_SESSION_TOKEN`.
//!
//! The folder `events` beside the function holds example events, a JSON file each, which the console
//! offers.
//!
//! # Debugging
//!
//! `cargo local --timeout 0 --attach` starts no function. It prints the variables with which to start it
//! in a debugger or an IDE, and serves it each time it is started. `--timeout 0` sets no deadlines, so
//! that it can be stopped for as long as it takes. The function must keep a connection to the Runtime
//! API open, as runtimes do: it is taken for another process when it polls after all of its connections
//! have been closed.
//!
//! # What it does not do
//!
//! | what | what happens instead |
//! |---|---|
//! | response streaming | a function that streams gets a 400 and its caller an error that says so; `InvokeWithResponseStream` is a 404 that says so |
//! | the Telemetry API | a subscription gets 202 `Telemetry.NotSupported` and a warning |
//! | the Logs API | a subscription gets a 404, as in RIE, and a warning |
//! | external extensions | only internal ones can register; events get 403 `Extension.InvalidEventType` |
//! | errors that an extension reports | a 404 and a warning; AWS would end the execution environment |
//! | retries and destinations of asynchronous invocations | a failure is a warning that says so |
//! | CORS settings of a function URL | preflight requests go to the function, with a warning |
//! | TLS | function URL events have no `x-amzn-tls-version` and `x-amzn-tls-cipher-suite` |
//! | scaling, IAM, signatures | there is one execution environment, and everybody may invoke it but other people's web pages |
//! | versions and aliases | there is only `$LATEST.PUBLISHED`; to invoke `$LATEST` is a 400, and others are a 404 |
//! | tenant ids, durable executions | an invocation with one of their headers is a 400 that says so |
//! | resource-based policies, tags, layers, and whatever changes a function | a 404 or 405 `UnknownOperationException` |
//! | services other than Lambda | a 501, in XML unless the request is JSON |
//! | the X-Ray daemon | `AWS_XRAY_DAEMON_ADDRESS` is its usual port on this machine, where you may run it |
//!
//! Account and Region are always 123456789012 and us-east-1.
//!
//! *RIE* in comments is AWS's Runtime Interface Emulator. Its mode for Managed Instances is the
//! reference for what AWS does not document:
//! <https://github.com/aws/aws-lambda-runtime-interface-emulator>.
//!
//! # The way through the files
//!
//! ```text
//! callers      ─► invoke_api.rs, function_url.rs, console.rs ─┐
//!                                                             ├─► invocations.rs ─► workers.rs
//! the function ─► runtime_api.rs, with faults.rs              ─┘
//! ```
//!
//! `emulator.rs` puts all this together; `shared.rs` has what the servers share. `functions_api.rs` serves
//! other operations of Lambda's API, and `extensions.rs` the Extensions API. `supervisor.rs` starts one
//! `environment.rs` after another, with a `process.rs` and a Runtime API each. `settings.rs` has the
//! function's variables, `logs.rs` what it prints, `history.rs` what the console shows. `main.rs` is the
//! program: its flags are there, in `settings.rs`, and in `cargo_build.rs`, which builds. `watch.rs`
//! watches.

mod api_error;
mod body;
mod cargo_build;
mod connection;
mod console;
mod emulator;
mod environment;
mod extensions;
mod faults;
mod function_name;
mod function_url;
mod functions_api;
mod history;
mod http;
mod invocation;
mod invocations;
mod invoke_api;
mod lock;
mod logs;
mod memory;
mod origin;
mod other_service;
mod process;
mod runtime_api;
mod settings;
mod shared;
mod standard_error;
mod start_error;
mod supervisor;
mod workers;

pub use cargo_build::{Build, BuildError, Target, build_function, collect_files};
pub use emulator::Emulator;
pub use faults::Fault;
pub use invocation::{InvokeError, Reply};
pub use settings::Settings;
pub use standard_error::StandardError;
pub use start_error::StartError;
