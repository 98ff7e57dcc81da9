//! Compaction: the state is written as a snapshot into a new file, which takes the old one's name, while commits go on.
//!
//! A thread of its own copies records and leaves, then again what has changed
//! meanwhile, until little is left. The writer adds the rest between two groups
//! of batches, ends the snapshot, makes it durable, renames it and makes the
//! name durable; then it goes on in the new file. A crash before the rename
//! leaves the old file as it was, and one after it a file that holds all that
//! was acknowledged.

use enclave::store::{Key, Log, StoreError};
use ring::rand::SystemRandom;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::encoding::Begin;
use super::medium::Folder;
use super::reader::read_leaves;
use super::snapshot::SnapshotWriter;
use super::writer::{Shared, io_error};

/// A snapshot that is not whole yet. One that a crash left is removed at the next start.
pub const NEW_FILE_NAME: &str = "store.tk.compact";

/// Records or leaves that are copied at a time: commits wait for no more.
const COPIED_AT_A_TIME: usize = 512;

/// The writer is handed the rest when no more entries than this are left, or
/// after [`MAX_ROUNDS`].
const FEW: usize = 128;

/// Rounds of copying what changed in the round before.
const MAX_ROUNDS: usize = 8;

/// What a compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the file before.
    pub before_bytes: u64,
    /// Bytes of the file after.
    pub after_bytes: u64,
    /// How many compactions the state has come through.
    pub epoch: u64,
}

/// A copy of a state at about one time.
pub(super) struct Copied<F: Folder> {
    pub(super) file: SnapshotWriter<F::File>,
    /// Leaves of both logs that are in it.
    leaves: [u64; 2],
}

const LOGS: [Log; 2] = [Log::Control, Log::Issuance];

/// Copies the state but for what changes in the last round, which the index
/// goes on noting.
pub(super) fn copy<F: Folder>(
    shared: &Shared<F>,
    random: SystemRandom,
    origin: [u8; 32],
) -> Result<Copied<F>, StoreError> {
    let epoch = {
        let mut index = shared.index.write();
        drop(index.note_changes());
        index.snapshot().map_or(0, |snapshot| snapshot.epoch)
    };
    let begin = Begin {
        epoch: epoch.saturating_add(1),
        origin,
        envelope: [0; 32],
    };
    let medium = shared
        .folder
        .create(NEW_FILE_NAME)
        .map_err(|error| io_error(&error))?;
    let cipher = Arc::clone(&shared.cipher);
    let mut copied = Copied {
        file: SnapshotWriter::begin(medium, cipher, random, begin)?,
        leaves: [0; 2],
    };
    copy_records(shared, &mut copied)?;
    for _round in 0..MAX_ROUNDS {
        copied.add_leaves(shared)?;
        let changed = shared.index.write().note_changes();
        let few = changed.len() <= FEW;
        copied.add_changed(shared, &changed)?;
        if few {
            break;
        }
    }
    // So that the writer's own sync has little to do.
    copied.file.sync()?;
    Ok(copied)
}

fn copy_records<F: Folder>(shared: &Shared<F>, copied: &mut Copied<F>) -> Result<(), StoreError> {
    let mut after: Option<Key> = None;
    loop {
        shared.goes_on()?;
        let records = shared.index.read().scan(after.as_ref(), COPIED_AT_A_TIME);
        let Some(last) = records.last() else {
            return Ok(());
        };
        after = Some(last.key);
        for record in &records {
            copied.file.set(record)?;
        }
    }
}

impl<F: Folder> Copied<F> {
    /// Adds what records have come to that changed.
    pub(super) fn add_changed(
        &mut self,
        shared: &Shared<F>,
        changed: &BTreeSet<Key>,
    ) -> Result<(), StoreError> {
        for key in changed {
            let record = shared.index.read().record(key);
            match record {
                Some(record) => self.file.set(&record)?,
                None => self.file.unset(key)?,
            }
        }
        Ok(())
    }

    /// Adds the leaves that aren't in it yet.
    pub(super) fn add_leaves(&mut self, shared: &Shared<F>) -> Result<(), StoreError> {
        for (log, count) in LOGS.into_iter().zip(&mut self.leaves) {
            loop {
                let leaves = read_leaves(shared, log, *count, COPIED_AT_A_TIME)?;
                if leaves.is_empty() {
                    break;
                }
                for leaf in &leaves {
                    self.file.leaf(log, leaf)?;
                }
                *count = count.saturating_add(leaves.len() as u64);
            }
        }
        Ok(())
    }
}

impl<F: Folder> Shared<F> {
    /// # Errors
    /// [`StoreError::Closed`] when the store is being closed.
    fn goes_on(&self) -> Result<(), StoreError> {
        if self.closing.load(Ordering::Acquire) || self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(())
    }
}
