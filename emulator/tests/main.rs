//! The emulator's tests, in one executable.

mod clients;
mod command_line;
mod console;
mod function_url;
mod invocations;
mod invoke_api;
mod runtime_api;
mod start;
mod support;
