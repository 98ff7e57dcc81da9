//! Evidence bundles: the parts, gathered for one tenant, and the statement over them, signed by the enclave.

use std::sync::Arc;

use attestation::evidence_bundle::{MAX_BUNDLE_PARTS_BYTES, part};
use attestation::{BundlePart, EvidenceStatement, Nonce, Purpose, SavedEvidenceError};
use enclave::admin::{AdminError, Administrator, Inventory};
use enclave::ids::TenantId;
use enclave::keys::instance::{SignStatementError, SignedStatement};
use enclave::log::LogName;
use thiserror::Error;

use crate::evidence::{EvidenceDesk, EvidenceError};
use crate::log::LogReadError;
use crate::sbom::SBOM;
use crate::shell::Shell;

/// Issuance logs whose checkpoints are in a bundle, the newest ones. The heads of those before are in leaves of the
/// control log.
const MAX_ISSUANCE_LOGS: usize = 256;

/// Why there is no bundle.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The caller may not have it.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// There is no evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The evidence can't be written down.
    #[error(transparent)]
    Saved(#[from] SavedEvidenceError),
    /// A log can't be read.
    #[error(transparent)]
    Log(#[from] LogReadError),
    /// The parts have more bytes than a bundle may.
    #[error(
        "the parts have {found_bytes} bytes, at most {MAX_BUNDLE_PARTS_BYTES} go into a bundle"
    )]
    TooLarge {
        /// How many.
        found_bytes: usize,
    },
    /// The enclave does not sign it.
    #[error(transparent)]
    Sign(#[from] SignStatementError),
}

/// Makes bundles.
#[derive(Clone, Debug)]
pub struct Bundler {
    /// The enclave and its logs.
    pub shell: Arc<Shell>,
    /// Who gives evidence.
    pub desk: EvidenceDesk,
    /// The manifest and its signature, byte for byte.
    pub manifest: Arc<(Vec<u8>, Vec<u8>)>,
}

/// A bundle, for its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBundle {
    /// The statement.
    pub statement: SignedStatement,
    /// The parts that it names.
    pub parts: Vec<BundlePart>,
}

impl Bundler {
    /// A bundle about a tenant, fresh for a nonce.
    ///
    /// # Errors
    /// [`BundleError`].
    pub async fn make(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        nonce: Nonce,
    ) -> Result<MadeBundle, BundleError> {
        // First, so that who may not see the tenant costs no evidence.
        let Inventory { json, policy } =
            self.shell
                .enclave
                .inventory(by, tenant, &self.shell.clock.now())?;
        let answer = self.desk.evidence(nonce, Purpose::Server).await?;
        let (manifest, signature) = self.manifest.as_ref().clone();
        let mut parts = vec![
            named(part::EVIDENCE, answer.evidence.to_json()?.into_bytes()),
            named(part::KEY_BUNDLE, answer.bundle.bytes.clone()),
            named(part::MANIFEST, manifest),
            named(part::MANIFEST_SIGNATURE, signature),
            named(part::INVENTORY, json.into_bytes()),
        ];
        parts.extend(policy.map(|policy| named(part::POLICY, policy.into_bytes())));
        parts.push(named(part::SBOM, SBOM.as_bytes().to_vec()));
        // After the inventory: what changed what is in it stands in the logs by now.
        parts.extend(self.checkpoints().await?);
        let found_bytes = parts
            .iter()
            .fold(0_usize, |sum, part| sum.saturating_add(part.bytes.len()));
        if found_bytes > MAX_BUNDLE_PARTS_BYTES {
            return Err(BundleError::TooLarge { found_bytes });
        }
        let statement = EvidenceStatement {
            made_at_s: self.shell.clock.now().lo_s,
            nonce,
            nonce_path: answer.path,
            key_bundle_sha256: answer.bundle.digest,
            tenant: tenant.to_string(),
            asked_by: by.name.clone(),
            parts: parts.iter().map(BundlePart::digest).collect(),
        };
        Ok(MadeBundle {
            statement: self.shell.enclave.sign_statement(&statement)?,
            parts,
        })
    }

    /// The checkpoints of the control log and of the newest issuance logs.
    async fn checkpoints(&self) -> Result<Vec<BundlePart>, BundleError> {
        let boots = self.shell.enclave.logs().boots();
        let newest = boots.into_iter().rev().take(MAX_ISSUANCE_LOGS);
        let names = std::iter::once(LogName::Control).chain(newest.map(LogName::Issuance));
        let mut parts = Vec::new();
        for name in names {
            let note = self.shell.public_checkpoint(name).await?;
            let name = format!("{}{}", part::CHECKPOINT, name.path());
            parts.push(named(&name, note.into_bytes()));
        }
        Ok(parts)
    }
}

fn named(name: &str, bytes: Vec<u8>) -> BundlePart {
    BundlePart {
        name: name.to_owned(),
        bytes,
    }
}
