//! Reading the host's files, bounded.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("can't {action} {path}: {kind}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kind of the failure.
        kind: io::ErrorKind,
    },
    /// The file is too large to be what it should be.
    #[error("{path} has more than {max_bytes} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// How many it may have.
        max_bytes: usize,
    },
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            kind: error.kind(),
        }
    }
}

/// Reads a whole file of at most `max_bytes`.
///
/// # Errors
/// [`FileError`].
pub fn read_bounded(path: &Path, max_bytes: usize) -> Result<Vec<u8>, FileError> {
    let failed = |error: io::Error| FileError::new("read", path, &error);
    let file = File::open(path).map_err(failed)?;
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > max_bytes {
        return Err(FileError::TooLarge {
            path: path.to_path_buf(),
            max_bytes,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"1234").unwrap();
        assert_eq!(read_bounded(&path, 4), Ok(b"1234".to_vec()));
        let too_large = FileError::TooLarge {
            path: path.clone(),
            max_bytes: 3,
        };
        assert_eq!(read_bounded(&path, 3), Err(too_large));
        let absent = dir.path().join("g");
        let expected = FileError::Io {
            action: "read",
            path: absent.clone(),
            kind: io::ErrorKind::NotFound,
        };
        assert_eq!(read_bounded(&absent, 3), Err(expected));
    }
}
