//! The Fibonacci numbers F(0)..F(1000), as text.
//!
//! # Data generation
//!
//! `build.rs` computes the terms with `num-bigint`. It writes one text, the decimal terms joined by
//! `", "`, and the offset in it at which each term ends. For any N, the terms F(0)..F(N) are a prefix
//! of that text.
//!
//! To raise the limit, change `MAX_INDEX` here and in `build.rs`, and the message of
//! [`InvalidEvent::TooLarge`](crate::event::InvalidEvent::TooLarge). `cargo test --workspace` then
//! names the tests and examples that say 1000. F(0)..F(7748) fills the 6 MB that Lambda accepts as a
//! reply.

/// The largest index for which there is a term.
pub const MAX_INDEX: u16 = 1000;

const LEN: usize = MAX_INDEX as usize + 1;

static SEQUENCE: &str = include_str!(concat!(env!("OUT_DIR"), "/sequence.txt"));

/// Byte offset in [`SEQUENCE`] at which each term ends.
#[expect(clippy::unreadable_literal, reason = "generated")]
static PREFIX_ENDS: [u32; LEN] = include!(concat!(env!("OUT_DIR"), "/prefix_ends.rs"));

#[allow(long_running_const_eval, reason = "with a much larger MAX_INDEX")]
const _: () = {
    assert!(SEQUENCE.is_ascii());
    assert!(PREFIX_ENDS[0] == 1);
    assert!(PREFIX_ENDS[LEN - 1] as usize == SEQUENCE.len());
    let mut index = 1;
    while index < LEN {
        assert!(PREFIX_ENDS[index - 1] < PREFIX_ENDS[index]);
        index += 1;
    }
};

/// An index for which there is a term: 0 to [`MAX_INDEX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index(u16);

impl Index {
    /// Returns `None` above [`MAX_INDEX`].
    #[must_use]
    pub const fn new(index: u16) -> Option<Self> {
        if index <= MAX_INDEX {
            Some(Self(index))
        } else {
            None
        }
    }

    pub(crate) const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// The terms F(0)..F(`index`) in decimal, joined by `", "`: 1 to 106,751 bytes.
#[must_use]
pub fn prefix(index: Index) -> &'static str {
    &SEQUENCE[..PREFIX_ENDS[index.as_usize()] as usize]
}
