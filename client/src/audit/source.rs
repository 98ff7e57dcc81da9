//! Where tiles come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tlog::note::MAX_NOTE_BYTES;
use tlog::tile::{MAX_BUNDLE_BYTES, Resource};

use super::name::LogName;
use super::web::{Web, WebError};

/// Why something was not read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file can't be read.
    #[error("{} cannot be read", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The listener did not answer as it should.
    #[error(transparent)]
    Web(#[from] WebError),
    /// It is longer than it can be.
    #[error("{path} is longer than it can be")]
    TooLong {
        /// Which.
        path: String,
    },
}

/// A place with the logs of a service, each below its own path: `log/control/…`, `log/issuance/<boot>/…`.
#[derive(Debug, Clone)]
pub enum Source {
    /// A folder, such as `export` makes.
    Folder(PathBuf),
    /// The public listener, or a mirror.
    Web(Arc<Web>),
    /// Memory, by path.
    Memory(Arc<BTreeMap<String, Vec<u8>>>),
}

/// The path of a log's resource.
#[must_use]
pub fn path(name: &LogName, resource: Resource) -> String {
    format!("{name}/{}", resource.path())
}

/// The most bytes that it has.
pub(super) const fn most_bytes(resource: Resource) -> usize {
    match resource {
        Resource::Checkpoint => MAX_NOTE_BYTES,
        Resource::Tile(_) => tlog::tile::MAX_TILE_BYTES,
        Resource::Entries(_) => MAX_BUNDLE_BYTES,
    }
}

impl Source {
    /// Reads something of a log; none if it is not there.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(
        &self,
        name: &LogName,
        resource: Resource,
    ) -> Result<Option<Vec<u8>>, SourceError> {
        let path = path(name, resource);
        let most = most_bytes(resource);
        match self {
            Self::Folder(folder) => file(&folder.join(&path), &path, most),
            Self::Web(web) => Ok(web.get(&path, most).await?),
            Self::Memory(files) => Ok(files.get(&path).cloned()),
        }
    }

    /// How many reads are worth having under way.
    pub(super) const fn depth(&self) -> usize {
        match self {
            Self::Folder(_) | Self::Memory(_) => 1,
            Self::Web(_) => super::web::MAX_CONNECTIONS,
        }
    }
}

fn file(at: &Path, path: &str, most: usize) -> Result<Option<Vec<u8>>, SourceError> {
    let failed = |error| SourceError::File {
        path: at.to_owned(),
        error,
    };
    let file = match File::open(at) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > most {
        let path = path.to_owned();
        return Err(SourceError::TooLong { path });
    }
    Ok(Some(bytes))
}
