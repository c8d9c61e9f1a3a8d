//! Histograms of microseconds, and their standard encoding: `HdrHistogram` V2, deflated, in base64.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use hdrhistogram::{Counter, CreationError, Histogram};

/// Two hours: no reply takes that long.
const HIGHEST_MICROSECONDS: u64 = 7_200_000_000;

/// The length in bytes of a cookie and the length of what is deflated.
const PREFIX: usize = 8;
/// The length in bytes of the deflated header, which precedes the counts.
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
    let deflated = bytes.get(PREFIX..).context("cut short")?;
    let empty = new::<T>(significant_digits)?;
    let longest = HEADER + empty.distinct_values() * MAX_COUNT;
    let mut inflated = Vec::new();
    let decoder = ZlibDecoder::new(deflated);
    decoder
        .take(longest as u64)
        .read_to_end(&mut inflated)
        .context("not deflated")?;
    let counts = inflated.get(HEADER..).context("cut short")?;
    // The decoder allocates as many bytes as the header says.
    let length = u32::from_be_bytes(inflated[4..8].try_into()?);
    ensure!(length as usize == counts.len(), "cut short or too long");
    let histogram = Deserializer::new().deserialize(&mut inflated.as_slice())?;
    let bounds = |of: &Histogram<T>| (of.low(), of.high(), of.sigfig());
    ensure!(
        bounds(&histogram) == bounds(&empty),
        "its bounds and digits are not those of this load tester"
    );
    Ok(histogram)
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
        for (histogram, digits) in [(other, 3), (sample(), 2)] {
            let error = decode::<u64>(&encode(&histogram).unwrap(), digits).unwrap_err();
            assert!(error.to_string().starts_with("its bounds"), "{error}");
        }
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
