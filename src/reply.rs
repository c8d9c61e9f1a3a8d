//! The bytes of a reply, borrowed from the binary.
//!
//! A reply is a JSON object in the shape that Lambda's proxy integrations unwrap, with the spaces
//! that Python's `json.dumps` writes:
//!
//! ```
//! use fibonacci_generator::{event, reply};
//!
//! assert_eq!(
//!     reply::slices(event::parse(br#"{"n": 3}"#)).concat(),
//!     br#"{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{\"n\": 3, \"sequence\": [0, 1, 1, 2]}"}"#
//! );
//! ```

use crate::event::InvalidEvent;
use crate::sequence::{self, Index, MAX_INDEX};

const BEFORE_INDEX: &[u8] =
    br#"{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{\"n\": "#;
const AFTER_INDEX: &[u8] = br#", \"sequence\": ["#;
const AFTER_SEQUENCE: &[u8] = br#"]}"}"#;

const BEFORE_MESSAGE: &[u8] =
    br#"{"statusCode": 400, "headers": {"Content-Type": "application/json"}, "body": "{\"error\": \""#;
const AFTER_MESSAGE: &[u8] = br#"\"}"}"#;

/// The reply for an index, or to an event that is invalid: three slices, to be sent one after the
/// other.
#[must_use]
pub fn slices(parsed: Result<Index, InvalidEvent>) -> [&'static [u8]; 3] {
    match parsed {
        Ok(index) => {
            let head = &HEADS[index.as_usize()];
            let prefix = sequence::prefix(index).as_bytes();
            [&head.bytes[..head.len], prefix, AFTER_SEQUENCE]
        }
        Err(invalid) => [BEFORE_MESSAGE, invalid.message().as_bytes(), AFTER_MESSAGE],
    }
}

/// What comes before the first term in the reply for each index. They are larger than the table
/// itself, 120 KB against 107 KB, and only those that are used are ever read from disk.
#[allow(long_running_const_eval, reason = "with a much larger MAX_INDEX")]
static HEADS: [Head; MAX_INDEX as usize + 1] = {
    let mut heads = [Head::EMPTY; MAX_INDEX as usize + 1];
    let mut index = 0;
    while index < heads.len() {
        heads[index].push(BEFORE_INDEX);
        heads[index].push_decimal(index);
        heads[index].push(AFTER_INDEX);
        index += 1;
    }
    heads
};

#[derive(Clone, Copy)]
struct Head {
    bytes: [u8; BEFORE_INDEX.len() + 4 + AFTER_INDEX.len()],
    len: usize,
}

impl Head {
    const EMPTY: Self = Self {
        bytes: [0; _],
        len: 0,
    };

    const fn push(&mut self, bytes: &[u8]) {
        let (_, free) = self.bytes.split_at_mut(self.len);
        free.split_at_mut(bytes.len()).0.copy_from_slice(bytes);
        self.len += bytes.len();
    }

    #[expect(clippy::cast_possible_truncation, reason = "a digit fits a u8")]
    const fn push_decimal(&mut self, number: usize) {
        if number >= 10 {
            self.push_decimal(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }
}
