//! Spent assertions: each is accepted once.
//!
//! An entry lives until its assertion has expired by the same clock that refuses
//! it then, so it outlives its acceptance. Bounded for each client and for all;
//! full means refuse.

use std::collections::{BTreeSet, HashMap, HashSet};

use parking_lot::Mutex;

use super::assertion::{Assertion, AssertionError};
use crate::ids::ClientId;
use crate::time::Now;

/// The most live assertions of one client: its rate over the longest life.
pub(crate) const MAX_PER_CLIENT: usize = 16_384;

type Id = [u8; 16];

#[derive(Debug, Default)]
struct OfClient {
    ids: HashSet<Id>,
    by_expiry: BTreeSet<(u64, Id)>,
}

impl OfClient {
    /// Forgets what has expired; gives how many.
    fn forget(&mut self, now: &Now) -> usize {
        let mut gone: usize = 0;
        while let Some((exp_s, id)) = self.by_expiry.first().copied() {
            if exp_s > now.hi_s {
                break;
            }
            self.by_expiry.pop_first();
            self.ids.remove(&id);
            gone = gone.saturating_add(1);
        }
        gone
    }
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    clients: HashMap<ClientId, OfClient>,
}

/// Remembers assertions while they could be replayed.
#[derive(Debug)]
pub(crate) struct SpentAssertions {
    capacity: usize,
    held: Mutex<Held>,
}

impl SpentAssertions {
    /// For at most `capacity` assertions of all clients.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            held: Mutex::new(Held::default()),
        }
    }

    /// How many assertions it may hold.
    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many assertions are remembered, those included that have expired and were not yet forgotten.
    pub(crate) fn len(&self) -> usize {
        self.held.lock().count
    }

    /// Records an assertion, atomically.
    pub(super) fn spend(
        &self,
        client: &ClientId,
        assertion: &Assertion,
        now: &Now,
    ) -> Result<(), AssertionError> {
        let Assertion { id, exp_s } = *assertion;
        let mut held = self.held.lock();
        let Held { count, clients } = &mut *held;
        if *count >= self.capacity {
            // Others' entries count too: look for dead ones everywhere.
            for of_client in clients.values_mut() {
                *count = count.saturating_sub(of_client.forget(now));
            }
            clients.retain(|_, of_client| !of_client.ids.is_empty());
        }
        let of_client = clients.entry(client.clone()).or_default();
        *count = count.saturating_sub(of_client.forget(now));
        if of_client.ids.contains(&id) {
            return Err(AssertionError::Replayed);
        }
        if of_client.ids.len() >= MAX_PER_CLIENT || *count >= self.capacity {
            return Err(AssertionError::Full);
        }
        of_client.ids.insert(id);
        of_client.by_expiry.insert((exp_s, id));
        *count = count.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "small numbers of the test's own"
    )]

    use super::*;
    use proptest::prelude::*;

    fn at(s: u64) -> Now {
        Now {
            lo_s: s.saturating_sub(5),
            hi_s: s,
            mono_ms: 0,
        }
    }

    fn one(id: u8, exp_s: u64) -> Assertion {
        Assertion {
            id: [id; 16],
            exp_s,
        }
    }

    #[test]
    fn full_means_refuse_until_one_expires() {
        let (a, b) = (ClientId::parse("a").unwrap(), ClientId::parse("b").unwrap());
        let spent = SpentAssertions::new(2);
        assert_eq!(spent.spend(&a, &one(1, 10), &at(0)), Ok(()));
        assert_eq!(spent.spend(&b, &one(1, 20), &at(0)), Ok(()));
        let again = spent.spend(&a, &one(1, 10), &at(9));
        assert_eq!(again, Err(AssertionError::Replayed));
        let full = spent.spend(&b, &one(2, 30), &at(9));
        assert_eq!(full, Err(AssertionError::Full));
        assert_eq!(spent.spend(&b, &one(2, 30), &at(10)), Ok(()));
    }

    #[test]
    fn what_has_expired_takes_no_room() {
        let a = ClientId::parse("a").unwrap();
        let spent = SpentAssertions::new(usize::MAX);
        let numbered = |n: usize, exp_s| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            Assertion { id, exp_s }
        };
        for n in 0..MAX_PER_CLIENT {
            assert_eq!(spent.spend(&a, &numbered(n, 10), &at(0)), Ok(()));
        }
        assert_eq!(
            spent.spend(&a, &numbered(MAX_PER_CLIENT, 20), &at(10)),
            Ok(())
        );

        // Nor of all clients' room, however it was forgotten.
        let spent = SpentAssertions::new(3);
        for (id, exp_s, now_s) in [
            (1, 10, 0),
            (2, 30, 20),
            (3, 50, 40),
            (4, 60, 45),
            (5, 60, 46),
        ] {
            assert_eq!(spent.spend(&a, &one(id, exp_s), &at(now_s)), Ok(()), "{id}");
        }
        assert_eq!(
            spent.spend(&a, &one(6, 60), &at(47)),
            Err(AssertionError::Full)
        );
    }

    #[test]
    fn one_client_does_not_use_up_the_others_room() {
        let (a, b) = (ClientId::parse("a").unwrap(), ClientId::parse("b").unwrap());
        let spent = SpentAssertions::new(usize::MAX);
        for n in 0..MAX_PER_CLIENT {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let assertion = Assertion { id, exp_s: 300 };
            assert_eq!(spent.spend(&a, &assertion, &at(0)), Ok(()));
        }
        let full = spent.spend(&a, &one(0xff, 300), &at(0));
        assert_eq!(full, Err(AssertionError::Full));
        assert_eq!(spent.spend(&b, &one(0xff, 300), &at(0)), Ok(()));
    }

    proptest! {
        /// An entry outlives the acceptance of its assertion.
        #[test]
        fn no_assertion_is_spent_twice(exp_s in 1..400_u64, first in 0..400_u64, more in 0..400_u64, others in 0..50_u8) {
            let client = ClientId::parse("a").unwrap();
            let spent = SpentAssertions::new(1_000);
            prop_assume!(first < exp_s);
            prop_assert_eq!(spent.spend(&client, &one(200, exp_s), &at(first)), Ok(()));
            for other in 0..others {
                prop_assert_eq!(spent.spend(&client, &one(other, exp_s + 1), &at(first)), Ok(()));
            }
            // Later than its expiry it is refused before it gets here.
            if first + more < exp_s {
                let found = spent.spend(&client, &one(200, exp_s), &at(first + more));
                prop_assert_eq!(found, Err(AssertionError::Replayed));
            }
        }
    }
}
