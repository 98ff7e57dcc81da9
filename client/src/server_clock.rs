//! The time as the service has it: where a refusal tells both clocks, the difference is learned, and proofs are dated
//! by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Clock;

/// A client's clock, and how far the service's is ahead of it.
pub(crate) struct ServerClock {
    clock: Arc<dyn Clock>,
    ahead_s: AtomicI64,
}

impl ServerClock {
    /// Until something is learned it is the client's own.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            ahead_s: AtomicI64::new(0),
        }
    }

    /// Seconds since 1970 at the service: `iat` of proofs, and nothing else. Dates of certificates are held against the
    /// client's own clock.
    pub(crate) fn unix_time_s(&self) -> u64 {
        let own_s = self.clock.unix_time_s();
        own_s.saturating_add_signed(self.ahead_s.load(Ordering::Relaxed))
    }

    /// See [`Clock::monotonic_ms`].
    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// Keeps what the service says that it is now; whether that is news.
    pub(crate) fn learn(&self, server_s: u64) -> bool {
        let ahead_s = i128::from(server_s).saturating_sub(i128::from(self.clock.unix_time_s()));
        let Ok(ahead_s) = i64::try_from(ahead_s) else {
            return false;
        };
        self.ahead_s.swap(ahead_s, Ordering::Relaxed) != ahead_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(u64);

    impl Clock for At {
        fn unix_time_s(&self) -> u64 {
            self.0
        }

        fn monotonic_ms(&self) -> u64 {
            7
        }
    }

    #[test]
    fn the_difference_is_kept_and_learned_anew() {
        let clock = ServerClock::new(Arc::new(At(1_000)));
        assert_eq!((clock.unix_time_s(), clock.monotonic_ms()), (1_000, 7));
        for (server_s, news) in [(1_000, false), (5_000, true), (5_000, false), (10, true)] {
            assert_eq!(clock.learn(server_s), news, "{server_s}");
            assert_eq!(clock.unix_time_s(), server_s);
        }
        assert!(!clock.learn(u64::MAX), "no clock says so");
        assert_eq!(clock.unix_time_s(), 10);
    }
}
