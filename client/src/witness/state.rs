//! A witness's directory: its key, the logs it knows, and what it cosigned of each.
//!
//! | file | holds |
//! | --- | --- |
//! | `seed` | the Ed25519 seed, 32 bytes, mode 0600 |
//! | `name` | the witness's name |
//! | `logs` | a log's verifier key a line, whose name is the log's origin; `#` begins a comment |
//! | `seen/SHA-256 OF ORIGIN` | the checkpoint that was cosigned last, with log signature and cosignature |

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::Ed25519KeyPair;
use thiserror::Error;
use tlog::note::MAX_NOTE_BYTES;
use tlog::{
    Cosigner, CosignerKey, KeyName, NoteSignature, Origin, VerifiedCheckpoint, VerifierKey,
};
use zeroize::Zeroizing;

use super::Seen;
use crate::private_file::{FileError, create_private, read_private, read_public};

const SEED: &str = "seed";
const NAME: &str = "name";
const LOGS: &str = "logs";
const SEEN: &str = "seen";
/// Longest list of logs, bytes.
const MAX_LOGS_BYTES: usize = 1 << 20;
/// Most logs of one witness.
pub const MAX_LOGS: usize = 1_000;

const LOGS_HEADER: &[u8] =
    b"# The logs that this witness knows: a verifier key a line, whose name is the log's origin.\n";

/// Why a witness's directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be written.
    #[error("{} cannot be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The clock says something that no cosignature can state.
    #[error("the clock says {now_s} s")]
    Clock {
        /// That.
        now_s: u64,
    },
}

/// SHA-256 of a log's origin.
pub(super) fn sha256(origin: &Origin) -> Vec<u8> {
    digest(&SHA256, origin.as_str().as_bytes())
        .as_ref()
        .to_vec()
}

/// The directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn init(path: &Path, name: &KeyName) -> Result<(), StateError> {
        let written = |path: &Path| {
            let path = path.to_owned();
            move |error| StateError::Write { path, error }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path.join(SEEN))
            .map_err(written(path))?;
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut *seed)
            .map_err(|_| StateError::Damaged {
                path: path.to_owned(),
                what: "the system gives no random bytes".to_owned(),
            })?;
        create_private(&path.join(SEED), &*seed)?;
        create_private(&path.join(NAME), format!("{name}\n").as_bytes())?;
        create_private(&path.join(LOGS), LOGS_HEADER)?;
        sync(path).map_err(written(path))
    }

    pub(super) fn open(path: &Path) -> Result<(Self, Cosigner), StateError> {
        let damaged = |name: &str, what: String| StateError::Damaged {
            path: path.join(name),
            what,
        };
        let seed = read_private(&path.join(SEED), 32)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| damaged(SEED, "is no seed of 32 bytes".to_owned()))?;
        let name = read_public(&path.join(NAME), MAX_NOTE_BYTES)?;
        let name: KeyName = String::from_utf8_lossy(&name)
            .trim_end()
            .parse()
            .map_err(|error| damaged(NAME, format!("is no name: {error}")))?;
        let cosigner =
            Cosigner::new(name, pair).map_err(|error| damaged(SEED, error.to_string()))?;
        let path = path.to_owned();
        Ok((Self { path }, cosigner))
    }

    /// The logs of the list, with what was cosigned of each.
    pub(super) fn logs(&self, own: &CosignerKey) -> Result<BTreeMap<Origin, Seen>, StateError> {
        let path = self.path.join(LOGS);
        let text = read_public(&path, MAX_LOGS_BYTES)?;
        let damaged = |what: String| StateError::Damaged {
            path: path.clone(),
            what,
        };
        let mut logs: BTreeMap<Origin, Seen> = BTreeMap::new();
        for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = number.saturating_add(1);
            let key: VerifierKey = line
                .parse()
                .map_err(|error| damaged(format!("line {number} is no verifier key: {error}")))?;
            let origin: Origin = key
                .name()
                .as_str()
                .parse()
                .map_err(|error| damaged(format!("line {number} names no origin: {error}")))?;
            let seen = logs.entry(origin).or_insert_with(|| Seen {
                keys: Vec::new(),
                latest: None,
            });
            seen.keys.push(key);
            if logs.len() > MAX_LOGS {
                return Err(damaged(format!("more than {MAX_LOGS} logs")));
            }
        }
        for (origin, seen) in &mut logs {
            seen.latest = self.latest(origin, &seen.keys, own)?;
        }
        Ok(logs)
    }

    /// Adds a log to the list.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn add_log(path: &Path, key: &VerifierKey) -> Result<(), StateError> {
        let path = path.join(LOGS);
        let mut text = read_public(&path, MAX_LOGS_BYTES)?.to_vec();
        let line = key.to_string();
        if String::from_utf8_lossy(&text)
            .lines()
            .any(|known| known.trim() == line)
        {
            return Ok(());
        }
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend_from_slice(format!("{line}\n").as_bytes());
        replace(&path, &text)
    }

    fn latest(
        &self,
        origin: &Origin,
        keys: &[VerifierKey],
        own: &CosignerKey,
    ) -> Result<Option<VerifiedCheckpoint>, StateError> {
        let path = self.seen(origin);
        let bytes = match read_public(&path, MAX_NOTE_BYTES) {
            Ok(bytes) => bytes,
            Err(FileError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let damaged = |what: String| StateError::Damaged {
            path: path.clone(),
            what,
        };
        let checkpoint = VerifiedCheckpoint::open(&bytes, origin, keys)
            .map_err(|error| damaged(format!("is no checkpoint of the log: {error}")))?;
        // What this witness did not cosign it has not seen.
        checkpoint
            .cosignature(own)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Some(checkpoint))
    }

    /// Makes a cosigned checkpoint durable.
    pub(super) fn keep(
        &self,
        origin: &Origin,
        keys: &[VerifierKey],
        checkpoint: &VerifiedCheckpoint,
        cosignature: &NoteSignature,
    ) -> Result<VerifiedCheckpoint, StateError> {
        let path = self.seen(origin);
        let damaged = |what: String| StateError::Damaged {
            path: path.clone(),
            what,
        };
        // Only the log's own signatures are kept beside ours: a request may bring any others.
        let signatures = checkpoint.note().note().signatures().iter();
        let own = signatures.filter(|line| {
            keys.iter()
                .any(|key| key.name() == line.name() && key.key_id() == line.key_id())
        });
        let lines = own.cloned().chain([cosignature.clone()]).collect();
        let note = tlog::Note::new(checkpoint.note().text().to_owned(), lines)
            .map_err(|error| damaged(error.to_string()))?
            .to_string();
        let kept = VerifiedCheckpoint::open(note.as_bytes(), origin, keys)
            .map_err(|error| damaged(error.to_string()))?;
        replace(&path, note.as_bytes())?;
        Ok(kept)
    }

    fn seen(&self, origin: &Origin) -> PathBuf {
        self.path.join(SEEN).join(hex::encode(sha256(origin)))
    }
}

/// Puts bytes under a name: written beside it, synced, renamed, and the directory synced. After a crash at any
/// point the name holds the old bytes or the new ones.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let written = |error| StateError::Write {
        path: path.to_owned(),
        error,
    };
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(written)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(written)?;
    fs::rename(&temporary, path).map_err(written)?;
    sync(path.parent().unwrap_or(Path::new("."))).map_err(written)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
