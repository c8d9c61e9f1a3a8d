//! The table against terms that are computed in another way.

use crate::support::terms::terms;
use fibonacci_generator::sequence::{Index, MAX_INDEX, prefix};

#[test]
fn every_prefix_holds_the_terms_up_to_its_index() {
    let terms = terms();
    for n in 0..=MAX_INDEX {
        let expected = terms[..=usize::from(n)].join(", ");
        assert_eq!(prefix(Index::new(n).unwrap()), expected, "n = {n}");
    }
}

#[test]
fn the_last_term_is_the_known_one() {
    let terms = terms();
    let last = terms.last().unwrap();
    assert_eq!(last.len(), 209);
    assert!(last.starts_with("43466557686937456435688527675040625802564"));
    assert!(last.ends_with("49228875"));
    assert!(prefix(Index::new(1000).unwrap()).ends_with(last));
}

#[test]
fn there_is_no_index_above_the_limit() {
    assert_eq!(Index::new(1001), None);
    assert_eq!(Index::new(u16::MAX), None);
}
