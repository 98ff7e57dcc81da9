//! What the store's writer does.

use super::histogram::{COUNT_BOUNDS, Counts, Durations, Histogram, durations};
use super::{Watch, is_on};

/// How many batches one frame made durable.
pub static GROUPS: Counts = Histogram::new(&COUNT_BOUNDS);

/// How long the disk took to make them durable.
pub static SYNCS: Durations = durations();

/// A group of batches is about to be written.
pub fn group(batches: usize) {
    if is_on() {
        GROUPS.observe(u64::try_from(batches).unwrap_or(u64::MAX));
    }
}

/// The disk is asked.
#[must_use]
pub fn sync_begins() -> Watch {
    Watch::start()
}
