//! The instance key: made at each boot, kept nowhere, and used to prove connections and to sign evidence bundles.

use attestation::{
    EXPORTER_BYTES, EvidenceBundleError, EvidenceStatement, evidence_statement_message,
    exporter_message,
};
use jose::PublicKey;
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING as ES256, EcdsaKeyPair, KeyPair as _};
use thiserror::Error;

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no random bytes for the instance key")]
pub struct NoRandomness;

/// Why a statement was not signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignStatementError {
    /// It names a key bundle that is not this boot's.
    #[error("the statement is of another key bundle")]
    OtherBundle,
    /// It would not be read again.
    #[error(transparent)]
    Statement(#[from] EvidenceBundleError),
    /// There were no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// A statement that this enclave vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// Its text, as it was signed.
    pub text: String,
    /// ES256, `r || s`, 64 bytes.
    pub signature: Vec<u8>,
}

/// A P-256 key pair that signs exporter values and statements of evidence bundles, each in a domain of its own, and
/// nothing else: there is no method that signs bytes of a caller's choice.
pub struct InstanceKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl InstanceKey {
    /// A new key.
    pub(crate) fn generate(rng: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ES256, rng).map_err(|_| NoRandomness)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ES256, pkcs8.as_ref(), rng).map_err(|_| NoRandomness)?;
        let public = PublicKey::from_p256_point(pair.public_key().as_ref());
        Ok(Self {
            public: public.map_err(|_| NoRandomness)?,
            pair,
        })
    }

    /// The public half, which the key bundle names.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs that the connection with this exporter value ends inside the enclave with this key bundle:
    /// ES256, `r || s`, 64 bytes [RFC 9266].
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn prove_connection(
        &self,
        bundle_digest: &[u8; 32],
        exporter: &[u8; EXPORTER_BYTES],
        rng: &dyn SecureRandom,
    ) -> Result<Vec<u8>, NoRandomness> {
        let message = exporter_message(bundle_digest, exporter);
        let signature = self.pair.sign(rng, &message).map_err(|_| NoRandomness)?;
        Ok(signature.as_ref().to_vec())
    }

    /// Signs the statement of an evidence bundle under the key bundle that it names, which must name this key.
    ///
    /// # Errors
    /// [`SignStatementError::Statement`], [`SignStatementError::NoRandomness`].
    pub(crate) fn sign_statement(
        &self,
        statement: &EvidenceStatement,
        rng: &dyn SecureRandom,
    ) -> Result<SignedStatement, SignStatementError> {
        let text = statement.to_json()?;
        let message = evidence_statement_message(&statement.key_bundle_sha256, text.as_bytes());
        let signature = self.pair.sign(rng, &message).map_err(|_| NoRandomness)?;
        Ok(SignedStatement {
            text,
            signature: signature.as_ref().to_vec(),
        })
    }
}

impl std::fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceKey")
            .field("public", &self.public.thumbprint())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use attestation::{BadSignature, P256PublicKey, verify_exporter};
    use ring::rand::SystemRandom;

    #[test]
    fn a_proof_is_of_one_key_bundle_and_connection() {
        let rng = SystemRandom::new();
        let [key, other] = [(); 2].map(|()| InstanceKey::generate(&rng).unwrap());
        let public =
            |key: &InstanceKey| P256PublicKey::from_point(key.public_key().as_bytes()).unwrap();
        let proof = key.prove_connection(&[1; 32], &[2; 32], &rng).unwrap();
        let rows = [
            (public(&key), [1; 32], [2; 32], Ok(())),
            (public(&other), [1; 32], [2; 32], Err(BadSignature)),
            (public(&key), [9; 32], [2; 32], Err(BadSignature)),
            (public(&key), [1; 32], [9; 32], Err(BadSignature)),
        ];
        for (key, bundle, exporter, expected) in rows {
            assert_eq!(verify_exporter(&key, &bundle, &exporter, &proof), expected);
        }
    }
}
