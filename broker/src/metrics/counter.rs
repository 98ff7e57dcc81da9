//! Numbers that only rise, and numbers of what there is at the moment.

use std::sync::atomic::{AtomicU64, Ordering};

use super::is_on;

/// Rises while metrics are on.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// From zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn one(&self) {
        if is_on() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are at the moment: counted whether metrics are on or not, so that what began before they were is not
/// missed when it ends.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more, until what is given is dropped.
    #[must_use]
    pub fn enter(&'static self) -> Inside {
        self.0.fetch_add(1, Ordering::Relaxed);
        Inside(self)
    }

    /// How many there are.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that there are.
#[derive(Debug)]
pub struct Inside(&'static Level);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
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
        drop(other);
        assert_eq!(LEVEL.value(), 0);
    }
}
