//! Boot: opens the store, and brings the enclave up with the keys of its envelope.

mod load;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::{Attester, AttesterError, Platform};
use enclave::Enclave;
use enclave::boot::{Boot, BootError, Leaves};
use enclave::config::Config;
use enclave::frame::FrameCipher;
use enclave::keys::envelope::EnvelopeError;
use enclave::keys::root::{RootKey, Unlocked};
use enclave::log::Image;
use enclave::seal::SealError;
use enclave::store::{Store, StoreError};
use enclave::time::Now;
use ring::rand::SystemRandom;
use thiserror::Error;

use crate::events;
use crate::files::FileError;
use crate::host_config::HostConfig;
use crate::store::{EmbeddedStore, OpenError};

/// Why the service did not come up.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody holds a share.
    #[error(
        "the manifest names no keyholders, and without their shares the root key does not open: add [keyholders]; `tokenkeep keyholder init` makes one"
    )]
    NoKeyholders,
    /// The manifest does not let this image open the state.
    #[error("the manifest's [images] does not let this image open the state: {what}")]
    ImageForbidden {
        /// What is wrong.
        what: String,
    },
    /// A keyholder that the manifest names can't be asked.
    #[error("the manifest's keyholder {name}: its url is none")]
    KeyholderUrl {
        /// Its name.
        name: String,
    },
    /// No number can be drawn.
    #[error("no random bytes")]
    Random,
    /// The platform's report does not say which image runs.
    #[error("the platform's report does not say which image runs")]
    Image,
    /// The platform gave no key.
    #[error("the platform gave no key to open the root key with")]
    Platform(#[from] AttesterError),
    /// The root key can't be wrapped or unwrapped.
    #[error("{path}: {source}")]
    Envelope {
        /// The envelope's file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// There is a store, but not the key to it.
    #[error(
        "{store} is there but {envelope} is not: put it back, or move the store away to begin with a new identity"
    )]
    NoEnvelope {
        /// The store's file.
        store: PathBuf,
        /// The envelope's file.
        envelope: PathBuf,
    },
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store failed while it was read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The enclave did not come up.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A key can't be derived.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The enclave and its store.
#[derive(Debug)]
pub struct Booted {
    /// The trusted core.
    pub enclave: Enclave,
    /// Its store.
    pub store: EmbeddedStore,
}

/// Brings the enclave up from the host's state directory, or begins a new state there, with the keys of its envelope and the
/// root that these replace, if it is still needed.
///
/// # Errors
/// [`StartError`].
pub async fn boot(
    config: Config,
    host: &HostConfig,
    (keys, retiring): (&Unlocked, Option<&RootKey>),
    attester: &dyn Attester,
    now: &Now,
) -> Result<Booted, StartError> {
    let rng = SystemRandom::new();
    let cipher = FrameCipher::new(keys.state.frame_key()?);
    let (dir, policy) = (&host.state_dir, host.compaction);
    let (mut leaves, mut failed) = (Leaves::default(), None);
    let mut tell = |log, leaf: &[u8]| {
        if failed.is_none() {
            failed = leaves.load(log, leaf).err();
        }
    };
    let random = rng.clone();
    let (store, report) =
        EmbeddedStore::open_telling(dir, cipher, random, policy, Box::new(end), &mut tell)?;
    events::store_opened(&report);
    if let Some(error) = failed {
        return Err(error.into());
    }

    let mut boot = Boot::new(config, keys, retiring, Arc::new(rng))?;
    boot.take_in_leaves(leaves);
    load::load(&mut boot, &store)?;
    if let Some(batch) = boot.admit_manifest()? {
        let _receipt = store.commit(batch).await?;
    }
    if let Some(batch) = boot.create_keys(now)? {
        let _receipt = store.commit(batch).await?;
    }
    let enclave = boot.finish()?;
    // Before anything is answered, the log says who answers.
    let booted = enclave.booted(&image(attester)?, now)?;
    let durable = booted.commit(&store).await?;
    // A boot touches nothing that can be frozen.
    drop(enclave.release(durable, now));
    Ok(Booted { enclave, store })
}

/// The image that runs, by the platform's own word.
pub(crate) fn image(attester: &dyn Attester) -> Result<Image, StartError> {
    let evidence = attester.evidence(&[0; 64])?;
    let (platform, claims) = match evidence.platform {
        Platform::Snp => {
            let report = attestation::snp::Report::parse(&evidence.report);
            let report = report.map_err(|_| StartError::Image)?;
            ("snp", report.claims_for_display(None))
        }
        Platform::Tdx => {
            let quote = attestation::tdx::Quote::parse(&evidence.report);
            let quote = quote.map_err(|_| StartError::Image)?;
            ("tdx", quote.claims_for_display())
        }
    };
    // A report of our own: nobody need verify it to us.
    let measurement = claims
        .into_iter()
        .find(|(name, _)| matches!(*name, "measurement" | "mrtd"))
        .ok_or(StartError::Image)?;
    Ok(Image {
        platform: platform.to_owned(),
        measurement: measurement.1,
    })
}

/// The guest SVN of the image that runs; a TDX guest has none.
pub(crate) fn guest_svn(attester: &dyn Attester) -> Result<Option<u32>, StartError> {
    match attester.platform() {
        Platform::Snp => {
            let evidence = attester.evidence(&[0; 64])?;
            let report = attestation::snp::Report::parse(&evidence.report);
            Ok(Some(report.map_err(|_| StartError::Image)?.guest_svn()))
        }
        Platform::Tdx => Ok(None),
    }
}

/// What a failed sync leads to: nothing is known of the last writes, so nothing
/// more may be said.
#[expect(
    clippy::exit,
    reason = "a failed sync ends the process: what is on the disk is not known"
)]
fn end(kind: io::ErrorKind) {
    events::store_sync_failed(kind);
    std::process::exit(70);
}

/// Makes the state directory, for the service alone, if it is not there.
///
/// # Errors
/// [`FileError`].
pub fn make_dir(dir: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| FileError::new("create", dir, &error))
}
