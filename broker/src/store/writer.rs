//! The writer: one thread that makes groups of batches durable.
//!
//! It takes what waits in its queue, up to a bound, seals it as one frame,
//! writes and syncs it, and only then shows and acknowledges it. A lone batch
//! waits for nobody; while a sync runs, the batches that arrive gather for the
//! next one.

use enclave::frame::{Chain, FrameCipher};
use enclave::store::{Batch, Committed, Key, StoreError};
use parking_lot::RwLock;
use ring::rand::SystemRandom;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::encoding::{self, MAX_BATCH_BYTES};
use super::index::{FramePlace, Index};
use super::medium::Medium;

/// Batches that may wait; more callers wait for a place in the queue.
pub(super) const QUEUE_BATCHES: usize = 1_024;

/// Batches that one sync serves at most.
const MAX_GROUP_BATCHES: usize = 512;

/// Bytes of batches that one sync serves at most, if it is more than one batch.
const MAX_GROUP_BYTES: usize = MAX_BATCH_BYTES;

/// Told that a sync failed, which must end the process: the system may have
/// dropped what was written and forgotten that it did, so no later success
/// means anything. If it returns, the store closes and answers nobody.
pub type OnSyncFailure = Box<dyn Fn(io::ErrorKind) + Send>;

/// What the queue carries.
pub(super) enum Message {
    Commit(Request),
    /// Wakes the writer, so that it sees that the store is being closed.
    Stop,
}

/// A batch on its way.
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) encoded_bytes: usize,
    pub(super) reply: Reply,
}

/// Takes the answer to a batch.
pub(super) type Reply = oneshot::Sender<Result<Committed, StoreError>>;

/// The parts that readers and the writer share.
pub(super) struct Shared<M> {
    pub(super) medium: M,
    pub(super) cipher: FrameCipher,
    pub(super) index: RwLock<Index>,
    /// Nothing more is taken in.
    pub(super) closing: AtomicBool,
    /// The writer has stopped.
    pub(super) closed: AtomicBool,
}

/// The writer's own state.
pub(super) struct Writer<M> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) random: SystemRandom,
    pub(super) chain: Chain,
    /// The file up to here is durable, authentic and indexed.
    pub(super) good_bytes: u64,
    pub(super) on_sync_failure: OnSyncFailure,
}

impl<M: Medium> Writer<M> {
    /// Serves until the store is closed, or a sync fails.
    pub(super) fn run(mut self) {
        let mut held: Option<Request> = None;
        while let Some(first) = held.take().or_else(|| self.next()) {
            let mut group_bytes = first.encoded_bytes;
            let mut group = vec![first];
            while group.len() < MAX_GROUP_BATCHES {
                let Some(next) = self.waiting() else {
                    break;
                };
                let with_next = group_bytes.saturating_add(next.encoded_bytes);
                if with_next > MAX_GROUP_BYTES {
                    held = Some(next);
                    break;
                }
                group_bytes = with_next;
                group.push(next);
            }
            if let Err(SyncFailed(kind)) = self.commit(group) {
                self.shared.closed.store(true, Ordering::Release);
                (self.on_sync_failure)(kind);
                break;
            }
        }
        self.shared.closed.store(true, Ordering::Release);
    }

    /// The next batch; waits for it unless the store is being closed.
    fn next(&mut self) -> Option<Request> {
        if !self.shared.closing.load(Ordering::Acquire)
            && let Some(Message::Commit(request)) = self.queue.blocking_recv()
        {
            return Some(request);
        }
        // Callers that wait for a place in the queue must not be waited for:
        // they may run on the thread that closes the store.
        self.queue.close();
        self.waiting()
    }

