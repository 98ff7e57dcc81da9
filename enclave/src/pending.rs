//! Answers that wait until what they depend on is durable.

use crate::audit::sequence::{Seat, UnderWay};
use crate::freeze::Touched;
use crate::policy::Denied;
use crate::store::{Batch, Log, Places, Store, StoreError};
use crate::view::Effect;
use tlog::{Hash, leaf_hash};

/// An answer behind a batch. It comes out by [`commit`](Self::commit) and then
/// [`Enclave::release`](crate::Enclave::release), which checks the freezes once
/// more; there is no other way.
///
/// ```compile_fail
/// fn cheat(pending: enclave::pending::Pending<String>) -> String {
///     pending.value // private
/// }
/// ```
#[must_use = "commit the batch, then release the answer"]
#[derive(Debug)]
pub struct Pending<T> {
    batch: Batch,
    seats: Vec<Seat>,
    answer: Durable<T>,
}

/// An answer whose batch is durable.
///
/// ```compile_fail
/// fn cheat(durable: enclave::pending::Durable<String>) -> String {
///     durable.value // private
/// }
/// ```
#[must_use = "release the answer"]
#[derive(Debug)]
pub struct Durable<T> {
    pub(crate) effects: Vec<Effect>,
    pub(crate) touched: Touched,
    /// A refusal that had to be written down is known before its leaf is durable.
    pub(crate) value: Result<T, Denied>,
    /// The batch's leaves, where they stand.
    pub(crate) leaves: Vec<StoredLeaf>,
}

/// A leaf of a batch that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredLeaf {
    pub(crate) log: Log,
    pub(crate) place: u64,
    pub(crate) hash: Hash,
}

impl StoredLeaf {
    /// Gives hashes of leaves, in the batch's order, their places.
    fn place_all(hashes: Vec<(Log, Hash)>, mut next: Places) -> Vec<Self> {
        let stored = hashes.into_iter().map(|(log, hash)| {
            let next = match log {
                Log::Control => &mut next.control,
                Log::Issuance => &mut next.issuance,
            };
            let place = *next;
            *next = place.saturating_add(1);
            Self { log, place, hash }
        });
        stored.collect()
    }
}

impl<T> Pending<T> {
    pub(crate) fn new(batch: Batch, effects: Vec<Effect>, touched: Touched, value: T) -> Self {
        Self::with(batch, effects, touched, Ok(value))
    }

    /// A refusal that is told when it is written down.
    pub(crate) fn refused(batch: Batch, denied: Denied) -> Self {
        Self::refused_with(batch, Vec::new(), denied)
    }

    /// A refusal that changes something when it is written down.
    pub(crate) fn refused_with(batch: Batch, effects: Vec<Effect>, denied: Denied) -> Self {
        Self::with(batch, effects, Touched::nothing(), Err(denied))
    }

    fn with(
        batch: Batch,
        effects: Vec<Effect>,
        touched: Touched,
        value: Result<T, Denied>,
    ) -> Self {
        let answer = Durable {
            effects,
            touched,
            value,
            leaves: Vec::new(),
        };
        let leaves = batch.leaves.iter();
        let seats = leaves.filter_map(|leaf| leaf.numbered.take()).collect();
        Self {
            batch,
            seats,
            answer,
        }
    }

    /// Whether the batch changes what the control log records: such a change is
    /// acknowledged when it is cosigned, if there are witnesses.
    #[must_use]
    pub fn is_control(&self) -> bool {
        let mut leaves = self.batch.leaves.iter();
        leaves.any(|leaf| leaf.log == Log::Control)
    }

    /// Makes the batch durable.
    ///
    /// # Errors
    /// Any [`StoreError`]; the answer is lost then and must not be given.
    pub async fn commit(self, store: &impl Store) -> Result<Durable<T>, StoreError> {
        let Self {
            batch,
            seats,
            mut answer,
        } = self;
        let seats = UnderWay::new(seats);
        let leaves = batch.leaves.iter();
        let hashes = leaves.map(|leaf| (leaf.log, leaf_hash(&leaf.bytes)));
        let hashes = hashes.collect();
        match store.commit(batch).await {
            Ok(committed) => {
                answer.leaves = StoredLeaf::place_all(hashes, committed.places());
                Ok(answer)
            }
            // What became of the batch is not known.
            Err(StoreError::Closed) => Err(StoreError::Closed),
            Err(error) => {
                seats.refused();
                Err(error)
            }
        }
    }
}
