//! Writing a lab's files.

use std::io;
use std::path::Path;

use tokenkeep::private_file::{FileError, create_private};

/// Writes a file that everyone may read; an older one is replaced in one step.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), FileError> {
    let failed = |error| FileError::Io {
        path: path.to_owned(),
        action: "written",
        error,
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

/// Writes a file of mode 0600, in the place of one that an unfinished start left.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    make_room(path)?;
    create_private(path, bytes)
}

/// Removes what an unfinished start left.
pub(super) fn make_room(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::Io {
            path: path.to_owned(),
            action: "written",
            error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}
