//! The enumeration of all sequences of choices.

use std::fmt::Debug;
use std::thread;

use tokio::runtime::{Builder, LocalOptions};

/// Runs every sequence of choices, on a clock that stands still while there is something to do.
/// Returns how many there were.
pub(super) fn explore(mut choices: Choices, run: &impl AsyncFn(&mut Choices)) -> usize {
    for runs in 1.. {
        fastrand::seed(0); // so that a failure repeats itself
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(run(&mut choices));
        if !choices.advance() {
            return runs;
        }
    }
    unreachable!()
}

/// A choice, and what it was made from.
#[derive(Clone, Copy)]
struct Choice {
    taken: usize,
    count: usize,
}

/// A sequence of choices.
pub(super) struct Choices {
    pub(super) depth: usize,
    /// Whether there is a choice; otherwise it is always the first.
    pub(super) is_open: bool,
    sequence: Vec<Choice>,
    /// The position of the next choice in `sequence`.
    next: usize,
    /// What has happened, for the reader of a failure.
    story: Vec<String>,
}

impl Choices {
    pub(super) fn new(depth: usize) -> Self {
        Self {
            depth,
            is_open: false,
            sequence: Vec::new(),
            next: 0,
            story: Vec::new(),
        }
    }

    pub(super) fn choose<T: Copy + Debug>(&mut self, from: &[T]) -> T {
        let mut taken = 0;
        if self.is_open {
            if self.next == self.sequence.len() {
                let count = from.len();
                self.sequence.push(Choice { taken, count });
            }
            let choice = self.sequence[self.next];
            assert_eq!(choice.count, from.len(), "the run repeats itself");
            taken = choice.taken;
            self.next += 1;
        }
        self.story.push(format!("{:?}", from[taken]));
        from[taken]
    }

    /// Turns to the next sequence. The result is whether there is one.
    fn advance(&mut self) -> bool {
        self.next = 0;
        self.story.clear();
        while let Some(Choice { taken, count }) = self.sequence.pop() {
            let taken = taken + 1;
            if taken < count {
                self.sequence.push(Choice { taken, count });
                return true;
            }
        }
        false
    }
}

impl Drop for Choices {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("after {:#?}", self.story);
        }
    }
}
