//! Numbers that only rise, and numbers of what there is at the moment.

use std::sync::atomic::{AtomicU64, Ordering};

use super::is_on;
use super::shards::{Own, SHARDS, Shards};

/// Rises while metrics are on.
#[derive(Debug)]
pub struct Counter(Counters<1>);

impl Counter {
    /// From zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(Counters::new())
    }

    /// One more.
    pub fn one(&self) {
        self.0.one(0);
    }

    /// How many there were.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.value(0)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// Several that rise while metrics are on, of which one thread counts one at a time.
#[derive(Debug)]
pub struct Counters<const N: usize>(Shards<[AtomicU64; N]>);

impl<const N: usize> Counters<N> {
    /// From zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(Shards::new(
            [const { Own([const { AtomicU64::new(0) }; N]) }; SHARDS],
        ))
    }

    /// One more of this one; of one that is not there, nothing.
    pub fn one(&self, at: usize) {
        if is_on()
            && let Some(count) = self.0.mine().get(at)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of this one.
    #[must_use]
    pub fn value(&self, at: usize) -> u64 {
        let counts = self.0.all().filter_map(|all| all.get(at));
        counts.fold(0, |sum, count| {
            sum.wrapping_add(count.load(Ordering::Relaxed))
        })
    }

    /// How many there were of each.
    #[must_use]
    pub fn values(&self) -> [u64; N] {
        std::array::from_fn(|at| self.value(at))
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// How many there are at the moment: counted whether metrics are on or not, so that what began before they were is not
/// missed when it ends. One may leave on another thread than it came in on.
#[derive(Debug, Default)]
pub struct Level(Shards<AtomicU64>);

impl Level {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(Shards::new([const { Own(AtomicU64::new(0)) }; SHARDS]))
    }

    /// One more, until what is given is dropped.
    #[must_use]
    pub fn enter(&'static self) -> Inside {
        self.0.mine().fetch_add(1, Ordering::Relaxed);
        Inside(self)
    }

    /// How many there are.
    #[must_use]
    pub fn value(&self) -> u64 {
        let parts = self.0.all().map(|part| part.load(Ordering::Relaxed));
        let sum = parts.fold(0, u64::wrapping_add);
        // While they are read one may leave whose coming was not seen.
        if sum > u64::MAX / 2 { 0 } else { sum }
    }
}

/// One of those that there are.
#[derive(Debug)]
pub struct Inside(&'static Level);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.mine().fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_counts_those_that_are_inside() {
        static LEVEL: Level = Level::new();
        let one = LEVEL.enter();
        let other = LEVEL.enter();
        assert_eq!(LEVEL.value(), 2);
        drop(one);
        assert_eq!(LEVEL.value(), 1);
        // Elsewhere.
        std::thread::spawn(move || drop(other)).join().unwrap();
        assert_eq!(LEVEL.value(), 0);
    }
}
