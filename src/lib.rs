//! An AWS Lambda function for [Managed Instances] that replies to `{"n": N}` with F(0)..F(N),
//! N ≤ 1000.
//!
//! ```text
//! event ─► Index | InvalidEvent ─► reply: [head | prefix of the table | tail]
//! ```
//!
//! `build.rs` computes the table (see [`sequence`]). [`event`] reads an event's payload without
//! copying it. A [`reply`] is three slices of the binary. `lmi_runtime` is the loop over the Runtime
//! API, which takes any function from event to reply.
//!
//! Six words have one meaning everywhere in this project:
//!
//! - An *invocation* is one call of the function.
//! - An *event* is the payload of an invocation.
//! - A *poll* is the request with which a worker asks the [Runtime API] for an event.
//! - A *reply* is what the function returns for an event.
//! - A *response* is what an HTTP server sends for a request.
//! - An invocation is *in flight* from the first byte of its event until its reply is accepted.
//!
//! ```
//! use fibonacci_generator::event::{self, InvalidEvent};
//! use fibonacci_generator::reply;
//! use fibonacci_generator::sequence::{self, Index};
//!
//! let index = event::parse(br#"{"n": 7}"#)?;
//! assert_eq!(Some(index), Index::new(7));
//! assert_eq!(sequence::prefix(index), "0, 1, 1, 2, 3, 5, 8, 13");
//!
//! let [head, prefix, tail] = reply::slices(Ok(index));
//! assert!(head.ends_with(br#""body": "{\"n\": 7, \"sequence\": ["#));
//! assert_eq!(prefix, b"0, 1, 1, 2, 3, 5, 8, 13");
//! assert_eq!(tail, br#"]}"}"#);
//!
//! assert_eq!(event::parse(br#"{"n": 1001}"#), Err(InvalidEvent::TooLarge));
//! # Ok::<(), InvalidEvent>(())
//! ```
//!
//! [Managed Instances]: https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-rust.html
//! [Runtime API]: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

pub mod event;
pub mod reply;
pub mod sequence;
