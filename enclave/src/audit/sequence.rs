//! Sequence numbers: each tenant's leaves are numbered from 1, across boots and
//! logs, and no number is left out, so that a tenant sees if a leaf is kept from
//! it.
//!
//! A number is taken when a leaf is made, before its batch is durable. If the
//! store refuses the batch, the number is given back and the next leaf takes it.
//! What nobody gave back (the service ended while a batch was under way) is found
//! missing at the next boot, which writes leaves that say so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

use crate::ids::TenantId;

/// The most numbers that may be missing: far more than batches can be under way.
const MAX_GAPS: u64 = 65_536;

/// More numbers are missing than can have been under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more sequence numbers are missing than can have been under way")]
pub(crate) struct TooManyMissing;

/// The numbers that leaves have, read in any order: a snapshot holds one log behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenNumbers {
    /// Runs without a gap: the last number by the first.
    runs: BTreeMap<u64, u64>,
}

impl SeenNumbers {
    /// Notes the number of a leaf that is there.
    pub(crate) fn note(&mut self, number: u64) {
        let before = self.runs.range_mut(..=number).next_back();
        let first = match before {
            Some((_, last)) if *last >= number => return,
            Some((first, last)) if last.saturating_add(1) == number => {
                *last = number;
                *first
            }
            Some(_) | None => {
                self.runs.insert(number, number);
                number
            }
        };
        // The run behind it may follow now.
        let next = number.saturating_add(1);
        if next > number
            && let Some(end) = self.runs.remove(&next)
        {
            self.runs.insert(first, end);
        }
    }

    /// What comes behind them.
    pub(crate) fn into_numbers(self) -> Result<Numbers, TooManyMissing> {
        let mut numbers = Numbers::default();
        for (first, last) in self.runs {
            let missing = numbers.last.saturating_add(1)..first;
            let more = missing.end.saturating_sub(missing.start);
            let gaps = u64::try_from(numbers.free.len()).unwrap_or(u64::MAX);
            if gaps.saturating_add(more) > MAX_GAPS {
                return Err(TooManyMissing);
            }
            numbers.free.extend(missing);
            numbers.last = last;
        }
        Ok(numbers)
    }
}

/// The numbers of one tenant, or the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// The highest that was taken.
    last: u64,
    /// Lower ones that no leaf has.
    free: BTreeSet<u64>,
}

impl Numbers {
    fn take(&mut self) -> u64 {
        if let Some(number) = self.free.pop_first() {
            return number;
        }
        self.last = self.last.saturating_add(1);
        self.last
    }

    fn give_back(&mut self, number: u64) {
        if number == self.last {
            self.last = self.last.saturating_sub(1);
            while self.last > 0 && self.free.remove(&self.last) {
                self.last = self.last.saturating_sub(1);
            }
        } else {
            self.free.insert(number);
        }
    }

    #[cfg(test)]
    pub(crate) fn gaps(&self) -> BTreeSet<u64> {
        self.free.clone()
    }
}

/// All numbers of this enclave.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    by_reader: Mutex<HashMap<Option<TenantId>, Numbers>>,
}

impl Sequences {
    pub(crate) fn new(recovered: HashMap<Option<TenantId>, Numbers>) -> Self {
        Self {
            by_reader: Mutex::new(recovered),
        }
    }

    /// Whose numbers have gaps: each reader once for each number that it misses,
    /// `most` in all.
    pub(crate) fn gaps(&self, most: usize) -> Vec<Option<TenantId>> {
        let by_reader = self.by_reader.lock();
        let gaps = by_reader
            .iter()
            .flat_map(|(reader, numbers)| std::iter::repeat_n(reader, numbers.free.len()));
        gaps.take(most).cloned().collect()
    }

    /// The next number for a tenant's leaf, or the system's.
    pub(crate) fn take(self: &Arc<Self>, tenant: Option<&TenantId>) -> Seat {
        let mut by_reader = self.by_reader.lock();
        let reader = tenant.cloned();
        let number = match by_reader.get_mut(&reader) {
            Some(numbers) => numbers.take(),
            None => by_reader.entry(reader.clone()).or_default().take(),
        };
        Seat {
            of: Some((Arc::clone(self), reader)),
            number,
        }
    }
}

