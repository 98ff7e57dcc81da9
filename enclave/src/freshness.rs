//! Freshness: with witnesses, nothing is issued unless a quorum of them has cosigned a head of this very boot
//! within the lease.
//!
//! Each round begins with a leaf of the control log that names this boot and is sealed with fresh random bytes. A
//! cosignature over a head with that leaf can't be older than the leaf, and a witness that gave it cosigns no other
//! history. So a state that was put back, and all but one of several enclaves on copies of one state, are without
//! a quorum once the lease ends that was given last. The lease runs on the monotonic clock from before the leaf was
//! written. A virtual machine that is paused is not aware of it: a stated limit.

use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use tlog::{CosignerKey, Origin, TreeHead, VerifiedCosignature};

use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::log::{Anchor, LogError, LogName};
use crate::pending::Pending;
use crate::policy::Denied;
use crate::seal::SealError;
use crate::store::Batch;
use crate::time::Now;

/// The longest lease in milliseconds: what claim C2 promises.
pub const MAX_LEASE_MS: u64 = 30_000;

/// Whose word is needed.
#[derive(Clone, Debug)]
pub struct WitnessPolicy {
    /// How many must cosign.
    pub quorum: usize,
    /// Who may.
    pub keys: Vec<CosignerKey>,
    /// How long their word lasts, in milliseconds; at most [`MAX_LEASE_MS`].
    pub lease_ms: u64,
}

/// Until when the enclave may issue.
#[derive(Debug)]
pub(crate) struct Freshness {
    policy: Option<WitnessPolicy>,
    /// On the monotonic clock; 0 before the first quorum.
    until_ms: AtomicU64,
}

/// Why a round gave no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotWitnessed {
    /// Too few of the witnesses cosigned this head.
    #[error("{found} witnesses cosigned the head, {needed} are needed")]
    Quorum {
        /// As many did.
        found: usize,
        /// As many must.
        needed: usize,
    },
    /// There are no witnesses.
    #[error("no witnesses are configured")]
    NoWitnesses,
}

/// A round that has begun: its leaf is made, and the time was noted before. Made by
/// [`Enclave::begin_round`] alone.
///
/// ```compile_fail,E0451
/// let begun = enclave::freshness::Begun { at_ms: u64::MAX };
/// ```
#[derive(Debug)]
#[must_use = "get its head cosigned"]
pub struct Begun {
    at_ms: u64,
}

/// A head that is to be cosigned. Made by [`Enclave::round`] alone.
///
/// ```compile_fail,E0451
/// # fn forge(origin: tlog::Origin, head: tlog::TreeHead) -> enclave::freshness::Round {
/// enclave::freshness::Round { origin, head, at_ms: u64::MAX }
/// # }
/// ```
#[derive(Debug)]
pub struct Round {
    origin: Origin,
    head: TreeHead,
    at_ms: u64,
}

impl Round {
    /// The head of the control log, with the round's leaf in it.
    #[must_use]
    pub const fn head(&self) -> TreeHead {
        self.head
    }
}

impl Freshness {
    pub(crate) fn new(policy: Option<WitnessPolicy>) -> Self {
        Self {
            policy,
            until_ms: AtomicU64::new(0),
        }
    }

    /// How long the lease lasts from now on, in milliseconds; none where there are no witnesses.
    fn left_ms(&self, now: &Now) -> Option<u64> {
        let until_ms = self.until_ms.load(Ordering::SeqCst);
        self.policy
            .as_ref()
            .map(|_| until_ms.saturating_sub(now.mono_ms))
    }

    /// Whether something may be issued now.
    pub(crate) fn check(&self, now: &Now) -> Result<(), Denied> {
        let fresh = self.policy.is_none() || now.mono_ms < self.until_ms.load(Ordering::SeqCst);
        if fresh {
            Ok(())
        } else {
            Err(Denied::NotWitnessed)
        }
    }
}

impl Enclave {
    /// Whose word is needed, if there are witnesses.
    #[must_use]
    pub fn witness_policy(&self) -> Option<&WitnessPolicy> {
        self.freshness.policy.as_ref()
    }

    /// Whether something may be issued now.
    ///
    /// # Errors
    /// [`Denied::NotWitnessed`].
    pub fn check_fresh(&self, now: &Now) -> Result<(), Denied> {
        self.freshness.check(now)
    }

    /// How long the witnesses' word lasts from now on, in milliseconds; none where there are no witnesses.
    #[must_use]
    pub fn lease_left_ms(&self, now: &Now) -> Option<u64> {
        self.freshness.left_ms(now)
    }

    /// Begins a round: the leaf that is to be cosigned.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn begin_round(&self, now: &Now) -> Result<Pending<Begun>, SealError> {
        let issuance = Anchor::current(&self.logs);
        let event = Event::Alive {
            issuance: issuance.as_ref(),
        };
        let leaf = self.leaf(&self.view.read(), None, &event, now)?;
        let batch = Batch {
            writes: Vec::new(),
            leaves: vec![leaf],
        };
        let begun = Begun { at_ms: now.mono_ms };
        Ok(Pending::new(batch, Vec::new(), Touched::nothing(), begun))
    }

    /// The head to be cosigned, when the round's leaf was committed and the log has taken it in.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn round(&self, begun: Begun, head: TreeHead) -> Result<Round, LogError> {
        Ok(Round {
            origin: self.logs.origin(LogName::Control)?,
            head,
            at_ms: begun.at_ms,
        })
    }

    /// Takes the witnesses' word in: the lease runs from when the round began.
    ///
    /// # Errors
    /// [`NotWitnessed`]; a lease that was given before runs on to its end.
    pub fn witnessed(
        &self,
        round: &Round,
        cosignatures: &[VerifiedCosignature],
    ) -> Result<(), NotWitnessed> {
        let policy = self.witness_policy().ok_or(NotWitnessed::NoWitnesses)?;
        let given = |key: &&CosignerKey| {
            cosignatures.iter().any(|found| {
                found.key() == *key && *found.origin() == round.origin && found.head() == round.head
            })
        };
        let found = policy.keys.iter().filter(given).count();
        if found < policy.quorum {
            let needed = policy.quorum;
            return Err(NotWitnessed::Quorum { found, needed });
        }
        let lease_ms = policy.lease_ms.min(MAX_LEASE_MS);
        let until_ms = round.at_ms.saturating_add(lease_ms);
        self.freshness
            .until_ms
            .fetch_max(until_ms, Ordering::SeqCst);
        Ok(())
    }

    /// Ends the lease for good: another history of this state was proved.
    pub fn end_lease(&self) {
        // A round that is under way may not give another one: `fetch_max` is bounded by
        // the process's end, which follows.
        self.freshness.until_ms.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
