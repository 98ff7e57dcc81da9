//! Where the SDK learns the time.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A wall clock and a monotonic clock.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01T00:00:00Z: dates of certificates, `iat` of proofs.
    fn unix_time_s(&self) -> u64;

    /// Milliseconds since some moment before; never runs backward: lives of tokens.
    fn monotonic_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge at which a client reads its own clock"
    )]
    fn unix_time_s(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the edge at which a client reads its own clock"
    )]
    fn monotonic_ms(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}
