//! The logs, read from the store: what was committed is taken into the trees,
//! and checkpoints, proofs, tiles and entries are made for whoever asks.

use std::sync::Arc;

use enclave::log::{LogError, LogName, Reading, SignedCheckpoint, Wanted};
use enclave::store::{Log, StoreError};
use thiserror::Error;
use tlog::{BundleId, ConsistencyProof, EntryBundle, HashTile, InclusionProof, TileId, TreeHead};

use crate::shell::Shell;

/// Leaves that are read at a time.
const CHUNK: usize = 1_024;

/// Why a log could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogReadError {
    /// The log has no answer.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Shell {
    /// Takes all leaves of a stream in that are durable by now.
    ///
    /// # Errors
    /// [`LogReadError::Store`].
    pub async fn advance_log(&self, log: Log) -> Result<(), LogReadError> {
        let count = self.store.leaf_count(log)?;
        loop {
            let from = self.enclave.logs().taken(log);
            if from >= count {
                return Ok(());
            }
            let leaves = self.read_leaves(log, from, CHUNK).await?;
            self.enclave.logs().take_in(log, from, &leaves)?;
        }
    }

    /// The head of a log, every durable leaf included.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn current_head(&self, name: LogName) -> Result<TreeHead, LogReadError> {
        self.advance_log(name.stream()).await?;
        Ok(self.enclave.logs().current_head(name)?)
    }

    /// The signed head of a log, of at least `at_least` leaves.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn checkpoint(
        &self,
        name: LogName,
        at_least: u64,
    ) -> Result<SignedCheckpoint, LogReadError> {
        self.advance_log(name.stream()).await?;
        let now = self.clock.now();
        Ok(self.enclave.logs().checkpoint(name, at_least, &now)?)
    }

    /// The checkpoint that everybody is shown: of the control log, where there are witnesses, the last one that a
    /// quorum cosigned; else the newest.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn public_checkpoint(&self, name: LogName) -> Result<String, LogReadError> {
        match self.cosigned_checkpoint(name) {
            Some((note, _head)) => Ok(note),
            None => Ok(self.checkpoint(name, 0).await?.note().to_string()),
        }
    }

    /// The last checkpoint of the control log that a quorum of witnesses cosigned, if there are witnesses.
    #[must_use]
    pub fn cosigned_checkpoint(&self, name: LogName) -> Option<(String, TreeHead)> {
        let witnessing = self.witnessing.as_ref();
        witnessing
            .filter(|_| name == LogName::Control)
            .and_then(|witnessing| witnessing.checkpoint())
    }

    /// Leaves of a log that was advanced to them, from an index on; at most 256.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn leaves_at(
        &self,
        name: LogName,
        index: u64,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, LogReadError> {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let wanted = self.enclave.logs().stretch(name, index, count)?;
        self.read_leaves(wanted.log, wanted.from, usize::from(wanted.count))
            .await
    }

    /// The proof that a log at size `new` begins with the log at size `old`.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn consistency_proof(
        &self,
        name: LogName,
        old: u64,
        new: u64,
    ) -> Result<ConsistencyProof, LogReadError> {
        self.advance_log(name.stream()).await?;
        let reading = self.enclave.logs().consistency(name, old, new)?;
        self.read_through(reading).await
    }

    /// The proof that a leaf is in a log at size `size`.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn inclusion_proof(
        &self,
        name: LogName,
        index: u64,
        size: u64,
    ) -> Result<InclusionProof, LogReadError> {
        self.advance_log(name.stream()).await?;
        let reading = self.enclave.logs().inclusion(name, index, size)?;
        self.read_through(reading).await
    }

    /// A hash tile.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn log_tile(&self, name: LogName, id: TileId) -> Result<HashTile, LogReadError> {
        let reading = self.enclave.logs().tile(name, id)?;
        self.read_through(reading).await
    }

    /// A bundle of entries.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn log_entries(
        &self,
        name: LogName,
        id: BundleId,
    ) -> Result<EntryBundle, LogReadError> {
        let wanted = self.enclave.logs().entries(name, id)?;
        let leaves = self.read_wanted(wanted).await?;
        EntryBundle::new(id, leaves).map_err(|_| LogError::Leaves.into())
    }

    async fn read_through<T>(&self, mut reading: Reading<T>) -> Result<T, LogReadError> {
        while let Some(wanted) = reading.wanted() {
            let leaves = self.read_wanted(wanted).await?;
            reading.give(leaves)?;
        }
        Ok(reading.finish()?)
    }

    async fn read_wanted(&self, wanted: Wanted) -> Result<Vec<Vec<u8>>, LogReadError> {
        let Wanted { log, from, count } = wanted;
        let count = usize::from(count);
        let mut leaves = Vec::with_capacity(count);
        while leaves.len() < count {
            let read = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
            let rest = count.saturating_sub(leaves.len());
            let next = self
                .read_leaves(log, from.saturating_add(read), rest)
                .await?;
            leaves.extend(next);
        }
        Ok(leaves)
    }

    /// At least one leaf, at most `limit`.
    async fn read_leaves(
        &self,
        log: Log,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, LogReadError> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || store.leaves(log, from, limit));
        let leaves = read.await.map_err(|_stopped| StoreError::Closed)??;
        if leaves.is_empty() {
            return Err(LogError::Leaves.into());
        }
        Ok(leaves)
    }
}
