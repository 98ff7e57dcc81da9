//! Writes down what nobody asked for and tenants must hear of: bursts of refusals, and the coming end of what vouches
//! for the evidence.

use std::sync::Arc;
use std::time::Duration;

use enclave::pending::Pending;
use enclave::seal::SealError;

use crate::collateral::Supply;
use crate::events;
use crate::shell::Shell;

/// How often is looked.
const ROUND: Duration = Duration::from_secs(1);

/// With less left it is told.
const FEW_DAYS_S: u64 = 7 * 86_400;

/// How long until it is told again.
const AGAIN_MS: u64 = 86_400_000;

/// Looks, every second.
#[derive(Debug)]
pub struct Watchman {
    shell: Arc<Shell>,
    supply: Supply,
    told_ms: Option<u64>,
}

/// Whether the end of what vouches for the evidence is to be told now.
fn is_due(expires_at_s: u64, now_s: u64, now_ms: u64, told_ms: Option<u64>) -> bool {
    let near = expires_at_s.saturating_sub(now_s) < FEW_DAYS_S;
    let again = told_ms.is_none_or(|told| now_ms.saturating_sub(told) >= AGAIN_MS);
    near && again
}

impl Watchman {
    /// For a service whose supply tells when it ends.
    #[must_use]
    pub fn new(shell: Arc<Shell>, supply: Supply) -> Self {
        Self {
            shell,
            supply,
            told_ms: None,
        }
    }

    /// Looks until it is stopped.
    pub async fn keep(mut self) {
        loop {
            tokio::time::sleep(ROUND).await;
            let now = self.shell.clock.now();
            match self.shell.enclave.denied_bursts(&now) {
                Ok(None) => {}
                Ok(Some((bursts, pending))) => {
                    if !self.write(Ok(pending)).await {
                        self.shell.enclave.bursts_untold(bursts);
                    }
                }
                Err(_) => events::watchman_failed(),
            }
            let ends = [
                self.shell.enclave.config().endorsed_until_s,
                self.supply.expires_at_s(),
            ];
            let Some(expires_at_s) = ends.into_iter().flatten().min() else {
                continue;
            };
            if is_due(expires_at_s, now.hi_s, now.mono_ms, self.told_ms) {
                let leaf = self.shell.enclave.collateral_expiring(expires_at_s, &now);
                if self.write(leaf).await {
                    self.told_ms = Some(now.mono_ms);
                }
            }
        }
    }

    /// Whether it is durable.
    async fn write(&self, pending: Result<Pending<()>, SealError>) -> bool {
        let Ok(pending) = pending else {
            events::watchman_failed();
            return false;
        };
        match self.shell.conclude(pending).await {
            // Nothing it touches could be frozen.
            Ok((_released, _receipt)) => true,
            Err(_) => {
                events::watchman_failed();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_a_week_before_and_once_a_day() {
        let day_s = 86_400;
        let rows = [
            (8 * day_s, 0, 0, None, false),
            (7 * day_s, 0, 0, None, false),
            (7 * day_s - 1, 0, 0, None, true),
            (day_s, 0, AGAIN_MS - 1, Some(0), false),
            (day_s, 0, AGAIN_MS, Some(0), true),
            // What has ended is told as well.
            (day_s, 2 * day_s, 0, None, true),
        ];
        for (expires_at_s, now_s, now_ms, told_ms, expected) in rows {
            assert_eq!(
                is_due(expires_at_s, now_s, now_ms, told_ms),
                expected,
                "{expires_at_s} {now_s} {now_ms} {told_ms:?}"
            );
        }
    }
}
