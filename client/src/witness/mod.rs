//! A witness: cosigns the checkpoints of logs it knows, each only if it follows all it cosigned before
//! [C2SP tlog-witness].
//!
//! | module | holds |
//! | --- | --- |
//! | [`state`] | its directory: key, logs, and what it cosigned of each |
//! | [`serve`] | its HTTP interface |

pub mod serve;
pub mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;
use thiserror::Error;
use tlog::witness::{AddCheckpoint, Refused};
use tlog::{Cosigner, CosignerKey, KeyName, NoteSignature, Origin, TreeHead, VerifiedCheckpoint};

use state::{Directory, StateError};

/// A log that a witness knows, and what it saw of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The log's keys.
    pub keys: Vec<tlog::VerifierKey>,
    /// The checkpoint that was cosigned last, with the cosignature.
    pub latest: Option<VerifiedCheckpoint>,
}

impl Seen {
    fn head(&self) -> Option<TreeHead> {
        self.latest.as_ref().map(VerifiedCheckpoint::head)
    }
}

/// Why a witness does not cosign.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// The request is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What it saw could not be made durable, so it did not cosign.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A witness: its key, and what it has seen. One process owns its directory.
#[derive(Debug)]
pub struct Witness {
    cosigner: Cosigner,
    directory: Directory,
    /// Held from judging a request until what it changes is durable.
    logs: Mutex<BTreeMap<Origin, Seen>>,
}

impl Witness {
    /// Makes a key in a new directory.
    ///
    /// # Errors
    /// [`StateError`]; a directory that holds a witness already is left alone.
    pub fn init(path: &Path, name: &KeyName) -> Result<Self, StateError> {
        Directory::init(path, name)?;
        Self::open(path)
    }

    /// Opens a directory, and verifies what is kept there.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::Damaged`] if what was cosigned does not verify: a witness that forgets
    /// is none.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let (directory, cosigner) = Directory::open(path)?;
        let logs = directory.logs(cosigner.key())?;
        Ok(Self {
            cosigner,
            directory,
            logs: Mutex::new(logs),
        })
    }

    /// Its key, as a log's policy names it.
    #[must_use]
    pub const fn key(&self) -> &CosignerKey {
        self.cosigner.key()
    }

    /// What it knows of each log.
    #[must_use]
    pub fn logs(&self) -> BTreeMap<Origin, Seen> {
        self.logs.lock().clone()
    }

    /// The checkpoint that it cosigned last of the log whose origin has this SHA-256.
    #[must_use]
    pub fn latest(&self, origin_sha256: &[u8]) -> Option<VerifiedCheckpoint> {
        let logs = self.logs.lock();
        let (_, seen) = logs
            .iter()
            .find(|(origin, _)| state::sha256(origin) == origin_sha256)?;
        seen.latest.clone()
    }

    /// Judges a request, makes what it says durable, and cosigns. Blocks on the disk.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn add_checkpoint(&self, body: &[u8], now_s: u64) -> Result<NoteSignature, WitnessError> {
        let request = AddCheckpoint::parse(body).map_err(Refused::from)?;
        let origin = request.unverified_origin().clone();
        let mut logs = self.logs.lock();
        if !logs.contains_key(&origin) {
            // It may have been added since.
            for (origin, seen) in self.directory.logs(self.cosigner.key())? {
                logs.entry(origin).or_insert(seen);
            }
        }
        let seen = logs.get_mut(&origin).ok_or(Refused::UnknownLog)?;
        let witnessable = request.judge(&seen.keys, seen.head())?;
        let cosignature = witnessable
            .cosign(&self.cosigner, now_s)
            .map_err(|_| StateError::Clock { now_s })?;
        let checkpoint =
            self.directory
                .keep(&origin, &seen.keys, witnessable.checkpoint(), &cosignature)?;
        seen.latest = Some(checkpoint);
        Ok(cosignature)
    }
}
