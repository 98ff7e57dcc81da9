//! The store that the service opens: files, lock, recovery, reads and commits.

use enclave::frame::FrameCipher;
use enclave::store::{Batch, Committed, Key, Log, Record, Store, StoreError};
use parking_lot::{Mutex, RwLock};
use ring::rand::SystemRandom;
use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

use super::callers::Callers;
use super::compaction::{Compacted, NEW_FILE_NAME};
use super::encoding;
use super::medium::{Folder, Medium};
use super::policy::FilePolicy;
use super::reader::read_leaves;
use super::recovery::{self, OpenError, TellLeaf, TornTail, failed};
use super::room::Room;
use super::state_dir::StateDir;
use super::writer::{Compaction, Message, QUEUE_BATCHES, Request, Shared, Writer, io_error};

pub use super::writer::OnSyncFailure;

/// The store's file in the state directory.
pub const FILE_NAME: &str = "store.tk";

/// The file beside it that is locked while the store is open.
pub const LOCK_NAME: &str = "store.lock";

/// What opening a store found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// There was no file and an empty one was made.
    pub created: bool,
    /// Frames in the file.
    pub frames: usize,
    /// Records that exist now.
    pub records: usize,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// A torn frame that was dropped from the end.
    pub torn: Option<TornTail>,
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of what a compaction would keep.
    pub live_bytes: u64,
    /// Frames in the file.
    pub frames: u64,
    /// Records that exist.
    pub records: u64,
    /// Leaves of the control log.
    pub control_leaves: u64,
    /// Leaves of the issuance log.
    pub issuance_leaves: u64,
    /// How many compactions the state has come through.
    pub epoch: u64,
}

impl Stats {
    /// A file of which nothing is authentic.
    pub(super) const fn of_nothing(file_bytes: u64) -> Self {
        Self {
            file_bytes,
            live_bytes: 0,
            frames: 0,
            records: 0,
            control_leaves: 0,
            issuance_leaves: 0,
            epoch: 0,
        }
    }
}

/// An append-only file of sealed frames, opened for reading and writing.
///
/// Dropping it, or [`close`](Self::close), finishes the commits that wait.
pub struct EmbeddedStore<F: Folder = StateDir> {
    shared: Arc<Shared<F>>,
    queue: mpsc::Sender<Message<F>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore<StateDir> {
    /// Opens the store in a directory that exists, or makes an empty one there.
    /// Blocks while the file is read.
    ///
    /// # Errors
    /// Any [`OpenError`]; then nothing was modified.
    pub fn open(
        dir: &Path,
        cipher: FrameCipher,
        random: SystemRandom,
        policy: FilePolicy,
        on_sync_failure: OnSyncFailure,
    ) -> Result<(Self, OpenReport), OpenError> {
        let folder = StateDir::lock(dir)?;
        Self::open_in(folder, cipher, random, policy, on_sync_failure)
    }

    /// As [`open`](Self::open), and tells of each leaf while it reads, in the order of each log: who needs them all at
    /// the start need not read the file once more.
    ///
    /// # Errors
    /// As [`open`](Self::open); what was told then means nothing.
    pub fn open_telling(
        dir: &Path,
        cipher: FrameCipher,
        random: SystemRandom,
        policy: FilePolicy,
        on_sync_failure: OnSyncFailure,
        tell: &mut (dyn FnMut(Log, &[u8]) + Send),
    ) -> Result<(Self, OpenReport), OpenError> {
        let folder = StateDir::lock(dir)?;
        Self::open_folder(folder, cipher, random, (policy, on_sync_failure), tell)
    }
}

impl<F: Folder> EmbeddedStore<F> {
    /// Opens the store in a folder, or makes an empty one there. Blocks while
    /// the file is read.
    ///
    /// # Errors
    /// Any [`OpenError`] but `Locked`; nothing was modified, unless a torn frame
    /// was found and dropping it failed.
    pub fn open_in(
        folder: F,
        cipher: FrameCipher,
        random: SystemRandom,
        policy: FilePolicy,
        on_sync_failure: OnSyncFailure,
    ) -> Result<(Self, OpenReport), OpenError> {
        let rules = (policy, on_sync_failure);
        Self::open_folder(folder, cipher, random, rules, &mut |_log, _leaf| {})
    }

