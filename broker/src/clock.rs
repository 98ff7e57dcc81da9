//! The one file that reads the clocks of the host.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use enclave::time::Now;

use crate::events;

/// The clock that the service runs on.
///
/// The host's wall clock is believed only forward: time is never earlier than a
/// floor (when the image was built, or what was last anchored), never earlier
/// than it was, and passes at least as fast as the monotonic clock.
///
/// Wall time is monotonic time and a distance that only grows. Readers share two
/// numbers that seldom change, and no lock.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// How far our wall clock is ahead of the monotonic one, in milliseconds.
    ahead_ms: AtomicU64,
    /// The latest monotonic time that was told, in milliseconds.
    mono_ms: AtomicU64,
    /// Whether the host's clock was notably behind ours when it was last looked at.
    behind: AtomicBool,
}

/// One look at the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    wall_ms: u64,
    mono_ms: u64,
    /// How far the host's clock is behind ours.
    behind_ms: u64,
}

/// The host's clock must fall this far behind ours before it is logged.
const NOTABLE_MS: u64 = 1_000;

impl Clock {
    /// A clock that is never earlier than `floor_s`, Unix time in seconds.
    #[must_use]
    pub fn new(floor_s: u64) -> Self {
        Self {
            start: monotonic(),
            ahead_ms: AtomicU64::new(floor_s.saturating_mul(1_000)),
            mono_ms: AtomicU64::new(0),
            behind: AtomicBool::new(false),
        }
    }

    /// The time now. Later calls give no earlier time.
    #[must_use]
    pub fn now(&self) -> Now {
        let host_ms = wall_ms();
        let passed = monotonic().saturating_duration_since(self.start);
        let mono_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let reading = self.advance(host_ms, mono_ms);
        let behind = reading.behind_ms >= NOTABLE_MS;
        if behind != self.behind.load(Ordering::Relaxed) {
            let before = self.behind.swap(behind, Ordering::Relaxed);
            if behind && !before {
                events::clock_went_backward(reading.behind_ms / 1_000);
            }
        }
        interval(reading)
    }

    /// The next reading, from the host's clocks.
    fn advance(&self, host_ms: u64, mono_ms: u64) -> Reading {
        let mono_ms = latest(&self.mono_ms, mono_ms);
        let ahead_ms = latest(&self.ahead_ms, host_ms.saturating_sub(mono_ms));
        let wall_ms = mono_ms.saturating_add(ahead_ms);
        Reading {
            wall_ms,
            mono_ms,
            behind_ms: wall_ms.saturating_sub(host_ms),
        }
    }
}

/// The largest that was ever given, this one included. What is no larger writes nothing.
fn latest(seen: &AtomicU64, value: u64) -> u64 {
    let before = seen.load(Ordering::SeqCst);
    if value <= before {
        return before;
    }
    seen.fetch_max(value, Ordering::SeqCst).max(value)
}

/// Measures how long something takes, on the monotonic clock. Nothing is decided by it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        Self(monotonic())
    }

    /// Microseconds since it was started.
    #[must_use]
    pub fn elapsed_us(self) -> u64 {
        self.lap().0
    }

    /// Microseconds since it was started, and one that is started now.
    #[must_use]
    pub fn lap(self) -> (u64, Self) {
        let now = monotonic();
        let us = now.saturating_duration_since(self.0).as_micros();
        (u64::try_from(us).unwrap_or(u64::MAX), Self(now))
    }
}

/// The host's time as it is told to others, Unix time in nanoseconds. Nothing is decided by it.
#[must_use]
pub fn told_unix_ns() -> u64 {
    wall_ms().saturating_mul(1_000_000)
}

fn interval(reading: Reading) -> Now {
    Now {
        lo_s: reading.wall_ms / 1_000,
        hi_s: reading.wall_ms.div_ceil(1_000),
        mono_ms: reading.mono_ms,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge at which the wall clock is read"
)]
fn wall_ms() -> u64 {
    // Before 1970 the floor holds.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge at which the monotonic clock is read"
)]
fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails"
    )]

    use super::*;

    #[test]
    fn time_follows_the_host_forward_only() {
        let rows = [
            ("host in step", 1_000_250, 750, (1_000_250, 750, 0)),
            ("host ahead", 9_000_000, 750, (9_000_000, 750, 0)),
            ("host stands still", 1_000_000, 750, (1_000_250, 750, 250)),
            ("host went back", 10, 750, (1_000_250, 750, 1_000_240)),
            ("nothing passed", 1_000_000, 500, (1_000_000, 500, 0)),
            ("monotonic went back", 1_000_000, 400, (1_000_000, 500, 0)),
        ];
        for (name, host_ms, mono_ms, (wall_ms, mono, behind_ms)) in rows {
            let clock = Clock::new(1);
            clock.advance(1_000_000, 500);
            assert_eq!(
                clock.advance(host_ms, mono_ms),
                Reading {
                    wall_ms,
                    mono_ms: mono,
                    behind_ms
                },
                "{name}"
            );
        }
    }

    #[test]
    fn no_thread_is_told_an_earlier_time_than_any_was_before() {
        let clock = Clock::new(1);
        let told = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for number in 0..4_u64 {
                let (clock, told) = (&clock, &told);
                scope.spawn(move || {
                    for step in 0..20_000_u64 {
                        let least = told.load(Ordering::SeqCst);
                        // The host's clock jumps to and fro, each thread its own way, and so does the other.
                        let jump = (step * 7 + number * 13) % 50;
                        let reading = clock.advance(1_000_000 + step + jump, step + 50 - jump);
                        assert!(reading.wall_ms >= least, "{reading:?} after {least}");
                        told.fetch_max(reading.wall_ms, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn the_interval_holds_the_reading() {
        let now = |wall_ms| {
            interval(Reading {
                wall_ms,
                mono_ms: 7,
                behind_ms: 0,
            })
        };
        assert_eq!((now(1_000).lo_s, now(1_000).hi_s), (1, 1));
        assert_eq!((now(1_001).lo_s, now(1_001).hi_s), (1, 2));
        assert_eq!(now(0).mono_ms, 7);
    }

    #[test]
    fn no_time_is_before_the_floor() {
        let far_s = 32_503_680_000;
        let clock = Clock::new(far_s);
        let first = clock.now();
        assert!(first.lo_s >= far_s, "{first:?}");
        let second = clock.now();
        assert!(second.lo_s >= first.lo_s && second.mono_ms >= first.mono_ms);
    }
}
