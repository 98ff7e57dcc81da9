//! The checkpoints that an auditor keeps: what was verified last of each log. They only rise.
//!
//! Each is kept with the key that it was verified by. A log whose key was replaced since must still begin with it: what
//! the auditor trusted then, the auditor holds the log against now.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;
use tlog::{VerifiedCheckpoint, VerifierKey};

use super::name::{LogKeys, LogName};
use crate::private_file::{FileError, read_public};

/// The longest file that is read, bytes.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// The version of the file. Version 1 has no keys: its checkpoints are by the key of now.
const VERSION: u64 = 2;

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
pub struct Kept(BTreeMap<LogName, One>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct One {
    checkpoint: VerifiedCheckpoint,
    key: VerifierKey,
}

impl Kept {
    /// What was kept of a log.
    #[must_use]
    pub fn of(&self, name: &LogName) -> Option<&VerifiedCheckpoint> {
        self.0.get(name).map(|one| &one.checkpoint)
    }

    /// The logs of which something was kept.
    pub fn names(&self) -> impl Iterator<Item = &LogName> {
        self.0.keys()
    }

    /// The key that the kept checkpoint of a log was verified by.
    #[must_use]
    pub fn key_of(&self, name: &LogName) -> Option<&VerifierKey> {
        self.0.get(name).map(|one| &one.key)
    }

    /// Keeps a checkpoint that was verified by `key`, if it is larger than the one that is kept.
    pub fn raise(&mut self, name: LogName, checkpoint: VerifiedCheckpoint, key: VerifierKey) {
        let is_larger = self
            .of(&name)
            .is_none_or(|kept| kept.head().size < checkpoint.head().size);
        if is_larger {
            self.0.insert(name, One { checkpoint, key });
        }
    }

    /// Reads the text of a file. Each checkpoint is verified again, by the key that it was kept with; by one of `keys`
    /// if the file is of version 1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8], keys: &LogKeys) -> Result<Self, String> {
        let file: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let version = file.get("version").and_then(Value::as_u64);
        let has_keys = match version {
            Some(1) => false,
            Some(VERSION) => true,
            Some(_) | None => {
                return Err(format!(
                    "not a file of kept checkpoints of version {VERSION}"
                ));
            }
        };
        let logs = file.get("checkpoints").and_then(Value::as_object);
        let logs = logs.ok_or("it has no checkpoints")?;
        let mut kept = BTreeMap::new();
        for (origin, note) in logs {
            let name = keys.find(origin).map_err(|error| error.to_string())?;
            let current = keys
                .verifier_key(&name)
                .map_err(|error| error.to_string())?;
            let (note, key) = if has_keys {
                let text = |member: &str| note.get(member).and_then(Value::as_str);
                let key = text("key").ok_or("a checkpoint has no key")?;
                let key = key
                    .parse::<VerifierKey>()
                    .map_err(|error| format!("{origin}: {error}"))?;
                (text("checkpoint"), key)
            } else {
                (note.as_str(), current.clone())
            };
            let note = note.ok_or("a checkpoint is no text")?;
            if key.name() != current.name() {
                return Err(format!("{origin}: the key is that of {}", key.name()));
            }
            let origin = keys.origin(&name).map_err(|error| error.to_string())?;
            let by = std::slice::from_ref(&key);
            let checkpoint = VerifiedCheckpoint::open(note.as_bytes(), &origin, by);
            let checkpoint = checkpoint.map_err(|error| format!("{origin}: {error}"))?;
            kept.insert(name, One { checkpoint, key });
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
            .map(|One { checkpoint, key }| {
                let origin = checkpoint.checkpoint().origin().to_string();
                let note = checkpoint.note().note().to_string();
                (origin, json!({"key": key.to_string(), "checkpoint": note}))
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

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use tlog::{Checkpoint, NoteSigner, TreeHead, leaf_hash};

    const ORIGIN: &str = "keep.test/log/control";

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn keys(seed: u8) -> LogKeys {
        let public = pair(seed).public_key().as_ref().try_into().unwrap();
        LogKeys::new("keep.test", public).unwrap()
    }

    /// A checkpoint of one leaf by the key of this seed.
    fn checkpoint(seed: u8) -> String {
        let signer = NoteSigner::new(ORIGIN.parse().unwrap(), pair(seed)).unwrap();
        let head = TreeHead {
            size: 1,
            root: leaf_hash(b"leaf"),
        };
        let checkpoint = Checkpoint::new(ORIGIN.parse().unwrap(), head).unwrap();
        checkpoint.sign(&signer).unwrap().to_string()
    }

    fn key(seed: u8) -> String {
        let key = keys(seed).verifier_key(&LogName::Control).unwrap();
        key.to_string()
    }

    #[test]
    fn what_was_kept_under_a_key_is_read_when_the_key_was_replaced() {
        let mut kept = Kept::default();
        let (origin, old) = (ORIGIN.parse().unwrap(), keys(1));
        let old = old.verifier_key(&LogName::Control).unwrap();
        let by = std::slice::from_ref(&old);
        let opened = VerifiedCheckpoint::open(checkpoint(1).as_bytes(), &origin, by).unwrap();
        kept.raise(LogName::Control, opened, old.clone());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kept.json");
        kept.save(&file).unwrap();
        for now in [1, 2] {
            let read = Kept::load(&file, &keys(now)).unwrap();
            assert_eq!(read, kept);
            assert_eq!(read.key_of(&LogName::Control), Some(&old));
        }
        // A file from before, which has no keys.
        let before = json!({"version": 1, "checkpoints": {ORIGIN: checkpoint(1)}}).to_string();
        assert_eq!(Kept::parse(before.as_bytes(), &keys(1)), Ok(kept));
        let found = Kept::parse(before.as_bytes(), &keys(2));
        assert_eq!(
            found,
            Err("keep.test/log/control: the checkpoint's note is refused".to_owned())
        );
    }

    #[test]
    fn each_fault_of_a_file_is_named() {
        let file = |origin: &str, one: Value| json!({"version": 2, "checkpoints": {origin: one}});
        let one = |key: String, note: String| json!({"key": key, "checkpoint": note});
        let control = keys(1).verifier_key(&LogName::Control).unwrap();
        let named = "keep.test/log/other".parse().unwrap();
        let other_log = VerifierKey::new(named, *control.public_key()).to_string();
        let rows = [
            (
                json!({"version": 3, "checkpoints": {}}),
                "not a file of kept checkpoints of version 2",
            ),
            (json!({"version": 2}), "it has no checkpoints"),
            (
                file(ORIGIN, json!(checkpoint(1))),
                "a checkpoint has no key",
            ),
            (
                file(ORIGIN, json!({"key": key(1)})),
                "a checkpoint is no text",
            ),
            (
                file("other.test/log/control", one(key(1), checkpoint(1))),
                "\"other.test/log/control\" is no log of \"keep.test\"",
            ),
            (
                file(ORIGIN, one(key(2), checkpoint(1))),
                "keep.test/log/control: the checkpoint's note is refused",
            ),
            (
                file(ORIGIN, one("key".to_owned(), checkpoint(1))),
                "keep.test/log/control: ",
            ),
            (
                file(ORIGIN, one(other_log, checkpoint(1))),
                "keep.test/log/control: the key is that of keep.test/log/other",
            ),
        ];
        for (file, expected) in rows {
            let said = Kept::parse(file.to_string().as_bytes(), &keys(1)).unwrap_err();
            assert!(said.starts_with(expected), "{expected}: {said}");
        }
    }
}
