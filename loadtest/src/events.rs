//! What a run sends, and what must come back.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use fibonacci_generator::event;
use fibonacci_generator::reply::Reply;
use fibonacci_generator::sequence::MAX_INDEX;
use serde::{Deserialize, Serialize};

/// A payload and the reply that the function must send to it.
pub(crate) struct Event {
    pub payload: Bytes,
    /// N, if the payload is `{"n": N}` and nothing else.
    pub n: Option<u16>,
    reply: Reply,
}

/// How a reply differs from the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    /// The position of the first byte that is wrong, missing or surplus.
    pub offset: usize,
    /// The bytes that belong there: 16 at most.
    pub expected: String,
    pub received: String,
}

impl Event {
    fn new(payload: &str, n: Option<u16>) -> Self {
        Self {
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            n,
            reply: Reply::from(event::parse(payload.as_bytes())),
        }
    }

    /// Compares a reply, which comes in pieces, with the table, byte for byte.
    pub(crate) fn verify(&self, received: &[Bytes]) -> Result<(), Difference> {
        let mut expected = self
            .reply
            .slices()
            .into_iter()
            .filter(|slice| !slice.is_empty());
        let mut rest: &[u8] = &[];
        let is_same = received.iter().all(|piece| {
            let mut piece = &piece[..];
            while !piece.is_empty() {
                if rest.is_empty() {
                    rest = expected.next().unwrap_or_default();
                }
                let length = rest.len().min(piece.len());
                if length == 0 || rest[..length] != piece[..length] {
                    return false;
                }
                (rest, piece) = (&rest[length..], &piece[length..]);
            }
            true
        });
        if is_same && rest.is_empty() && expected.next().is_none() {
            return Ok(());
        }

        let (expected, received) = (self.reply.slices().concat(), received.concat());
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
            received: excerpt(&received),
        })
    }
}

/// Which events a run sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Events {
    /// `{"n": N}`, for each N of a range.
    N(RangeInclusive<u16>),
    /// Every N up to 1000, and as many events of other kinds, most of them invalid.
    Mix,
}

impl Events {
    pub(crate) fn all(&self) -> Vec<Event> {
        match self {
            Self::N(range) => direct(range.clone()),
            Self::Mix => {
                let mut events = direct(0..=MAX_INDEX);
                let others = OTHERS.iter().cycle().take(events.len());
                events.extend(others.map(|payload| Event::new(payload, None)));
                events
            }
        }
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::N(range) if range.start() == range.end() => write!(f, "n = {}", range.start()),
            Self::N(range) => write!(f, "n = {}..={}", range.start(), range.end()),
            Self::Mix => f.write_str("a mix of events"),
        }
    }
}

fn direct(range: RangeInclusive<u16>) -> Vec<Event> {
    range
        .map(|n| Event::new(&format!(r#"{{"n": {n}}}"#), Some(n)))
        .collect()
}

/// The Invoke API itself refuses a payload that is not JSON, so such text is in the body of an HTTP
/// event.
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
        assert_eq!(direct(10..=10)[0].verify(&[TEN.into()]), Ok(()));
    }

    #[test]
    fn a_wrong_a_missing_and_a_surplus_byte_are_found_where_they_are() {
        let event = &direct(10..=10)[0];
        let offset_of = |received: &str| {
            event
                .verify(&[Bytes::copy_from_slice(received.as_bytes())])
                .unwrap_err()
                .offset
        };

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
        let mix = Events::Mix.all();
        for reply in [
            TEN,
            &error("Input parameter 'n' is required"),
            &error("Input must be an integer"),
            &error("Input must be a non-negative integer"),
            &error("Input must not exceed 1000"),
            &error("Input must be valid JSON"),
        ] {
            assert!(
                mix.iter().any(|event| event
                    .verify(&[Bytes::copy_from_slice(reply.as_bytes())])
                    .is_ok()),
                "no event expects {reply}"
            );
        }
    }
}
