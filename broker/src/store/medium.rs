//! What the store needs of a disk: a folder of files. Traits, so that faults can be injected and disks simulated.

use std::io;
use std::path::PathBuf;

/// A file that is read and written at positions.
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

/// Where the files are. Nobody else uses it meanwhile.
pub trait Folder: Send + Sync + 'static {
    /// A file in it.
    type File: Medium;

    /// The path of a file, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Whether there is a file of a name.
    ///
    /// # Errors
    /// What the operating system says.
    fn exists(&self, name: &str) -> io::Result<bool>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Makes an empty file, in the place of one that is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name; one that has it already is gone. Whoever opens
    /// the name finds the one or the other.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable.
    ///
    /// # Errors
    /// What the operating system says. Nothing is known then about what was
    /// renamed since the last success.
    fn sync(&self) -> io::Result<()>;
}
