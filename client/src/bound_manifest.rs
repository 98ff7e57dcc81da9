//! The manifest that evidence binds: it says who holds the shares that open the state, and who watches over it.

use attestation::Tier;
use attestation::manifest::{EnclaveKind, Manifest, ManifestError, manifest_digest};

use crate::channel::{AttestedConfig, ConnectError, fetch_manifest};
use crate::verification::Inspection;

/// Why there is no manifest to believe.
#[derive(Debug, thiserror::Error)]
pub enum BoundManifestError {
    /// The evidence is not authentic, so that nothing vouches for a manifest.
    #[error("the evidence is not authentic: nothing vouches for a manifest")]
    NotAuthentic,
    /// The server did not give it.
    #[error("the server did not give it")]
    Connect(#[from] Box<ConnectError>),
    /// It gave another one than it runs under.
    #[error("the server gave a manifest of SHA-256 {found}, and its evidence binds {bound}")]
    Other {
        /// The digest of what it gave, in hex.
        found: String,
        /// The one that the evidence binds.
        bound: String,
    },
    /// It is none.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Asks for the manifest that an inspected enclave runs under. Whoever gives it can't lie: its digest and its signer
/// are in the key bundle, which the evidence binds.
///
/// # Errors
/// [`BoundManifestError`].
pub async fn bound_manifest(
    config: &AttestedConfig,
    inspection: &Inspection,
) -> Result<Manifest, BoundManifestError> {
    let kind = match inspection.appraisal().tier() {
        Some(Tier::Emulated) => EnclaveKind::Emulated,
        Some(Tier::Hardware | Tier::Reduced) => EnclaveKind::Hardware,
        None => return Err(BoundManifestError::NotAuthentic),
    };
    let given = Box::pin(fetch_manifest(config)).await.map_err(Box::new)?;
    let bundle = inspection.bundle();
    let bound = (&bundle.manifest_digest, &bundle.manifest_signer);
    opened(&given.manifest, &given.signature, bound, kind)
}

pub(crate) fn opened(
    toml: &[u8],
    signature: &[u8],
    (bound, signer): (&[u8; 32], &[u8; 32]),
    kind: EnclaveKind,
) -> Result<Manifest, BoundManifestError> {
    let found = manifest_digest(toml);
    if found != *bound {
        return Err(BoundManifestError::Other {
            found: hex::encode(found),
            bound: hex::encode(bound),
        });
    }
    Ok(Manifest::open(toml, signature, signer, kind)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::manifest::{ManifestSignature, sign_manifest};
    use jose::{Alg, SigningKey};
    use ring::rand::SystemRandom;

    const MANIFEST: &[u8] = br#"sequence = 3
issuer = "https://127.0.0.1:1"
[origins]
grpc = "https://127.0.0.1:1"
public = "https://127.0.0.1:2"
gateway = "https://127.0.0.1:3"
[[administrators]]
name = "a"
spki_sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
roles = ["operator"]
"#;

    #[test]
    fn a_manifest_that_the_evidence_does_not_bind_is_not_believed() {
        let random = SystemRandom::new();
        let key = SigningKey::generate(Alg::Es256, &random).unwrap();
        let signature = sign_manifest(MANIFEST, &key, &random).unwrap();
        let signer = ManifestSignature::from_json(signature.as_bytes()).unwrap();
        let signer = signer.signer();
        let bound = manifest_digest(MANIFEST);
        let kind = EnclaveKind::Emulated;
        let open = |toml: &[u8], bound: &[u8; 32], signer: &[u8; 32]| {
            opened(toml, signature.as_bytes(), (bound, signer), kind)
        };
        let manifest = open(MANIFEST, &bound, &signer).unwrap();
        assert_eq!(manifest.sequence(), 3);
        // Another file, signed by whomever.
        let other = String::from_utf8_lossy(MANIFEST)
            .replacen("= 3", "= 4", 1)
            .into_bytes();
        let error = open(&other, &bound, &signer).unwrap_err().to_string();
        let expected = format!(
            "the server gave a manifest of SHA-256 {}, and its evidence binds {}",
            hex::encode(manifest_digest(&other)),
            hex::encode(bound)
        );
        assert_eq!(error, expected);
        // The right file, and another signer than the launch binds.
        let error = open(MANIFEST, &bound, &[9; 32]).unwrap_err();
        assert!(matches!(
            error,
            BoundManifestError::Manifest(ManifestError::Signature(_))
        ));
    }
}
