//! The programs that are measured.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{env, io};

use fibonacci_generator::reply::Reply;
use fibonacci_generator::sequence::{self, Index};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Serialize, Serializer};

use super::runtime_api::Event;
use super::{competitors, cpu, raw};

/// The first argument of this executable when it is to become a program that is measured.
pub(crate) const LAUNCH: &str = "launch";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// This function, as it ships: the next poll travels with the reply.
    Ours,
    /// This function with `RUNTIME_API_PIPELINING=off`.
    OursOff,
    /// The same bytes from one thread on epoll: the floor.
    Raw,
    /// The floor without pipelining.
    RawOff,
    /// `lambda_runtime` with a handler that returns `{}`.
    NoOp,
    /// The slices of this function's replies, posted by a tower layer on `lambda_runtime`, which is
    /// as far as its interface goes.
    Layer,
    /// The table on `lambda_runtime`, serialized by serde: what its documentation suggests.
    Stock,
    /// No table: num-bigint on each call, `lambda_runtime` and serde.
    Iterative,
    /// The Python function that this one replaces.
    Python,
}

impl Program {
    const ALL: [Self; 9] = [
        Self::Ours,
        Self::OursOff,
        Self::Raw,
        Self::RawOff,
        Self::NoOp,
        Self::Layer,
        Self::Stock,
        Self::Iterative,
        Self::Python,
    ];

    /// The programs that this machine can run. Says so if that is not all.
    pub(crate) fn available() -> Vec<Self> {
        let mut programs = Self::ALL.to_vec();
        let has_awslambdaric = Command::new(python())
            .args(["-c", "import awslambdaric"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !has_awslambdaric {
            eprintln!(
                "python is left out: {} cannot import awslambdaric. Install it there, or name \
                 another interpreter in PYTHON.",
                python()
            );
            programs.retain(|program| *program != Self::Python);
        }
        programs
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursOff => "ours-off",
            Self::Raw => "raw",
            Self::RawOff => "raw-off",
            Self::NoOp => "no-op",
            Self::Layer => "layer",
            Self::Stock => "stock",
            Self::Iterative => "iterative",
            Self::Python => "python",
        }
    }

    /// Whether it sends the next poll with a reply.
    pub(crate) fn pipelines(self) -> bool {
        matches!(self, Self::Ours | Self::Raw)
    }

    /// A direct event and the program's reply to it.
    pub(crate) fn event(self, n: u16) -> Arc<Event> {
        let index = Index::new(n).expect("at most 1000");
        let reply = match self {
            Self::NoOp => b"{}".to_vec(),
            Self::Stock | Self::Iterative => {
                let response = competitors::response(n, sequence::prefix(index));
                serde_json::to_vec(&response).expect("strings and a number")
            }
            _ => Reply::from(index).slices().concat(),
        };
        let payload = format!(r#"{{"n": {n}}}"#).into_bytes();
        Arc::new(Event { payload, reply })
    }

    /// Starts the program on these CPUs. `function` is this function's executable.
    pub(crate) fn command(self, function: &Path, cpus: &[usize]) -> io::Result<Command> {
        let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
        let mut command = Command::new(env::current_exe()?);
        command.args([LAUNCH, &cpus.join(",")]);
        match self {
            Self::Ours => command.arg(function).env_remove("RUNTIME_API_PIPELINING"),
            Self::OursOff => command.arg(function).env("RUNTIME_API_PIPELINING", "off"),
            // AWS_EXECUTION_ENV could only slow it down: for some versions of Python, awslambdaric
            // then polls from a thread of its own.
            Self::Python => command
                .arg(python())
                .args(["-m", "awslambdaric", "function.handler"])
                .env(
                    "PYTHONPATH",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/throughput"),
                )
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env_remove("AWS_EXECUTION_ENV"),
            _ => command.arg(self.name()),
        };
        Ok(command)
    }
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

fn python() -> String {
    env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Becomes a program that is measured, from the arguments after [`LAUNCH`]: CPUs, then the name of
/// a program in this executable, or another executable and its arguments.
pub(crate) fn launch(mut args: impl Iterator<Item = String>) -> Result<(), lambda_runtime::Error> {
    // The program ends with the bench, however that ends.
    set_pdeathsig(Signal::SIGKILL)?;
    let cpus = args.next().unwrap_or_default();
    cpu::run_on(cpus.split(',').flat_map(str::parse))?;

    let name = args.next().unwrap_or_default();
    let program = Program::ALL
        .into_iter()
        .find(|program| program.name() == name);
    match program {
        Some(Program::Raw) => Ok(raw::run(true)?),
        Some(Program::RawOff) => Ok(raw::run(false)?),
        Some(Program::NoOp) => competitors::run(competitors::no_op()),
        Some(Program::Layer) => competitors::run(competitors::layer()),
        Some(Program::Stock) => competitors::run(competitors::stock()),
        Some(Program::Iterative) => competitors::run(competitors::iterative()),
        _ => Err(Command::new(name).args(args).exec().into()),
    }
}
