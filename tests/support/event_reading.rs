//! An independent reading of events: RFC 8259 by hand, strings as UTF-16, integers of any size.

use fibonacci_generator::event::{self, InvalidEvent};
use fibonacci_generator::sequence::Index;
use num_bigint::BigInt;
use serde::de::IgnoredAny;

/// Asserts that the function reads this payload as this file does, and that `serde_json` agrees on
/// what is JSON.
pub(crate) fn check(payload: &[u8]) {
    let shown = payload.escape_ascii();
    let event = json(payload);
    let parsed = event::parse(payload);
    assert_eq!(parsed, read_json(payload, event), "{shown}");

    let is_json = str::from_utf8(payload)
        .is_ok_and(|payload| serde_json::from_str::<IgnoredAny>(payload).is_ok());
    assert_eq!(event.is_some(), is_json, "{shown}");
    // The body of an HTTP event has a verdict of its own.
    if !payload.is_empty() && !event.is_some_and(is_http) {
        assert_eq!(parsed == Err(InvalidEvent::NotJson), !is_json, "{shown}");
    }
}

#[allow(dead_code, reason = "the fuzz targets check alone")]
pub(crate) fn read(payload: &[u8]) -> Result<Index, InvalidEvent> {
    read_json(payload, json(payload))
}

fn read_json(payload: &[u8], event: Option<&[u8]>) -> Result<Index, InvalidEvent> {
    if payload.is_empty() {
        return Err(InvalidEvent::MissingIndex);
    }
    let event = event.ok_or(InvalidEvent::NotJson)?;
    if !is_http(event) {
        return direct(event);
    }

    let context = member(event, "requestContext").unwrap_or(b"{}");
    let decode = if member(context, "elb").is_some() {
        percent_decoded
    } else {
        |text: &str| text.as_bytes().to_vec()
    };
    let parameter = |query: &str| {
        let is_n = |key: &[u16]| String::from_utf16(key).is_ok_and(|key| decode(&key) == b"n");
        member_where(member(event, query)?, is_n)
    };
    let last_or_only = |value| last_element(value).or((value[0] != b'[').then_some(value));
    let single = parameter("queryStringParameters").and_then(last_or_only);
    let multiple = parameter("multiValueQueryStringParameters").and_then(last_element);
    for candidate in [single, multiple].into_iter().flatten() {
        let text = string(candidate).map(|units| decode(&String::from_utf16_lossy(&units)));
        match text {
            Some(text) if !text.is_empty() => return integer(&String::from_utf8_lossy(&text)),
            _ => {}
        }
    }

    let body = member(event, "body").and_then(string).unwrap_or_default();
    let body = String::from_utf16(&body).map_err(|_| InvalidEvent::NotJson)?;
    let body = match member(event, "isBase64Encoded") {
        Some(b"true") => base64(body.as_bytes()).ok_or(InvalidEvent::NotJson)?,
        _ => body.into_bytes(),
    };
    if body.is_empty() {
        return Err(InvalidEvent::MissingIndex);
    }
    direct(json(&body).ok_or(InvalidEvent::NotJson)?)
}

fn is_http(event: &[u8]) -> bool {
    member(event, "n").is_none()
        && member(event, "requestContext").is_some_and(|context| context[0] == b'{')
}

fn direct(event: &[u8]) -> Result<Index, InvalidEvent> {
    match member(event, "n") {
        None | Some(b"null") => Err(InvalidEvent::MissingIndex),
        Some(value) => integer(str::from_utf8(value).unwrap()),
    }
}

fn integer(text: &str) -> Result<Index, InvalidEvent> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.contains(|c: char| !c.is_ascii_digit()) {
        return Err(InvalidEvent::NotAnInteger);
    }
    let number: BigInt = text.parse().unwrap();
    if number < BigInt::ZERO {
        return Err(InvalidEvent::Negative);
    }
    if number > BigInt::from(1000) {
        return Err(InvalidEvent::TooLarge);
    }
    Ok(Index::new(number.try_into().unwrap()).unwrap())
}

/// RFC 4648 §4, with padding, and the unused bits zero.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bits = Vec::new();
    for byte in &text[..text.len() - padding] {
        let value = ALPHABET.iter().position(|other| other == byte)?;
        bits.extend((0..6).rev().map(|bit| u8::from(value >> bit & 1 == 1)));
    }
    let (bytes, unused) = bits.as_chunks::<8>();
    if unused.contains(&1) {
        return None;
    }
    let byte = |bits: &[u8; 8]| bits.iter().fold(0, |byte, bit| byte << 1 | bit);
    Some(bytes.iter().map(byte).collect())
}

/// The one value of a JSON text, without the white space around it.
fn json(text: &[u8]) -> Option<&[u8]> {
    str::from_utf8(text).ok()?;
    let start = skip_space(text, 0);
    let end = value_end(text, start)?;
    (skip_space(text, end) == text.len()).then(|| &text[start..end])
}

