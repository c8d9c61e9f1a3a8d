//! The contract, byte for byte, through the real binary.

use std::fmt::Write;

use crate::support::{
    Expected, NEGATIVE, NOT_AN_INTEGER, NOT_JSON, REQUIRED, TOO_LARGE, assert_reply, start,
};

/// Asserts that each of these events gets this reply.
#[track_caller]
fn assert_replies(expected: Expected, payloads: &[&[u8]]) {
    let function = start();
    for payload in payloads {
        assert_reply(&function, payload, expected);
    }
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
        assert_reply(&function, format!(r#"{{"n": {n}}}"#), Ok(n));
    }
}

#[test]
fn takes_n_from_anywhere_in_an_object() {
    let large = [
        padded_to_6_mb(r#"{"ignored": ""#, "x", r#"", "n": 2}"#),
        padded_to_6_mb(r#"{"n": 2, "ignored": "#, " ", "0}"),
        padded_to_6_mb(r#"{"ignored": ["#, r#"{"n": 1},"#, r#"0], "n": 2}"#),
    ];
    let mut payloads: Vec<&[u8]> = vec![
        br#"{"n":2}"#,
        b" \t\r\n{ \t\r\n\"n\" \t\r\n: \t\r\n2 \t\r\n} \t\r\n",
        br#"{"a": 1, "n": 2, "b": {"n": 3}}"#,
        br#"{"\u006e": 2}"#,
        br#"{"n": 1, "\u006E": 2}"#,
        br#"{"n": "x", "n": null, "n": 2}"#,
        br#"{"N": 1, "n ": 1, "\u006e\u0000": 1, "": 1, "n": 2}"#,
        br#"{"ignored": 1e999, "n": 2, "also": -0.0e-0}"#,
        br#"{"ignored": 123456789012345678901234567890, "n": 2}"#,
        br#"{"ignored": "\ud800", "n": 2}"#,
        br#"{"\ud800": "\udc00\ud800", "n": 2}"#,
        br#"{"\n": 1, "n": 2}"#,
        "{\"\u{7f}é\u{10ffff}\": \"\u{7f}é\u{10ffff}\", \"n\": 2}".as_bytes(),
        br#"{"n": 2, "requestContext": null}"#,
        br#"{"n": 2, "requestContext": {}, "queryStringParameters": {"n": "3"}, "body": "{}"}"#,
    ];
    payloads.extend(large.iter().map(Vec::as_slice));
    assert_replies(Ok(2), &payloads);
}

#[test]
fn takes_minus_zero_for_zero() {
    assert_replies(Ok(0), &[br#"{"n": -0}"#, br#"{"n": 0}"#]);
}

#[test]
fn requires_n() {
    let large = padded_to_6_mb("[", "0,", "0]");
    assert_replies(
        Err(REQUIRED),
        &[
            b"",
            b"{}",
            br#"{"N": 1}"#,
            br#"{"n": null}"#,
            br#"{"n": 1, "n": null}"#,
            br#"{"a": {"n": 1}}"#,
            b"null",
            b"true",
            b"false",
            b"10",
            b"-0.5e+7",
            b"1e999",
            br#""n""#,
            br#""\ud800""#,
            b"[]",
            br#"[{"n": 1}]"#,
            b" \t\r\nnull \t\r\n",
            &large,
        ],
    );
}

#[test]
fn refuses_what_is_not_an_integer() {
    let deep = format!(
        r#"{{"n": {}{}}}"#,
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert_replies(
        Err(NOT_AN_INTEGER),
        &[
            br#"{"n": "10"}"#,
            br#"{"n": ""}"#,
            br#"{"n": "\ud800"}"#,
            br#"{"n": true}"#,
            br#"{"n": false}"#,
            br#"{"n": []}"#,
            br#"{"n": [10]}"#,
            br#"{"n": {}}"#,
            br#"{"n": {"n": 10}}"#,
            br#"{"n": 10.0}"#,
            br#"{"n": 1e2}"#,
            br#"{"n": 1E2}"#,
            br#"{"n": 1e-2}"#,
            br#"{"n": -0.0}"#,
            br#"{"n": -1e0}"#,
            br#"{"n": 1e999}"#,
            br#"{"n": 1, "n": "1"}"#,
            deep.as_bytes(),
        ],
    );
}

#[test]
fn refuses_negative_integers_of_any_length() {
    let long = format!(r#"{{"n": -1{}}}"#, "0".repeat(4_400));
    let longest = padded_to_6_mb(r#"{"n": -"#, "9", "}");
    assert_replies(
        Err(NEGATIVE),
        &[
            br#"{"n": -1}"#,
            br#"{"n": -1000}"#,
            br#"{"n": -9223372036854775809}"#,
            long.as_bytes(),
            &longest,
        ],
    );
}

#[test]
fn refuses_integers_above_the_limit_of_any_length() {
    let long = format!(r#"{{"n": 1{}}}"#, "0".repeat(4_400));
    let longest = padded_to_6_mb(r#"{"n": "#, "9", "}");
    assert_replies(
        Err(TOO_LARGE),
        &[
            br#"{"n": 1001}"#,
            br#"{"n": 9999}"#,
            br#"{"n": 10000}"#,
            br#"{"n": 65536}"#,
            br#"{"n": 65546}"#,
            br#"{"n": 18446744073709551616}"#,
            long.as_bytes(),
            &longest,
        ],
    );
}

#[test]
fn refuses_what_is_not_json() {
    let mut payloads: Vec<Vec<u8>> = [
        "\u{feff}{\"n\": 1}",
        "\u{feff}",
        " ",
        "{",
        "}",
        r#"{"n": 1"#,
        r#"{"n": 1,}"#,
        r#"{"n": 1} {}"#,
        r#"{"n": 1}x"#,
        "{\"n\": 1}\0",
        "{n: 1}",
        "{'n': 1}",
        r#"{"n" 1}"#,
        r#"{"n": }"#,
        r#"{"n": 01}"#,
        r#"{"n": -01}"#,
        r#"{"n": +1}"#,
        r#"{"n": -}"#,
        r#"{"n": 1.}"#,
        r#"{"n": .5}"#,
        r#"{"n": 1e}"#,
        r#"{"n": 0x1}"#,
        r#"{"n": NaN}"#,
        r#"{"n": Infinity}"#,
        r#"{"n": -Infinity}"#,
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
        "nul",
        "True",
        "[1,]",
        "[1 2]",
        "\"",
        "01",
        "1 1",
    ]
    .map(|payload| payload.as_bytes().to_vec())
    .into();
    for hole in [
        &b"\xff{\"n\": 1}"[..],
        b"{\"n\": 1}\xff",
        b"{\"n\": 1, \"ignored\": \"\xff\"}",
        b"{\"n\": 1, \"\xff\": 1}",
        b"{\"n\": \"\xed\xa0\x80\"}",
        b"{\"n\": 1, \"ignored\": \"\xc0\x80\"}",
        b"{\"n\"\xff: 1}",
    ] {
        payloads.push(hole.to_vec());
    }
    // Nesting that is never closed.
    for start in ["[", r#"{"n": "#, r#"{"n": ["#, r#"{"ignored": [{"a": "#] {
        payloads.push(padded_to_6_mb(start, "[", ""));
    }
    payloads.push(padded_to_6_mb("", r#"{"n":"#, ""));
    payloads.push(padded_to_6_mb(r#"{"n": 1, "ignored": ""#, "x", ""));
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    assert_replies(Err(NOT_JSON), &payloads);
}

#[test]
fn reads_deeply_nested_and_repetitive_events() {
    let deep = format!(
        r#"{{"ignored": {}{}, "n": 2}}"#,
        r#"[{"a":"#.repeat(300_000) + "0",
        "}]".repeat(300_000)
    );
    let brackets = format!(
        r#"{{"n": 2, "ignored": {}{}}}"#,
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    let mut duplicates = String::from("{");
    for n in 0..500_000 {
        let _ = write!(duplicates, r#""n":{n},"#);
    }
    duplicates += r#""n":2}"#;
    assert_replies(
        Ok(2),
        &[deep.as_bytes(), brackets.as_bytes(), duplicates.as_bytes()],
    );
}
