//! An independent reading of events: RFC 8259 by hand, integers of any size, and other decoders.

use fibonacci_generator::event::{self, InvalidEvent};
use fibonacci_generator::sequence::Index;
use num_bigint::BigInt;
use serde::de::IgnoredAny;

/// Asserts that the function reads this payload as this file does, and that `serde_json` agrees on
/// what is JSON.
pub(crate) fn check(payload: &[u8]) {
    let shown = payload.escape_ascii();
    assert_eq!(event::parse(payload), read(payload), "{shown}");
    let is_json = str::from_utf8(payload)
        .is_ok_and(|payload| serde_json::from_str::<IgnoredAny>(payload).is_ok());
    assert_eq!(json(payload).is_some(), is_json, "{shown}");
}

pub(crate) fn read(payload: &[u8]) -> Result<Index, InvalidEvent> {
    let event = read_json(payload)?;
    let context = match event.member("requestContext") {
        Some(context @ Json::Object(_)) if event.member("n").is_none() => context,
        _ => return direct(&event),
    };

    let decode = |text: &str| match context.member("elb") {
        Some(_) => urlencoding::decode_binary(text.as_bytes()).into_owned(),
        None => text.as_bytes().to_vec(),
    };
    let parameter = |query| event.member(query)?.last(|key| decode(key) == b"n");
    let single = parameter("queryStringParameters").and_then(|value| match value {
        Json::Array(elements) => elements.last(),
        value => Some(value),
    });
    let multiple = parameter("multiValueQueryStringParameters").and_then(|value| match value {
        Json::Array(elements) => elements.last(),
        _ => None,
    });
    for candidate in [single, multiple].into_iter().flatten() {
        if let Json::String(text) = candidate {
            let text = decode(text.as_ref().ok_or(InvalidEvent::NotAnInteger)?);
            if !text.is_empty() {
                return integer(&String::from_utf8_lossy(&text));
            }
        }
    }

    let body = match event.member("body") {
        Some(Json::String(text)) => text.as_ref().ok_or(InvalidEvent::NotJson)?,
        _ => "",
    };
    let body = match event.member("isBase64Encoded") {
        Some(Json::Other("true")) => base64_simd::STANDARD.decode_to_vec(body),
        _ => Ok(body.into()),
    };
    direct(&read_json(&body.map_err(|_| InvalidEvent::NotJson)?)?)
}

fn direct(event: &Json) -> Result<Index, InvalidEvent> {
    match event.member("n") {
        None | Some(Json::Other("null")) => Err(InvalidEvent::MissingIndex),
        Some(Json::Other(text)) => integer(text),
        Some(_) => Err(InvalidEvent::NotAnInteger),
    }
}

fn integer(text: &str) -> Result<Index, InvalidEvent> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !is_digits(digits) {
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

fn read_json(payload: &[u8]) -> Result<Json<'_>, InvalidEvent> {
    if payload.is_empty() {
        return Err(InvalidEvent::MissingIndex);
    }
    json(payload).ok_or(InvalidEvent::NotJson)
}

const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

enum Json<'a> {
    Object(Vec<(Option<String>, Self)>),
    Array(Vec<Self>),
    /// `None` if it has a lone surrogate.
    String(Option<String>),
    /// A number or a literal name, as it stands there.
    Other(&'a str),
}

impl Json<'_> {
    /// The value of the last member with this name.
    fn member(&self, name: &str) -> Option<&Self> {
        self.last(|key| key == name)
    }

    /// The value of the last member with such a name.
    fn last(&self, is_name: impl Fn(&str) -> bool) -> Option<&Self> {
        let Json::Object(members) = self else {
            return None;
        };
        let mut members = members.iter().rev();
        let found = members.find(|(key, _)| key.as_deref().is_some_and(&is_name));
        found.map(|(_, value)| value)
    }
}

/// `None` if it is not a JSON text.
fn json(text: &[u8]) -> Option<Json<'_>> {
    let mut rest = str::from_utf8(text).ok()?;
    let value = value(&mut rest)?;
    rest.is_empty().then_some(value)
}

/// Takes a value from the start of `rest`, and the white space around it.
fn value<'a>(rest: &mut &'a str) -> Option<Json<'a>> {
    *rest = rest.trim_start_matches(SPACE);
    let value = if take(rest, "{") {
        Json::Object(elements(rest, "}", member)?)
    } else if take(rest, "[") {
        Json::Array(elements(rest, "]", value)?)
    } else if let Some(quoted) = rest.strip_prefix('"') {
        *rest = quoted;
        string(rest)?
    } else {
        let end = rest.find([' ', '\t', '\n', '\r', ',', ']', '}']);
        let (other, after) = rest.split_at(end.unwrap_or(rest.len()));
        *rest = after;
        if !matches!(other, "null" | "true" | "false") && !is_number(other) {
            return None;
        }
        Json::Other(other)
    };
    *rest = rest.trim_start_matches(SPACE);
    Some(value)
}

fn member<'a>(rest: &mut &'a str) -> Option<(Option<String>, Json<'a>)> {
    match value(rest)? {
        Json::String(key) if take(rest, ":") => Some((key, value(rest)?)),
        _ => None,
    }
}

/// What stands before this bracket, between commas.
fn elements<'a, T>(
    rest: &mut &'a str,
    end: &str,
    element: fn(&mut &'a str) -> Option<T>,
) -> Option<Vec<T>> {
    let mut elements = Vec::new();
    while !take(rest, end) {
        if !elements.is_empty() && !take(rest, ",") {
            return None;
        }
        elements.push(element(rest)?);
    }
    Some(elements)
}

/// What stands before a quotation mark.
fn string<'a>(rest: &mut &str) -> Option<Json<'a>> {
    let mut units = Vec::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => units.push(match chars.next()? {
                'b' => 8,
                't' => 9,
                'n' => 10,
                'f' => 12,
                'r' => 13,
                'u' => {
                    let digit = |unit: u32, _| Some(unit << 4 | chars.next()?.to_digit(16)?);
                    u16::try_from((0..4).try_fold(0, digit)?).unwrap()
                }
                itself @ ('"' | '\\' | '/') => itself as u16,
                _ => return None,
            }),
            ..' ' => return None,
            c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
        }
    }
    *rest = chars.as_str();
    Some(Json::String(String::from_utf16(&units).ok()))
}

fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = [
        integer,
        fraction,
        exponent.strip_prefix(['+', '-']).unwrap_or(exponent),
    ];
    digits.into_iter().all(is_digits) && (integer == "0" || !integer.starts_with('0'))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes this, if `rest` begins with it, and the white space behind it.
fn take(rest: &mut &str, token: &str) -> bool {
    let after = rest.strip_prefix(token);
    if let Some(after) = after {
        *rest = after.trim_start_matches(SPACE);
    }
    after.is_some()
}