/// RFC 3986 §2.1; a percent sign without two digits stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let escaped = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            decoded.push(u8::try_from(high << 4 | low).unwrap());
            rest = &after[2..];
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    decoded
}

/// The value of the last member with this name; `None` if the value is not an object.
fn member<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    member_where(value, |key| name.encode_utf16().eq(key.iter().copied()))
}

/// The value of the last member with such a key; `None` if the value is not an object.
fn member_where(value: &[u8], is_one: impl Fn(&[u16]) -> bool) -> Option<&[u8]> {
    let mut found = None;
    if value[0] == b'{' {
        let mut at = skip_space(value, 1);
        while value[at] != b'}' {
            let start = key_end(value, at)?;
            let end = value_end(value, start)?;
            if is_one(&string(&value[at..string_end(value, at)?])?) {
                found = Some(&value[start..end]);
            }
            at = skip_space(value, end);
            if value[at] == b',' {
                at = skip_space(value, at + 1);
            }
        }
    }
    found
}

fn last_element(value: &[u8]) -> Option<&[u8]> {
    let mut last = None;
    if value[0] == b'[' {
        let mut at = skip_space(value, 1);
        while value[at] != b']' {
            let end = value_end(value, at)?;
            last = Some(&value[at..end]);
            at = skip_space(value, end);
            if value[at] == b',' {
                at = skip_space(value, at + 1);
            }
        }
    }
    last
}

/// The UTF-16 code units that a JSON string stands for; `None` for a value of another type.
fn string(value: &[u8]) -> Option<Vec<u16>> {
    let quoted = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut units = Vec::new();
    let mut chars = str::from_utf8(quoted).unwrap().chars();
    while let Some(c) = chars.next() {
        let unit = match c {
            '\\' => match chars.next()? {
                'b' => 8,
                't' => 9,
                'n' => 10,
                'f' => 12,
                'r' => 13,
                'u' => {
                    let digits = (&mut chars)
                        .take(4)
                        .map(|digit| digit.to_digit(16).unwrap());
                    digits.fold(0, |unit, digit| unit << 4 | u16::try_from(digit).unwrap())
                }
                itself => itself as u16,
            },
            c => {
                units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
                continue;
            }
        };
        units.push(unit);
    }
    Some(units)
}

/// Where the value ends that begins here, however deeply it nests.
fn value_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut open = Vec::new();
    loop {
        at = match *text.get(at)? {
            bracket @ (b'{' | b'[') => {
                at = skip_space(text, at + 1);
                if *text.get(at)? == bracket + 2 {
                    at + 1
                } else {
                    open.push(bracket);
                    if bracket == b'{' {
                        at = key_end(text, at)?;
                    }
                    continue;
                }
            }
            b'"' => string_end(text, at)?,
            b'n' => literal_end(text, at, b"null")?,
            b't' => literal_end(text, at, b"true")?,
            b'f' => literal_end(text, at, b"false")?,
            _ => number_end(text, at)?,
        };
        loop {
            let Some(bracket) = open.last() else {
                return Some(at);
            };
            at = skip_space(text, at);
            let next = *text.get(at)?;
            at += 1;
            if next == b',' {
                at = skip_space(text, at);
                if *bracket == b'{' {
                    at = key_end(text, at)?;
                }
                break;
            }
            if next != bracket + 2 {
                return None;
            }
            open.pop();
        }
    }
}

/// Where the value begins whose key begins here.
fn key_end(text: &[u8], at: usize) -> Option<usize> {
    let colon = skip_space(text, string_end(text, at)?);
    (*text.get(colon)? == b':').then(|| skip_space(text, colon + 1))
}

fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut rest = text.get(at..)?.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(text.len() - rest.len()),
            [b'\\', b'u', a, b, c, d, rest @ ..]
                if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) =>
            {
                rest
            }
            [b'\\', escaped, rest @ ..] if br#""\/bfnrt"#.contains(escaped) => rest,
            [b'\\' | ..0x20, ..] | [] => return None,
            [_, rest @ ..] => rest,
        };
    }
}

fn literal_end(text: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    text[at..].starts_with(literal).then(|| at + literal.len())
}

fn number_end(text: &[u8], mut at: usize) -> Option<usize> {
    let is = |at, these: &[u8]| text.get(at).is_some_and(|byte| these.contains(byte));
    let digits_end = |mut at| {
        let start = at;
        while is(at, b"0123456789") {
            at += 1;
        }
        (at > start).then_some(at)
    };
    if is(at, b"-") {
        at += 1;
    }
    at = if is(at, b"0") {
        at + 1
    } else {
        digits_end(at)?
    };
    if is(at, b".") {
        at = digits_end(at + 1)?;
    }
    if is(at, b"eE") {
        at += 1;
        if is(at, b"+-") {
            at += 1;
        }
        at = digits_end(at)?;
    }
    Some(at)
}

fn skip_space(text: &[u8], at: usize) -> usize {
    let space = text[at..]
        .iter()
        .take_while(|byte| b" \t\n\r".contains(byte));
    at + space.count()
}
