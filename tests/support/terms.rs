//! The terms, computed in another way than by `build.rs`.

use fibonacci_generator::sequence::MAX_INDEX;

/// F(0)..F(1000) in decimal: machine addition while it holds, then addition digit by digit.
pub(crate) fn terms() -> Vec<String> {
    let mut terms = vec![0u128, 1];
    while let Some(term) = terms[terms.len() - 2].checked_add(terms[terms.len() - 1]) {
        terms.push(term);
    }
    assert_eq!(terms.len(), 187, "F(186) is the last term below 2^128");

    let mut terms: Vec<String> = terms.iter().map(u128::to_string).collect();
    while terms.len() <= usize::from(MAX_INDEX) {
        let [.., a, b] = &terms[..] else {
            unreachable!()
        };
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
