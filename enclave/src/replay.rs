//! The replay cache: each proof is accepted once.
//!
//! A proof is acceptable while its nonce is, so an entry lives as long as its
//! nonce's step and never less. Entries stand in one bucket a step; a dead step
//! goes as a whole. Full means refuse.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use thiserror::Error;

use crate::nonce::Step;
use crate::time::Now;

/// Why a proof was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// It was seen before.
    #[error("the proof was used before")]
    Replayed,
    /// No more proofs can be remembered until older ones end.
    #[error("too many proofs in this time span")]
    Full,
}

type ReplayId = [u8; 16];

/// Remembers proofs while they could be replayed.
#[derive(Debug)]
pub struct ReplayCache {
    capacity: usize,
    buckets: Mutex<VecDeque<(Step, HashSet<ReplayId>)>>,
}

impl ReplayCache {
    /// A cache for at most `capacity` proofs (16 bytes each, and overhead).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            buckets: Mutex::new(VecDeque::new()),
        }
    }

    /// How many proofs it may hold.
    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many proofs are remembered; those of steps that have ended count until the next proof comes.
    pub(crate) fn len(&self) -> usize {
        let buckets = self.buckets.lock();
        buckets.iter().map(|(_, bucket)| bucket.len()).sum()
    }

    /// Records a proof, atomically: of two that are equal, one is refused.
    ///
    /// # Errors
    /// [`ReplayError::Replayed`] or [`ReplayError::Full`].
    pub fn insert(&self, step: Step, id: ReplayId, now: &Now) -> Result<(), ReplayError> {
        let mut buckets = self.buckets.lock();
        buckets.retain(|(step, _)| step.is_live(now));
        let mut held: usize = 0;
        for (_, bucket) in buckets.iter() {
            if bucket.contains(&id) {
                return Err(ReplayError::Replayed);
            }
            held = held.saturating_add(bucket.len());
        }
        if held >= self.capacity {
            return Err(ReplayError::Full);
        }
        if let Some((_, bucket)) = buckets.iter_mut().find(|(of, _)| *of == step) {
            bucket.insert(id);
        } else {
            buckets.push_back((step, HashSet::from([id])));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]
mod tests {
    use super::*;
    use crate::nonce::{ACCEPTED_STEPS, STEP_MS};
    use proptest::prelude::*;

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 0,
            hi_s: 0,
            mono_ms,
        }
    }

    #[test]
    fn a_proof_is_remembered_as_long_as_its_own_step_lasts() {
        let cache = ReplayCache::new(10);
        let (first, second) = (at(0), at(STEP_MS));
        let (older, newer) = (Step::of(&first), Step::of(&second));
        let [one, two, three] = [1, 2, 3].map(|n| [n; 16]);
        assert_eq!(cache.insert(older, one, &first), Ok(()));
        assert_eq!(cache.insert(newer, two, &second), Ok(()));
        assert_eq!(cache.insert(newer, three, &second), Ok(()));
        // The older step has ended, the newer one has not.
        let later = at(ACCEPTED_STEPS * STEP_MS);
        assert!(!older.is_live(&later) && newer.is_live(&later));
        for id in [two, three] {
            assert_eq!(cache.insert(newer, id, &later), Err(ReplayError::Replayed));
        }
    }

    #[test]
    fn full_means_refuse_until_a_step_ends() {
        let cache = ReplayCache::new(2);
        let insert = |step: u64, id: u8, ms: u64| cache.insert(Step(step), [id; 16], &at(ms));
        assert_eq!(insert(0, 1, 0), Ok(()));
        assert_eq!(insert(0, 2, 0), Ok(()));
        assert_eq!(insert(0, 3, 0), Err(ReplayError::Full));
        assert_eq!(insert(0, 1, 0), Err(ReplayError::Replayed));
        let later = ACCEPTED_STEPS * STEP_MS;
        assert_eq!(insert(ACCEPTED_STEPS, 3, later), Ok(()));
    }

    proptest! {
        /// An entry outlives the acceptance of its proof.
        #[test]
        fn no_proof_is_accepted_twice(
            made in 0..20 * STEP_MS,
            first in 0..10 * STEP_MS,
            second in 0..10 * STEP_MS,
        ) {
            let cache = ReplayCache::new(10);
            let step = Step::of(&at(made));
            let now = at(made + first);
            prop_assume!(step.is_live(&now));
            prop_assert_eq!(cache.insert(step, [7; 16], &now), Ok(()));
            let later = at(made + first + second);
            if step.is_live(&later) {
                prop_assert_eq!(cache.insert(step, [7; 16], &later), Err(ReplayError::Replayed));
            }
        }
    }
}
