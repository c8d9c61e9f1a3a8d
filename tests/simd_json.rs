//! simd-json as a third reader of events, with its most tolerant settings: any depth, and integers
//! beyond 64 bits as floats, which is a feature. What it refuses or confuses even then is why the
//! function reads with `serde_json`.

use crate::support::event_reading;
use fibonacci_generator::event::InvalidEvent::{MissingIndex, Negative, NotAnInteger, TooLarge};
use fibonacci_generator::sequence::Index;
use serde::de::IgnoredAny;
use simd_json::prelude::{TypedValue, ValueAsScalar};
use simd_json::{Buffers, Tape, ValueType};

fn read(payload: &mut [u8]) -> simd_json::Result<Tape<'_>> {
    let mut buffers = Buffers::with_max_depth(payload.len(), usize::MAX);
    simd_json::to_tape_with_buffers(payload, &mut buffers)
}

/// Whether this is JSON that simd-json refuses: it has lone surrogates, or a number that is infinite
/// as a float.
fn is_refused(json: &str) -> bool {
    let numbers = json.split(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c));
    let is_infinite = |number: &str| number.parse().is_ok_and(f64::is_infinite);
    json.to_lowercase().contains(r"\ud") || numbers.into_iter().any(is_infinite)
}

/// Asserts that simd-json agrees with `serde_json` on what is JSON, and with the independent reading
/// on direct events, but for what it refuses.
pub(crate) fn check(payload: &[u8]) {
    let shown = payload.escape_ascii();
    let json = str::from_utf8(payload).ok();
    let json = json.filter(|json| serde_json::from_str::<IgnoredAny>(json).is_ok());
    let mut copy = payload.to_vec();
    let Ok(tape) = read(&mut copy) else {
        assert!(json.is_none_or(is_refused), "refused: {shown}");
        return;
    };
    assert!(json.is_some(), "accepted: {shown}");

    let event = tape.as_value();
    let members = event.as_object();
    let last = |name| {
        let members = members.as_ref()?.iter();
        members
            .filter(|(key, _)| *key == name)
            .last()
            .map(|(_, value)| value)
    };
    let n = last("n");
    if n.is_none() && last("requestContext").is_some_and(|context| context.is_object()) {
        return; // an HTTP event
    }
    let expected = event_reading::read(payload);
    let actual = match n.map(|n| (n, n.value_type())) {
        None | Some((_, ValueType::Null)) => Err(MissingIndex),
        Some((n, ValueType::I64 | ValueType::U64)) => match n.as_i64() {
            Some(..0) => Err(Negative),
            Some(n @ 0..=1000) => Ok(Index::new(n.try_into().unwrap()).unwrap()),
            _ => Err(TooLarge),
        },
        // It may have been an integer.
        Some((n, ValueType::F64)) if n.as_f64().unwrap().abs() > 1e18 => {
            assert!(
                matches!(expected, Err(NotAnInteger | Negative | TooLarge)),
                "{shown}"
            );
            return;
        }
        Some(_) => Err(NotAnInteger),
    };
    assert_eq!(actual, expected, "{shown}");
}

#[test]
fn refuses_what_the_function_must_read() {
    let long = format!(r#"{{"ignored": {}, "n": 10}}"#, "1".repeat(310));
    for payload in [
        r#"{"ignored": "\ud800", "n": 10}"#,
        r#"{"\udc00": null, "n": 10}"#,
        r#"{"ignored": 1e999, "n": 10}"#,
        &long,
    ] {
        assert_eq!(
            event_reading::read(payload.as_bytes()),
            Ok(Index::new(10).unwrap())
        );
        assert!(read(&mut payload.as_bytes().to_vec()).is_err(), "{payload}");
        check(payload.as_bytes());
    }
}

#[test]
fn takes_a_long_integer_for_what_a_fraction_is() {
    let integer = br#"{"n": 100000000000000000000}"#;
    let fraction = br#"{"n": 100000000000000000000.0}"#;
    assert_eq!(event_reading::read(integer), Err(TooLarge));
    assert_eq!(event_reading::read(fraction), Err(NotAnInteger));
    let (mut integer, mut fraction) = (integer.to_vec(), fraction.to_vec());
    assert_eq!(
        read(&mut integer).unwrap().0,
        read(&mut fraction).unwrap().0
    );
}

#[test]
fn overwrites_the_payload() {
    let mut payload = br#"{"n": 10, "ignored": "\n"}"#.to_vec();
    let before = payload.clone();
    read(&mut payload).unwrap();
    assert_ne!(payload, before);
}
