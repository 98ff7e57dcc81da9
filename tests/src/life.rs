//! A store's life whose every write can be foretold, and the ledger of what was acknowledged.
//!
//! Records are written again and again. What stands under a key at a generation follows from both, and each write has
//! a leaf that names it: so whatever a store shows after a crash is right or wrong without doubt.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a store that can't be examined fails the test"
)]

use std::collections::BTreeMap;

use broker::store::{EmbeddedStore, Folder};
use enclave::frame::FrameCipher;
use enclave::store::{Batch, Key, Leaf, Log, Store, Write};
use zeroize::Zeroizing;

use crate::disk::Dice;

/// What the stores of these tests are sealed under.
#[must_use]
pub fn cipher() -> FrameCipher {
    FrameCipher::new(Zeroizing::new([0x5a; 32]))
}

/// The key of a number.
#[must_use]
pub fn key(n: u64) -> Key {
    let mut key = [7; 32];
    for (to, from) in key.iter_mut().zip(n.to_be_bytes()) {
        *to = from;
    }
    Key(key)
}

/// What is written under a key at a generation: nothing else is ever right.
#[must_use]
pub fn value(n: u64, generation: u64) -> Vec<u8> {
    let mut dice = Dice::new((n << 32) | generation);
    let length = 40 + dice.below(400);
    (0..length)
        .map(|_| u8::try_from(dice.below(256)).unwrap())
        .collect()
}

/// The write of the next generation, with a leaf that says so.
#[must_use]
pub fn step(n: u64, generation: u64) -> Batch {
    let next = generation + 1;
    Batch {
        writes: vec![Write {
            key: key(n),
            expected_generation: generation,
            sealed: Some(value(n, next)),
        }],
        leaves: vec![Leaf::new(Log::Issuance, format!("{n} {next}").into_bytes())],
    }
}

/// What was acknowledged, by key.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    acknowledged: BTreeMap<u64, u64>,
}

/// What a store that was opened again shows against the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Writes that were acknowledged and are not there.
    pub lost: u64,
    /// What is there and was never written.
    pub wrong: u64,
}

impl Findings {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.wrong += other.wrong;
    }
}

impl Ledger {
    /// A generation was acknowledged.
    pub fn acknowledge(&mut self, n: u64, generation: u64) {
        let last = self.acknowledged.entry(n).or_default();
        *last = generation.max(*last);
    }

    /// A store that does not open has lost all.
    #[must_use]
    pub fn all_lost(&self) -> Findings {
        Findings {
            lost: self.acknowledged.values().sum::<u64>().max(1),
            wrong: 0,
        }
    }

    /// Holds a store against what it must hold.
    ///
    /// # Panics
    /// The store can't be read.
    pub async fn examine<F: Folder>(&self, store: &EmbeddedStore<F>) -> Findings {
        let mut findings = Findings::default();
        let mut told = BTreeMap::<u64, u64>::new();
        for leaf in issuance(store) {
            let Some((n, generation)) = parsed(&leaf) else {
                findings.wrong += 1;
                continue;
            };
            let last = told.entry(n).or_default();
            // In their order, each once.
            findings.wrong += u64::from(generation != *last + 1);
            *last = generation;
        }
        // What was written before the ledger was begun, too.
        for n in told.keys().chain(self.acknowledged.keys()) {
            let found = store.get(&key(*n)).await.unwrap();
            let generation = found.as_ref().map_or(0, |record| record.generation);
            let right = found.is_none_or(|record| *record.sealed == *value(*n, generation));
            findings.wrong += u64::from(!right);
            // A record and its leaf are there together.
            findings.wrong += u64::from(told.get(n).copied().unwrap_or_default() != generation);
            let acknowledged = self.acknowledged.get(n).copied().unwrap_or_default();
            findings.lost += acknowledged.saturating_sub(generation);
        }
        let records = store.stats().unwrap().records;
        findings.wrong += records.saturating_sub(told.len() as u64);
        findings
    }
}

/// The number and generation that a leaf names.
#[must_use]
pub fn parsed(leaf: &[u8]) -> Option<(u64, u64)> {
    let (n, generation) = std::str::from_utf8(leaf).ok()?.split_once(' ')?;
    Some((n.parse().ok()?, generation.parse().ok()?))
}

fn issuance<F: Folder>(store: &EmbeddedStore<F>) -> Vec<Vec<u8>> {
    let (mut all, count) = (Vec::new(), store.leaf_count(Log::Issuance).unwrap());
    while (all.len() as u64) < count {
        let from = all.len() as u64;
        all.extend(store.leaves(Log::Issuance, from, 1_000).unwrap());
    }
    all
}
