//! The load tester's executable, against an Invoke API that misbehaves as each test wants, and
//! against the emulator.

mod any_function;
mod cloudwatch;
mod command_line;
mod connections;
mod endpoints;
mod endurance;
mod generators;
mod interruption;
mod merge;
mod outcomes;
mod pacing;
mod report;
mod support;