/// A number that a leaf has. Dropped, it is given back, unless it was
/// [`kept`](Self::keep).
#[derive(Debug)]
pub(crate) struct Seat {
    of: Option<(Arc<Sequences>, Option<TenantId>)>,
    number: u64,
}

impl Seat {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The leaf is durable, or may be.
    pub(crate) fn keep(&mut self) {
        self.of = None;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((sequences, reader)) = self.of.take()
            && let Some(numbers) = sequences.by_reader.lock().get_mut(&reader)
        {
            numbers.give_back(self.number);
        }
    }
}

/// A leaf's number on its way to the answer that waits for the leaf. It is no
/// part of the leaf as it is stored or compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbered(Option<Arc<Mutex<Option<Seat>>>>);

impl Numbered {
    pub(crate) fn new(seat: Seat) -> Self {
        Self(Some(Arc::new(Mutex::new(Some(seat)))))
    }

    /// Takes the number out.
    pub(crate) fn take(&self) -> Option<Seat> {
        self.0.as_ref()?.lock().take()
    }
}

impl PartialEq for Numbered {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Numbered {}

/// The numbers of a batch that the store has in hand. Dropped before
/// [`refused`](Self::refused) they are kept: the batch may be durable.
#[derive(Debug)]
pub(crate) struct UnderWay(Vec<Seat>);

impl UnderWay {
    pub(crate) fn new(seats: Vec<Seat>) -> Self {
        Self(seats)
    }

    /// The store has not kept the batch: its numbers are free again.
    pub(crate) fn refused(mut self) {
        self.0.clear();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Seat::keep);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_back_is_the_next() {
        let sequences = Arc::new(Sequences::default());
        let [mut one, two, mut three] = [(); 3].map(|()| sequences.take(None));
        assert_eq!((one.number(), two.number(), three.number()), (1, 2, 3));
        one.keep();
        three.keep();
        drop(two);
        let next = sequences.take(None);
        assert_eq!(next.number(), 2);
        let after = sequences.take(None);
        assert_eq!(after.number(), 4);
        // From the top down and from below, all come back.
        drop(next);
        drop(after);
        let numbers = [(); 3].map(|()| {
            let mut seat = sequences.take(None);
            seat.keep();
            seat.number()
        });
        assert_eq!(numbers, [2, 4, 5]);
    }

    #[test]
    fn what_is_missing_is_found_and_used() {
        let seen = |all: &mut dyn Iterator<Item = u64>| {
            let mut seen = SeenNumbers::default();
            all.for_each(|number| seen.note(number));
            seen.into_numbers()
        };
        let mut numbers = seen(&mut [2, 1, 5].into_iter()).unwrap();
        assert_eq!(numbers.gaps(), BTreeSet::from([3, 4]));
        assert_eq!([(); 3].map(|()| numbers.take()), [3, 4, 6]);
        assert_eq!(seen(&mut [].into_iter()), Ok(Numbers::default()));
        // As many may be missing, in one place or in many.
        let last = MAX_GAPS + 1;
        let numbers = seen(&mut [last].into_iter()).unwrap();
        assert_eq!(numbers.gaps().len() as u64, MAX_GAPS);
        for too_many in [vec![last + 1], vec![u64::MAX], vec![2, last + 2]] {
            let found = seen(&mut too_many.clone().into_iter());
            assert_eq!(found, Err(TooManyMissing), "{too_many:?}");
        }
        // What is missing for a while, because the other log stands behind, is not missing.
        let control = [1, 70_000, 140_000];
        let issuance = (2..140_000).filter(|number| *number != 70_000);
        let mut numbers = seen(&mut control.into_iter().chain(issuance)).unwrap();
        assert_eq!((numbers.gaps().len(), numbers.take()), (0, 140_001));
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_read_in_any_order(all in proptest::collection::vec(1..60_u64, 0..60)) {
            let mut seen = SeenNumbers::default();
            for number in &all {
                seen.note(*number);
            }
            let numbers = seen.into_numbers().unwrap();
            let last = all.iter().copied().max().unwrap_or_default();
            let missing: BTreeSet<u64> = (1..=last).filter(|number| !all.contains(number)).collect();
            proptest::prop_assert_eq!(numbers.last, last);
            proptest::prop_assert_eq!(numbers.free, missing);
        }
    }
}
