//! What the usual handlers return, for serde to serialize: from the table, and computed without one.

use std::fmt::Write;
use std::mem;

use fibonacci_generator::sequence::{self, Index};
use num_bigint::BigUint;
use serde::Serialize;

/// A reply in the shape that Lambda's proxy integrations unwrap.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response {
    status_code: u16,
    headers: Headers,
    body: String,
}

#[derive(Serialize)]
struct Headers {
    #[serde(rename = "Content-Type")]
    content_type: &'static str,
}

impl Response {
    fn new(n: u16, prefix: &str) -> Self {
        Self {
            status_code: 200,
            headers: Headers {
                content_type: "application/json",
            },
            body: format!(r#"{{"n": {n}, "sequence": [{prefix}]}}"#),
        }
    }
}

/// From the table. `n` is at most 1000.
pub(crate) fn stock(n: u16) -> Response {
    let index = Index::new(n).expect("at most 1000");
    Response::new(n, sequence::prefix(index))
}

/// The terms computed on each call.
pub(crate) fn iterative(n: u16) -> Response {
    let mut prefix = String::new();
    for (index, term) in terms(n).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(prefix, "{separator}{term}").expect("a String takes all text");
    }
    Response::new(n, &prefix)
}

/// The terms F(0)..F(`index`), computed one from the other.
pub(crate) fn terms(index: u16) -> impl Iterator<Item = BigUint> {
    let (mut term, mut next) = (BigUint::from(0u8), BigUint::from(1u8));
    (0..=index).map(move |_| {
        let following = &term + &next;
        mem::replace(&mut term, mem::replace(&mut next, following))
    })
}
