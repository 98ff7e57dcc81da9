//! The state directory: real files, and the lock that keeps other processes away from them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::atomic_file::sync_dir;
use super::embedded::LOCK_NAME;
use super::medium::{Folder, Medium};
use super::recovery::{OpenError, failed};

/// A directory, locked as long as this value is there.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Locks a directory that is there.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it, [`OpenError::Io`].
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let lock_path = path.join(LOCK_NAME);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| failed("open", &lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_path_buf(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: lock_path }),
            Err(TryLockError::Error(error)) => Err(failed("lock", &lock_path, &error)),
        }
    }
}

impl Folder for StateDir {
    type File = FileMedium;

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.path(name).try_exists()
    }

    fn open(&self, name: &str) -> io::Result<FileMedium> {
        FileMedium::open(&self.path(name))
    }

    fn create(&self, name: &str) -> io::Result<FileMedium> {
        self.remove(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(name))?;
        Ok(FileMedium { file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync(&self) -> io::Result<()> {
        sync_dir(&self.path)
    }
}

/// A real file.
#[derive(Debug)]
pub struct FileMedium {
    file: File,
}

impl FileMedium {
    /// Opens a file that is there.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file })
    }

    /// Opens a file, or makes an empty one that only its owner may read.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(Self { file })
    }

    /// Opens a file that is there, to be read only.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open_to_read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self { file })
    }
}

impl Medium for FileMedium {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn truncate(&self, length_bytes: u64) -> io::Result<()> {
        self.file.set_len(length_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
