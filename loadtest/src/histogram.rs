//! Histograms of microseconds, and their standard encoding: `HdrHistogram` V2, deflated, in base64.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use hdrhistogram::{Counter, CreationError, Histogram};

/// Two hours: no reply takes that long.
const HIGHEST_MICROSECONDS: u64 = 7_200_000_000;

/// The first bytes of an encoded histogram. Its length follows, and then, deflated, another cookie,
/// header and the counts.
const DEFLATED_V2: [u8; 4] = [0x1c, 0x84, 0x93, 0x14];
/// The length in bytes of the header, which precedes the counts.
const HEADER: usize = 40;
/// The most bytes that one count takes.
const MAX_COUNT: usize = 9;

pub(crate) fn new<T: Counter>(significant_digits: u8) -> Result<Histogram<T>, CreationError> {
    Histogram::new_with_bounds(1, HIGHEST_MICROSECONDS, significant_digits)
}

pub(crate) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn encode<T: Counter>(histogram: &Histogram<T>) -> Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes)?;
    Ok(BASE64_STANDARD.encode(bytes))
}

/// # Errors
///
/// If the text is not such an encoding, or the bounds are not those that [`new`] sets.
pub(crate) fn decode<T: Counter>(text: &str, significant_digits: u8) -> Result<Histogram<T>> {
    let bytes = BASE64_STANDARD.decode(text).context("not base64")?;
    let (cookie, deflated) = bytes.split_at_checked(8).context("cut short")?;
    ensure!(
        cookie.starts_with(&DEFLATED_V2),
        "not version 2 of the encoding, deflated"
    );
    let empty = new::<T>(significant_digits)?;
    let longest = HEADER + empty.distinct_values() * MAX_COUNT;
    let mut inflated = Vec::new();
    let decoder = ZlibDecoder::new(deflated);
    decoder
        .take(longest as u64)
        .read_to_end(&mut inflated)
        .context("not deflated")?;
    let header = inflated.get(..HEADER).context("cut short")?;
    // Check the bounds first, because the decoder allocates as much as they ask for.
    let number = |bytes: std::ops::Range<usize>| {
        header[bytes]
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (length, digits, low, high) =
        (number(4..8), number(12..16), number(16..24), number(24..32));
    if (low, high, digits) != (empty.low(), empty.high(), significant_digits.into()) {
        bail!(
            "its bounds are {low} to {high} microseconds with {digits} digits, not {} to {} with {significant_digits}",
            empty.low(),
            empty.high()
        );
    }
    ensure!(
        length == (inflated.len() - HEADER) as u64,
        "cut short or too long"
    );
    Ok(Deserializer::new().deserialize(&mut inflated.as_slice())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Histogram<u64> {
        let mut histogram = new(3).unwrap();
        for value in [1, 1, 50, 1_000, 123_456, HIGHEST_MICROSECONDS] {
            histogram.record(value).unwrap();
        }
        histogram
    }

    #[test]
    fn decodes_what_it_encodes() {
        assert_eq!(
            decode::<u64>(&encode(&sample()).unwrap(), 3).unwrap(),
            sample()
        );
    }

    #[test]
    fn names_bounds_that_differ() {
        let mut other = Histogram::<u64>::new_with_bounds(1, 1_000, 3).unwrap();
        other.record(7).unwrap();
        let error = decode::<u64>(&encode(&other).unwrap(), 3)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("its bounds are 1 to 1000 microseconds"),
            "{error}"
        );
        let error = decode::<u64>(&encode(&sample()).unwrap(), 2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("with 3 digits"), "{error}");
    }

    #[test]
    fn refuses_or_survives_every_damaged_byte() {
        let bytes = BASE64_STANDARD.decode(encode(&sample()).unwrap()).unwrap();
        for index in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[index] ^= change;
                let _ = decode::<u64>(&BASE64_STANDARD.encode(damaged), 3);
            }
            assert!(
                decode::<u64>(&BASE64_STANDARD.encode(&bytes[..index]), 3).is_err(),
                "{index}"
            );
        }
    }
}
