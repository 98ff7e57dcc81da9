//! The checkpoints that an auditor keeps: what was verified last of each log. They only rise.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;
use tlog::VerifiedCheckpoint;

use super::name::{LogKeys, LogName};
use crate::private_file::{FileError, read_public};

/// The longest file that is read, bytes.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// The version of the file.
const VERSION: u64 = 1;

/// Why what was kept can't be used.
#[derive(Debug, Error)]
pub enum KeptError {
    /// The file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It does not hold what an auditor keeps.
    #[error("{}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It can't be written.
    #[error("{} cannot be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// What was verified last of each log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept(BTreeMap<LogName, VerifiedCheckpoint>);

impl Kept {
    /// What was kept of a log.
    #[must_use]
    pub fn of(&self, name: &LogName) -> Option<&VerifiedCheckpoint> {
        self.0.get(name)
    }

    /// The logs of which something was kept.
    pub fn names(&self) -> impl Iterator<Item = &LogName> {
        self.0.keys()
    }

    /// Keeps a checkpoint, if it is larger than the one that is kept.
    pub fn raise(&mut self, name: LogName, checkpoint: VerifiedCheckpoint) {
        let is_larger = self
            .0
            .get(&name)
            .is_none_or(|kept| kept.head().size < checkpoint.head().size);
        if is_larger {
            self.0.insert(name, checkpoint);
        }
    }

    /// Reads the text of a file. Each checkpoint is verified again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8], keys: &LogKeys) -> Result<Self, String> {
        let file: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if file.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(format!(
                "not a file of kept checkpoints of version {VERSION}"
            ));
        }
        let logs = file.get("checkpoints").and_then(Value::as_object);
        let logs = logs.ok_or("it has no checkpoints")?;
        let mut kept = BTreeMap::new();
        for (origin, note) in logs {
            let name = keys.find(origin).map_err(|error| error.to_string())?;
            let note = note.as_str().ok_or("a checkpoint is no text")?;
            let key = keys
                .verifier_key(&name)
                .map_err(|error| error.to_string())?;
            let origin = keys.origin(&name).map_err(|error| error.to_string())?;
            let checkpoint = VerifiedCheckpoint::open(note.as_bytes(), &origin, &[key]);
            let checkpoint = checkpoint.map_err(|error| format!("{origin}: {error}"))?;
            kept.insert(name, checkpoint);
        }
        Ok(Self(kept))
    }

    /// Reads a file; nothing was kept if there is none.
    ///
    /// # Errors
    /// [`KeptError`].
    pub fn load(path: &Path, keys: &LogKeys) -> Result<Self, KeptError> {
        match read_public(path, MAX_KEPT_BYTES) {
            Ok(text) => Self::parse(&text, keys).map_err(|what| KeptError::Damaged {
                path: path.to_owned(),
                what,
            }),
            Err(FileError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn to_json(&self) -> Value {
        let logs: Map<String, Value> = self
            .0
            .values()
            .map(|checkpoint| {
                let origin = checkpoint.checkpoint().origin().to_string();
                (origin, json!(checkpoint.note().note().to_string()))
            })
            .collect();
        json!({"version": VERSION, "checkpoints": logs})
    }

    /// Writes the file anew, durably: what was there before stays until all of it is there.
    ///
    /// # Errors
    /// [`KeptError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), KeptError> {
        let failed = |error| KeptError::Write {
            path: path.to_owned(),
            error,
        };
        replace(path, self.to_json().to_string().as_bytes()).map_err(failed)
    }
}

/// Puts a file in the place of another, durably.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
