//! The root key: opened at the start with the shares of a quorum of keyholders, and replaced when something is to be
//! destroyed for good.
//!
//! | module | holds |
//! | --- | --- |
//! | [`open`] | from the files in the state directory to the keys |
//! | [`keeper`] | a new root while the service runs, and what of the old one is not yet destroyed |
//! | [`erase`] | a tenant's erasure to its end |
//! | [`ask`] | one request to one keyholder |
//! | `enrol` | new shares of all keyholders |
//! | `chip` | the key that the TEE derives |

pub mod ask;
mod chip;
mod enrol;
pub mod erase;
pub mod keeper;
pub mod open;

use std::path::PathBuf;
use std::sync::Arc;

use attestation::Attester;
use attestation::manifest::{Images, Keyholders, Manifest, Recovery};
use rustls::ClientConfig;

use crate::boot::StartError;
use crate::host_config::HostConfig;
use ask::Asker;

/// The file with the wrapped root key, beside the store's.
pub const ENVELOPE_NAME: &str = "root.envelope";

/// The envelope of the root that takes over, while tenants' keys are wrapped anew.
pub const NEXT_ENVELOPE_NAME: &str = "root.envelope.next";

/// What the root key is opened and wrapped by.
pub struct Ground {
    state_dir: PathBuf,
    keyholders: Keyholders,
    images: Option<Images>,
    recovery: Option<Recovery>,
    attester: Arc<dyn Attester>,
    asker: Asker,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").finish_non_exhaustive()
    }
}

impl Ground {
    /// From the host's configuration, and from the manifest, whose two files keyholders are shown.
    ///
    /// # Errors
    /// [`StartError::NoKeyholders`], [`StartError::KeyholderUrl`].
    pub fn new(
        host: &HostConfig,
        manifest: &Manifest,
        (toml, signature): (&[u8], &[u8]),
        attester: Arc<dyn Attester>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, StartError> {
        let keyholders = manifest.keyholders().ok_or(StartError::NoKeyholders)?;
        for keyholder in &keyholders.keyholders {
            if keyholder.url.parse::<url::Url>().is_err() {
                let name = keyholder.name.clone();
                return Err(StartError::KeyholderUrl { name });
            }
        }
        Ok(Self {
            state_dir: host.state_dir.clone(),
            keyholders: keyholders.clone(),
            images: manifest.images().cloned(),
            recovery: manifest.recovery().cloned(),
            asker: Asker {
                attester: Arc::clone(&attester),
                issuer: manifest.issuer().as_str().to_owned(),
                manifest_digest: *manifest.digest(),
                manifest: String::from_utf8_lossy(toml).into_owned(),
                manifest_signature: String::from_utf8_lossy(signature).into_owned(),
                tls,
            },
            attester,
        })
    }

    /// Whether the quorum's secret is enough on any chip.
    const fn off_chip(&self) -> bool {
        self.keyholders.off_chip
    }

    /// The public key of the recovery set, if there is one.
    fn recovery_key(&self) -> Option<[u8; 32]> {
        self.recovery.as_ref().map(|recovery| recovery.key)
    }
}
