//! Files with private keys and secrets: read only if others cannot, written so that others cannot.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Read and write for the owner, nothing for group and world.
const PRIVATE_MODE: u32 = 0o600;

/// Any access of group and world.
const OTHERS: u32 = 0o077;

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("{} cannot be {action}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: `read` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is no regular file.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It holds a private key that group or world may read or change.
    #[error("{} has mode {mode:04o}: others can reach the key; run chmod 600 on it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than it can be.
    #[error("{} has more than {max_bytes} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        max_bytes: usize,
    },
    /// It exists, and is not overwritten.
    #[error("{} exists and is not overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file that nobody but its owner may reach. The mode is that of the opened file, so it cannot be
/// swapped in between.
///
/// # Errors
/// [`FileError`], but not `Exists`.
pub fn read_private(path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = open(path)?;
    let metadata = file
        .metadata()
        .map_err(|error| failed(path, "read", error))?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(FileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    read_bounded(path, file, max_bytes)
}

/// Reads a file whatever its mode.
///
/// # Errors
/// [`FileError::Io`], [`FileError::TooLarge`].
pub fn read_public(path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_bounded(path, open(path)?, max_bytes)
}

/// Reads all that `source` has, named `path` in errors.
///
/// # Errors
/// [`FileError::Io`], [`FileError::TooLarge`].
pub fn read_bounded(
    path: &Path,
    source: impl Read,
    max_bytes: usize,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max_bytes.saturating_add(1)));
    let limit = u64::try_from(max_bytes)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    source
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(path, "read", error))?;
    if bytes.len() > max_bytes {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            max_bytes,
        });
    }
    Ok(bytes)
}

/// Writes a new file of mode 0600 and makes it durable. An existing one is left alone.
///
/// # Errors
/// [`FileError::Exists`], [`FileError::Io`].
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_MODE)
        .open(path)
        .map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                FileError::Exists {
                    path: path.to_owned(),
                }
            } else {
                failed(path, "written", error)
            }
        })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| failed(path, "written", error))
}

/// Puts bytes under a name, mode 0600: written beside it, synced, renamed, and the folder synced. After a crash at any
/// point the name holds the old bytes or the new ones. Two writers of one name must exclude each other.
///
/// # Errors
/// [`FileError::Io`].
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let written = |error| failed(path, "written", error);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE_MODE)
        .open(&temporary)
        .map_err(written)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(written)?;
    std::fs::rename(&temporary, path).map_err(written)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// [`FileError::Io`].
pub fn sync_folder(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(path, "written", error))
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|error| failed(path, "read", error))
}

fn failed(path: &Path, action: &'static str, error: io::Error) -> FileError {
    FileError::Io {
        path: path.to_owned(),
        action,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn a_created_file_is_the_owners_alone_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"abc").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(read_private(&path, 3).unwrap().as_slice(), b"abc");
        assert!(matches!(
            read_private(&path, 2),
            Err(FileError::TooLarge { max_bytes: 2, .. })
        ));
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, b"old").unwrap();
        assert!(matches!(
            create_private(&path, b"new"),
            Err(FileError::Exists { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_key_that_others_can_reach_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_private(&path, b"abc").unwrap();
        for exposed in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777] {
            fs::set_permissions(&path, Permissions::from_mode(exposed)).unwrap();
            match read_private(&path, 10) {
                Err(FileError::Exposed { mode, .. }) => assert_eq!(mode, exposed),
                other => panic!("{exposed:o}: {other:?}"),
            }
            assert_eq!(read_public(&path, 10).unwrap().as_slice(), b"abc");
        }
        for private in [0o600, 0o400, 0o700] {
            fs::set_permissions(&path, Permissions::from_mode(private)).unwrap();
            assert_eq!(read_private(&path, 10).unwrap().as_slice(), b"abc");
        }
    }

    #[test]
    fn a_folder_or_nothing_is_no_key() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(
            read_private(folder.path(), 10),
            Err(FileError::NotAFile { .. })
        ));
        assert!(matches!(
            read_private(&folder.path().join("none"), 10),
            Err(FileError::Io { action: "read", error, .. }) if error.kind() == io::ErrorKind::NotFound
        ));
    }
}
