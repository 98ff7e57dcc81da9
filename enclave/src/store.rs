//! The store port: where sealed records and log leaves become durable.
//!
//! A store is trusted for availability only. It sees sealed bytes under keyed
//! hashes of their names, and everything that it gives back is authenticated
//! before it is read.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use thiserror::Error;

use crate::audit::sequence::Numbered;

/// Sealed records of more bytes are refused.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// Batches of more writes and leaves together are refused.
pub const MAX_BATCH_ENTRIES: usize = 1_024;

/// The name of a record as a store sees it: an HMAC-SHA-256 over the record's
/// table and name, under a key that never leaves the enclave.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(")?;
        for byte in self.0.iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…)")
    }
}

/// A record that the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// 1 when it is first written, one more with each later write.
    pub generation: u64,
    /// Its sealed bytes, shared with whoever keeps them.
    pub sealed: Arc<[u8]>,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The record's name.
    pub key: Key,
    /// The generation that the record must have now; 0 means that it must not
    /// exist. Otherwise the whole batch is refused.
    pub expected_generation: u64,
    /// The new sealed bytes, at generation `expected_generation + 1`; `None`
    /// deletes the record.
    pub sealed: Option<Vec<u8>>,
}

/// Which log a leaf belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Log {
    /// Registry, policy, freezes, grants, keys.
    Control,
    /// Decisions, issuances, refreshes and gateway calls of this boot.
    Issuance,
}

/// A leaf to append to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The log.
    pub log: Log,
    /// The leaf's bytes.
    pub bytes: Vec<u8>,
    pub(crate) numbered: Numbered,
}

impl Leaf {
    /// A leaf with these bytes.
    #[must_use]
    pub fn new(log: Log, bytes: Vec<u8>) -> Self {
        Self {
            log,
            bytes,
            numbered: Numbered::default(),
        }
    }
}

/// Records and leaves that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Compared and set, all or none.
    pub writes: Vec<Write>,
    /// Appended in this order.
    pub leaves: Vec<Leaf>,
}

/// Where the leaves of a batch stand: the place of the first one in each stream.
/// The others follow it in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// In the control stream.
    pub control: u64,
    /// In the issuance stream.
    pub issuance: u64,
}

/// A store's word that a batch is durable. Answers that depend on a batch can
/// be opened with its receipt only, see [`Pending`](crate::pending::Pending).
#[derive(Debug)]
#[must_use = "the receipt releases what waits for the batch"]
pub struct Committed {
    places: Places,
}

impl Committed {
    /// States that a batch was written and synced. For implementations of
    /// [`Store`] alone: calling it anywhere else breaks the promise that a token
    /// without a leaf does not exist.
    pub fn by_store(places: Places) -> Self {
        Self { places }
    }

    pub(crate) fn places(&self) -> Places {
        self.places
    }
}

/// Why a store could not serve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// A record has another generation than the batch expects.
    #[error("the record was changed by someone else")]
    Conflict {
        /// The record.
        key: Key,
    },
    /// A batch or record is over its bound.
    #[error("the batch is too large")]
    TooLarge,
    /// No space is left; nothing of the batch was kept.
    #[error("the store is out of space")]
    Full,
    /// The medium can't be written; nothing of the batch was kept.
    #[error("the store is read-only")]
    ReadOnly,
    /// Reading or writing failed; nothing of the batch was kept.
    #[error("the store's medium failed ({kind})")]
    Io {
        /// The kind of the failure.
        kind: std::io::ErrorKind,
    },
    /// The store was closed or its writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// Durable storage for sealed records and log leaves.
pub trait Store: Send + Sync + 'static {
    /// The record under a key.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Closed`].
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// At most `limit` records whose keys follow `after`, in key order.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Closed`].
    fn scan(
        &self,
        after: Option<&Key>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// Makes a batch durable, whole. Returns when it is synced.
    ///
    /// # Errors
    /// Any [`StoreError`]; after an error nothing of the batch is visible.
    fn commit(&self, batch: Batch) -> impl Future<Output = Result<Committed, StoreError>> + Send;
}
