//! Exports: a state in one file that can be carried away, and read by those alone who can open the state.
//!
//! ```text
//! export = magic 8 | version u32 | envelope length u32 | envelope | store file
//! ```
//!
//! Numbers are big-endian. The envelope is the state's own: the root key, sealed
//! to its recipients. The store file is one snapshot, under the state's key, and
//! says which envelope it goes with and which state it was taken from. Nothing
//! in an export opens for somebody for whom the state would not.

use enclave::frame::FrameCipher;
use enclave::keys::envelope::MAX_ENVELOPE_BYTES;
use enclave::store::{Key, Log, StoreError};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

use super::encoding::{Begin, End};
use super::medium::Medium;
use super::reader::leaves_at;
use super::recovery::{self, Corruption, OpenError, ReadError, Recovered};
use super::snapshot::SnapshotWriter;

/// The format that this code writes and reads.
pub const EXPORT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"TKEXPRT\0";
const FIXED_BYTES: usize = MAGIC.len() + 4 + 4;

/// Records or leaves that are written between two reports of progress.
const AT_A_TIME: usize = 4_096;

/// Why a file is no export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// It does not begin as one.
    #[error("not an export")]
    Magic,
    /// It is in another format.
    #[error("export format {found} is not known: this program reads {EXPORT_VERSION}")]
    Version {
        /// The version that it names.
        found: u32,
    },
    /// It ends within its header.
    #[error("the export ends within its header")]
    Short,
    /// Its envelope is longer than any.
    #[error("the export's envelope has {found_bytes} bytes, more than {MAX_ENVELOPE_BYTES}")]
    EnvelopeTooLarge {
        /// What it says.
        found_bytes: usize,
    },
}

/// Why there is no export, or no import.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// The file is no export.
    #[error("{path}: {source}")]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        source: HeaderError,
    },
    /// The operating system refused.
    #[error("can't {action} {path} ({kind})")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kind of the failure.
        kind: io::ErrorKind,
    },
    /// The file is damaged, was changed, or belongs to another state.
    #[error("{path} is corrupt at byte {offset} of its store file: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the frame that doesn't hold begins.
        offset: u64,
        /// What doesn't hold.
        what: Corruption,
    },
    /// The export was interrupted and never finished.
    #[error(
        "{path} is not whole: the export was interrupted; run it again where it was made, it goes on where it stopped"
    )]
    NotWhole {
        /// The file.
        path: PathBuf,
    },
    /// The store file goes with another envelope than the one before it.
    #[error("{path} mixes two exports: its records go with another envelope")]
    Mixed {
        /// The file.
        path: PathBuf,
    },
    /// What an interrupted run left belongs to something else.
    #[error(
        "{path} was begun from another state, or the state has changed since: remove it, or begin anew with --restart"
    )]
    OfAnother {
        /// What it left.
        path: PathBuf,
    },
    /// It was to stop.
    #[error("stopped before the end: run it again, and it goes on where it stopped")]
    Stopped,
    /// The store could not be read.
    #[error("the store can't be read: {0}")]
    Store(StoreError),
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records and leaves that are done, or bytes in an import.
    pub done: u64,
    /// Of so many.
    pub of: u64,
}

/// Told how far it is. Says whether to go on.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// The part of an export before its store file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportHeader {
    /// The state's envelope, as it stood beside the store.
    pub envelope: Vec<u8>,
}