    /// The next batch if one waits.
    fn waiting(&mut self) -> Option<Request> {
        loop {
            match self.queue.try_recv() {
                Ok(Message::Commit(request)) => return Some(request),
                Ok(Message::Stop) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
        }
    }

    fn commit(&mut self, group: Vec<Request>) -> Result<(), SyncFailed> {
        let mut checked = Group::default();
        {
            let index = self.shared.index.read();
            for request in group {
                checked.admit(&index, request);
            }
        }
        let outcome = if checked.body.is_empty() {
            Ok(())
        } else {
            self.append(&checked.body)
        };
        let failure = match outcome {
            Ok(()) => None,
            Err(AppendError::Sync(kind)) => return Err(SyncFailed(kind)),
            Err(AppendError::Store(error)) => Some(error),
        };
        for (conflict, reply) in checked.replies {
            let answer = match (&failure, conflict) {
                // A batch that conflicts with one that was not kept does not
                // conflict: the failure is the answer for all.
                (Some(error), _) => Err(error.clone()),
                (None, Some(key)) => Err(StoreError::Conflict { key }),
                (None, None) => Ok(Committed::by_store()),
            };
            // The caller may have gone; the batch is durable all the same.
            drop(reply.send(answer));
        }
        Ok(())
    }

    /// Makes a body durable as the next frame and shows its entries.
    fn append(&mut self, body: &[u8]) -> Result<(), AppendError> {
        let entries = encoding::decode(body).map_err(|_own_bug| internal())?;
        let mut frame = Vec::new();
        let next = self
            .shared
            .cipher
            .seal(&self.chain, &self.random, body, &mut frame)
            .map_err(|_random_or_exhausted| internal())?;
        let end = self
            .good_bytes
            .checked_add(frame.len() as u64)
            .ok_or(StoreError::Full)?;

        self.cut_back()?;
        if let Err(error) = self.shared.medium.write_all_at(&frame, self.good_bytes) {
            // If this fails too, the next append tries it again before it
            // writes, and a restart drops the torn frame.
            drop(self.shared.medium.truncate(self.good_bytes));
            return Err(AppendError::Store(store_error(error.kind())));
        }
        if let Err(error) = self.shared.medium.sync() {
            return Err(AppendError::Sync(error.kind()));
        }
        let place = FramePlace {
            offset: self.good_bytes,
            chain: self.chain,
        };
        self.chain = next;
        self.good_bytes = end;
        self.shared
            .index
            .write()
            .apply(place, body, entries)
            // Each entry was checked against the same index just before.
            .map_err(|_own_bug| AppendError::Sync(io::ErrorKind::InvalidData))
    }

    /// Removes what an earlier append left behind, if it could not do so itself.
    fn cut_back(&self) -> Result<(), StoreError> {
        let medium = &self.shared.medium;
        let length = medium
            .length_bytes()
            .map_err(|error| store_error(error.kind()))?;
        if length == self.good_bytes {
            return Ok(());
        }
        medium
            .truncate(self.good_bytes)
            .map_err(|error| store_error(error.kind()))
    }
}

struct SyncFailed(io::ErrorKind);

enum AppendError {
    Store(StoreError),
    Sync(io::ErrorKind),
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The batches of one sync: compared with the index and with each other.
#[derive(Default)]
struct Group {
    body: Vec<u8>,
    generations: BTreeMap<Key, u64>,
    /// Who waits, and the key on which they conflict.
    replies: Vec<(Option<Key>, Reply)>,
}

impl Group {
    fn admit(&mut self, index: &Index, request: Request) {
        let mut changes: BTreeMap<Key, u64> = BTreeMap::new();
        for write in &request.batch.writes {
            let found = changes
                .get(&write.key)
                .or_else(|| self.generations.get(&write.key))
                .copied()
                .unwrap_or_else(|| index.generation(&write.key));
            let after = match write.sealed {
                Some(_) => found.checked_add(1),
                None if found > 0 => Some(0),
                // There is nothing to delete.
                None => None,
            };
            match after {
                Some(after) if found == write.expected_generation => {
                    changes.insert(write.key, after);
                }
                Some(_) | None => {
                    self.replies.push((Some(write.key), request.reply));
                    return;
                }
            }
        }
        let before = self.body.len();
        if encoding::encode(&request.batch, &mut self.body).is_err() {
            self.body.truncate(before);
            drop(request.reply.send(Err(StoreError::TooLarge)));
            return;
        }
        self.generations.append(&mut changes);
        self.replies.push((None, request.reply));
    }
}

fn internal() -> StoreError {
    StoreError::Io {
        kind: io::ErrorKind::Other,
    }
}

/// What a failed write means to the caller.
fn store_error(kind: io::ErrorKind) -> StoreError {
    if matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    ) {
        StoreError::Full
    } else if matches!(
        kind,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    ) {
        StoreError::ReadOnly
    } else {
        StoreError::Io { kind }
    }
}
