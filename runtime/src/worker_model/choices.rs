//! The enumeration of sequences of choices.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::time::timeout;

/// On the clock of a run, which jumps over what has no events.
const A_LONG_TIME: Duration = Duration::from_hours(1);

/// Runs every sequence of choices that has up to so many surprises among its first `horizon` choices,
/// on a clock that stands still while there is something to do. Returns how many there were.
pub(super) fn explore(surprises: usize, horizon: usize, run: &impl AsyncFn(&mut Choices)) -> usize {
    let mut choices = Choices {
        surprises,
        horizon,
        sequence: Vec::new(),
        next: 0,
        story: Vec::new(),
    };
    for runs in 1.. {
        fastrand::seed(1); // so that a run repeats itself
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build_local(LocalOptions::default())
            .unwrap();
        let run = async { timeout(A_LONG_TIME, run(&mut choices)).await };
        runtime.block_on(run).expect("the end of the run");
        if !choices.advance() {
            println!("{runs} runs");
            return runs;
        }
    }
    unreachable!()
}

/// A choice, and what it was made from.
struct Choice {
    taken: usize,
    count: usize,
}

/// A sequence of choices. To take another than the first alternative is a surprise.
pub(super) struct Choices {
    surprises: usize,
    horizon: usize,
    sequence: Vec<Choice>,
    /// The position of the next choice in `sequence`.
    next: usize,
    /// What has happened, for the reader of a failure.
    story: Vec<Box<dyn Debug>>,
}

impl Choices {
    pub(super) fn are_over(&self) -> bool {
        self.next >= self.horizon
    }

    pub(super) fn choose<T: Copy + Debug + 'static>(&mut self, from: &[T]) -> T {
        let count = from.len();
        if self.next == self.sequence.len() && !self.are_over() {
            self.sequence.push(Choice { taken: 0, count });
        }
        let mut taken = 0;
        if let Some(choice) = self.sequence.get(self.next) {
            assert_eq!(choice.count, count, "the run repeats itself");
            taken = choice.taken;
        }
        self.next += 1;
        self.story.push(Box::new(from[taken]));
        from[taken]
    }

    /// Turns to the next sequence. The result is whether there is one.
    fn advance(&mut self) -> bool {
        self.next = 0;
        self.story.clear();
        while let Some(Choice { taken, count }) = self.sequence.pop() {
            let before = self.sequence.iter().filter(|choice| choice.taken > 0);
            let taken = taken + 1;
            if taken < count && before.count() < self.surprises {
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
