//! The writer: one thread that makes groups of batches durable.
//!
//! It takes what waits in its queue, up to a bound, seals it as one frame,
//! writes and syncs it, and only then shows and acknowledges it. A batch that
//! comes behind a pause waits for nobody; while a sync runs, the batches that arrive gather for the
//! next one. Under load the writer gives others a moment to come as well: being
//! woken, a write and a sync cost about as much for one batch as for many.

use enclave::frame::{Chain, FrameCipher};
use enclave::store::{Batch, Committed, Key, Log, Places, StoreError};
use parking_lot::RwLock;
use ring::rand::SystemRandom;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::callers::Callers;
use super::compaction::{Compacted, Copied, NEW_FILE_NAME, copy};
use super::embedded::FILE_NAME;
use super::encoding::{self, End, MAX_BATCH_BYTES};
use super::gathering::{GATHERING, Load};
use super::index::{FramePlace, Index};
use super::medium::{Folder, Medium};
use super::policy::FilePolicy;
use super::room::{NotReady, Room};
use super::snapshot::Snapshot;
use crate::clock::Stopwatch;
use crate::events;
use crate::metrics::storage;

/// Batches that may wait; more callers wait for a place in the queue.
pub const QUEUE_BATCHES: usize = 1_024;

/// Batches that one sync serves at most.
const MAX_GROUP_BATCHES: usize = 512;

/// Bytes of batches that one sync serves at most, if it is more than one batch.
const MAX_GROUP_BYTES: usize = MAX_BATCH_BYTES;

/// Told that a sync failed, which must end the process: the system may have
/// dropped what was written and forgotten that it did, so no later success
/// means anything. If it returns, the store closes and answers nobody.
pub type OnSyncFailure = Box<dyn Fn(io::ErrorKind) + Send>;

/// What the queue carries.
pub(super) enum Message<F: Folder> {
    Commit(Request),
    /// Wakes the writer, so that it sees that the store is being closed.
    Stop,
    /// Compacts the file, whatever its size.
    Compact(CompactReply),
    /// The compaction's thread is done.
    Copied(Box<Result<Copied<F>, StoreError>>),
}

/// Takes what became of a compaction.
pub(super) type CompactReply = oneshot::Sender<Result<Compacted, StoreError>>;

/// A batch on its way.
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) encoded_bytes: usize,
    pub(super) reply: Reply,
}

/// Batches that one frame is to make durable.
struct Gathered {
    batches: Vec<Request>,
    bytes: usize,
}

impl Gathered {
    fn begun_by(first: Request) -> Self {
        Self {
            bytes: first.encoded_bytes,
            batches: vec![first],
        }
    }
}

/// Takes the answer to a batch.
pub(super) type Reply = oneshot::Sender<Result<Committed, StoreError>>;

/// The parts that readers, the writer and the compaction share.
pub(super) struct Shared<F: Folder> {
    pub(super) folder: F,
    /// The file. Replaced with the index's places, under the index's lock.
    pub(super) medium: RwLock<Arc<F::File>>,
    pub(super) cipher: Arc<FrameCipher>,
    pub(super) index: RwLock<Index>,
    pub(super) callers: Callers,
    /// Nothing more is taken in.
    pub(super) closing: AtomicBool,
    /// The writer has stopped.
    pub(super) closed: AtomicBool,
}

/// The writer's own state.
pub(super) struct Writer<F: Folder> {
    pub(super) shared: Arc<Shared<F>>,
    pub(super) queue: mpsc::Receiver<Message<F>>,
    /// For the compaction's thread, to come back by.
    pub(super) back: mpsc::WeakSender<Message<F>>,
    pub(super) random: SystemRandom,
    pub(super) chain: Chain,
    /// The file up to here is durable, authentic and indexed.
    pub(super) good_bytes: u64,
    pub(super) room: Room,
    pub(super) policy: FilePolicy,
    pub(super) compaction: Compaction<F>,
    pub(super) on_sync_failure: OnSyncFailure,
}

