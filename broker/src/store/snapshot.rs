//! Writes a snapshot: what a state has come to, in a file of its own that goes on as a store's file.

use enclave::frame::{Chain, FILE_HEADER_BYTES, FrameCipher};
use enclave::store::{Key, Log, Record, StoreError};
use ring::rand::SystemRandom;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::encoding::{self, Begin, End, LEAF_BYTES};
use super::index::{FramePlace, Places};
use super::medium::Medium;
use super::recovery::Recovered;
use super::writer::{internal, io_error};

/// A frame of a snapshot is sealed when its body has come to this. A leaf is
/// read back with its frame, so frames are small.
const BODY_BYTES: usize = 64 * 1024;

/// A file that holds the beginning of a snapshot.
pub(super) struct SnapshotWriter<M> {
    pub(super) medium: M,
    cipher: Arc<FrameCipher>,
    random: SystemRandom,
    begin: Begin,
    chain: Chain,
    end_bytes: u64,
    places: Places,
    body: Vec<u8>,
    leaves: Vec<(Log, Range<usize>)>,
}

/// A file with a whole snapshot, and how it goes on.
pub(super) struct Snapshot<M> {
    pub(super) medium: M,
    pub(super) begin: Begin,
    pub(super) chain: Chain,
    pub(super) end_bytes: u64,
    pub(super) places: Places,
}

impl<M: Medium> SnapshotWriter<M> {
    /// Begins a snapshot in an empty file.
    pub(super) fn begin(
        medium: M,
        cipher: Arc<FrameCipher>,
        random: SystemRandom,
        begin: Begin,
    ) -> Result<Self, StoreError> {
        let (header, chain) = cipher.begin_file(&random).map_err(|_own| internal())?;
        medium
            .write_all_at(&header, 0)
            .map_err(|error| io_error(&error))?;
        let mut body = Vec::new();
        encoding::encode_begin(&begin, &mut body);
        Ok(Self {
            medium,
            cipher,
            random,
            begin,
            chain,
            end_bytes: FILE_HEADER_BYTES as u64,
            places: Places::default(),
            body,
            leaves: Vec::new(),
        })
    }

    /// Goes on with a snapshot whose beginning is in the file.
    pub(super) fn resume(
        medium: M,
        cipher: Arc<FrameCipher>,
        random: SystemRandom,
        begin: Begin,
        found: Recovered,
    ) -> Self {
        Self {
            medium,
            cipher,
            random,
            begin,
            chain: found.frames.chain,
            end_bytes: found.frames.good_bytes,
            places: found.index.into_places(),
            body: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// What a record has come to.
    pub(super) fn set(&mut self, record: &Record) -> Result<(), StoreError> {
        encoding::encode_set(record, &mut self.body).map_err(|_own| internal())?;
        self.seal_if_full()
    }

    /// A record is gone.
    pub(super) fn unset(&mut self, key: &Key) -> Result<(), StoreError> {
        encoding::encode_unset(key, &mut self.body);
        self.seal_if_full()
    }

    /// The next leaf of a log.
    pub(super) fn leaf(&mut self, log: Log, leaf: &[u8]) -> Result<(), StoreError> {
        let start = self.body.len().saturating_add(LEAF_BYTES as usize);
        encoding::encode_leaf(log, leaf, &mut self.body).map_err(|_own| internal())?;
        self.leaves.push((log, start..self.body.len()));
        self.seal_if_full()
    }

    /// Makes what was written durable, but for the last frame that isn't full.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.medium.sync().map_err(|error| io_error(&error))
    }

    /// Ends the snapshot and makes the file durable.
    pub(super) fn end(mut self, end: &End) -> Result<Snapshot<M>, StoreError> {
        encoding::encode_end(end, &mut self.body);
        self.seal()?;
        self.sync()?;
        let Self {
            medium,
            begin,
            chain,
            end_bytes,
            places,
            ..
        } = self;
        Ok(Snapshot {
            medium,
            begin,
            chain,
            end_bytes,
            places,
        })
    }

    fn seal_if_full(&mut self) -> Result<(), StoreError> {
        if self.body.len() < BODY_BYTES {
            return Ok(());
        }
        self.seal()
    }

    fn seal(&mut self) -> Result<(), StoreError> {
        let mut frame = Vec::new();
        let next = self
            .cipher
            .seal(&self.chain, &self.random, &self.body, &mut frame)
            .map_err(|_random_or_exhausted| internal())?;
        self.medium
            .write_all_at(&frame, self.end_bytes)
            .map_err(|error| io_error(&error))?;
        let place = FramePlace {
            offset: self.end_bytes,
            chain: self.chain,
        };
        let number = self.places.frame(place).map_err(|_over| internal())?;
        for (log, bytes) in mem::take(&mut self.leaves) {
            self.places
                .leaf(log, number, &bytes)
                .map_err(|_over| internal())?;
        }
        self.body.clear();
        self.chain = next;
        self.end_bytes = self.end_bytes.saturating_add(frame.len() as u64);
        Ok(())
    }
}
