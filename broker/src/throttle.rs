//! Lines of the log that a peer can cause as often as it likes: so many a second are written, the others counted.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Stopwatch;

static STARTED: LazyLock<Stopwatch> = LazyLock::new(Stopwatch::start);

/// A bound on one kind of line.
#[derive(Debug)]
pub(crate) struct Throttle {
    lines_per_s: u64,
    second: AtomicU64,
    written: AtomicU64,
    kept_back: AtomicU64,
}

impl Throttle {
    pub(crate) const fn new(lines_per_s: u64) -> Self {
        Self {
            lines_per_s,
            second: AtomicU64::new(0),
            written: AtomicU64::new(0),
            kept_back: AtomicU64::new(0),
        }
    }

    /// Whether a line is written now; if so, how many were not since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_in(STARTED.elapsed_us() / 1_000_000)
    }

    /// Within a second. Where several threads begin one at once a few lines more may be written.
    fn pass_in(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.written.store(0, Ordering::Relaxed);
        }
        if self.written.fetch_add(1, Ordering::Relaxed) < self.lines_per_s {
            return Some(self.kept_back.swap(0, Ordering::Relaxed));
        }
        self.kept_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_are_written_and_the_others_counted() {
        let throttle = Throttle::new(3);
        let passed = |second| throttle.pass_in(second);
        assert_eq!([7, 7, 7].map(passed), [Some(0); 3]);
        assert_eq!([7, 7].map(passed), [None; 2]);
        assert_eq!([8, 8, 8, 8].map(passed), [Some(2), Some(0), Some(0), None]);
        assert_eq!(passed(10), Some(1));
    }
}