/// A compaction, under way or to come.
pub(super) struct Compaction<F: Folder> {
    thread: Option<JoinHandle<()>>,
    wanted: bool,
    copied: Option<Result<Copied<F>, StoreError>>,
    waiting: Vec<CompactReply>,
    /// After one that failed, the file must have grown to this size.
    not_below_bytes: u64,
}

impl<F: Folder> Default for Compaction<F> {
    fn default() -> Self {
        Self {
            thread: None,
            wanted: false,
            copied: None,
            waiting: Vec::new(),
            not_below_bytes: 0,
        }
    }
}

impl<F: Folder> Writer<F> {
    /// Serves until the store is closed, or a sync fails.
    pub(super) fn run(mut self) {
        match self.serve() {
            Ok(()) => {
                let medium = Arc::clone(&self.shared.medium.read());
                self.room.give_back(&*medium, self.good_bytes);
            }
            Err(SyncFailed(kind)) => {
                self.shared.closed.store(true, Ordering::Release);
                (self.on_sync_failure)(kind);
            }
        }
        self.shared.closed.store(true, Ordering::Release);
        self.abandon();
    }

    fn serve(&mut self) -> Result<(), SyncFailed> {
        let mut held: Option<Request> = None;
        let mut load = Load::default();
        loop {
            let idle = Stopwatch::start();
            let waited = held.take().or_else(|| self.waiting());
            let first = if waited.is_some() || self.has_errand() {
                waited
            } else {
                self.next()
            };
            if let Some(first) = first {
                load.found(idle.elapsed_us());
                let mut group = Gathered::begun_by(first);
                let mut waits: u32 = 0;
                while load.waits(waits, group.batches.len(), self.shared.callers.count())
                    && held.is_none()
                    && !self.shared.closing.load(Ordering::Acquire)
                {
                    thread::sleep(GATHERING);
                    held = self.fill(&mut group);
                    waits = waits.saturating_add(1);
                }
                if waits == 0 {
                    held = self.fill(&mut group);
                }
                load.gathered(group.batches.len());
                self.commit(group.batches)?;
            } else if !self.has_errand() {
                return Ok(());
            }
            if let Some(copied) = self.compaction.copied.take() {
                self.finish(copied)?;
            }
            self.begin_if_due();
        }
    }

    /// Puts into a group what waits and has a place in it. Returns the first batch that has none.
    fn fill(&mut self, group: &mut Gathered) -> Option<Request> {
        while group.batches.len() < MAX_GROUP_BATCHES {
            let next = self.waiting()?;
            let with_next = group.bytes.saturating_add(next.encoded_bytes);
            if with_next > MAX_GROUP_BYTES {
                return Some(next);
            }
            group.bytes = with_next;
            group.batches.push(next);
        }
        None
    }

    /// Whether something else than a batch was in the queue.
    fn has_errand(&self) -> bool {
        !self.shared.closing.load(Ordering::Acquire)
            && (self.compaction.copied.is_some() || self.compaction.wanted)
    }

    /// The next batch; waits for it unless the store is being closed or there
    /// is something else to do.
    fn next(&mut self) -> Option<Request> {
        while !self.shared.closing.load(Ordering::Acquire) {
            match self.queue.blocking_recv() {
                Some(Message::Commit(request)) => return Some(request),
                Some(other) => self.take_note(other),
                None => break,
            }
            if self.has_errand() {
                return None;
            }
        }
        // Callers that wait for a place in the queue must not be waited for:
        // they may run on the thread that closes the store.
        self.queue.close();
        self.waiting()
    }

