//! A copy of the logs in a folder, as tiles. It can be broken off and taken up again: what is there is not read twice.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tlog::VerifiedCheckpoint;
use tlog::tile::{EntryBundle, Resource};

use super::kept::replace;
use super::leaf::{self, Kind};
use super::name::{Boot, LogKeys, LogName, NameError};
use super::report::{Fault, missing};
use super::source::{Source, SourceError, path};
use super::steps::Steps;
use super::verify::{OnProgress, Progress};

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Something was not read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A log can't be named.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The log is not as it should be.
    #[error(transparent)]
    Log(#[from] Fault),
    /// A file can't be written.
    #[error("{} cannot be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Logs.
    pub logs: usize,
    /// Leaves of all logs.
    pub leaves: u64,
    /// Files that were written, the checkpoints among them.
    pub written: u64,
    /// Files that were there.
    pub kept: u64,
}

/// Copies all logs of a service to a folder. Signatures of checkpoints are verified, the rest is for
/// [`Auditor::verify`](super::Auditor::verify) over the folder.
///
/// # Errors
/// [`ExportError`].
pub async fn export(
    keys: &LogKeys,
    source: &Source,
    folder: &Path,
    progress: OnProgress<'_>,
) -> Result<Copied, ExportError> {
    let mut export = Export {
        keys,
        source,
        folder,
        progress,
        copied: Copied::default(),
    };
    // The control log names the boots. What may have grown meanwhile is copied again, to checkpoints that are taken
    // together.
    let control = export.log(&LogName::Control).await?;
    let mut sizes = vec![control.unwrap_or(0)];
    let boots = export.boots(sizes.first().copied().unwrap_or(0)).await?;
    let mut done = BTreeSet::new();
    let newest = boots.last().cloned();
    for boot in boots {
        let is_newest = newest.as_ref() == Some(&boot);
        let name = LogName::Issuance(boot);
        if is_newest || !done.insert(name.clone()) {
            continue;
        }
        sizes.extend(export.log(&name).await?);
    }
    if let Some(newest) = newest {
        let newest = LogName::Issuance(newest);
        export.log(&newest).await?;
        let control = export.log(&LogName::Control).await?;
        if let (Some(first), Some(control)) = (sizes.first_mut(), control) {
            *first = control;
        }
        sizes.extend(export.log(&newest).await?);
    }
    export.copied.logs = sizes.len();
    export.copied.leaves = sizes.iter().fold(0, |sum, size| sum.saturating_add(*size));
    Ok(export.copied)
}

struct Export<'a> {
    keys: &'a LogKeys,
    source: &'a Source,
    folder: &'a Path,
    progress: OnProgress<'a>,
    copied: Copied,
}

impl Export<'_> {
    /// Copies a log; none for one that is not there. Gives its size.
    async fn log(&mut self, name: &LogName) -> Result<Option<u64>, ExportError> {
        let note = self.source.read(name, Resource::Checkpoint).await?;
        let Some(note) = note else {
            if *name == LogName::Control {
                return Err(missing(Resource::Checkpoint).into());
            }
            return Ok(None);
        };
        let (origin, key) = (self.keys.origin(name)?, self.keys.verifier_key(name)?);
        let checkpoint = VerifiedCheckpoint::open(&note, &origin, &[key]);
        let size = checkpoint.map_err(Fault::Checkpoint)?.head().size;
        for resource in Steps::new(0, size) {
            let at = self.folder.join(path(name, resource));
            let is_full = match resource {
                Resource::Checkpoint => false,
                Resource::Tile(id) => id.is_full(),
                Resource::Entries(id) => id.is_full(),
            };
            if is_full && at.exists() {
                self.copied.kept = self.copied.kept.saturating_add(1);
            } else {
                let bytes = self.source.read(name, resource).await?;
                let bytes = bytes.ok_or_else(|| missing(resource))?;
                self.write(&at, &bytes)?;
            }
            if let Resource::Entries(id) = resource {
                let read = id.first_entry().saturating_add(u64::from(id.width()));
                (self.progress)(Progress {
                    log: name,
                    read,
                    size,
                });
            }
        }
        // Last, so that a folder has what its checkpoint says.
        self.write(&self.folder.join(path(name, Resource::Checkpoint)), &note)?;
        Ok(Some(size))
    }

    fn write(&mut self, at: &Path, bytes: &[u8]) -> Result<(), ExportError> {
        let failed = |error| ExportError::Write {
            path: at.to_owned(),
            error,
        };
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        replace(at, bytes).map_err(failed)?;
        self.copied.written = self.copied.written.saturating_add(1);
        Ok(())
    }

    /// The boots that the copied control log names, oldest first.
    async fn boots(&self, size: u64) -> Result<Vec<Boot>, ExportError> {
        let copy = Source::Folder(self.folder.to_owned());
        let mut boots = Vec::new();
        for resource in Steps::new(0, size) {
            let Resource::Entries(id) = resource else {
                continue;
            };
            let bytes = copy.read(&LogName::Control, resource).await?;
            let bytes = bytes.ok_or_else(|| missing(resource))?;
            let bundle = EntryBundle::decode(id, &bytes).map_err(Fault::Entries)?;
            for (index, entry) in (id.first_entry()..).zip(bundle.entries()) {
                let leaf = leaf::parse(&LogName::Control, entry);
                let leaf = leaf.map_err(|error| Fault::Leaf { index, error })?;
                if leaf.kind == Kind::Booted {
                    boots.extend(leaf.boot.parse::<Boot>().ok());
                }
            }
        }
        Ok(boots)
    }
}
