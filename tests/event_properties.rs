//! Generated events, whole and damaged, against an independent reading of what they ask for, and
//! against simd-json's.

use std::collections::BTreeSet;

use crate::simd_json;
use crate::support::event_reading;

use base64::prelude::{BASE64_STANDARD, Engine};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use test_support::damaged;

const WORDS: &[&str] = &[
    "n", "\"n\":", "\\u006e", "\\ud800", "\\", "\"", "{", "}", "[", "]", ",", ":", " ", "\u{feff}",
    "null", "true", "-", "0", "1e2", "1.0", "NaN", "\n", "\0", "\u{7f}", "é",
];

/// A JSON text, and parts of one.
type Json = BoxedStrategy<String>;

/// One of these, the one as likely as the other.
fn one_of(these: impl IntoIterator<Item = Json>) -> Json {
    proptest::strategy::Union::new(these).boxed()
}

fn space() -> Json {
    prop_oneof![9 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"].boxed()
}

/// A JSON string of this text, each character as itself or escaped.
fn quoted(text: impl Strategy<Value = String> + 'static) -> Json {
    let escapes = prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(3)];
    (text, vec(escapes, 8))
        .prop_map(|(text, escapes)| {
            let spelled = text.chars().zip(escapes.iter().cycle());
            let spelled = spelled.map(|(c, escape)| match (c, escape) {
                ('"', 0) => "\\\"".to_owned(),
                ('\\', 0) => "\\\\".to_owned(),
                ('/', 1) => "\\/".to_owned(),
                ('\n', 0 | 1) => "\\n".to_owned(),
                (' '.., 0) => c.to_string(),
                (_, escape) => (c.encode_utf16(&mut [0; 2]).iter())
                    .map(|unit| match escape {
                        1 => format!("\\u{unit:04x}"),
                        _ => format!("\\u{unit:04X}"),
                    })
                    .collect(),
            });
            format!("\"{}\"", spelled.collect::<String>())
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

/// An array of such values.
fn array(value: Json) -> Json {
    (vec((space(), value, space()), 0..4), space())
        .prop_map(|(elements, empty)| {
            let elements: Vec<_> = (elements.into_iter())
                .map(|(before, value, after)| before + &value + &after)
                .collect();
            match elements[..] {
                [] => format!("[{empty}]"),
                _ => format!("[{}]", elements.join(",")),
            }
        })
        .boxed()
}

/// An object of such members; a member is a key and a value.
fn object(member: BoxedStrategy<(String, String)>, count: usize) -> Json {
    let member = (space(), member, space(), space(), space()).prop_map(
        |(before, (key, value), colon, after_colon, after)| {
            format!("{before}{key}{colon}:{after_colon}{value}{after}")
        },
    );
    (vec(member, 0..count), space())
        .prop_map(|(members, empty)| match members[..] {
            [] => format!("{{{empty}}}"),
            _ => format!("{{{}}}", members.join(",")),
        })
        .boxed()
}

fn any_value() -> Json {
    let leaf = one_of([
        select(vec![
            "null",
            "true",
            "false",
            "{}",
            "[]",
            r#""""#,
            r#""\ud800""#,
        ])
        .prop_map(str::to_owned)
        .boxed(),
        number(),
        quoted("[n0-9]{0,3}"),
        quoted(".{0,4}"),
    ]);
    leaf.prop_recursive(3, 8, 3, |value| {
        one_of([
            array(value.clone().boxed()),
            object((any_key(), value).boxed(), 3),
        ])
    })
    .boxed()
}

fn any_key() -> Json {
    let names = select(vec![
        "n",
        "N",
        "n ",
        "",
        "body",
        "nn",
        "\n",
        "é",
        "\u{10ffff}",
    ]);
    prop_oneof![
        8 => quoted(names.prop_map(str::to_owned)),
        1 => Just(r#""\ud800""#.to_owned()),
        1 => Just(r#""\udc00n""#.to_owned()),
    ]
    .boxed()
}

/// A member of this name.
fn member(name: &'static str, value: Json) -> BoxedStrategy<(String, String)> {
    let value = prop_oneof![9 => value, 1 => any_value()];
    (quoted(Just(name.to_owned())), value).boxed()
}

/// Such members, others among them, and duplicates.
fn object_with(
    members: impl IntoIterator<Item = BoxedStrategy<(String, String)>>,
    count: usize,
) -> Json {
    let other = (any_key(), any_value()).boxed();
    let members = proptest::strategy::Union::new(members);
    object(prop_oneof![3 => members, 1 => other].boxed(), count)
}

fn direct_event() -> Json {
    let event = prop_oneof![
        8 => object_with([member("n", number())], 4),
        1 => any_value(),
    ];
    (space(), event, space())
        .prop_map(|(before, event, after)| before + &event + &after)
        .boxed()
}

fn http_event() -> Json {
    let text = || {
        let plain = prop_oneof![4 => integer(), 1 => "0{0,3}-?[0-9]{0,3}[ .x]?"];
        quoted(prop_oneof![3 => plain, 1 => "(%3[0-9]|%2d|%[0-9a-f]?){0,3}"])
    };
    let query = object_with(
        [
            member("n", text()),
            member("%6e", text()),
            member("n", array(text())),
        ],
        3,
    );
    let multi_value_query = object_with(
        [member("n", array(text())), member("%6E", array(text()))],
        3,
    );
    let body = quoted(direct_event());
    let base64_body = quoted(direct_event().prop_map(|body| BASE64_STANDARD.encode(body)));
    let context = member(
        "requestContext",
        prop_oneof![
            object((any_key(), any_value()).boxed(), 2),
            object_with([member("elb", any_value())], 2),
        ]
        .boxed(),
    );
    let rest = object_with(
        [
            context.clone(),
            member("queryStringParameters", query),
            member("multiValueQueryStringParameters", multi_value_query),
            member("body", body),
            member("body", base64_body),
            member("isBase64Encoded", Just("true".to_owned()).boxed()),
            member("isBase64Encoded", Just("false".to_owned()).boxed()),
        ],
        6,
    );
    // An HTTP event needs its `requestContext`.
    (context, rest)
        .prop_map(|((key, value), rest)| match rest.strip_prefix('{') {
            Some(members) if members.contains(':') => format!("{{{key}:{value},{members}"),
            _ => format!("{{{key}:{value}}}"),
        })
        .boxed()
}

/// Checks 2,048 events, or eight times `PROPTEST_CASES`; returns which outcomes there were.
fn check_all(events: impl Strategy<Value = Vec<u8>>) -> BTreeSet<String> {
    let outcomes = std::cell::RefCell::new(BTreeSet::new());
    let config = Config {
        cases: 8 * Config::default().cases,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&events, |event| {
        event_reading::check(&event);
        simd_json::check(&event);
        let outcome = event_reading::read(&event).map(|_| "an index");
        outcomes.borrow_mut().insert(format!("{outcome:?}"));
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
    outcomes.into_inner()
}

const EVERY_OUTCOME: [&str; 6] = [
    "Err(MissingIndex)",
    "Err(Negative)",
    "Err(NotAnInteger)",
    "Err(NotJson)",
    "Err(TooLarge)",
    "Ok(\"an index\")",
];

#[test]
fn reads_direct_events_as_the_independent_reading_does() {
    let outcomes = check_all(direct_event().prop_map(String::into_bytes));
    let every_outcome_of_json = EVERY_OUTCOME.map(str::to_owned).into_iter();
    assert!(
        every_outcome_of_json
            .filter(|it| it != "Err(NotJson)")
            .eq(outcomes)
    );
}

#[test]
fn reads_http_events_as_the_independent_reading_does() {
    let outcomes = check_all(http_event().prop_map(String::into_bytes));
    assert!(EVERY_OUTCOME.iter().eq(&outcomes));
}

#[test]
fn reads_damaged_events_as_the_independent_reading_does() {
    let events = prop_oneof![direct_event(), http_event()];
    let damaged = damaged(events.prop_map(String::into_bytes), WORDS);
    assert!(EVERY_OUTCOME.iter().eq(&check_all(damaged)));
}
