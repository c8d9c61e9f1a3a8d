//! Replies with slices of a text in the executable. Nothing is copied or allocated.
//!
//! ```sh
//! cargo build -p lmi-runtime --example slices
//! cargo local --bootstrap target/debug/examples/slices invoke '"b"'
//! ```

use std::process::ExitCode;

use lmi_runtime::Invocation;

const LETTERS: &str = r#""a", "b", "c", "d""#;

fn main() -> ExitCode {
    lmi_runtime::run(letters)
}

/// The letters up to the event's, as a JSON array.
async fn letters(invocation: &Invocation) -> Result<[&'static [u8]; 3], &'static str> {
    let letter = str::from_utf8(invocation.payload()).map_err(|_| "the event is not UTF-8")?;
    let start = LETTERS
        .find(letter)
        .ok_or("the event is none of the letters")?;
    let letters = &LETTERS[..start + letter.len()];
    Ok([b"[", letters.as_bytes(), b"]"])
}
