//! Reads an event: the [`Index`] that it asks for, or why it is invalid.

use std::borrow::Cow;
use std::convert::identity;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::percent_decode_str;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::sequence::Index;

/// Why an event is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidEvent {
    /// The payload is not a JSON text (RFC 8259, in UTF-8).
    NotJson,
    /// There is no `n`, or it is null; or the event is not an object.
    MissingIndex,
    /// `n` is of another type, or a number with a fraction or an exponent.
    NotAnInteger,
    /// `n` is below 0.
    Negative,
    /// `n` is above [`MAX_INDEX`](crate::sequence::MAX_INDEX).
    TooLarge,
}

impl InvalidEvent {
    /// The message for the caller.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::NotJson => "Input must be valid JSON",
            Self::MissingIndex => "Input parameter 'n' is required",
            Self::NotAnInteger => "Input must be an integer",
            Self::Negative => "Input must be a non-negative integer",
            Self::TooLarge => "Input must not exceed 1000",
        }
    }
}

impl fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for InvalidEvent {}

/// Reads the payload of a direct invocation (`{"n": 10}`), or an HTTP event: an object that has a
/// `requestContext` object and no `n`. Its query (`?n=10`), or else its body (`{"n": 10}`), has `n`.
///
/// HTTP events come from Function URLs, API Gateway, Application Load Balancers and VPC Lattice.
///
/// Takes time linear in the payload and constant stack.
///
/// # Errors
///
/// Returns why the event is invalid.
pub fn parse(payload: &[u8]) -> Result<Index, InvalidEvent> {
    let [n, context, query, multi_value_query, body, base64] = members(
        payload,
        [
            "n",
            "requestContext",
            "queryStringParameters",
            "multiValueQueryStringParameters",
            "body",
            "isBase64Encoded",
        ],
        identity,
    )?;
    let Some(context) = context.filter(|context| n.is_none() && context.starts_with('{')) else {
        return direct(n);
    };

    let [load_balancer] = members(context.as_bytes(), ["elb"], identity)?;
    let n = if load_balancer.is_some() {
        query_parameter(query, multi_value_query, percent_decoded)
    } else {
        query_parameter(query, multi_value_query, identity)
    };
    if let Some(n) = n? {
        return integer(&n);
    }
    let body = body.and_then(string).unwrap_or_default();
    let decoded;
    let body = if base64 == Some("true") {
        decoded = BASE64_STANDARD.decode(&*body);
        decoded.as_deref().map_err(|_| InvalidEvent::NotJson)?
    } else {
        body.as_bytes()
    };
    let [n] = members(body, ["n"], identity)?;
    direct(n)
}

/// The query parameter `n`; `None` if there is none, or an empty one.
fn query_parameter<'de>(
    query: Option<&'de str>,
    multi_value_query: Option<&'de str>,
    decode: impl Fn(Cow<'de, str>) -> Cow<'de, str>,
) -> Result<Option<Cow<'de, str>>, InvalidEvent> {
    let find = |parameters: Option<&'de str>| {
        let parameters = parameters.unwrap_or_default().as_bytes();
        members(parameters, ["n"], &decode).map(|[n]| n)
    };
    let given = |value| string(value).map(&decode).filter(|text| !text.is_empty());
    // VPC Lattice has arrays in this member, too.
    let last_or_only = |value: &'de str| match value.as_bytes() {
        [b'[', ..] => last_element(value),
        _ => Some(value),
    };
    if let Some(n) = find(query)?.and_then(last_or_only).and_then(given) {
        return Ok(Some(n));
    }
    Ok(find(multi_value_query)?
        .and_then(last_element)
        .and_then(given))
}

/// A load balancer leaves it to the function to decode the query:
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html>.
fn percent_decoded(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => percent_decode_str(text).decode_utf8_lossy(),
        Cow::Owned(text) => Cow::Owned(percent_decode_str(&text).decode_utf8_lossy().into()),
    }
}

/// Reads the value of a direct event's `n`.
fn direct(n: Option<&str>) -> Result<Index, InvalidEvent> {
    match n {
        None | Some("null") => Err(InvalidEvent::MissingIndex),
        Some(value) => integer(value),
    }
}

/// Reads `-?[0-9]+` of any length; leading zeros and `-0` are allowed.
fn integer(text: &str) -> Result<Index, InvalidEvent> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidEvent::NotAnInteger);
    }
    // Anything that overflows u16 is too large anyway.
    let magnitude = digits.parse().unwrap_or(u16::MAX);
    if magnitude > 0 && digits.len() < text.len() {
        return Err(InvalidEvent::Negative);
    }
    Index::new(magnitude).ok_or(InvalidEvent::TooLarge)
}

/// The text of a JSON string, `None` for a value of another type.
fn string(value: &str) -> Option<Cow<'_, str>> {
    let quoted = value.strip_prefix('"')?.strip_suffix('"')?;
    if !quoted.as_bytes().contains(&b'\\') {
        return Some(Cow::Borrowed(quoted));
    }
    // A lone surrogate cannot be UTF-8. U+FFFD stands in for it: neither is valid in an integer, in
    // base64 or, unescaped, in JSON.
    Some(Cow::Owned(
        serde_json::from_str(value).unwrap_or_else(|_| char::REPLACEMENT_CHARACTER.to_string()),
    ))
}

/// The last element of a JSON array, `None` for an empty one or a value of another type.
fn last_element(value: &str) -> Option<&str> {
    struct LastElement;

    impl<'de> Visitor<'de> for LastElement {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut last = None;
            while let Some(element) = array.next_element()? {
                last = Some(element);
            }
            Ok(last)
        }
    }

    let last = serde_json::Deserializer::from_str(value).deserialize_seq(LastElement);
    last.ok()?.map(RawValue::get)
}

/// The values of an object's members that have these names when their keys are decoded, each as it
/// stands in `json`. The last of duplicates counts. An empty `json`, and one that is not an object,
/// has none.
fn members<'de, const N: usize>(
    json: &'de [u8],
    names: [&str; N],
    decode: impl Fn(Cow<'de, str>) -> Cow<'de, str>,
) -> Result<[Option<&'de str>; N], InvalidEvent> {
    if json.is_empty() {
        return Ok([None; N]);
    }
    let json = str::from_utf8(json).map_err(|_| InvalidEvent::NotJson)?;
    let values = if json.trim_ascii_start().starts_with('{') {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        deserializer
            .deserialize_map(Members { names, decode })
            .and_then(|values| deserializer.end().map(|()| values))
    } else {
        serde_json::from_str::<IgnoredAny>(json).map(|_| [None; N])
    };
    values.map_err(|_| InvalidEvent::NotJson)
}

struct Members<'a, const N: usize, F> {
    names: [&'a str; N],
    decode: F,
}

impl<'de, const N: usize, F> Visitor<'de> for Members<'_, N, F>
where
    F: Fn(Cow<'de, str>) -> Cow<'de, str>,
{
    type Value = [Option<&'de str>; N];

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        // A `String` cannot hold a key with a lone surrogate.
        while let Some(key) = object.next_key::<&RawValue>()? {
            let key = (self.decode)(string(key.get()).unwrap_or_default());
            if let Some(position) = self.names.iter().position(|name| key == *name) {
                values[position] = Some(object.next_value::<&RawValue>()?.get());
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}
