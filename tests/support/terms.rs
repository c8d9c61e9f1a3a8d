//! The terms, computed in another way than by `build.rs`.

use fibonacci_generator::sequence::MAX_INDEX;

/// F(0)..F(1000) in decimal, added digit by digit.
pub(crate) fn terms() -> Vec<String> {
    let mut terms = vec!["0".to_owned(), "1".to_owned()];
    while let [.., a, b] = &terms[..]
        && terms.len() <= usize::from(MAX_INDEX)
    {
        terms.push(add(a, b));
    }
    terms
}

/// The sum of two decimal numbers, the second of which has at least as many digits.
fn add(a: &str, b: &str) -> String {
    let mut carry = 0;
    let mut digits: Vec<u8> = (a.bytes().rev())
        .chain(std::iter::repeat(b'0'))
        .zip(b.bytes().rev())
        .map(|(a, b)| {
            let sum = (a - b'0') + (b - b'0') + carry;
            carry = sum / 10;
            b'0' + sum % 10
        })
        .collect();
    if carry > 0 {
        digits.push(b'0' + carry);
    }
    digits.reverse();
    String::from_utf8(digits).unwrap()
}
