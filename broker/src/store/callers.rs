//! How many requests are under way that may come to the store: where there are many, the writer waits longer for them. Who
//! is counted and never comes makes the others wait for some milliseconds, and only where there is much to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A store's callers, counted by whoever lets them in. All clones are the same count.
#[derive(Clone, Debug, Default)]
pub struct Callers(Arc<AtomicUsize>);

impl Callers {
    /// One more.
    pub fn come(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less, of those that came.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
