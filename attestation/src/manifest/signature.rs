//! The detached signature of a manifest, of a provider's profile, and of a change of a tenant's policy.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::{Deserialize, Serialize};

use super::{MAX_SIGNATURE_BYTES, manifest_digest};
use crate::p256::P256PublicKey;

/// What is signed begins with this; SHA-256 of the file follows.
const MANIFEST: &[u8] = b"tokenkeep/manifest/v1";
/// The same for a provider's profile.
const PROFILE: &[u8] = b"tokenkeep/profile/v1";
/// The same for a change of a tenant's policy.
const POLICY_CHANGE: &[u8] = b"tokenkeep/policy-change/v1";
/// The one algorithm.
const ALG: &str = "ES256";

/// A signature file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSignature {
    public_key: P256PublicKey,
    signature: Vec<u8>,
}

/// Why a signature does not vouch for a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The file is larger than it may be.
    #[error("the signature file has more than {MAX_SIGNATURE_BYTES} bytes")]
    TooLarge,
    /// It is not a JSON object with `alg`, `public_key` and `signature` and nothing else.
    #[error("the signature file is not of the form {{alg, public_key, signature}}")]
    Form,
    /// Another algorithm than ES256.
    #[error("the algorithm {found:?} is not ES256")]
    Algorithm {
        /// Which.
        found: String,
    },
    /// The public key is not base64url of DER of a P-256 key.
    #[error("the public key is not a P-256 SubjectPublicKeyInfo in base64url")]
    PublicKey,
    /// The signature is not base64url.
    #[error("the signature is not base64url")]
    Encoding,
    /// The signer is not the one bound at launch.
    #[error("the signer {found} is not the one bound at launch")]
    Signer {
        /// Hex of SHA-256 of its SubjectPublicKeyInfo.
        found: String,
    },
    /// The signature does not verify over this file.
    #[error("the signature does not verify over this file")]
    Invalid,
}

/// Why a manifest could not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignManifestError {
    /// The private key is not PKCS#8 of a P-256 key.
    #[error("the key is not PKCS#8 of a P-256 key")]
    Key,
    /// Signing failed, for want of randomness.
    #[error("no randomness")]
    Random,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    alg: String,
    public_key: String,
    signature: String,
}

impl ManifestSignature {
    /// Reads a signature file.
    ///
    /// # Errors
    /// [`SignatureFault`], by what is wrong with it.
    pub fn from_json(file: &[u8]) -> Result<Self, SignatureFault> {
        if file.len() > MAX_SIGNATURE_BYTES {
            return Err(SignatureFault::TooLarge);
        }
        let File {
            alg,
            public_key,
            signature,
        } = serde_json::from_slice(file).map_err(|_| SignatureFault::Form)?;
        if alg != ALG {
            return Err(SignatureFault::Algorithm { found: alg });
        }
        let public_key = Base64UrlUnpadded::decode_vec(&public_key)
            .ok()
            .and_then(|der| P256PublicKey::from_spki_der(&der).ok())
            .ok_or(SignatureFault::PublicKey)?;
        let signature =
            Base64UrlUnpadded::decode_vec(&signature).map_err(|_| SignatureFault::Encoding)?;
        Ok(Self {
            public_key,
            signature,
        })
    }

    /// SHA-256 of the signer's SubjectPublicKeyInfo: what a launch binds as HOST_DATA.
    #[must_use]
    pub fn signer(&self) -> [u8; 32] {
        self.public_key.spki_sha256()
    }

    /// Verifies the signature over `toml` by the expected signer.
    ///
    /// # Errors
    /// [`SignatureFault::Signer`] or [`SignatureFault::Invalid`].
    pub fn verify(&self, toml: &[u8], expected_signer: &[u8; 32]) -> Result<(), SignatureFault> {
        self.verify_by(MANIFEST, toml, std::slice::from_ref(expected_signer))
    }

    /// Verifies the signature over a provider's profile by one of the signers that the manifest names.
    ///
    /// # Errors
    /// [`SignatureFault::Signer`] or [`SignatureFault::Invalid`].
    pub fn verify_profile(&self, toml: &[u8], signers: &[[u8; 32]]) -> Result<(), SignatureFault> {
        self.verify_by(PROFILE, toml, signers)
    }

    /// Verifies the signature over a change of a tenant's policy, in its text form, by one of the tenant's owners.
    ///
    /// # Errors
    /// [`SignatureFault::Signer`] or [`SignatureFault::Invalid`].
    pub fn verify_policy_change(
        &self,
        change: &str,
        owners: &[[u8; 32]],
    ) -> Result<(), SignatureFault> {
        self.verify_by(POLICY_CHANGE, change.as_bytes(), owners)
    }

    fn verify_by(
        &self,
        domain: &[u8],
        toml: &[u8],
        signers: &[[u8; 32]],
    ) -> Result<(), SignatureFault> {
        let signer = self.signer();
        if !signers.contains(&signer) {
            return Err(SignatureFault::Signer {
                found: hex::encode(signer),
            });
        }
        self.public_key
            .verify_es256(&message(domain, toml), &self.signature)
            .map_err(|_| SignatureFault::Invalid)
    }
}

/// Signs a manifest file with a P-256 key in PKCS#8. Yields the signature file.
///
/// # Errors
/// [`SignManifestError`].
pub fn sign_manifest(
    toml: &[u8],
    pkcs8: &[u8],
    random: &dyn SecureRandom,
) -> Result<String, SignManifestError> {
    sign(MANIFEST, toml, pkcs8, random)
}

/// Signs a provider's profile with a P-256 key in PKCS#8. Yields the signature file.
///
/// # Errors
/// [`SignManifestError`].
pub fn sign_profile(
    toml: &[u8],
    pkcs8: &[u8],
    random: &dyn SecureRandom,
) -> Result<String, SignManifestError> {
    sign(PROFILE, toml, pkcs8, random)
}

/// Signs a change of a tenant's policy, in its text form, with a P-256 key in PKCS#8. Yields the signature file.
///
/// # Errors
/// [`SignManifestError`].
pub fn sign_policy_change(
    change: &str,
    pkcs8: &[u8],
    random: &dyn SecureRandom,
) -> Result<String, SignManifestError> {
    sign(POLICY_CHANGE, change.as_bytes(), pkcs8, random)
}

fn sign(
    domain: &[u8],
    toml: &[u8],
    pkcs8: &[u8],
    random: &dyn SecureRandom,
) -> Result<String, SignManifestError> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, random)
        .map_err(|_| SignManifestError::Key)?;
    let public = P256PublicKey::from_point(pair.public_key().as_ref())
        .map_err(|_| SignManifestError::Key)?;
    let signature = pair
        .sign(random, &message(domain, toml))
        .map_err(|_| SignManifestError::Random)?;
    let file = serde_json::json!({
        "alg": ALG,
        "public_key": Base64UrlUnpadded::encode_string(&public.spki_der()),
        "signature": Base64UrlUnpadded::encode_string(signature.as_ref()),
    });
    Ok(format!("{file}\n"))
}

/// What is signed.
fn message(domain: &[u8], toml: &[u8]) -> Vec<u8> {
    [domain, manifest_digest(toml).as_slice()].concat()
}
