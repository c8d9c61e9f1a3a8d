//! The emulator's tests, in one executable.

mod cargo_build;
mod clients;
mod command_line;
mod console;
mod extensions;
mod function_url;
mod functions_api;
mod invocations;
mod invoke_api;
mod pipelining;
mod replacing;
mod runtime_api;
mod start;
mod support;
mod throttling;
