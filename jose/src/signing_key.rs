//! Private keys that sign, from and to PKCS#8 [RFC 5958].

use std::fmt;

use base64ct::{Base64, Encoding as _};
use ring::{
    rand::SecureRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING as ES256, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        Signature,
    },
};
use zeroize::Zeroizing;

use crate::{Alg, PublicKey};

/// Longest key file that is read; a P-256 or Ed25519 key takes below 300 bytes.
pub const MAX_PEM_BYTES: usize = 4096;

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Why there is no signing key or no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The bytes are not the PKCS#8 of a P-256 or Ed25519 key.
    #[error("not a PKCS#8 private key for ES256 or EdDSA")]
    NotPkcs8,
    /// The text is not one PEM block `PRIVATE KEY`.
    #[error("not a PEM private key")]
    NotPem,
    /// The source of randomness failed, or the signature could not be computed.
    #[error("no randomness for the key or the signature")]
    Randomness,
    /// The signed text could not be written.
    #[error("the signed text could not be written")]
    Text,
}

/// A private key and its public half. `Debug` shows the public half only.
///
/// The private half lives inside `ring`, which does not wipe it when it is dropped.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
    public_json: String,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl SigningKey {
    /// Generates a key for `alg` and returns its PKCS#8 document in DER.
    ///
    /// # Errors
    /// [`SigningKeyError::Randomness`].
    pub fn generate(
        alg: Alg,
        rng: &dyn SecureRandom,
    ) -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
        let document = match alg {
            Alg::Es256 => EcdsaKeyPair::generate_pkcs8(&ES256, rng),
            Alg::EdDsa => Ed25519KeyPair::generate_pkcs8(rng),
        }
        .map_err(|_| SigningKeyError::Randomness)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Reads a PKCS#8 document in DER; its algorithm is that of the key. `rng` blinds the check of the
    /// key pair.
    ///
    /// # Errors
    /// [`SigningKeyError::NotPkcs8`].
    pub fn from_pkcs8(der: &[u8], rng: &dyn SecureRandom) -> Result<Self, SigningKeyError> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ES256, der, rng) {
            let public = PublicKey::from_p256_point(pair.public_key().as_ref());
            return Self::new(
                Pair::Es256(pair),
                public.map_err(|_| SigningKeyError::NotPkcs8)?,
            );
        }
        // Other tools leave the public half out of an Ed25519 document; without it there is nothing to
        // check it against.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map_err(|_| SigningKeyError::NotPkcs8)?;
        let public = PublicKey::from_ed25519_bytes(pair.public_key().as_ref());
        Self::new(
            Pair::EdDsa(pair),
            public.map_err(|_| SigningKeyError::NotPkcs8)?,
        )
    }

    /// Reads a key file: one PEM block `PRIVATE KEY` [RFC 7468 §10].
    ///
    /// # Errors
    /// [`SigningKeyError::NotPem`], [`SigningKeyError::NotPkcs8`].
    pub fn from_pkcs8_pem(pem: &str, rng: &dyn SecureRandom) -> Result<Self, SigningKeyError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(SigningKeyError::NotPem);
        }
        let body = pem
            .trim_ascii()
            .strip_prefix(PEM_BEGIN)
            .and_then(|rest| rest.strip_suffix(PEM_END));
        let body = body.ok_or(SigningKeyError::NotPem)?;
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        base64.extend(
            body.chars()
                .filter(|character| !character.is_ascii_whitespace()),
        );
        let der = Zeroizing::new(Base64::decode_vec(&base64).map_err(|_| SigningKeyError::NotPem)?);
        Self::from_pkcs8(&der, rng)
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The algorithm that this key signs with.
    pub fn alg(&self) -> Alg {
        self.public.alg()
    }

    /// The public half as a JWK, made once.
    pub(crate) fn public_json(&self) -> &str {
        &self.public_json
    }

    /// Signs `message`: `r || s` for ES256, 64 bytes either way.
    pub(crate) fn sign(
        &self,
        message: &[u8],
        rng: &dyn SecureRandom,
    ) -> Result<Signature, SigningKeyError> {
        match &self.pair {
            Pair::Es256(pair) => pair
                .sign(rng, message)
                .map_err(|_| SigningKeyError::Randomness),
            Pair::EdDsa(pair) => Ok(pair.sign(message)),
        }
    }

    fn new(pair: Pair, public: PublicKey) -> Result<Self, SigningKeyError> {
        Ok(Self {
            pair,
            public,
            public_json: public.to_json(),
        })
    }
}

/// Writes a PKCS#8 document as the PEM that [`SigningKey::from_pkcs8_pem`] reads.
pub fn to_pkcs8_pem(der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(Base64::encode_string(der));
    let mut pem = Zeroizing::new(String::with_capacity(base64.len().saturating_add(128)));
    pem.push_str(PEM_BEGIN);
    pem.push('\n');
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(PEM_END);
    pem.push('\n');
    pem
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public.thumbprint())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
