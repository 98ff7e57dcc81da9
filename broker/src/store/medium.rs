//! The medium under the store: positional reads and writes of one file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the store needs of a file. A trait, so that faults can be injected.
pub trait Medium: Send + Sync + 'static {
    /// How long the file is.
    ///
    /// # Errors
    /// What the operating system says.
    fn length_bytes(&self) -> io::Result<u64>;

    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// What the operating system says; `UnexpectedEof` past the end.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may
    /// have been written.
    ///
    /// # Errors
    /// What the operating system says.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file to a length.
    ///
    /// # Errors
    /// What the operating system says.
    fn truncate(&self, length_bytes: u64) -> io::Result<()>;

    /// Makes what was written durable, with the length. After an error nothing
    /// is known about what was written since the last success.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync(&self) -> io::Result<()>;
}

/// A real file, with the lock that keeps other processes away from it.
#[derive(Debug)]
pub struct FileMedium {
    file: File,
    _lock: File,
}

impl FileMedium {
    /// Opens an existing file. `lock` is a file that is locked exclusively; it
    /// is kept open as long as the medium.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &Path, lock: File) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, _lock: lock })
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