impl ExportHeader {
    /// As it stands in the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.envelope.len()).unwrap_or(u32::MAX);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&EXPORT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.envelope);
        bytes
    }

    /// Reads it from the beginning of a file; gives where the store file begins.
    /// What the envelope says is not authentic before it opens.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, u64), HeaderError> {
        let magic = bytes.get(..MAGIC.len()).ok_or(HeaderError::Short)?;
        if magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        let rest = bytes.get(MAGIC.len()..).ok_or(HeaderError::Short)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Short)?;
        let found = u32::from_be_bytes(*version);
        if found != EXPORT_VERSION {
            return Err(HeaderError::Version { found });
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Short)?;
        let found_bytes =
            usize::try_from(u32::from_be_bytes(*length)).map_err(|_| HeaderError::Short)?;
        if found_bytes > MAX_ENVELOPE_BYTES {
            return Err(HeaderError::EnvelopeTooLarge { found_bytes });
        }
        let envelope = rest.get(..found_bytes).ok_or(HeaderError::Short)?.to_vec();
        let store_begins = FIXED_BYTES.saturating_add(found_bytes) as u64;
        Ok((Self { envelope }, store_begins))
    }

    /// Bytes of the longest one.
    #[must_use]
    pub fn max_bytes() -> usize {
        FIXED_BYTES.saturating_add(MAX_ENVELOPE_BYTES)
    }

    /// Reads it from a file.
    ///
    /// # Errors
    /// [`TransferError::Io`], [`TransferError::Header`].
    pub fn read(
        medium: &impl Medium,
        path: &std::path::Path,
    ) -> Result<(Self, u64), TransferError> {
        let failed = |error: io::Error| TransferError::Io {
            action: "read",
            path: path.to_path_buf(),
            kind: error.kind(),
        };
        let length = medium.length_bytes().map_err(failed)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(Self::max_bytes())];
        medium.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Self::parse(&bytes).map_err(|source| TransferError::Header {
            path: path.to_path_buf(),
            source,
        })
    }

    fn envelope_digest(&self) -> [u8; 32] {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(digest(&SHA256, &self.envelope).as_ref()) {
            *to = *from;
        }
        out
    }
}

/// The part of a file from an offset on, as a file of its own.
#[derive(Debug)]
pub struct Behind<M> {
    file: M,
    offset: u64,
}

impl<M: Medium> Behind<M> {
    /// What of a file is behind an offset.
    pub fn new(file: M, offset: u64) -> Self {
        Self { file, offset }
    }
}

