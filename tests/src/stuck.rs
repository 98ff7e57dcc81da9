//! A state directory that takes nothing while a switch says so, as a full disk does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use broker::store::{FileMedium, Folder, Medium, StateDir};

#[derive(Debug, Default)]
struct State {
    stuck: AtomicBool,
    refused: AtomicU64,
}

impl State {
    fn admit(&self) -> io::Result<()> {
        if self.stuck.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// The directory.
#[derive(Debug)]
pub struct StuckDir {
    inner: StateDir,
    state: Arc<State>,
}

/// One of its files.
#[derive(Debug)]
pub struct StuckFile {
    inner: FileMedium,
    state: Arc<State>,
}

/// The switch.
#[derive(Clone, Debug)]
pub struct Switch(Arc<State>);

impl Switch {
    /// Lets the disk be full, or not any more.
    pub fn stick(&self, stuck: bool) {
        self.0.stuck.store(stuck, Ordering::SeqCst);
    }

    /// What was refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::SeqCst)
    }
}

impl StuckDir {
    /// Around a directory.
    #[must_use]
    pub fn around(inner: StateDir) -> (Self, Switch) {
        let state = Arc::new(State::default());
        let switch = Switch(Arc::clone(&state));
        (Self { inner, state }, switch)
    }

    fn file(&self, inner: FileMedium) -> StuckFile {
        StuckFile {
            inner,
            state: Arc::clone(&self.state),
        }
    }
}

impl Folder for StuckDir {
    type File = StuckFile;

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.inner.exists(name)
    }

    fn open(&self, name: &str) -> io::Result<StuckFile> {
        Ok(self.file(self.inner.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<StuckFile> {
        self.state.admit()?;
        Ok(self.file(self.inner.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.admit()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

impl Medium for StuckFile {
    fn length_bytes(&self) -> io::Result<u64> {
        self.inner.length_bytes()
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.state.admit()?;
        self.inner.write_all_at(bytes, offset)
    }

    fn truncate(&self, length_bytes: u64) -> io::Result<()> {
        self.inner.truncate(length_bytes)
    }

    // What was written before is synced: a sync that fails ends the process.
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}
