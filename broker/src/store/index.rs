//! What the store's file holds, in memory: records whole, leaves by place.

use enclave::frame::Chain;
use enclave::store::{Key, Log, Record};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

use super::embedded::Stats;
use super::encoding::{Begin, Counts, Entry, LEAF_BYTES, SET_BYTES};
use super::records::{Full, Records, Stored};

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

/// Where the frames and leaves of one file lie.
#[derive(Default)]
pub(super) struct Places {
    frames: Vec<FramePlace>,
    control: Vec<LeafPlace>,
    issuance: Vec<LeafPlace>,
}

impl Places {
    /// Numbers the next frame.
    pub(super) fn frame(&mut self, place: FramePlace) -> Result<u32, ApplyError> {
        let number = u32::try_from(self.frames.len()).map_err(|_over| ApplyError::Overflow)?;
        self.frames.push(place);
        Ok(number)
    }

    /// Takes in a leaf of a frame.
    pub(super) fn leaf(
        &mut self,
        log: Log,
        frame: u32,
        bytes: &Range<usize>,
    ) -> Result<(), ApplyError> {
        let place = LeafPlace {
            frame,
            start: u32::try_from(bytes.start).map_err(|_over| ApplyError::Overflow)?,
            length: u32::try_from(bytes.len()).map_err(|_over| ApplyError::Overflow)?,
        };
        match log {
            Log::Control => self.control.push(place),
            Log::Issuance => self.issuance.push(place),
        }
        Ok(())
    }

    fn leaves(&self, log: Log) -> &[LeafPlace] {
        match log {
            Log::Control => &self.control,
            Log::Issuance => &self.issuance,
        }
    }
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
    /// An entry of a snapshot behind it, or one of the tail within it.
    #[error("an entry stands where its kind may not")]
    OutOfPlace,
    /// A snapshot does not hold as much as it says.
    #[error("the snapshot does not hold what it says that it holds")]
    Counts,
}

/// Which part of a file is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Nothing was read: a snapshot may begin.
    #[default]
    Front,
    Snapshot,
    Tail,
}