impl<M: Medium> Medium for Behind<M> {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.file.length_bytes()?.saturating_sub(self.offset))
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file
            .read_exact_at(out, self.offset.saturating_add(offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file
            .write_all_at(bytes, self.offset.saturating_add(offset))
    }

    fn truncate(&self, length_bytes: u64) -> io::Result<()> {
        self.file.truncate(self.offset.saturating_add(length_bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// A state that is looked at, not served.
pub struct Source<M> {
    medium: M,
    cipher: Arc<FrameCipher>,
    found: Recovered,
}

impl<M> std::fmt::Debug for Source<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl<M: Medium> Source<M> {
    /// Reads a store's file. `path` names it in errors.
    ///
    /// # Errors
    /// [`OpenError::Io`], [`OpenError::Corrupt`].
    pub fn open(medium: M, path: &std::path::Path, cipher: FrameCipher) -> Result<Self, OpenError> {
        let found = recovery::read(&medium, &cipher, &mut |_log, _leaf| {})
            .map_err(|error| error.of(path))?;
        Ok(Self {
            medium,
            cipher: Arc::new(cipher),
            found,
        })
    }

    /// Writes the state into an export that was begun, or begins it: `part` is
    /// its file, empty or as an interrupted run left it, and `path` names it in
    /// errors. What is there is authenticated and kept. Gives the bytes of the
    /// whole export, which is durable.
    ///
    /// # Errors
    /// Any [`TransferError`] but `NotWhole` and `Mixed`. `OfAnother` if the part
    /// was begun from another state.
    pub fn export<P: Medium>(
        &self,
        header: &ExportHeader,
        part: P,
        path: &std::path::Path,
        on_progress: OnProgress<'_>,
    ) -> Result<u64, TransferError> {
        let io_failed = |action: &'static str| {
            move |error: io::Error| TransferError::Io {
                action,
                path: path.to_path_buf(),
                kind: error.kind(),
            }
        };
        let other = || TransferError::OfAnother {
            path: path.to_path_buf(),
        };
        let written = |error: StoreError| TransferError::Io {
            action: "write",
            path: path.to_path_buf(),
            kind: kind_of(&error),
        };
        let origin = self.found.frames.chain.fingerprint();
        let begin = Begin {
            epoch: self
                .found
                .index
                .snapshot()
                .map_or(0, |snapshot| snapshot.epoch)
                .saturating_add(1),
            origin,
            envelope: header.envelope_digest(),
        };
        let head = header.to_bytes();
        let store_begins = head.len() as u64;
        let there = part.length_bytes().map_err(io_failed("read"))?;
        let begun = there > store_begins;
        if begun {
            let mut found = vec![0; head.len()];
            part.read_exact_at(&mut found, 0)
                .map_err(io_failed("read"))?;
            if found != head {
                return Err(other());
            }
        }
        let part = Behind::new(part, store_begins);
        let resumed = if begun {
            match recovered_part(&part, &self.cipher) {
                Ok(found) => match found.index.snapshot() {
                    Some(snapshot) if *snapshot == begin => Some(found),
                    Some(_) => return Err(other()),
                    // Interrupted before its first frame was whole.
                    None => None,
                },
                Err(ReadError::Corrupt {
                    what: Corruption::Short,
                    ..
                }) => None,
                Err(ReadError::Corrupt { .. }) => return Err(other()),
                Err(ReadError::Io(kind)) => return Err(io_failed("read")(kind.into())),
            }
        } else {
            None
        };
        let random = SystemRandom::new();
        let cipher = Arc::clone(&self.cipher);
        let (mut to, done) = match resumed {
            Some(found) if !found.index.is_within_snapshot() => {
                // Interrupted after its last frame.
                part.sync().map_err(io_failed("sync"))?;
                return Ok(store_begins.saturating_add(found.frames.good_bytes));
            }
            Some(found) => {
                part.truncate(found.frames.good_bytes)
                    .map_err(io_failed("write"))?;
                let done = Done::of(&found);
                (
                    SnapshotWriter::resume(part, cipher, random, begin, found),
                    done,
                )
            }
            None => {
                part.file.truncate(0).map_err(io_failed("write"))?;
                part.file
                    .write_all_at(&head, 0)
                    .map_err(io_failed("write"))?;
                let to = SnapshotWriter::begin(part, cipher, random, begin).map_err(written)?;
                (to, Done::default())
            }
        };
        self.copy(&mut to, done, on_progress, &written)?;
        let counts = self.found.index.counts();
        let snapshot = to.end(&End { counts, origin }).map_err(written)?;
        Ok(store_begins.saturating_add(snapshot.end_bytes))
    }

    fn copy<P: Medium>(
        &self,
        to: &mut SnapshotWriter<P>,
        done: Done,
        on_progress: OnProgress<'_>,
        written: &impl Fn(StoreError) -> TransferError,
    ) -> Result<(), TransferError> {
        let index = &self.found.index;
        let counts = index.counts();
        let of = counts
            .records
            .saturating_add(counts.control)
            .saturating_add(counts.issuance);
        let mut progress = Progress {
            done: done.entries(),
            of,
        };
        go_on(on_progress, progress)?;
        let mut after = done.last_key;
        // Leaves come behind all records.
        let mut missing = done.leaves() == 0;
        while missing {
            let records = index.scan(after.as_ref(), AT_A_TIME);
            missing = records.len() == AT_A_TIME;
            let Some(last) = records.last() else {
                break;
            };
            after = Some(last.key);
            for record in &records {
                to.set(record).map_err(written)?;
            }
            to.sync().map_err(written)?;
            progress.done = progress.done.saturating_add(records.len() as u64);
            go_on(on_progress, progress)?;
        }
        for (log, from) in [(Log::Control, done.control), (Log::Issuance, done.issuance)] {
            let mut places = index.leaves(log).get(from..).unwrap_or_default();
            while !places.is_empty() {
                let some: Vec<_> = places
                    .iter()
                    .take(AT_A_TIME)
                    .map(|leaf| (*leaf, index.frame(leaf.frame)))
                    .collect();
                let leaves =
                    leaves_at(&self.medium, &self.cipher, &some).map_err(TransferError::Store)?;
                for leaf in &leaves {
                    to.leaf(log, leaf).map_err(written)?;
                }
                to.sync().map_err(written)?;
                places = places.get(leaves.len()..).unwrap_or_default();
                progress.done = progress.done.saturating_add(leaves.len() as u64);
                go_on(on_progress, progress)?;
            }
        }
        Ok(())
    }
}

/// What an interrupted export has already: records come first, in their order,
/// then the leaves of one log, then those of the other.
#[derive(Clone, Copy, Default)]
struct Done {
    records: u64,
    last_key: Option<Key>,
    control: usize,
    issuance: usize,
}

impl Done {
    fn of(found: &Recovered) -> Self {
        Self {
            records: found.index.counts().records,
            last_key: found.index.last_key(),
            control: found.index.leaves(Log::Control).len(),
            issuance: found.index.leaves(Log::Issuance).len(),
        }
    }

    fn leaves(&self) -> u64 {
        (self.control as u64).saturating_add(self.issuance as u64)
    }

    fn entries(&self) -> u64 {
        self.records.saturating_add(self.leaves())
    }
}

/// Reads what an interrupted run left: it may end anywhere.
fn recovered_part(part: &impl Medium, cipher: &FrameCipher) -> Result<Recovered, ReadError> {
    let mut found = Recovered::begin(part, cipher)?;
    while found.next(part, cipher)? {}
    Ok(found)
}

/// Copies the store file of an export, frame by frame as each is found
/// authentic, into a store's file that an import begins or goes on with. It is
/// durable then. `path` names the export in errors, `to_path` the other one.
///
/// # Errors
/// [`TransferError`]. `OfAnother` if the file was begun from another export.
pub fn import<M: Medium, T: Medium>(
    header: &ExportHeader,
    (from, path): (&Behind<M>, &std::path::Path),
    (to, to_path): (&T, &std::path::Path),
    cipher: &FrameCipher,
    on_progress: OnProgress<'_>,
) -> Result<u64, TransferError> {
    let of_export = |error: ReadError| match error {
        ReadError::Io(kind) => TransferError::Io {
            action: "read",
            path: path.to_path_buf(),
            kind,
        },
        ReadError::Corrupt { offset, what } => TransferError::Corrupt {
            path: path.to_path_buf(),
            offset,
            what,
        },
    };
    let io_failed = |action: &'static str, error: &io::Error| TransferError::Io {
        action,
        path: to_path.to_path_buf(),
        kind: error.kind(),
    };
    let reading = |error: io::Error| of_export(ReadError::from(error));
    let of = from.length_bytes().map_err(reading)?;
    let mut found = Recovered::begin(from, cipher).map_err(of_export)?;
    let mut written = 0;
    loop {
        let mut bytes =
            vec![0; usize::try_from(found.frames.good_bytes.saturating_sub(written)).unwrap_or(0)];
        from.read_exact_at(&mut bytes, written).map_err(reading)?;
        put_or_compare(to, written, &bytes)
            .map_err(|error| io_failed("write", &error))?
            .then_some(())
            .ok_or_else(|| TransferError::OfAnother {
                path: to_path.to_path_buf(),
            })?;
        written = found.frames.good_bytes;
        go_on(on_progress, Progress { done: written, of })?;
        if !found.next(from, cipher).map_err(of_export)? {
            break;
        }
        let begun = found.index.snapshot();
        if begun.is_none_or(|begin| begin.envelope != header.envelope_digest()) {
            return Err(TransferError::Mixed {
                path: path.to_path_buf(),
            });
        }
    }
    if found.index.snapshot().is_none()
        || found.index.is_within_snapshot()
        || found.frames.torn.is_some()
    {
        return Err(TransferError::NotWhole {
            path: path.to_path_buf(),
        });
    }
    // An earlier run may have gone on behind it with something else.
    to.truncate(written)
        .and_then(|()| to.sync())
        .map_err(|error| io_failed("sync", &error))?;
    Ok(written)
}

fn go_on(
    on_progress: &mut dyn FnMut(Progress) -> bool,
    progress: Progress,
) -> Result<(), TransferError> {
    on_progress(progress)
        .then_some(())
        .ok_or(TransferError::Stopped)
}

/// Writes bytes, or sees that they are there already. False if others are.
fn put_or_compare(to: &impl Medium, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let there = to.length_bytes()?.saturating_sub(offset);
    let there = usize::try_from(there)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    let mut found = vec![0; there];
    to.read_exact_at(&mut found, offset)?;
    let (first, rest) = bytes.split_at(there);
    if found != first {
        return Ok(false);
    }
    to.write_all_at(rest, offset.saturating_add(there as u64))?;
    Ok(true)
}

fn kind_of(error: &StoreError) -> io::ErrorKind {
    match error {
        StoreError::Full => io::ErrorKind::StorageFull,
        StoreError::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        StoreError::Io { kind } => *kind,
        StoreError::Conflict { .. } | StoreError::TooLarge | StoreError::Closed => {
            io::ErrorKind::Other
        }
    }
}
