//! An AWS Lambda function for [Managed Instances] that answers `{"n": N}` with F(0)..F(N), N ≤ 1000.
//!
//! ```text
//! /next ─► worker ─► event ─► Index | InvalidEvent ─► reply ─► [head | prefix of the table | tail] ─► worker ─► /response
//! ```
//!
//! The table is computed by `build.rs` (see [`sequence`]); an event's payload is read without
//! copying it (see [`event`]); a reply is three slices of the binary (see [`reply`]); the loop over
//! the Runtime API (see [`worker`] and [`runtime_api`]) takes any function from payload to reply.
//!
//! ```
//! use fibonacci_generator::event::{self, InvalidEvent};
//! use fibonacci_generator::reply::Reply;
//! use fibonacci_generator::sequence::{self, Index};
//!
//! let index = event::parse(br#"{"n": 7}"#)?;
//! assert_eq!(Some(index), Index::new(7));
//! assert_eq!(sequence::prefix(index), "0, 1, 1, 2, 3, 5, 8, 13");
//!
//! let [head, prefix, tail] = Reply::from(index).slices();
//! assert!(head.ends_with(br#""body": "{\"n\": 7, \"sequence\": ["#));
//! assert_eq!(prefix, b"0, 1, 1, 2, 3, 5, 8, 13");
//! assert_eq!(tail, br#"]}"}"#);
//!
//! assert_eq!(event::parse(br#"{"n": 1001}"#), Err(InvalidEvent::TooLarge));
//! # Ok::<(), InvalidEvent>(())
//! ```
//!
//! [Managed Instances]: https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-rust.html

pub mod event;
pub mod extension;
pub mod http;
pub mod log;
pub mod reply;
pub mod runtime_api;
pub mod sequence;
pub mod worker;