    fn open_folder(
        folder: F,
        cipher: FrameCipher,
        random: SystemRandom,
        (policy, on_sync_failure): (FilePolicy, OnSyncFailure),
        tell: TellLeaf<'_>,
    ) -> Result<(Self, OpenReport), OpenError> {
        let path = folder.path(FILE_NAME);
        let created = !folder
            .exists(FILE_NAME)
            .map_err(|error| failed("look for", &path, &error))?;
        if created {
            begin(&folder, &cipher, &random)?;
        }
        let medium = folder
            .open(FILE_NAME)
            .map_err(|error| failed("open", &path, &error))?;
        let found = recovery::read(&medium, &cipher, tell).map_err(|error| error.of(&path))?;
        if found.frames.is_more_in_file() {
            medium
                .truncate(found.frames.good_bytes)
                .map_err(|error| failed("cut the end of", &path, &error))?;
        }
        // A process that died of a failed sync may have left its last frame in
        // the page cache alone, marked clean. Written again it is dirty, and the
        // sync says the truth.
        if let Some((offset, frame)) = &found.frames.last_frame {
            medium
                .write_all_at(frame, *offset)
                .map_err(|error| failed("write", &path, &error))?;
        }
        medium
            .sync()
            .map_err(|error| failed("sync", &path, &error))?;
        // A compaction that a crash ended may have left its file, or a name that
        // is not durable.
        folder
            .remove(NEW_FILE_NAME)
            .and_then(|()| folder.sync())
            .map_err(|error| failed("clean the folder of", &path, &error))?;

        let report = OpenReport {
            created,
            frames: found.index.frame_count(),
            records: found.index.record_count(),
            file_bytes: found.frames.good_bytes,
            torn: found.frames.torn,
        };
        let shared = Arc::new(Shared {
            folder,
            medium: RwLock::new(Arc::new(medium)),
            cipher: Arc::new(cipher),
            index: RwLock::new(found.index),
            callers: Callers::default(),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let (sender, receiver) = mpsc::channel(QUEUE_BATCHES);
        let writer = Writer {
            shared: Arc::clone(&shared),
            queue: receiver,
            back: sender.downgrade(),
            random,
            chain: found.frames.chain,
            good_bytes: found.frames.good_bytes,
            room: Room::none(found.frames.good_bytes, policy.room_from_bytes),
            policy,
            compaction: Compaction::default(),
            on_sync_failure,
        };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Thread { kind: error.kind() })?;
        Ok((
            Self {
                shared,
                queue: sender,
                writer: Mutex::new(Some(writer)),
            },
            report,
        ))
    }

    /// The record under a key.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn record(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.open_or_closed()?;
        Ok(self.shared.index.read().record(key))
    }

    /// At most `limit` records in the order in which they lie in memory, from the place `from` on, and the place to go
    /// on from: the quickest way through all of them. A record that changes meanwhile may be missed or met twice.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn sweep(&self, from: usize, limit: usize) -> Result<(Vec<Record>, usize), StoreError> {
        self.open_or_closed()?;
        Ok(self.shared.index.read().sweep(from, limit))
    }

