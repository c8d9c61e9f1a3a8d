//! The programs that are measured.

use std::num::NonZero;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, io, thread};

use fibonacci_generator::reply;
use fibonacci_generator::sequence::Index;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::Serialize;

use super::runtime_api::Event;
use super::{competitors, cpu, raw};
use crate::handlers;

/// The first argument of this executable when it is to become a program that is measured.
pub(crate) const LAUNCH: &str = "launch";
/// The name of the program that the others are compared with.
pub(crate) const OURS: &str = "ours";

#[derive(Clone, Copy, Serialize)]
pub(crate) struct Program {
    #[serde(rename = "program")]
    pub(crate) name: &'static str,
    #[serde(skip)]
    pub(crate) description: &'static str,
}

const PROGRAMS: [Program; 11] = [
    program("raw", "a bare epoll loop that sends the same bytes"),
    program(OURS, "this function"),
    program("ours-off", "this function without pipelining"),
    program("no-op", "lambda_runtime, which replies {}"),
    program(
        "layer",
        "lambda_runtime, which posts this function's slices",
    ),
    program("service", "stock's handler on this function's loop"),
    program("stock", "lambda_runtime and serde over the same table"),
    program("iterative", "as stock, but num-bigint computes the terms"),
    program("python", "the Python function, awslambdaric"),
    program("raw-off", "raw without pipelining"),
    program("raw-threads", "raw with a thread for each CPU"),
];

const fn program(name: &'static str, description: &'static str) -> Program {
    Program { name, description }
}

impl Program {
    /// Those of README's table, or all, that this machine can run. Says so if Python cannot.
    pub(crate) fn available(all: bool) -> Vec<Self> {
        let mut programs = PROGRAMS.to_vec();
        programs.retain(|it| all || !it.name.starts_with("raw-"));
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
            programs.retain(|it| it.name != "python");
        }
        programs
    }

    /// Whether it sends the next poll with a reply.
    pub(crate) fn is_pipelined(self) -> bool {
        matches!(self.name, OURS | "raw" | "raw-threads" | "service")
    }

    /// A direct event and the program's reply to it.
    pub(crate) fn event(self, n: u16) -> Event {
        let index = Index::new(n).expect("at most 1000");
        let reply = match self.name {
            "no-op" => b"{}".to_vec(),
            "service" | "stock" | "iterative" => {
                serde_json::to_vec(&handlers::stock(n)).expect("strings and a number")
            }
            _ => reply::slices(Ok(index)).concat(),
        };
        let payload = format!(r#"{{"n": {n}}}"#);
        Event { payload, reply }
    }

    /// Starts the program on these CPUs. `function` is this function's executable.
    pub(crate) fn command(self, function: &Path, cpus: &[usize]) -> io::Result<Command> {
        let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
        let mut command = Command::new(env::current_exe()?);
        command.args([LAUNCH, &cpus.join(",")]);
        match self.name {
            OURS => command.arg(function).env_remove("RUNTIME_API_PIPELINING"),
            "ours-off" => command.arg(function).env("RUNTIME_API_PIPELINING", "off"),
            // AWS_EXECUTION_ENV could only slow it down: for some versions of Python, awslambdaric
            // then polls from a thread of its own.
            "python" => command
                .arg(python())
                .args(["-m", "awslambdaric", "function.handler"])
                .env(
                    "PYTHONPATH",
                    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/throughput"),
                )
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env_remove("AWS_EXECUTION_ENV"),
            name => command.arg(name),
        };
        Ok(command)
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
    match &*name {
        "raw" => Ok(raw::run(true, 1)?),
        "raw-off" => Ok(raw::run(false, 1)?),
        "raw-threads" => {
            let cpus = thread::available_parallelism().map_or(1, NonZero::get);
            Ok(raw::run(true, cpus)?)
        }
        "no-op" => competitors::run(competitors::no_op()),
        "layer" => competitors::run(competitors::layer()),
        "service" => Err(format!("{:?}", competitors::service(handlers::stock)).into()),
        "stock" => competitors::run(competitors::run_concurrent(handlers::stock)),
        "iterative" => competitors::run(competitors::run_concurrent(handlers::iterative)),
        _ => Err(Command::new(name).args(args).exec().into()),
    }
}
