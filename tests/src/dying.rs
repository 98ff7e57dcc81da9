//! A state directory in which the process dies at a given operation: before it, in the middle of it, or right after.
//!
//! It dies by `abort`: nothing is run down, as with SIGKILL.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use broker::store::{FileMedium, Folder, Medium, StateDir};

/// What changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// Any of them.
    Any,
    /// Bytes are written.
    Write,
    /// A file is synced.
    Sync,
    /// A file is made.
    Create,
    /// A file gets another name.
    Rename,
    /// A file is removed.
    Remove,
    /// The names are synced.
    SyncNames,
}

/// When, seen from the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Moment {
    /// It has not begun.
    Before,
    /// Of a write the first half is there; else as before.
    Half,
    /// It is done, and nobody knows.
    After,
}

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// At which kind of operation.
    pub operation: Operation,
    /// At which of these, from 0.
    pub number: u64,
    /// When.
    pub moment: Moment,
}

#[derive(Debug, Default)]
struct Fate {
    death: parking_lot::Mutex<Option<Death>>,
    seen: AtomicU64,
}

impl Fate {
    /// Whether this operation is the last one, and when.
    fn strikes(&self, operation: Operation) -> Option<Moment> {
        let death = (*self.death.lock())?;
        if death.operation != Operation::Any && death.operation != operation {
            return None;
        }
        (self.seen.fetch_add(1, Ordering::SeqCst) == death.number).then_some(death.moment)
    }

    fn around<T>(
        &self,
        operation: Operation,
        half: impl FnOnce(),
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match self.strikes(operation) {
            None => act(),
            Some(Moment::Before) => std::process::abort(),
            Some(Moment::Half) => {
                half();
                std::process::abort()
            }
            Some(Moment::After) => {
                drop(act());
                std::process::abort()
            }
        }
    }
}

/// The directory.
#[derive(Debug)]
pub struct DyingDir {
    inner: StateDir,
    fate: Arc<Fate>,
}

/// Arms a [`DyingDir`].
#[derive(Clone, Debug)]
pub struct Trigger(Arc<Fate>);

/// One of its files.
#[derive(Debug)]
pub struct DyingFile {
    inner: FileMedium,
    fate: Arc<Fate>,
}

impl DyingDir {
    /// Around a directory; it lives until the trigger is armed.
    #[must_use]
    pub fn around(inner: StateDir) -> (Self, Trigger) {
        let fate = Arc::new(Fate::default());
        let trigger = Trigger(Arc::clone(&fate));
        (Self { inner, fate }, trigger)
    }

    fn file(&self, inner: FileMedium) -> DyingFile {
        DyingFile {
            inner,
            fate: Arc::clone(&self.fate),
        }
    }
}

impl Trigger {
    /// From now on operations are counted, and one is the last.
    pub fn arm(&self, death: Death) {
        self.0.seen.store(0, Ordering::SeqCst);
        *self.0.death.lock() = Some(death);
    }
}

impl Folder for DyingDir {
    type File = DyingFile;

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.inner.exists(name)
    }

    fn open(&self, name: &str) -> io::Result<DyingFile> {
        Ok(self.file(self.inner.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<DyingFile> {
        let made = self
            .fate
            .around(Operation::Create, || {}, || self.inner.create(name))?;
        Ok(self.file(made))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fate
            .around(Operation::Rename, || {}, || self.inner.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fate
            .around(Operation::Remove, || {}, || self.inner.remove(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.fate
            .around(Operation::SyncNames, || {}, || self.inner.sync())
    }
}

impl Medium for DyingFile {
    fn length_bytes(&self) -> io::Result<u64> {
        self.inner.length_bytes()
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let half = || {
            let (first, _lost) = bytes.split_at(bytes.len() / 2);
            drop(self.inner.write_all_at(first, offset));
        };
        let act = || self.inner.write_all_at(bytes, offset);
        self.fate.around(Operation::Write, half, act)
    }

    fn truncate(&self, length_bytes: u64) -> io::Result<()> {
        self.inner.truncate(length_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.fate
            .around(Operation::Sync, || {}, || self.inner.sync())
    }
}
