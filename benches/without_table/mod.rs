//! What one writes without a table: the terms computed on each call, and a reply for serde.

use std::mem;

use num_bigint::BigUint;
use serde::Serialize;

/// The terms F(0)..F(`index`), computed one from the other.
pub(crate) fn terms(index: u16) -> impl Iterator<Item = BigUint> {
    let (mut term, mut next) = (BigUint::from(0u8), BigUint::from(1u8));
    (0..=index).map(move |_| {
        let following = &term + &next;
        mem::replace(&mut term, mem::replace(&mut next, following))
    })
}

/// The terms F(0)..F(`index`) in decimal, joined by `", "`.
pub(crate) fn prefix(index: u16) -> String {
    let mut prefix = String::new();
    for term in terms(index) {
        if !prefix.is_empty() {
            prefix.push_str(", ");
        }
        prefix.push_str(&term.to_string());
    }
    prefix
}

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
    pub(crate) fn new(body: String) -> Self {
        Self {
            status_code: 200,
            headers: Headers {
                content_type: "application/json",
            },
            body,
        }
    }
}
