//! Computes F(0)..F(1000) and writes the table that `src/sequence.rs` includes.

use std::{env, fs, mem, path::Path};

use num_bigint::BigUint;

const MAX_INDEX: usize = 1000;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");

    let (mut term, mut next) = (BigUint::from(0u8), BigUint::from(1u8));
    let mut sequence = String::new();
    let mut prefix_ends = Vec::new();
    for index in 0..=MAX_INDEX {
        if index > 0 {
            sequence.push_str(", ");
        }
        sequence.push_str(&term.to_string());
        prefix_ends.push(sequence.len());
        term += &next;
        mem::swap(&mut term, &mut next);
    }

    let out_dir = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let write = |name, contents: String| {
        fs::write(Path::new(&out_dir).join(name), contents).expect("OUT_DIR is writable");
    };
    write("sequence.txt", sequence);
    write("prefix_ends.rs", format!("{prefix_ends:?}"));
}