/// The index over one file.
#[derive(Default)]
pub(super) struct Index {
    records: Records,
    places: Places,
    part: Part,
    snapshot: Option<Begin>,
    live_bytes: u64,
    /// Records that changed since a snapshot of them was begun.
    changed: Option<BTreeSet<Key>>,
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
        self.records
            .following(after)
            .take(limit)
            .map(|(key, stored)| record(key, stored))
            .collect()
    }

    /// At most `limit` records in the order in which they lie in memory, from the place `from` on; and the place to go on
    /// from. Good for one pass while nothing changes.
    pub(super) fn sweep(&self, from: usize, limit: usize) -> (Vec<Record>, usize) {
        let mut next = from;
        let found = self.records.in_place(from).take(limit);
        let records = found.map(|(place, key, stored)| {
            next = place.saturating_add(1);
            record(key, stored)
        });
        (records.collect(), next)
    }

    /// The last record's key.
    pub(super) fn last_key(&self) -> Option<Key> {
        self.records.last_key()
    }

    pub(super) fn into_places(self) -> Places {
        self.places
    }

    pub(super) fn record_count(&self) -> usize {
        self.records.len()
    }

    pub(super) fn frame_count(&self) -> usize {
        self.places.frames.len()
    }

    pub(super) fn frame(&self, frame: u32) -> Option<FramePlace> {
        let frame = usize::try_from(frame).ok()?;
        self.places.frames.get(frame).copied()
    }

    pub(super) fn leaves(&self, log: Log) -> &[LeafPlace] {
        self.places.leaves(log)
    }

    /// The snapshot that the file begins with.
    pub(super) fn snapshot(&self) -> Option<&Begin> {
        self.snapshot.as_ref()
    }

    /// Whether the file ends within its snapshot.
    pub(super) fn is_within_snapshot(&self) -> bool {
        self.part == Part::Snapshot
    }

    pub(super) fn stats(&self, file_bytes: u64) -> Stats {
        let Counts {
            records,
            control,
            issuance,
        } = self.counts();
        Stats {
            file_bytes,
            live_bytes: self.live_bytes,
            frames: self.places.frames.len() as u64,
            records,
            control_leaves: control,
            issuance_leaves: issuance,
            epoch: self.snapshot.map_or(0, |snapshot| snapshot.epoch),
        }
    }

    /// Bytes of the entries that a snapshot would hold.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            records: self.records.len() as u64,
            control: self.places.control.len() as u64,
            issuance: self.places.issuance.len() as u64,
        }
    }

    /// Notes from now on which records change. Gives those noted so far.
    pub(super) fn note_changes(&mut self) -> BTreeSet<Key> {
        self.changed.replace(BTreeSet::new()).unwrap_or_default()
    }

    /// Notes no more which records change. Gives those noted so far.
    pub(super) fn end_noting(&mut self) -> BTreeSet<Key> {
        self.changed.take().unwrap_or_default()
    }

    /// The same state now lies in another file, which begins with a snapshot.
    pub(super) fn move_to(&mut self, places: Places, snapshot: Begin) {
        self.places = places;
        self.snapshot = Some(snapshot);
        self.part = Part::Tail;
    }

    /// Takes in the entries of the frame at `place`.
    pub(super) fn apply(
        &mut self,
        place: FramePlace,
        body: &[u8],
        entries: Vec<Entry>,
    ) -> Result<(), ApplyError> {
        let frame = self.places.frame(place)?;
        for entry in entries {
            self.place(&entry)?;
            match entry {
                Entry::Put {
                    key,
                    expected_generation,
                    sealed,
                } => {
                    self.expect(&key, expected_generation)?;
                    let generation = expected_generation
                        .checked_add(1)
                        .ok_or(ApplyError::Overflow)?;
                    let sealed = body.get(sealed).ok_or(ApplyError::Overflow)?;
                    self.set(key, generation, sealed)?;
                }
                Entry::Delete {
                    key,
                    expected_generation,
                } => {
                    self.expect(&key, expected_generation)?;
                    self.unset(&key);
                }
                Entry::Leaf { log, bytes } => {
                    self.places.leaf(log, frame, &bytes)?;
                    let entry_bytes = LEAF_BYTES.saturating_add(bytes.len() as u64);
                    self.live_bytes = self.live_bytes.saturating_add(entry_bytes);
                }
                Entry::Begin(begin) => self.snapshot = Some(begin),
                Entry::Set {
                    key,
                    generation,
                    sealed,
                } => {
                    let sealed = body.get(sealed).ok_or(ApplyError::Overflow)?;
                    self.set(key, generation, sealed)?;
                }
                Entry::Unset { key } => self.unset(&key),
                Entry::End(end) => {
                    if end.counts != self.counts() {
                        return Err(ApplyError::Counts);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether an entry may stand where the file has come to, and where that leads.
    fn place(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        self.part = match (self.part, entry) {
            (Part::Front, Entry::Begin(_))
            | (Part::Snapshot, Entry::Set { .. } | Entry::Unset { .. } | Entry::Leaf { .. }) => {
                Part::Snapshot
            }
            (Part::Snapshot, Entry::End(_))
            | (
                Part::Front | Part::Tail,
                Entry::Put { .. } | Entry::Delete { .. } | Entry::Leaf { .. },
            ) => Part::Tail,
            (Part::Front, Entry::Set { .. } | Entry::Unset { .. } | Entry::End(_))
            | (Part::Snapshot, Entry::Begin(_) | Entry::Put { .. } | Entry::Delete { .. })
            | (
                Part::Tail,
                Entry::Begin(_) | Entry::Set { .. } | Entry::Unset { .. } | Entry::End(_),
            ) => return Err(ApplyError::OutOfPlace),
        };
        Ok(())
    }

    fn set(&mut self, key: Key, generation: u64, sealed: &[u8]) -> Result<(), ApplyError> {
        let stored = Stored {
            generation,
            sealed: sealed.into(),
        };
        self.live_bytes = self.live_bytes.saturating_add(set_bytes(&stored));
        let before = self.records.insert(key, stored);
        if let Some(before) = before.map_err(|Full| ApplyError::Overflow)? {
            self.live_bytes = self.live_bytes.saturating_sub(set_bytes(&before));
        }
        self.note(key);
        Ok(())
    }

    fn unset(&mut self, key: &Key) {
        if let Some(before) = self.records.remove(key) {
            self.live_bytes = self.live_bytes.saturating_sub(set_bytes(&before));
        }
        self.note(*key);
    }

    fn note(&mut self, key: Key) {
        if let Some(changed) = &mut self.changed {
            changed.insert(key);
        }
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

fn set_bytes(stored: &Stored) -> u64 {
    SET_BYTES.saturating_add(stored.sealed.len() as u64)
}

fn record(key: &Key, stored: &Stored) -> Record {
    Record {
        key: *key,
        generation: stored.generation,
        sealed: Arc::clone(&stored.sealed),
    }
}
