//! What a run sends, and what must come back.

use std::ops::RangeInclusive;

use aws_sdk_lambda::primitives::Blob;
use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::sequence::MAX_INDEX;
use serde::Serialize;

/// A payload and the reply that the function owes to it.
pub(crate) struct Event {
    pub payload: Blob,
    /// N, where the payload is no more than `{"n": N}`.
    pub n: Option<u16>,
    reply: Reply,
}

/// How a reply differs from the table.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// Of the first byte that is wrong, missing or too many.
    pub offset: usize,
    /// What should stand there, up to 16 bytes.
    pub expected: String,
    pub received: String,
}

impl Event {
    fn new(payload: &str, n: Option<u16>) -> Self {
        Self {
            payload: Blob::new(payload),
            n,
            reply: Reply::from(event::parse(payload.as_bytes())),
        }
    }

    /// Compares a reply with the table, byte for byte.
    pub(crate) fn verify(&self, received: &[u8]) -> Result<(), Difference> {
        let mut rest = received;
        let mut is_same = true;
        for slice in self.reply.slices() {
            match rest.strip_prefix(slice) {
                Some(after) => rest = after,
                None => is_same = false,
            }
        }
        if is_same && rest.is_empty() {
            return Ok(());
        }

        let expected = self.reply.slices().concat();
        let offset = received
            .iter()
            .zip(&expected)
            .take_while(|(received, expected)| received == expected)
            .count();
        let excerpt = |bytes: &[u8]| {
            let bytes = bytes[offset..].iter().take(16).copied();
            String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
        };
        Err(Difference {
            offset,
            expected: excerpt(&expected),
            received: excerpt(received),
        })
    }
}

/// One event for each N of a range.
pub(crate) fn direct(range: RangeInclusive<u16>) -> Vec<Event> {
    range
        .map(|n| Event::new(&format!(r#"{{"n": {n}}}"#), Some(n)))
        .collect()
}

/// Every valid N, and as many events of other kinds, most of them invalid.
pub(crate) fn mix() -> Vec<Event> {
    let mut events = direct(0..=MAX_INDEX);
    let others = OTHERS.iter().cycle().take(events.len());
    events.extend(others.map(|payload| Event::new(payload, None)));
    events
}

/// The Invoke API itself refuses what is not JSON, so that comes in the body of an HTTP event.
const OTHERS: [&str; 21] = [
    "{}",
    "null",
    "[10]",
    r#""10""#,
    r#"{"n": null}"#,
    r#"{"n": "10"}"#,
    r#"{"n": true}"#,
    r#"{"n": [10]}"#,
    r#"{"n": 10.0}"#,
    r#"{"n": 1e2}"#,
    r#"{"n": -1}"#,
    r#"{"n": 1001}"#,
    r#"{"n": 123456789012345678901234567890}"#,
    r#"{"n": -0}"#,
    r#"{"n": "ten", "n": 2}"#,
    r#"{"\u006e": 3, "ignored": {"n": [{}]}}"#,
    r#"{"requestContext": {}, "queryStringParameters": {"n": "10"}}"#,
    r#"{"requestContext": {}, "queryStringParameters": {"n": "ten"}}"#,
    r#"{"requestContext": {}, "body": "{\"n\": 10}"}"#,
    r#"{"requestContext": {}, "body": "eyJuIjogMTB9", "isBase64Encoded": true}"#,
    r#"{"requestContext": {}, "body": "n=10"}"#,
];

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: &str = r#"{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{\"n\": 10, \"sequence\": [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55]}"}"#;

    #[test]
    fn the_reply_of_the_contract_is_right() {
        assert_eq!(direct(10..=10)[0].verify(TEN.as_bytes()), Ok(()));
    }

    #[test]
    fn a_wrong_a_missing_and_a_surplus_byte_are_found_where_they_are() {
        let event = &direct(10..=10)[0];
        let offset_of = |received: &str| event.verify(received.as_bytes()).unwrap_err().offset;

        assert_eq!(offset_of(&TEN.replace("55]", "54]")), TEN.len() - 5);
        assert_eq!(offset_of(&TEN[..TEN.len() - 1]), TEN.len() - 1);
        assert_eq!(offset_of(&format!("{TEN} ")), TEN.len());
        assert_eq!(offset_of(""), 0);
    }

    #[test]
    fn the_mix_expects_every_reply_of_the_contract() {
        let error = |message: &str| {
            format!(
                r#"{{"statusCode": 400, "headers": {{"Content-Type": "application/json"}}, "body": "{{\"error\": \"{message}\"}}"}}"#
            )
        };
        let mix = mix();
        for reply in [
            TEN,
            &error("Input parameter 'n' is required"),
            &error("Input must be an integer"),
            &error("Input must be a non-negative integer"),
            &error("Input must not exceed 1000"),
            &error("Input must be valid JSON"),
        ] {
            assert!(
                mix.iter()
                    .any(|event| event.verify(reply.as_bytes()).is_ok()),
                "no event expects {reply}"
            );
        }
    }
}