    /// How many leaves a log holds.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn leaf_count(&self, log: Log) -> Result<u64, StoreError> {
        self.open_or_closed()?;
        Ok(self.shared.index.read().leaves(log).len() as u64)
    }

    /// The leaves of a log in their order, from the one numbered `from`: at most
    /// `limit`, and fewer when they are large, but at least one if there is one.
    /// Reads the file and blocks.
    ///
    /// # Errors
    /// [`StoreError::Closed`] or [`StoreError::Io`], the latter with
    /// `InvalidData` when the file was changed since it was opened.
    pub fn leaves(&self, log: Log, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.open_or_closed()?;
        read_leaves(&self.shared, log, from, limit)
    }

    /// Whoever lets requests in that may commit something says so here: the writer waits longer for more batches to write
    /// together where many are on their way. Nobody need say it.
    #[must_use]
    pub fn callers(&self) -> Callers {
        self.shared.callers.clone()
    }

    /// How many batches wait for the writer, of at most [`QUEUE_BATCHES`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        QUEUE_BATCHES.saturating_sub(self.queue.capacity())
    }

    /// How much the store holds.
    ///
    /// # Errors
    /// [`StoreError::Closed`], or [`StoreError::Io`] if the file can't be asked.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.open_or_closed()?;
        let index = self.shared.index.read();
        let file_bytes = self.shared.medium.read().length_bytes();
        Ok(index.stats(file_bytes.map_err(|error| io_error(&error))?))
    }

    /// Writes what the state has come to into a new file, which takes the old
    /// one's place; commits go on meanwhile. The store does so by itself, too, as
    /// its policy says.
    ///
    /// # Errors
    /// Any [`StoreError`] but `Conflict` and `TooLarge`; the store goes on in the
    /// old file.
    pub async fn compact(&self) -> Result<Compacted, StoreError> {
        let (reply, answer) = oneshot::channel();
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        self.queue
            .send(Message::Compact(reply))
            .await
            .map_err(|_stopped| StoreError::Closed)?;
        answer.await.map_err(|_stopped| StoreError::Closed)?
    }

    /// Finishes the commits that wait and stops the writer. Later calls answer
    /// [`StoreError::Closed`]. Blocks until the writer has stopped.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // If the queue is full, the writer doesn't sleep and needs no waking.
        drop(self.queue.try_send(Message::Stop));
        if let Some(writer) = self.writer.lock().take() {
            // Product code doesn't panic; if the thread did, the store is as
            // closed as it can be.
            drop(writer.join());
        }
        self.shared.closed.store(true, Ordering::Release);
    }

    /// Closes the store of a process that ends: what it keeps in memory is not freed piece by piece, which takes long
    /// where there is much.
    pub fn close_for_good(&self) {
        self.close();
        mem::forget(mem::take(&mut *self.shared.index.write()));
    }

    fn open_or_closed(&self) -> Result<(), StoreError> {
        if self.shared.closed.load(Ordering::Acquire) {
            Err(StoreError::Closed)
        } else {
            Ok(())
        }
    }
}

impl<F: Folder> Store for EmbeddedStore<F> {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.record(key)
    }

    async fn scan(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.open_or_closed()?;
        Ok(self.shared.index.read().scan(after, limit))
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let encoded_bytes = encoding::encoded_bytes(&batch).ok_or(StoreError::TooLarge)?;
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let (reply, answer) = oneshot::channel();
        let request = Request {
            batch,
            encoded_bytes,
            reply,
        };
        self.queue
            .send(Message::Commit(request))
            .await
            .map_err(|_stopped| StoreError::Closed)?;
        answer.await.map_err(|_stopped| StoreError::Closed)?
    }
}

impl<F: Folder> Drop for EmbeddedStore<F> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<F: Folder> fmt::Debug for EmbeddedStore<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

/// Makes a file with nothing but a header, under its name whole or not at all.
fn begin<F: Folder>(
    folder: &F,
    cipher: &FrameCipher,
    random: &SystemRandom,
) -> Result<(), OpenError> {
    let (header, _first) = cipher
        .begin_file(random)
        .map_err(|source| OpenError::Begin { source })?;
    let made = || {
        let file = folder.create(NEW_FILE_NAME)?;
        file.write_all_at(&header, 0)?;
        file.sync()?;
        folder.rename(NEW_FILE_NAME, FILE_NAME)?;
        folder.sync()
    };
    made().map_err(|error| failed("create", &folder.path(FILE_NAME), &error))
}
