//! The clocks that a bench reads.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a load generator measures by the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Unix time in seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "a proof names the time at which it was made"
)]
pub(crate) fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