    /// The next batch if one waits, and nothing else is to be done first.
    fn waiting(&mut self) -> Option<Request> {
        loop {
            match self.queue.try_recv() {
                Ok(Message::Commit(request)) => return Some(request),
                Ok(other) => {
                    self.take_note(other);
                    if self.has_errand() {
                        return None;
                    }
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
        }
    }

    fn take_note(&mut self, message: Message<F>) {
        match message {
            // Those that have batches look at them first.
            Message::Commit(_) | Message::Stop => {}
            Message::Compact(reply) => {
                self.compaction.waiting.push(reply);
                // One that is under way does.
                self.compaction.wanted = self.compaction.thread.is_none();
            }
            Message::Copied(copied) => self.compaction.copied = Some(*copied),
        }
    }

    /// Begins a compaction if one is wanted, or the file has grown enough.
    fn begin_if_due(&mut self) {
        let due = self.good_bytes >= self.compaction.not_below_bytes
            && (self.policy).is_due(self.good_bytes, self.shared.index.read().live_bytes());
        let closing = self.shared.closing.load(Ordering::Acquire);
        if closing || self.compaction.thread.is_some() || !(due || self.compaction.wanted) {
            return;
        }
        self.compaction.wanted = false;
        let Some(back) = self.back.upgrade() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let (random, origin) = (self.random.clone(), self.chain.fingerprint());
        let thread = thread::Builder::new()
            .name("compaction".to_owned())
            .spawn(move || {
                let copied = copy(&shared, random, origin);
                // If the writer has stopped, what was copied is not needed.
                drop(back.blocking_send(Message::Copied(Box::new(copied))));
            });
        match thread {
            Ok(thread) => self.compaction.thread = Some(thread),
            Err(error) => self.compacted(Err(io_error(&error))),
        }
    }

    /// Adds to a copy what is missing, and goes on in its file.
    fn finish(&mut self, copied: Result<Copied<F>, StoreError>) -> Result<(), SyncFailed> {
        if let Some(thread) = self.compaction.thread.take() {
            // It has sent what it had to; product code doesn't panic.
            drop(thread.join());
        }
        let changed = self.shared.index.write().end_noting();
        let whole = copied.and_then(|mut copied| {
            copied.add_changed(&self.shared, &changed)?;
            copied.add_leaves(&self.shared)?;
            let counts = self.shared.index.read().counts();
            let origin = self.chain.fingerprint();
            copied.file.end(&End { counts, origin })
        });
        let outcome = match whole {
            Ok(snapshot) => self.take_over(snapshot),
            Err(error) => Err(Fault::Store(error)),
        };
        match outcome {
            Ok(compacted) => self.compacted(Ok(compacted)),
            Err(Fault::Store(error)) => {
                drop(self.shared.folder.remove(NEW_FILE_NAME));
                self.compacted(Err(error));
            }
            Err(Fault::Sync(kind)) => return Err(SyncFailed(kind)),
        }
        Ok(())
    }

    /// Gives a whole snapshot the store's name, and goes on behind it.
    fn take_over(&mut self, snapshot: Snapshot<F::File>) -> Result<Compacted, Fault> {
        let folder = &self.shared.folder;
        if let Err(error) = folder.rename(NEW_FILE_NAME, FILE_NAME) {
            // Those that say that nothing was done; after another one the name
            // may be either file's.
            return Err(match io_error(&error) {
                error @ (StoreError::Full | StoreError::ReadOnly) => Fault::Store(error),
                StoreError::Conflict { .. }
                | StoreError::TooLarge
                | StoreError::Io { .. }
                | StoreError::Closed => Fault::Sync(error.kind()),
            });
        }
        folder.sync().map_err(|error| Fault::Sync(error.kind()))?;
        let compacted = Compacted {
            before_bytes: self.good_bytes,
            after_bytes: snapshot.end_bytes,
            epoch: snapshot.begin.epoch,
        };
        self.chain = snapshot.chain;
        self.good_bytes = snapshot.end_bytes;
        self.room.moved(snapshot.end_bytes);
        let mut index = self.shared.index.write();
        index.move_to(snapshot.places, snapshot.begin);
        *self.shared.medium.write() = Arc::new(snapshot.medium);
        Ok(compacted)
    }

    /// Tells what became of a compaction.
    fn compacted(&mut self, outcome: Result<Compacted, StoreError>) {
        match &outcome {
            Ok(compacted) => {
                self.compaction.not_below_bytes = 0;
                events::store_compacted(compacted);
            }
            Err(error) => {
                let more = self.good_bytes.checked_div(8).unwrap_or_default();
                self.compaction.not_below_bytes = self.good_bytes.saturating_add(more);
                events::store_not_compacted(error);
            }
        }
        for reply in mem::take(&mut self.compaction.waiting) {
            // Whoever asked may have gone.
            drop(reply.send(outcome.clone()));
        }
    }

    /// Ends a compaction that is under way when the store closes.
    fn abandon(&mut self) {
        self.queue.close();
        let copying = self.compaction.thread.take();
        let begun = copying.is_some() || self.compaction.copied.take().is_some();
        if let Some(thread) = copying {
            drop(thread.join());
        }
        if begun {
            // Else the next start removes it.
            drop(self.shared.folder.remove(NEW_FILE_NAME));
        }
    }

    fn commit(&mut self, group: Vec<Request>) -> Result<(), SyncFailed> {
        let mut checked = Group::default();
        {
            let index = self.shared.index.read();
            checked.places = Places {
                control: index.leaves(Log::Control).len() as u64,
                issuance: index.leaves(Log::Issuance).len() as u64,
            };
            for request in group {
                checked.admit(&index, request);
            }
        }
        storage::group(checked.replies.len());
        let outcome = if checked.body.is_empty() {
            Ok(())
        } else {
            self.append(&checked.body)
        };
        let failure = match outcome {
            Ok(()) => None,
            Err(Fault::Sync(kind)) => return Err(SyncFailed(kind)),
            Err(Fault::Store(error)) => Some(error),
        };
        for (admitted, reply) in checked.replies {
            let answer = match (&failure, admitted) {
                // A batch that conflicts with one that was not kept does not
                // conflict: the failure is the answer for all.
                (Some(error), _) => Err(error.clone()),
                (None, Err(key)) => Err(StoreError::Conflict { key }),
                (None, Ok(places)) => Ok(Committed::by_store(places)),
            };
            // The caller may have gone; the batch is durable all the same.
            drop(reply.send(answer));
        }
        Ok(())
    }

    /// Makes a body durable as the next frame and shows its entries.
    fn append(&mut self, body: &[u8]) -> Result<(), Fault> {
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

        let medium = Arc::clone(&self.shared.medium.read());
        self.room
            .make_ready(&*medium, self.good_bytes, frame.len() as u64)
            .map_err(|why| match why {
                NotReady::Io(error) => Fault::Store(io_error(&error)),
                NotReady::NotSynced(kind) => Fault::Sync(kind),
            })?;
        if let Err(error) = medium.write_all_at(&frame, self.good_bytes) {
            self.room.failed(&*medium, self.good_bytes);
            return Err(Fault::Store(io_error(&error)));
        }
        self.room.written(end);
        let syncing = storage::sync_begins();
        if let Err(error) = medium.sync() {
            return Err(Fault::Sync(error.kind()));
        }
        syncing.stop(&storage::SYNCS);
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
            .map_err(|_own_bug| Fault::Sync(io::ErrorKind::InvalidData))
    }
}

struct SyncFailed(io::ErrorKind);

enum Fault {
    /// Nothing was kept, and the store goes on.
    Store(StoreError),
    /// Nothing is known.
    Sync(io::ErrorKind),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The batches of one sync: compared with the index and with each other.
#[derive(Default)]
struct Group {
    body: Vec<u8>,
    generations: BTreeMap<Key, u64>,
    /// Where the next leaves stand.
    places: Places,
    /// Who waits, and where their leaves stand or the key on which they conflict.
    replies: Vec<(Result<Places, Key>, Reply)>,
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
                    self.replies.push((Err(write.key), request.reply));
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
        let first = self.places;
        for leaf in &request.batch.leaves {
            let next = match leaf.log {
                Log::Control => &mut self.places.control,
                Log::Issuance => &mut self.places.issuance,
            };
            *next = next.saturating_add(1);
        }
        self.replies.push((Ok(first), request.reply));
    }
}

pub(super) fn internal() -> StoreError {
    StoreError::Io {
        kind: io::ErrorKind::Other,
    }
}

/// What a failed read or write means to the caller.
pub(super) fn io_error(error: &io::Error) -> StoreError {
    let kind = error.kind();
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
