//! Answers that wait until what they depend on is durable.

use crate::audit::sequence::{Seat, UnderWay};
use crate::freeze::Touched;
use crate::store::{Batch, Store, StoreError};
use crate::view::Effect;

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
    pub(crate) value: T,
}

impl<T> Pending<T> {
    pub(crate) fn new(batch: Batch, effects: Vec<Effect>, touched: Touched, value: T) -> Self {
        let answer = Durable {
            effects,
            touched,
            value,
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
        leaves.any(|leaf| leaf.log == crate::store::Log::Control)
    }

    /// Makes the batch durable.
    ///
    /// # Errors
    /// Any [`StoreError`]; the answer is lost then and must not be given.
    pub async fn commit(self, store: &impl Store) -> Result<Durable<T>, StoreError> {
        let Self {
            batch,
            seats,
            answer,
        } = self;
        let seats = UnderWay::new(seats);
        match store.commit(batch).await {
            Ok(_receipt) => Ok(answer),
            // What became of the batch is not known.
            Err(StoreError::Closed) => Err(StoreError::Closed),
            Err(error) => {
                seats.refused();
                Err(error)
            }
        }
    }
}
