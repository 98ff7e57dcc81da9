//! Rates: how often a client may ask and a grant may be exchanged.
//!
//! The generic cell rate algorithm: one moment a key, the earliest at which its
//! bucket is empty again. The keys are bounded; a key that was idle long enough
//! to be full again is forgotten.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use thiserror::Error;

use crate::time::Now;

/// The most keys that are remembered at a time.
const MAX_KEYS: usize = 100_000;

/// A rate that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many requests")]
pub struct RateExceeded {
    /// When the next one passes, in milliseconds from now.
    pub retry_after_ms: u64,
}

/// A rate: so many a second in the long run, so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, at least 1.
    pub per_s: u32,
    /// At once, at least 1.
    pub burst: u32,
}

/// One bucket: when it is empty again, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter(u64);

impl Meter {
    /// Takes one from the bucket.
    pub(crate) fn take(&mut self, rate: Rate, now: &Now) -> Result<(), RateExceeded> {
        let interval_us = 1_000_000_u64
            .checked_div(u64::from(rate.per_s))
            .unwrap_or(1_000_000);
        let more = u64::from(rate.burst.saturating_sub(1));
        let tolerance_us = interval_us.saturating_mul(more);
        let now_us = now.mono_ms.saturating_mul(1_000);
        let at = self.0.max(now_us);
        let ahead_us = at.saturating_sub(now_us);
        if ahead_us > tolerance_us {
            let wait_us = ahead_us.saturating_sub(tolerance_us);
            return Err(RateExceeded {
                retry_after_ms: wait_us.div_ceil(1_000),
            });
        }
        self.0 = at.saturating_add(interval_us);
        Ok(())
    }

    /// Whether one could be taken.
    fn peek(mut self, rate: Rate, now: &Now) -> Result<(), RateExceeded> {
        self.take(rate, now)
    }

    /// Whether it is empty, so that it need not be remembered.
    fn is_empty(self, now: &Now) -> bool {
        self.0 <= now.mono_ms.saturating_mul(1_000)
    }
}

/// Counts by key.
#[derive(Debug)]
pub(crate) struct RateLimiter<K> {
    rate: Rate,
    meters: Mutex<HashMap<K, Meter>>,
}

impl<K: Hash + Eq + Clone> RateLimiter<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            meters: Mutex::new(HashMap::new()),
        }
    }

    /// Whether one could be taken: asked before something costly, so that whoever asks too often costs little.
    pub(crate) fn peek(&self, key: &K, now: &Now) -> Result<(), RateExceeded> {
        let meter = self.meters.lock().get(key).copied();
        meter.map_or(Ok(()), |meter| meter.peek(self.rate, now))
    }

    /// Takes one from the key's bucket.
    pub(crate) fn take(&self, key: &K, now: &Now) -> Result<(), RateExceeded> {
        let mut meters = self.meters.lock();
        if let Some(meter) = meters.get_mut(key) {
            return meter.take(self.rate, now);
        }
        if meters.len() >= MAX_KEYS {
            meters.retain(|_, meter| !meter.is_empty(now));
            if meters.len() >= MAX_KEYS {
                return Err(RateExceeded {
                    retry_after_ms: 1_000,
                });
            }
        }
        let mut meter = Meter::default();
        meter.take(self.rate, now)?;
        meters.insert(key.clone(), meter);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 0,
            hi_s: 0,
            mono_ms,
        }
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let limiter = RateLimiter::new(Rate {
            per_s: 10,
            burst: 3,
        });
        for _ in 0..3 {
            assert_eq!(limiter.take(&"a", &at(0)), Ok(()));
        }
        let refused = Err(RateExceeded {
            retry_after_ms: 100,
        });
        assert_eq!(limiter.take(&"a", &at(0)), refused);
        for _ in 0..10 {
            assert_eq!(limiter.peek(&"a", &at(0)), refused);
            assert_eq!(limiter.peek(&"a", &at(100)), Ok(()));
            assert_eq!(limiter.peek(&"c", &at(0)), Ok(()));
        }
        assert_eq!(limiter.take(&"b", &at(0)), Ok(()));
        assert_eq!(limiter.take(&"a", &at(100)), Ok(()));
        assert_eq!(limiter.take(&"a", &at(100)), refused);
        let passed = (0..10_000_u64)
            .filter(|ms| limiter.take(&"a", &at(100 + ms)).is_ok())
            .count();
        assert!((99..=100).contains(&passed), "{passed}");
    }
}
