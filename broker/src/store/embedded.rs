//! The store that the service opens: files, lock, recovery, reads and commits.

use enclave::frame::FrameCipher;
use enclave::store::{Batch, Committed, Key, Log, Record, Store, StoreError};
use parking_lot::{Mutex, RwLock};
use ring::rand::SystemRandom;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

use super::atomic_file::create_or_replace;
use super::encoding;
use super::medium::{FileMedium, Medium};
use super::recovery::{self, OpenError, ReadError, TornTail};
use super::writer::{Message, QUEUE_BATCHES, Request, Shared, Writer};

pub use super::writer::OnSyncFailure;

/// The store's file in the state directory.
pub const FILE_NAME: &str = "store.tk";

/// The file beside it that is locked while the store is open.
pub const LOCK_NAME: &str = "store.lock";

/// A read of leaves stops after this many bytes, but gives at least one leaf.
const MAX_LEAVES_BYTES: usize = 4 * 1024 * 1024;

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

/// An append-only file of sealed frames, opened for reading and writing.
///
/// Dropping it, or [`close`](Self::close), finishes the commits that wait.
pub struct EmbeddedStore<M: Medium = FileMedium> {
    shared: Arc<Shared<M>>,
    queue: mpsc::Sender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore<FileMedium> {
    /// Opens the store in a directory that exists, or makes an empty one there.
    /// Blocks while the file is read.
    ///
    /// # Errors
    /// Any [`OpenError`]; then nothing was modified.
    pub fn open(
        dir: &Path,
        cipher: FrameCipher,
        random: SystemRandom,
        on_sync_failure: OnSyncFailure,
    ) -> Result<(Self, OpenReport), OpenError> {
        let path = dir.join(FILE_NAME);
        let lock = lock(&dir.join(LOCK_NAME))?;
        let exists = path
            .try_exists()
            .map_err(|error| failed("look for", &path, &error))?;
        if !exists {
            let (header, _first) = cipher
                .begin_file(&random)
                .map_err(|source| OpenError::Begin { source })?;
            create_or_replace(dir, FILE_NAME, &header)
                .map_err(|error| failed("create", &path, &error))?;
        }
        let medium =
            FileMedium::open(&path, lock).map_err(|error| failed("open", &path, &error))?;
        let (store, mut report) = Self::open_on(medium, &path, cipher, random, on_sync_failure)?;
        report.created = !exists;
        Ok((store, report))
    }
}

impl<M: Medium> EmbeddedStore<M> {
    /// Opens the store on a medium that holds at least a file header. `path`
    /// names it in errors. Blocks while the file is read.
    ///
    /// # Errors
    /// Any [`OpenError`] but `Locked` and `Begin`; nothing was modified, unless
    /// a torn frame was found and dropping it failed.
    pub fn open_on(
        medium: M,
        path: &Path,
        cipher: FrameCipher,
        random: SystemRandom,
        on_sync_failure: OnSyncFailure,
    ) -> Result<(Self, OpenReport), OpenError> {
        let found = recovery::read(&medium, &cipher).map_err(|error| match error {
            ReadError::Io(kind) => OpenError::Io {
                action: "read",
                path: path.to_path_buf(),
                kind,
            },
            ReadError::Corrupt { offset, what } => OpenError::Corrupt { offset, what },
        })?;
        if found.torn.is_some() {
            medium
                .truncate(found.good_bytes)
                .map_err(|error| failed("cut the torn end of", path, &error))?;
        }
        // A process that died of a failed sync may have left its last frame in
        // the page cache alone, marked clean. Written again it is dirty, and the
        // sync says the truth.
        if let Some((offset, frame)) = &found.last_frame {
            medium
                .write_all_at(frame, *offset)
                .map_err(|error| failed("write", path, &error))?;
        }
        medium
            .sync()
            .map_err(|error| failed("sync", path, &error))?;

        let report = OpenReport {
            created: false,
            frames: found.index.frame_count(),
            records: found.index.record_count(),
            file_bytes: found.good_bytes,
            torn: found.torn,
        };
        let shared = Arc::new(Shared {
            medium,
            cipher,
            index: RwLock::new(found.index),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let (sender, receiver) = mpsc::channel(QUEUE_BATCHES);
        let writer = Writer {
            shared: Arc::clone(&shared),
            queue: receiver,
            random,
            chain: found.chain,
            good_bytes: found.good_bytes,
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
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let places: Vec<_> = {
            let index = self.shared.index.read();
            let rest = index.leaves(log).iter().skip(from).take(limit);
            rest.map(|leaf| (*leaf, index.frame(leaf.frame))).collect()
        };
        let mut leaves = Vec::new();
        let mut total_bytes: usize = 0;
        let mut current: Option<(u32, Vec<u8>)> = None;
        for (leaf, frame) in places {
            let body = match current.take() {
                Some((number, body)) if number == leaf.frame => body,
                Some(_) | None => {
                    let frame = frame.ok_or(changed())?;
                    recovery::reread(&self.shared.medium, &self.shared.cipher, &frame).map_err(
                        |error| match error {
                            ReadError::Io(kind) => StoreError::Io { kind },
                            ReadError::Corrupt { .. } => changed(),
                        },
                    )?
                }
            };
            let (start, length) = (leaf.start as usize, leaf.length as usize);
            let bytes = body
                .get(start..start.saturating_add(length))
                .ok_or(changed())?;
            total_bytes = total_bytes.saturating_add(length);
            if total_bytes > MAX_LEAVES_BYTES && !leaves.is_empty() {
                break;
            }
            leaves.push(bytes.to_vec());
            current = Some((leaf.frame, body));
        }
        Ok(leaves)
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

    fn open_or_closed(&self) -> Result<(), StoreError> {
        if self.shared.closed.load(Ordering::Acquire) {
            Err(StoreError::Closed)
        } else {
            Ok(())
        }
    }
}

impl<M: Medium> Store for EmbeddedStore<M> {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.open_or_closed()?;
        Ok(self.shared.index.read().record(key))
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

impl<M: Medium> Drop for EmbeddedStore<M> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<M: Medium> fmt::Debug for EmbeddedStore<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

fn lock(path: &PathBuf) -> Result<File, OpenError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed("open", path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.clone() }),
        Err(TryLockError::Error(error)) => Err(failed("lock", path, &error)),
    }
}

fn failed(action: &'static str, path: &Path, error: &io::Error) -> OpenError {
    OpenError::Io {
        action,
        path: path.to_path_buf(),
        kind: error.kind(),
    }
}

fn changed() -> StoreError {
    StoreError::Io {
        kind: io::ErrorKind::InvalidData,
    }
}
