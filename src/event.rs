//! What an event asks for: its payload read as an [`Index`], or what is wrong with it.

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::sequence::Index;

/// Why an event is refused.
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

/// Reads the payload of a direct invocation (`{"n": 10}`) or the HTTP event of a Function URL, an
/// API Gateway API or an Application Load Balancer: an object with a `requestContext` object and
/// without `n`, whose query (`?n=10`), or else body (`{"n": 10}`), holds `n`.
///
/// Takes time linear in the payload and constant stack.
///
/// # Errors
///
/// What is wrong with the event, for the reply to the caller.
pub fn parse(payload: &[u8]) -> Result<Index, InvalidEvent> {
    let [n, request_context, query, multi_value_query, body, base64] = members(
        payload,
        [
            "n",
            "requestContext",
            "queryStringParameters",
            "multiValueQueryStringParameters",
            "body",
            "isBase64Encoded",
        ],
    )?;
    if n.is_some() || !request_context.is_some_and(|value| value.starts_with('{')) {
        return direct(n);
    }

    let [single] = members(query.unwrap_or_default().as_bytes(), ["n"])?;
    let [multiple] = members(multi_value_query.unwrap_or_default().as_bytes(), ["n"])?;
    let given = |value| string(value).filter(|text| !text.is_empty());
    if let Some(n) = single
        .and_then(given)
        .or_else(|| multiple.and_then(last_element).and_then(given))
    {
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
    let [n] = members(body, ["n"])?;
    direct(n)
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
    // What does not fit a u16 is too large all the same.
    let magnitude = digits.parse().unwrap_or(u16::MAX);
    if magnitude > 0 && digits.len() < text.len() {
        return Err(InvalidEvent::Negative);
    }
    Index::new(magnitude).ok_or(InvalidEvent::TooLarge)
}

/// The text of a JSON string, `None` for a value of another type.
fn string(value: &str) -> Option<Cow<'_, str>> {
    let quoted = value.strip_prefix('"')?.strip_suffix('"')?;
    if !quoted.contains('\\') {
        return Some(Cow::Borrowed(quoted));
    }
    // A lone surrogate has no UTF-8; like its stand-in it is part of no integer and of no base64,
    // and a body that holds it unescaped is not JSON.
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

/// The values of an object's members of these `names`, each as it stands in `json`; of duplicates
/// the last. An empty `json`, and one that is not an object, has none.
fn members<'de, const N: usize>(
    json: &'de [u8],
    names: [&str; N],
) -> Result<[Option<&'de str>; N], InvalidEvent> {
    if json.is_empty() {
        return Ok([None; N]);
    }
    let json = str::from_utf8(json).map_err(|_| InvalidEvent::NotJson)?;
    let is_object = json
        .trim_start_matches([' ', '\t', '\n', '\r'])
        .starts_with('{');

    let mut values = [None; N];
    let mut is_valid = false;
    if is_object {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let keys_are_valid = deserializer
            .deserialize_map(Members(&names, &mut values))
            .and_then(|keys_are_valid| deserializer.end().map(|()| keys_are_valid));
        is_valid = keys_are_valid.map_err(|_| InvalidEvent::NotJson)?;
    }
    if !is_valid {
        serde_json::from_str::<IgnoredAny>(json).map_err(|_| InvalidEvent::NotJson)?;
    }
    Ok(values)
}

/// Fills in the values of the members of these names, and tells whether every key is valid for
/// certain. A key is taken as bytes, since it may hold a lone surrogate; `serde_json` then does
/// not refuse an unescaped control character, which RFC 8259 forbids.
struct Members<'a, 'de>(&'a [&'a str], &'a mut [Option<&'de str>]);

impl<'de> Visitor<'de> for Members<'_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<bool, A::Error> {
        let Self(names, values) = self;
        let mut keys_are_valid = true;
        while let Some(key) = object.next_key_seed(Key(names))? {
            keys_are_valid &= !key.has_control_character;
            if let Some(position) = key.position {
                values[position] = Some(object.next_value::<&RawValue>()?.get());
            } else {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(keys_are_valid)
    }
}

/// Finds a key among these names.
struct Key<'a>(&'a [&'a str]);

struct FoundKey {
    position: Option<usize>,
    has_control_character: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = FoundKey;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<FoundKey, D::Error> {
        key.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = FoundKey;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<FoundKey, E> {
        Ok(FoundKey {
            position: self.0.iter().position(|name| name.as_bytes() == key),
            has_control_character: key.iter().any(u8::is_ascii_control),
        })
    }
}
