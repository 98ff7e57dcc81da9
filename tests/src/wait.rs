//! Waiting for a condition, never for a time.
#![allow(clippy::panic, reason = "a condition that never holds fails the test")]

use std::time::Duration;

/// How long anything may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(10);

/// Looks until `probe` finds something.
///
/// # Panics
/// It finds nothing within [`PATIENCE`].
pub async fn wait_for<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    Box::pin(wait_long_for(PATIENCE, what, probe)).await
}

/// As [`wait_for`], with another patience: for what is measured, and may be slow.
///
/// # Panics
/// It finds nothing within `patience`.
pub async fn wait_long_for<T>(
    patience: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let looked = tokio::time::timeout(patience, async {
        loop {
            if let Some(found) = Box::pin(probe()).await {
                return found;
            }
            tokio::time::sleep(EVERY).await;
        }
    });
    match looked.await {
        Ok(found) => found,
        Err(_elapsed) => panic!("not within {} s: {what}", patience.as_secs()),
    }
}
