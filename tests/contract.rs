//! The contract, byte for byte, through the real binary.

use std::fmt::Display;

use crate::support::{
    Expected, NEGATIVE, NOT_AN_INTEGER, NOT_JSON, REQUIRED, TOO_LARGE, assert_reply, start,
};

/// Asserts that each of these events gets this reply.
#[track_caller]
fn assert_replies(expected: Expected, payloads: &[impl AsRef<[u8]>]) {
    let function = start();
    for payload in payloads {
        assert_reply(&function, payload, expected);
    }
}

fn with_n(n: impl Display) -> String {
    format!(r#"{{"n": {n}}}"#)
}

/// A payload of the largest size that Lambda accepts.
fn padded_to_6_mb(start: &str, padding: &str, end: &str) -> Vec<u8> {
    let count = (6 * 1024 * 1024 - start.len() - end.len()) / padding.len();
    format!("{start}{}{end}", padding.repeat(count)).into_bytes()
}

#[test]
fn replies_with_every_sequence() {
    let function = start();
    for n in 0..=1000 {
        assert_reply(&function, with_n(n), Ok(n));
    }
}

#[test]
fn takes_n_from_anywhere_in_an_object() {
    let payloads = [
        r#"{"n":2}"#,
        " \t\r\n{ \t\r\n\"n\" \t\r\n: \t\r\n2 \t\r\n} \t\r\n",
        r#"{"a": 1, "n": 2, "b": {"n": 3}}"#,
        r#"{"\u006e": 2}"#,
        r#"{"n": 1, "\u006E": 2}"#,
        r#"{"n": "x", "n": null, "n": 2}"#,
        r#"{"N": 1, "n ": 1, "\u006e\u0000": 1, "": 1, "n": 2}"#,
        r#"{"ignored": 1e999, "n": 2, "also": -0.0e-0}"#,
        r#"{"ignored": 123456789012345678901234567890, "n": 2}"#,
        r#"{"ignored": "\ud800", "n": 2}"#,
        r#"{"\ud800": "\udc00\ud800", "n": 2}"#,
        r#"{"\n": 1, "n": 2}"#,
        "{\"\u{7f}é\u{10ffff}\": \"\u{7f}é\u{10ffff}\", \"n\": 2}",
        r#"{"n": 2, "requestContext": null}"#,
        r#"{"n": 2, "requestContext": {}, "queryStringParameters": {"n": "3"}, "body": "{}"}"#,
    ];
    assert_replies(Ok(2), &payloads);
    let large = [
        padded_to_6_mb(r#"{"ignored": ""#, "x", r#"", "n": 2}"#),
        padded_to_6_mb(r#"{"n": 2, "ignored": "#, " ", "0}"),
        padded_to_6_mb(r#"{"ignored": ["#, r#"{"n": 1},"#, r#"0], "n": 2}"#),
    ];
    assert_replies(Ok(2), &large);
}

#[test]
fn takes_minus_zero_for_zero() {
    assert_replies(Ok(0), &[r#"{"n": -0}"#, r#"{"n": 0}"#]);
}

#[test]
fn requires_n() {
    let short = [
        "", "{}", "[]", "null", "true", "false", "10", "-0.5e+7", "1e999", r#""n""#,
    ];
    assert_replies(Err(REQUIRED), &short);
    assert_replies(
        Err(REQUIRED),
        &[
            r#"{"N": 1}"#,
            r#"{"n": null}"#,
            r#"{"n": 1, "n": null}"#,
            r#"{"a": {"n": 1}}"#,
            r#""\ud800""#,
            r#"[{"n": 1}]"#,
            " \t\r\nnull \t\r\n",
        ],
    );
    assert_replies(Err(REQUIRED), &[padded_to_6_mb("[", "0,", "0]")]);
}

#[test]
fn refuses_what_is_not_an_integer() {
    let values = [
        "true", "false", "[]", "[10]", "{}", r#""10""#, r#""""#, "10.0", "1e2", "1E2", "1e-2",
        "-0.0", "-1e0", "1e999",
    ];
    assert_replies(Err(NOT_AN_INTEGER), &values.map(with_n));
    assert_replies(
        Err(NOT_AN_INTEGER),
        &[
            r#"{"n": "\ud800"}"#,
            r#"{"n": {"n": 10}}"#,
            r#"{"n": 1, "n": "1"}"#,
            &with_n("[".repeat(1_000_000) + &"]".repeat(1_000_000)),
        ],
    );
}

#[test]
fn refuses_negative_integers_of_any_length() {
    let values = ["-1", "-1000", "-9223372036854775809"];
    assert_replies(Err(NEGATIVE), &values.map(with_n));
    assert_replies(Err(NEGATIVE), &[padded_to_6_mb(r#"{"n": -"#, "9", "}")]);
}

#[test]
fn refuses_integers_above_the_limit_of_any_length() {
    let values = ["1001", "9999", "10000", "65536", "65546"];
    assert_replies(Err(TOO_LARGE), &values.map(with_n));
    assert_replies(Err(TOO_LARGE), &[with_n("18446744073709551616")]);
    assert_replies(Err(TOO_LARGE), &[padded_to_6_mb(r#"{"n": "#, "9", "}")]);
}

#[test]
fn refuses_what_is_not_json() {
    let short = [
        "\u{feff}", " ", "{", "}", "nul", "True", "[1,]", "[1 2]", "\"", "01", "1 1",
    ];
    assert_replies(Err(NOT_JSON), &short);
    let payloads = [
        r#"{"n": -Infinity}"#,
        "\u{feff}{\"n\": 1}",
        r#"{"n": 1"#,
        r#"{"n": 1} {}"#,
        r#"{"n": 1}x"#,
        "{\"n\": 1}\0",
        "{n: 1}",
        "{'n': 1}",
        r#"{"n" 1}"#,
        r#"{"n": 1, "ignored": NaN}"#,
        r#"{"n": 1, "ignored": 01}"#,
        r#"{"n": 1, "ignored": [1,]}"#,
        r#"{"n": 1, "ignored": "\x"}"#,
        r#"{"n": 1, "ignored": "\u12"}"#,
        r#"{"n": 1, "\x": 1}"#,
        "{\"n\": 1, \"a\nb\": 1}",
        "{\"n\": 1, \"\\u0000\n\": 1}",
        "{\"n\": 1, \"ignored\": \"a\nb\"}",
        "{\"n\": \"a\tb\"}",
        "{\u{a0}\"n\": 1}",
        "/**/{\"n\": 1}",
    ];
    assert_replies(Err(NOT_JSON), &payloads);
    let values = [
        "", "01", "-01", "+1", "-", "1.", ".5", "1e", "0x1", "NaN", "Infinity", "1,",
    ];
    assert_replies(Err(NOT_JSON), &values.map(with_n));
    let not_utf8 = [
        &b"\xff{\"n\": 1}"[..],
        b"{\"n\": 1}\xff",
        b"{\"n\": 1, \"ignored\": \"\xff\"}",
        b"{\"n\": 1, \"\xff\": 1}",
        b"{\"n\": \"\xed\xa0\x80\"}",
        b"{\"n\": 1, \"ignored\": \"\xc0\x80\"}",
        b"{\"n\"\xff: 1}",
    ];
    assert_replies(Err(NOT_JSON), &not_utf8);
    let never_closed = [
        padded_to_6_mb("[", "[", ""),
        padded_to_6_mb(r#"{"n": "#, "[", ""),
        padded_to_6_mb(r#"{"n": ["#, "[", ""),
        padded_to_6_mb(r#"{"ignored": [{"a": "#, "[", ""),
        padded_to_6_mb("", r#"{"n":"#, ""),
        padded_to_6_mb(r#"{"n": 1, "ignored": ""#, "x", ""),
    ];
    assert_replies(Err(NOT_JSON), &never_closed);
}

#[test]
fn reads_deeply_nested_and_repetitive_events() {
    let [open, close] = [r#"[{"a":"#.repeat(300_000), "}]".repeat(300_000)];
    let [bracket, end] = ["[", "]"].map(|bracket| bracket.repeat(1_000_000));
    let duplicates = r#""n":1,"#.repeat(500_000);
    assert_replies(
        Ok(2),
        &[
            format!(r#"{{"ignored": {open}0{close}, "n": 2}}"#),
            format!(r#"{{"n": 2, "ignored": {bracket}{end}}}"#),
            format!(r#"{{{duplicates}"n":2}}"#),
        ],
    );
}
