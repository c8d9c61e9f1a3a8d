//! Damage done to bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What is done at one place.
#[derive(Clone, Debug)]
enum Damage {
    FlipBit(u32),
    Insert(Vec<u8>),
    Remove(usize),
    Repeat(usize),
    Truncate,
}

fn apply(bytes: &mut Vec<u8>, place: Index, damage: Damage) {
    let len = bytes.len();
    let at = place.index(len + 1);
    let end = |count: usize| len.min(at + count);
    match damage {
        Damage::FlipBit(bit) => bytes[at..end(1)]
            .iter_mut()
            .for_each(|byte| *byte ^= 1 << bit),
        Damage::Insert(inserted) => drop(bytes.splice(at..at, inserted)),
        Damage::Remove(count) => drop(bytes.drain(at..end(count))),
        Damage::Repeat(count) => drop(bytes.splice(at..at, bytes[at..end(count)].to_vec())),
        Damage::Truncate => bytes.truncate(at),
    }
}

/// These inputs, each damaged in a few places. The words are among what is inserted.
pub fn damaged(
    inputs: impl Strategy<Value = Vec<u8>>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let inserted = prop_oneof![
        select(words).prop_map(|word| word.as_bytes().to_vec()),
        vec(any::<u8>(), 1..4),
    ];
    let damage = prop_oneof![
        4 => (0..8u32).prop_map(Damage::FlipBit),
        8 => inserted.prop_map(Damage::Insert),
        4 => (1..8usize).prop_map(Damage::Remove),
        2 => (1..64usize).prop_map(Damage::Repeat),
        1 => Just(Damage::Truncate),
    ];
    let damages = vec((any::<Index>(), damage), 1..6);
    (inputs, damages).prop_map(|(mut input, damages)| {
        for (place, damage) in damages {
            apply(&mut input, place, damage);
        }
        input
    })
}
