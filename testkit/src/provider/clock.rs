//! The provider's clock: the machine's or a fixed one, and either can be moved forward.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time in milliseconds since the epoch.
///
/// Clones share their offset: what one moves, all see.
#[derive(Debug, Clone)]
pub struct Clock {
    base: Base,
    offset_ms: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
enum Base {
    System,
    Fixed { at_ms: u64 },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self {
            base: Base::System,
            offset_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    /// A clock that stands at `at_ms` and moves only by [`Clock::advance`].
    #[must_use]
    pub fn fixed(at_ms: u64) -> Self {
        Self {
            base: Base::Fixed { at_ms },
            offset_ms: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Moves the clock forward by `by_ms`, so that a test waits for nothing.
    pub fn advance(&self, by_ms: u64) {
        self.offset_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let base_ms = match self.base {
            Base::System => system_now_ms(),
            Base::Fixed { at_ms } => at_ms,
        };
        base_ms.saturating_add(self.offset_ms.load(Ordering::SeqCst))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the provider is a peer of the product with a clock of its own"
)]
fn system_now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| u64::try_from(elapsed.as_millis()).ok())
        .unwrap_or(0)
}
