//! Damage done to bytes.

use proptest::prelude::*;
use proptest::sample::Index;

/// One place in a byte string, and what is done to it.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Truncate(Index),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Flip(index, bits) => {
                if len > 0 {
                    bytes[index.index(len)] ^= bits;
                }
            }
            Self::Insert(index, inserted) => {
                let at = index.index(len + 1);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Remove(index, count) => {
                let at = index.index(len + 1);
                bytes.drain(at..len.min(at + count));
            }
            Self::Repeat(index, count) => {
                let at = index.index(len + 1);
                let repeated = bytes[at..len.min(at + count)].to_vec();
                bytes.splice(at..at, repeated);
            }
            Self::Truncate(index) => bytes.truncate(index.index(len + 1)),
        }
    }
}

/// These inputs, each damaged in a few places. The words are among what is inserted.
pub fn damaged(
    inputs: impl Strategy<Value = Vec<u8>>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let inserted = prop_oneof![
        proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 1..4),
    ];
    let mutation = prop_oneof![
        4 => (any::<Index>(), 0..8u32).prop_map(|(at, bit)| Mutation::Flip(at, 1 << bit)),
        8 => (any::<Index>(), inserted).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        4 => (any::<Index>(), 1..8usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        2 => (any::<Index>(), 1..64usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        1 => any::<Index>().prop_map(Mutation::Truncate),
    ];
    (inputs, proptest::collection::vec(mutation, 1..6)).prop_map(|(mut input, mutations)| {
        for mutation in mutations {
            mutation.apply(&mut input);
        }
        input
    })
}
