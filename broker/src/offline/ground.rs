//! From a state directory to the key of its store, by the way that the service goes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::Attester;
use attestation::manifest::EnclaveKind;
use enclave::frame::FrameCipher;
use enclave::seal::SealError;
use thiserror::Error;

use crate::boot::StartError;
use crate::files::FileError;
use crate::host_config::HostConfig;
use crate::listener::ShutdownSignal;
use crate::root::{ENVELOPE_NAME, Ground as RootGround, NEXT_ENVELOPE_NAME};
use crate::run::{RunError, open_manifest, roots};
use crate::store::{FILE_NAME, OpenError, StateDir, TransferError};
use crate::tls;

/// Why a state could not be looked at or carried.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// The manifest, or the platform.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The root key does not open.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A key can't be derived.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store is used, or can't be read.
    #[error(transparent)]
    Open(OpenError),
    /// The service runs.
    #[error(
        "{path} is locked: the service uses this state; stop it first, and start it again when this is done"
    )]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// There is no state.
    #[error("there is no state in {dir}: {missing} is not there")]
    NoState {
        /// The directory.
        dir: PathBuf,
        /// What is not there.
        missing: &'static str,
    },
    /// A root key is half replaced.
    #[error(
        "the root key of this state is half replaced: start the service once, so that it finishes, and stop it again"
    )]
    HalfReplaced,
    /// There is a state where one was to be brought.
    #[error(
        "{path} is there already: a state is brought into an empty directory only; move the one that is there away first"
    )]
    NotEmpty {
        /// What is there.
        path: PathBuf,
    },
    /// The export can't be made or read.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A file of that name is there.
    #[error("{path} is there already: name another file, or move that one away")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// What was found can't be told.
    #[error("the findings can't be written: {0}")]
    Told(io::Error),
}

impl From<OpenError> for OfflineError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked { path } => Self::InUse { path },
            OpenError::Io { .. }
            | OpenError::Corrupt { .. }
            | OpenError::Thread { .. }
            | OpenError::Begin { .. } => Self::Open(error),
        }
    }
}

/// What a state is opened on.
pub(super) struct Ground<'a> {
    pub(super) host: &'a HostConfig,
    pub(super) attester: Arc<dyn Attester>,
    pub(super) stop: ShutdownSignal,
}

/// A state that was found, locked, and what opens it.
pub(super) struct Found {
    pub(super) dir: StateDir,
    pub(super) cipher: FrameCipher,
    pub(super) store: PathBuf,
}

impl Ground<'_> {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.host.state_dir.join(name)
    }

    /// Locks the state and opens its key. None if it is to stop before
    /// keyholders have answered.
    pub(super) async fn open(&mut self) -> Result<Option<Found>, OfflineError> {
        let dir = self.host.state_dir.clone();
        for missing in [ENVELOPE_NAME, FILE_NAME] {
            if !exists(&dir.join(missing))? {
                return Err(OfflineError::NoState { dir, missing });
            }
        }
        let locked = StateDir::lock(&dir)?;
        let root = self.root(&dir)?;
        let Some(keys) = Box::pin(root.unlock(&mut self.stop)).await? else {
            return Ok(None);
        };
        Ok(Some(Found {
            dir: locked,
            cipher: FrameCipher::new(keys.state.frame_key()?),
            store: dir.join(FILE_NAME),
        }))
    }

    /// A root key is whole, not half replaced.
    pub(super) fn expect_one_root(&self) -> Result<(), OfflineError> {
        if exists(&self.path(NEXT_ENVELOPE_NAME))? {
            return Err(OfflineError::HalfReplaced);
        }
        Ok(())
    }

    /// What opens the root key in a directory.
    pub(super) fn root(&self, dir: &Path) -> Result<RootGround, OfflineError> {
        let kind = if self.attester.is_emulated() {
            EnclaveKind::Emulated
        } else {
            EnclaveKind::Hardware
        };
        let signer = self.attester.host_data().map_err(RunError::from)?;
        let (manifest, toml, signature) = open_manifest(&self.host.manifest, &signer, kind)?;
        let host = HostConfig {
            state_dir: dir.to_path_buf(),
            ..self.host.clone()
        };
        let tls = tls::client(roots(&manifest)).map_err(RunError::from)?;
        let signed = (&*toml, &*signature);
        let attester = Arc::clone(&self.attester);
        Ok(RootGround::new(&host, &manifest, signed, attester, tls)?)
    }
}

pub(super) fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists()
        .map_err(|error| FileError::new("look for", path, &error))
}
