//! The same thing several times, so that threads that count do not take cache lines from each other.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many there are. Threads beyond them share one with others, and lose nothing by it but time.
pub const SHARDS: usize = 8;

/// One of them, on cache lines of its own: processors fetch two of 64 bytes at a time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Own<T>(pub T);

/// All of them.
#[derive(Debug, Default)]
pub struct Shards<T>([Own<T>; SHARDS]);

thread_local! {
    /// Which of them is this thread's; none has been given yet.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Which is the next thread's.
static NEXT: AtomicUsize = AtomicUsize::new(0);

impl<T> Shards<T> {
    /// Of these.
    #[must_use]
    pub const fn new(all: [Own<T>; SHARDS]) -> Self {
        Self(all)
    }

    /// This thread's.
    #[must_use]
    pub fn mine(&self) -> &T {
        let Self([first, ..]) = self;
        self.0.get(mine()).map_or(&first.0, |own| &own.0)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|own| &own.0)
    }
}

/// The number of this thread's.
fn mine() -> usize {
    let known = MINE.get();
    if known < SHARDS {
        return known;
    }
    let given = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    MINE.set(given);
    given
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn a_thread_has_always_the_same_and_its_neighbour_another() {
        let shards: Shards<AtomicU64> = Shards::default();
        let mine = || std::ptr::from_ref(shards.mine()).addr();
        assert_eq!(mine(), mine());
        let others = std::thread::scope(|scope| {
            // One after another, so that none of the tests beside this one comes often between.
            let all = (0..4 * SHARDS).map(|_| scope.spawn(mine).join().unwrap());
            all.collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(others.len(), SHARDS);
        assert!(others.iter().all(|addr| addr % 128 == 0), "{others:?}");
        assert_eq!(shards.all().count(), SHARDS);
    }
}
