//! Histograms of latencies, and their standard encoding: `HdrHistogram` V2, deflated, in base64.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize, de, ser};

/// Two hours: no reply takes that long.
const HIGHEST_MICROSECONDS: u64 = 7_200_000_000;

/// The length in bytes of a cookie and the length of what is deflated.
const PREFIX: usize = 8;
/// The length in bytes of the deflated header, which precedes the counts.
const HEADER: usize = 40;
/// The most bytes that one count takes.
const MAX_COUNT: usize = 9;

/// Latencies in microseconds, with this many significant digits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Latencies<T: Counter, const DIGITS: u8>(pub Histogram<T>);

impl<T: Counter, const DIGITS: u8> Default for Latencies<T, DIGITS> {
    fn default() -> Self {
        let empty = Histogram::new_with_bounds(1, HIGHEST_MICROSECONDS, DIGITS);
        Self(empty.expect("constant bounds, and few digits"))
    }
}

pub(crate) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl<T: Counter, const DIGITS: u8> Serialize for Latencies<T, DIGITS> {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .map_err(ser::Error::custom)?;
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }
}

impl<'de, T: Counter, const DIGITS: u8> Deserialize<'de> for Latencies<T, DIGITS> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        inflate::<T, DIGITS>(&text)
            .and_then(|inflated| restore(&inflated))
            .map_err(|error| de::Error::custom(format!("a histogram: {error:#}")))
    }
}

/// No more of it than the encoding of such a histogram can have.
fn inflate<T: Counter, const DIGITS: u8>(text: &str) -> Result<Vec<u8>> {
    let bytes = BASE64_STANDARD.decode(text).context("not base64")?;
    let deflated = bytes.get(PREFIX..).context("cut short")?;
    let longest = HEADER + Latencies::<T, DIGITS>::default().0.distinct_values() * MAX_COUNT;
    let mut inflated = Vec::new();
    ZlibDecoder::new(deflated)
        .take(longest as u64)
        .read_to_end(&mut inflated)
        .context("not deflated")?;
    Ok(inflated)
}

fn restore<T: Counter, const DIGITS: u8>(mut inflated: &[u8]) -> Result<Latencies<T, DIGITS>> {
    let counts = inflated.get(HEADER..).context("cut short")?;
    // The deserializer allocates as many bytes as the header says.
    let length = u32::from_be_bytes(inflated[4..8].try_into()?);
    ensure!(length as usize == counts.len(), "cut short or too long");
    let histogram = Deserializer::new().deserialize(&mut inflated)?;
    let bounds = |of: &Histogram<T>| (of.low(), of.high(), of.sigfig());
    ensure!(
        bounds(&histogram) == bounds(&Latencies::<T, DIGITS>::default().0),
        "its bounds and digits are not those of this load tester"
    );
    Ok(Latencies(histogram))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::V2Serializer;
    use serde_json::{Value, from_value, to_value};

    use super::*;

    fn sample() -> Latencies<u64, 3> {
        let mut latencies = Latencies::default();
        for value in [1, 1, 50, 1_000, 123_456, HIGHEST_MICROSECONDS] {
            latencies.0.record(value).unwrap();
        }
        latencies
    }

    #[test]
    fn decodes_what_it_encodes_and_names_bounds_that_differ() {
        let encoded = to_value(sample()).unwrap();
        let decoded: Latencies<u64, 3> = from_value(encoded.clone()).unwrap();
        assert_eq!(decoded, sample());

        let fewer_digits = from_value::<Latencies<u64, 2>>(encoded).unwrap_err();
        let other = Histogram::new_with_bounds(1, 1_000, 3).unwrap();
        let other: Value = to_value(Latencies::<u64, 3>(other)).unwrap();
        let lower = from_value::<Latencies<u64, 3>>(other).unwrap_err();
        for error in [fewer_digits, lower].map(|error| error.to_string()) {
            assert!(error.starts_with("a histogram: its bounds"), "{error}");
        }
    }

    #[test]
    fn refuses_or_survives_every_damaged_byte() {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(&sample().0, &mut bytes)
            .unwrap();
        for index in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[index] ^= change;
                let restored = restore::<u64, 3>(&damaged);
                if (4..8).contains(&index) {
                    let error = restored.unwrap_err().to_string();
                    assert_eq!(error, "cut short or too long");
                }
            }
            let cut = restore::<u64, 3>(&bytes[..index]);
            assert!(cut.is_err(), "{index}");
        }
    }
}
