//! Tells providers that grants were revoked, until each has answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use enclave::ids::GrantId;
use enclave::refresh::{RefreshError, Telling};
use futures_util::StreamExt;
use parking_lot::Mutex;

use crate::events;
use crate::refresher::Refresher;
use crate::shell::Shell;

/// How many providers are told at a time.
const AT_ONCE: usize = 4;

/// The wait after a first try that settled nothing; it doubles with each.
const FIRST_WAIT_MS: u64 = 1_000;

/// The longest wait between two tries.
const LONGEST_WAIT_MS: u64 = 600_000;

/// How often the revocations are looked through.
const ROUND: Duration = Duration::from_secs(1);

/// When a grant's provider is told again.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    at_ms: u64,
    tries: u32,
}

/// Tells providers.
#[derive(Debug)]
pub struct Teller {
    shell: Arc<Shell>,
    refresher: Arc<Refresher>,
    next: Mutex<HashMap<GrantId, Next>>,
}

impl Teller {
    /// By the way out of the exchanges.
    #[must_use]
    pub fn new(shell: Arc<Shell>, refresher: Arc<Refresher>) -> Self {
        Self {
            shell,
            refresher,
            next: Mutex::default(),
        }
    }

    /// Tells whoever is to be told, until it is stopped. What it does not finish is
    /// still in the store.
    pub async fn run(self) {
        let mut changes = self.shell.changes.subscribe();
        loop {
            let due = self.due();
            futures_util::stream::iter(due)
                .for_each_concurrent(AT_ONCE, |grant| self.tell(grant))
                .await;
            // A revocation is told at once; what waits, when its time has come.
            let changed = tokio::time::timeout(ROUND, changes.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
        }
    }

    fn due(&self) -> Vec<GrantId> {
        let waiting = self.shell.enclave.to_be_told();
        let now_ms = self.shell.clock.now().mono_ms;
        let mut next = self.next.lock();
        // Deleted grants and those that are settled are forgotten.
        if next.len() > waiting.len() {
            next.retain(|grant, _| waiting.contains(grant));
        }
        let is_due = |grant: &GrantId| next.get(grant).is_none_or(|next| next.at_ms <= now_ms);
        waiting.into_iter().filter(is_due).collect()
    }

    async fn tell(&self, grant: GrantId) {
        match self.tell_once(&grant).await {
            Some(word) => {
                self.next.lock().remove(&grant);
                events::provider_told(&grant, word);
            }
            None => {
                let now_ms = self.shell.clock.now().mono_ms;
                let mut next = self.next.lock();
                let entry = next.entry(grant).or_default();
                let factor = 1_u64.checked_shl(entry.tries.min(32)).unwrap_or(u64::MAX);
                let wait_ms = FIRST_WAIT_MS.saturating_mul(factor).min(LONGEST_WAIT_MS);
                entry.at_ms = now_ms.saturating_add(wait_ms);
                entry.tries = entry.tries.saturating_add(1);
            }
        }
    }

    /// The outcome, if the try settled it.
    async fn tell_once(&self, grant: &GrantId) -> Option<&'static str> {
        if self.refresher.is_flying(grant) {
            return None;
        }
        let enclave = &self.shell.enclave;
        let pending = match enclave.tell(grant, &self.shell.clock.now()) {
            Ok(Telling::Record(pending)) => pending,
            Ok(Telling::Send(request)) => {
                let answer = self.refresher.send(request).await;
                match enclave.heard(grant, answer, &self.shell.clock.now()) {
                    Ok(pending) => pending?,
                    Err(error) => return not_told(grant, &error),
                }
            }
            Err(error) => return not_told(grant, &error),
        };
        let told = self.shell.settle(pending).await.ok()?;
        Some(told.word())
    }
}

fn not_told(grant: &GrantId, error: &RefreshError) -> Option<&'static str> {
    // It was deleted meanwhile: nothing is left to tell.
    if *error != RefreshError::NoSuchGrant {
        events::refresh_failed(grant, error);
    }
    None
}
