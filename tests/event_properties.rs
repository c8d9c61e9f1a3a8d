//! Generated events, whole and damaged, against an independent reading of what they ask for, and
//! against simd-json's.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;

use crate::simd_json;
use crate::support::event_reading;

use base64::prelude::{BASE64_STANDARD, Engine};
use fibonacci_generator::event::InvalidEvent;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::{Config, TestRunner};
use test_support::damaged;

const WORDS: &[&str] = &[
    "n", "\"n\":", "\\u006e", "\\ud800", "\\", "\\/", "\"", "{", "}", "[", "]", ",", ":", " ",
    "\u{feff}", "null", "true", "-", "0", "1e2", "1.0", "NaN", "\n", "\0", "\u{7f}", "é",
];

/// A JSON text, and parts of one.
type Json = BoxedStrategy<String>;

/// With white space around it.
fn spaced(json: Json) -> Json {
    let space = prop_oneof![9 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"];
    (space.clone(), json, space)
        .prop_map(|(before, json, after)| before + &json + &after)
        .boxed()
}

/// A JSON string of this text, each character as itself or escaped.
fn quoted(text: impl Strategy<Value = String> + 'static) -> Json {
    (text, vec(proptest::bool::weighted(0.2), 8))
        .prop_map(|(text, escapes)| {
            let mut quoted = String::from("\"");
            for (c, is_escaped) in text.chars().zip(escapes.iter().cycle()) {
                if *is_escaped {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(quoted, "\\u{unit:04x}").unwrap();
                    }
                } else {
                    let plain = serde_json::to_string(&c).unwrap();
                    quoted += &plain[1..plain.len() - 1];
                }
            }
            quoted + "\""
        })
        .boxed()
}

fn integer() -> Json {
    let long = (4000..4500usize).prop_map(|zeros| format!("1{}", "0".repeat(zeros)));
    prop_oneof![
        30 => (0..1100u16).prop_map(|n| n.to_string()),
        20 => (990..1010u16).prop_map(|n| n.to_string()),
        20 => (-1000..1000i16).prop_map(|n| n.to_string()),
        10 => any::<i128>().prop_map(|n| n.to_string()),
        1 => long,
    ]
    .boxed()
}

fn number() -> Json {
    prop_oneof![
        3 => integer(),
        1 => r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,3})?([eE][-+]?[0-9]{1,3})?",
    ]
    .boxed()
}

fn array(value: Json) -> Json {
    vec(spaced(value), 0..4)
        .prop_map(|elements| format!("[{}]", elements.join(",")))
        .boxed()
}

fn object(members: impl Strategy<Value = Vec<String>> + 'static) -> Json {
    members
        .prop_map(|members| format!("{{{}}}", members.join(",")))
        .boxed()
}

fn member(key: Json, value: Json) -> Json {
    (spaced(key), spaced(value))
        .prop_map(|(key, value)| key + ":" + &value)
        .boxed()
}

fn any_key() -> Json {
    prop_oneof![
        8 => quoted("n|N|n ||body|nn|\n|é|\u{10ffff}"),
        2 => r#""\\ud800"|"\\udc00n""#,
    ]
    .boxed()
}

fn any_value() -> Json {
    let leaf = prop_oneof![
        r#"null|true|false|\{ \}|\[\n\]|""|"\\ud800""#,
        number(),
        quoted("[n0-9]{0,3}"),
        quoted(".{0,4}"),
    ];
    leaf.prop_recursive(3, 8, 3, |value| {
        let value = value.boxed();
        let member = member(any_key(), value.clone());
        prop_oneof![array(value), object(vec(member, 0..3))]
    })
    .boxed()
}

/// A member of this name, most often with such a value.
fn named(name: &'static str, value: Json) -> Json {
    let value = prop_oneof![9 => value, 1 => any_value()].boxed();
    member(quoted(Just(name.to_owned())), value)
}

/// So many of these members and of others.
fn members<const N: usize>(members: [Json; N], count: usize) -> BoxedStrategy<Vec<String>> {
    let other = member(any_key(), any_value());
    vec(prop_oneof![3 => Union::new(members), 1 => other], 0..count).boxed()
}

fn direct_event() -> Json {
    spaced(
        prop_oneof![
            8 => object(members([named("n", number())], 4)),
            1 => any_value(),
        ]
        .boxed(),
    )
}

fn http_event() -> Json {
    let text = || {
        let plain = prop_oneof![4 => integer(), 1 => "0{0,3}-?[0-9]{0,3}[ .x]?"];
        quoted(prop_oneof![3 => plain, 1 => "(%3[0-9]|%2d|%[0-9a-f]?){0,3}"])
    };
    let query = [
        named("n", text()),
        named("%6e", text()),
        named("n", array(text())),
    ];
    let multi_value_query = [named("n", array(text())), named("%6E", array(text()))];
    let base64_body = direct_event().prop_map(|body| BASE64_STANDARD.encode(body));
    let context = named(
        "requestContext",
        object(members([named("elb", any_value())], 2)),
    );
    let parts = [
        context.clone(),
        named("queryStringParameters", object(members(query, 3))),
        named(
            "multiValueQueryStringParameters",
            object(members(multi_value_query, 3)),
        ),
        named("body", quoted(direct_event())),
        named("body", quoted(base64_body)),
        named("isBase64Encoded", Just("true".to_owned()).boxed()),
        named("isBase64Encoded", Just("false".to_owned()).boxed()),
    ];
    // An HTTP event needs its `requestContext`.
    let members = (context, members(parts, 6)).prop_map(|(context, mut rest)| {
        rest.push(context);
        rest
    });
    object(members)
}

/// Checks 2,048 events, or eight times `PROPTEST_CASES`; returns which messages there were, and
/// whether there was an index.
fn check_all(events: impl Strategy<Value = Vec<u8>>) -> BTreeSet<Option<&'static str>> {
    let outcomes = RefCell::new(BTreeSet::new());
    let config = Config {
        cases: 8 * Config::default().cases,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&events, |event| {
        event_reading::check(&event);
        simd_json::check(&event);
        let invalid = event_reading::read(&event).err();
        outcomes
            .borrow_mut()
            .insert(invalid.map(InvalidEvent::message));
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
    outcomes.into_inner()
}

#[test]
fn reads_direct_events_as_the_independent_reading_does() {
    let outcomes = check_all(direct_event().prop_map(String::into_bytes));
    assert!(!outcomes.contains(&Some(InvalidEvent::NotJson.message())));
    assert_eq!(outcomes.len(), 5, "{outcomes:?}");
}

#[test]
fn reads_http_events_as_the_independent_reading_does() {
    let outcomes = check_all(http_event().prop_map(String::into_bytes));
    assert_eq!(outcomes.len(), 6, "{outcomes:?}");
}

#[test]
fn reads_damaged_events_as_the_independent_reading_does() {
    let events = prop_oneof![direct_event(), http_event()];
    let outcomes = check_all(damaged(events.prop_map(String::into_bytes), WORDS));
    assert_eq!(outcomes.len(), 6, "{outcomes:?}");
}
