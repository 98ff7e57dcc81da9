//! What the store's file holds, in memory: records whole, leaves by place.

use enclave::frame::Chain;
use enclave::store::{Key, Log, Record};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use thiserror::Error;

use super::encoding::Entry;

/// Where a frame lies and what opens it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FramePlace {
    pub(super) offset: u64,
    pub(super) chain: Chain,
}

/// Where a leaf lies: which frame, and which bytes of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeafPlace {
    pub(super) frame: u32,
    pub(super) start: u32,
    pub(super) length: u32,
}

/// Why the entries of an authentic frame do not follow from what came before:
/// they were written by other code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// An entry expects another generation than the record has.
    #[error("an entry expects generation {expected} where {found} is")]
    Generation {
        /// What the entry expects.
        expected: u64,
        /// What the index holds.
        found: u64,
    },
    /// A number is too large to be kept.
    #[error("the file holds more than can be numbered")]
    Overflow,
}

struct Stored {
    generation: u64,
    sealed: Arc<[u8]>,
}

/// The index over one file.
#[derive(Default)]
pub(super) struct Index {
    records: BTreeMap<Key, Stored>,
    frames: Vec<FramePlace>,
    control: Vec<LeafPlace>,
    issuance: Vec<LeafPlace>,
}

impl Index {
    /// The generation of a record, 0 when there is none.
    pub(super) fn generation(&self, key: &Key) -> u64 {
        self.records.get(key).map_or(0, |stored| stored.generation)
    }

    pub(super) fn record(&self, key: &Key) -> Option<Record> {
        self.records.get(key).map(|stored| record(key, stored))
    }

    pub(super) fn scan(&self, after: Option<&Key>, limit: usize) -> Vec<Record> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.records
            .range::<Key, _>((from, Bound::Unbounded))
            .take(limit)
            .map(|(key, stored)| record(key, stored))
            .collect()
    }

    pub(super) fn record_count(&self) -> usize {
        self.records.len()
    }

    pub(super) fn frame_count(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn frame(&self, frame: u32) -> Option<FramePlace> {
        self.frames.get(usize::try_from(frame).ok()?).copied()
    }

    pub(super) fn leaves(&self, log: Log) -> &[LeafPlace] {
        match log {
            Log::Control => &self.control,
            Log::Issuance => &self.issuance,
        }
    }

    /// Takes in the entries of the frame at `place`.
    pub(super) fn apply(
        &mut self,
        place: FramePlace,
        body: &[u8],
        entries: Vec<Entry>,
    ) -> Result<(), ApplyError> {
        let frame = u32::try_from(self.frames.len()).map_err(|_over| ApplyError::Overflow)?;
        self.frames.push(place);
        for entry in entries {
            match entry {
                Entry::Put {
                    key,
                    expected_generation,
                    sealed,
                } => {
                    self.expect(&key, expected_generation)?;
                    let stored = Stored {
                        generation: expected_generation
                            .checked_add(1)
                            .ok_or(ApplyError::Overflow)?,
                        sealed: body.get(sealed).ok_or(ApplyError::Overflow)?.into(),
                    };
                    self.records.insert(key, stored);
                }
                Entry::Delete {
                    key,
                    expected_generation,
                } => {
                    self.expect(&key, expected_generation)?;
                    self.records.remove(&key);
                }
                Entry::Leaf { log, bytes } => {
                    let place = LeafPlace {
                        frame,
                        start: u32::try_from(bytes.start).map_err(|_over| ApplyError::Overflow)?,
                        length: u32::try_from(bytes.len()).map_err(|_over| ApplyError::Overflow)?,
                    };
                    match log {
                        Log::Control => self.control.push(place),
                        Log::Issuance => self.issuance.push(place),
                    }
                }
            }
        }
        Ok(())
    }

    fn expect(&self, key: &Key, expected: u64) -> Result<(), ApplyError> {
        let found = self.generation(key);
        if found == expected {
            Ok(())
        } else {
            Err(ApplyError::Generation { expected, found })
        }
    }
}

fn record(key: &Key, stored: &Stored) -> Record {
    Record {
        key: *key,
        generation: stored.generation,
        sealed: Arc::clone(&stored.sealed),
    }
}
