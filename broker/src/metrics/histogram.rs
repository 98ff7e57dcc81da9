//! How often a number lay within which bounds. Atomics alone: nobody waits to note one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shards::{Own, SHARDS, Shards};

/// Bounds for durations, in microseconds: 50 µs to 10 s.
pub const DURATION_BOUNDS_US: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Bounds for numbers of things that are done together.
pub const COUNT_BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A histogram of `N` bounds.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    parts: Shards<Part<N>>,
}

/// What one thread noted.
#[derive(Debug)]
struct Part<const N: usize> {
    sum: AtomicU64,
    within: [AtomicU64; N],
    above: AtomicU64,
}

/// Of durations, in microseconds.
pub type Durations = Histogram<{ DURATION_BOUNDS_US.len() }>;

/// Of numbers.
pub type Counts = Histogram<{ COUNT_BOUNDS.len() }>;

/// What a histogram held when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Each bound, and how many numbers were at most as large.
    pub up_to: Vec<(u64, u64)>,
    /// How many numbers there were.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// With bounds that rise.
    #[must_use]
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            parts: Shards::new([const { Own(Part::new()) }; SHARDS]),
        }
    }

    /// Notes a number.
    pub fn observe(&self, number: u64) {
        let at = self.bounds.partition_point(|bound| *bound < number);
        let Part { sum, within, above } = self.parts.mine();
        let bucket = within.get(at).unwrap_or(above);
        bucket.fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(number, Ordering::Relaxed);
    }

    /// What was noted so far. Its parts may be a moment apart.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let all = |number: &dyn Fn(&Part<N>) -> u64| {
            self.parts.all().map(number).fold(0, u64::saturating_add)
        };
        let mut count: u64 = 0;
        let up_to = self.bounds.iter().enumerate().map(|(at, bound)| {
            let within = all(&|part| part.within(at));
            count = count.saturating_add(within);
            (*bound, count)
        });
        let up_to = up_to.collect();
        Distribution {
            up_to,
            count: count.saturating_add(all(&|part| part.above.load(Ordering::Relaxed))),
            sum: all(&|part| part.sum.load(Ordering::Relaxed)),
        }
    }
}

impl<const N: usize> Part<N> {
    const fn new() -> Self {
        Self {
            sum: AtomicU64::new(0),
            within: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
        }
    }

    fn within(&self, at: usize) -> u64 {
        let bucket = self.within.get(at);
        bucket.map_or(0, |bucket| bucket.load(Ordering::Relaxed))
    }
}

/// Of durations, with the usual bounds.
#[must_use]
pub const fn durations() -> Durations {
    Histogram::new(&DURATION_BOUNDS_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_up_to_each_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&COUNT_BOUNDS);
        for number in [0, 1, 2, 3, 512, 513, 1_000_000] {
            histogram.observe(number);
        }
        let read = histogram.read();
        assert_eq!((read.count, read.sum), (7, 1_001_031));
        assert_eq!(read.up_to[..3], [(1, 2), (2, 3), (4, 4)]);
        assert_eq!(read.up_to.last(), Some(&(512, 5)));
    }

    #[test]
    fn bounds_rise() {
        assert!(DURATION_BOUNDS_US.is_sorted_by(|a, b| a < b));
        assert!(COUNT_BOUNDS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn nothing_is_lost_when_many_note_at_once() {
        let histogram = durations();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|us| histogram.observe(us)));
            }
        });
        let read = histogram.read();
        assert_eq!((read.count, read.sum), (40_000, 4 * 49_995_000));
    }
}
