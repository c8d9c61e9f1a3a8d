//! What a run sends, and what must come back.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use fibonacci_generator::sequence::MAX_INDEX;
use fibonacci_generator::{event, reply};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::load::as_f64;
use crate::terminal::excerpt;

/// A payload, and what the reply to it must be.
pub(crate) struct Event {
    pub payload: Bytes,
    expected: Expected,
}

enum Expected {
    /// These bytes, in pieces.
    Reply(Vec<Bytes>),
    /// A proxy reply with this `statusCode`.
    Status(u16),
    /// Whatever is no error.
    Anything,
}

/// A reply that is not what was expected.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WrongReply {
    /// What it replies to.
    pub event: String,
    /// The position of the first byte that is wrong, missing or surplus. `None` if the status differs.
    pub offset: Option<usize>,
    /// The bytes that belong there, 16 at most, or the status.
    pub expected: String,
    pub received: String,
}

impl Event {
    /// An event for this function, whose reply is in the table.
    fn new(payload: &str) -> Self {
        let reply = reply::slices(event::parse(payload.as_bytes()));
        Self {
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            expected: Expected::Reply(reply.map(Bytes::from_static).into()),
        }
    }

    /// Compares a reply, which comes in pieces, with what is expected.
    pub(crate) fn verify(&self, received: &[Bytes]) -> Result<(), WrongReply> {
        let (offset, expected, received) = match &self.expected {
            Expected::Reply(expected) if is_same(received, expected) => return Ok(()),
            Expected::Reply(expected) => difference(&received.concat(), &expected.concat()),
            Expected::Status(expected) => {
                let reply = serde_json::from_slice::<Value>(&received.concat());
                let reply = reply.unwrap_or_default();
                let received = match reply.get("statusCode") {
                    Some(status) if status == expected => return Ok(()),
                    Some(status) => excerpt(&format!("statusCode {status}")),
                    None => "no statusCode".to_owned(),
                };
                (None, format!("statusCode {expected}"), received)
            }
            Expected::Anything => return Ok(()),
        };
        Err(WrongReply {
            event: excerpt(&String::from_utf8_lossy(&self.payload)),
            offset,
            expected,
            received,
        })
    }

    /// The length of the reply, if it is known.
    fn reply_bytes(&self) -> Option<usize> {
        match &self.expected {
            Expected::Reply(pieces) => Some(pieces.iter().map(Bytes::len).sum()),
            Expected::Status(_) | Expected::Anything => None,
        }
    }
}

/// Compares byte for byte what is in different pieces.
fn is_same(received: &[Bytes], expected: &[Bytes]) -> bool {
    let mut expected = expected.iter().filter(|piece| !piece.is_empty());
    let mut rest: &[u8] = &[];
    for mut piece in received.iter().map(|piece| &piece[..]) {
        while !piece.is_empty() {
            if rest.is_empty() {
                rest = expected.next().map(|piece| &piece[..]).unwrap_or_default();
            }
            let length = rest.len().min(piece.len());
            if length == 0 || rest[..length] != piece[..length] {
                return false;
            }
            (rest, piece) = (&rest[length..], &piece[length..]);
        }
    }
    rest.is_empty() && expected.next().is_none()
}

/// Where the first difference is, and what should be and is there.
fn difference(received: &[u8], expected: &[u8]) -> (Option<usize>, String, String) {
    let pairs = received.iter().zip(expected);
    let offset = pairs.take_while(|(one, other)| one == other).count();
    let excerpt = |bytes: &[u8]| {
        let bytes = &bytes[offset..];
        String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).into_owned()
    };
    (Some(offset), excerpt(expected), excerpt(received))
}

/// Which events a run sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Events {
    /// `{"n": N}`, for each N of a range.
    N(RangeInclusive<u16>),
    /// Every N up to 1000, and as many events of other kinds, most of them invalid.
    Mix,
    /// Events of any function, in turn.
    Given {
        events: Vec<Given>,
        expect_status: Option<u16>,
    },
}

/// An event from a file, and perhaps the reply to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Given {
    pub name: String,
    pub payload: String,
    pub reply: Option<String>,
}

impl Events {
    pub(crate) fn all(&self) -> Vec<Event> {
        match self {
            Self::N(range) => direct(range.clone()),
            Self::Mix => {
                let mut events = direct(0..=MAX_INDEX);
                let others = OTHERS.iter().cycle().take(events.len());
                events.extend(others.map(|payload| Event::new(payload)));
                events
            }
            Self::Given {
                events,
                expect_status,
            } => events
                .iter()
                .map(|Given { payload, reply, .. }| Event {
                    payload: payload.clone().into(),
                    expected: match (reply, expect_status) {
                        (Some(reply), _) => Expected::Reply(vec![reply.clone().into()]),
                        (None, Some(status)) => Expected::Status(*status),
                        (None, None) => Expected::Anything,
                    },
                })
                .collect(),
        }
    }

    /// Whether they are sent one after the other, and not chosen at random.
    pub(crate) fn are_in_turn(&self) -> bool {
        matches!(self, Self::Given { .. })
    }

    /// What is compared of every reply.
    pub(crate) fn compared(&self) -> String {
        match self {
            Self::N(_) | Self::Mix => "every byte, with the table".to_owned(),
            Self::Given {
                expect_status: Some(status),
                ..
            } => format!("statusCode, with {status}"),
            Self::Given { events, .. } if events.iter().all(|given| given.reply.is_some()) => {
                "every byte, with --expect".to_owned()
            }
            Self::Given { .. } => "nothing: what is no error is ok".to_owned(),
        }
    }

    /// The average length of a reply, if it is known.
    pub(crate) fn reply_bytes(&self) -> Option<f64> {
        let events = self.all();
        let bytes: usize = events.iter().map(Event::reply_bytes).sum::<Option<_>>()?;
        Some(as_f64(bytes as u64) / as_f64(events.len() as u64))
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::N(range) if range.start() == range.end() => write!(f, "n = {}", range.start()),
            Self::N(range) => write!(f, "n = {}..={}", range.start(), range.end()),
            Self::Mix => f.write_str("a mix of events"),
            Self::Given { events, .. } => {
                let names: Vec<_> = events.iter().map(|given| given.name.as_str()).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

fn direct(range: RangeInclusive<u16>) -> Vec<Event> {
    range
        .map(|n| Event::new(&format!(r#"{{"n": {n}}}"#)))
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
    fn a_wrong_a_missing_and_a_surplus_byte_are_found_where_they_are() {
        let event = &direct(10..=10)[0];
        let offset_of = |received: &str| {
            let verified = event.verify(&[received.to_owned().into()]);
            verified.unwrap_err().offset.unwrap()
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
            let received = [reply.to_owned().into()];
            let is_expected = mix.iter().any(|event| event.verify(&received).is_ok());
            assert!(is_expected, "no event expects {reply}");
        }
    }
}
