//! `RS256` of named foreign issuers [RFC 7518 §3.3], verified only. It signs nothing of ours, and its
//! verdict is a type of its own: [`ForeignJws`] never passes for a [`VerifiedJws`](crate::jws::VerifiedJws).

use std::fmt;

use ring::signature;

use crate::{
    base64url,
    json::{JsonError, Object},
    jwk::{JwkError, require_usage},
    jws::{Compact, HeaderAlg, JwsError},
};

/// Shortest modulus, bits [RFC 7518 §3.3].
pub const MIN_MODULUS_BITS: usize = 2048;

/// Longest modulus, bits; `ring` takes no more.
pub const MAX_MODULUS_BITS: usize = 8192;

/// Longest JWK that is read; a modulus of 8192 bits takes 1366 characters.
const MAX_JWK_BYTES: usize = 8192;

/// Why a key is no acceptable RSA public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RsaKeyError {
    /// Not an acceptable JSON object, or a member is missing or of the wrong type.
    #[error("RSA JWK is malformed")]
    Json(#[from] JsonError),
    /// `kty` is not `RSA`, or `use`, `key_ops` or `alg` are for something else.
    #[error("JWK is not for RS256")]
    NotForRs256,
    /// A private member is there.
    #[error("RSA JWK holds a private member")]
    PrivateMember,
    /// `n` or `e` is not canonical base64url of a number without leading zeros.
    #[error("RSA JWK number is malformed")]
    Number,
    /// The modulus is shorter than [`MIN_MODULUS_BITS`] or longer than [`MAX_MODULUS_BITS`].
    #[error("RSA modulus length is not acceptable")]
    ModulusLength,
}

/// An RSA public key of a foreign issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsaPublicKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl RsaPublicKey {
    /// Reads the key of a public RSA JWK [RFC 7518 §6.3.1].
    ///
    /// # Errors
    /// Any [`RsaKeyError`].
    pub fn from_json(text: &str) -> Result<Self, RsaKeyError> {
        let members = Object::parse(text.as_bytes(), MAX_JWK_BYTES)?;
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"]
            .iter()
            .any(|name| members.member(name).is_some())
        {
            return Err(RsaKeyError::PrivateMember);
        }
        require_usage(&members).map_err(|error| {
            if let JwkError::Json(error) = error {
                RsaKeyError::Json(error)
            } else {
                RsaKeyError::NotForRs256
            }
        })?;
        let is_for_rs256 = members.str("kty")? == "RSA"
            && members
                .optional_str("alg")?
                .is_none_or(|alg| alg == "RS256");
        if !is_for_rs256 {
            return Err(RsaKeyError::NotForRs256);
        }
        let (n, e) = (number(&members, "n")?, number(&members, "e")?);
        let spare_bits = n.first().map_or(0, |first| first.leading_zeros() as usize);
        let bits = n.len().saturating_mul(8).saturating_sub(spare_bits);
        if !(MIN_MODULUS_BITS..=MAX_MODULUS_BITS).contains(&bits) {
            return Err(RsaKeyError::ModulusLength);
        }
        Ok(Self { n, e })
    }

    /// Verifies the signature of `compact`.
    ///
    /// # Errors
    /// [`JwsError::AlgNotAllowed`] for any other algorithm, [`JwsError::SignatureLength`],
    /// [`JwsError::BadSignature`].
    pub fn verify<'c>(&self, compact: &'c Compact<'c>) -> Result<ForeignJws<'c>, JwsError> {
        match compact.header_alg() {
            HeaderAlg::Rs256 => {}
            HeaderAlg::Ours(_) | HeaderAlg::Unknown => return Err(JwsError::AlgNotAllowed),
        }
        if compact.signature().len() != self.n.len() {
            return Err(JwsError::SignatureLength);
        }
        signature::RsaPublicKeyComponents {
            n: &self.n,
            e: &self.e,
        }
        .verify(
            &signature::RSA_PKCS1_2048_8192_SHA256,
            compact.signing_input().as_bytes(),
            compact.signature(),
        )
        .map_err(|_| JwsError::BadSignature)?;
        Ok(ForeignJws { compact })
    }
}

fn number(members: &Object<'_>, name: &'static str) -> Result<Vec<u8>, RsaKeyError> {
    let bytes = base64url::decode(members.str(name)?).map_err(|_| RsaKeyError::Number)?;
    match bytes.first() {
        Some(0) | None => Err(RsaKeyError::Number),
        Some(_) => Ok(bytes),
    }
}

/// A JWS of a foreign issuer whose `RS256` signature verified. Only [`RsaPublicKey::verify`] makes one:
///
/// ```compile_fail,E0451
/// fn forge<'a>(compact: &'a jose::jws::Compact<'a>) -> jose::rs256::ForeignJws<'a> {
///     jose::rs256::ForeignJws { compact }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct ForeignJws<'c> {
    compact: &'c Compact<'c>,
}

impl<'c> ForeignJws<'c> {
    /// The signed payload.
    pub fn payload(&self) -> &'c [u8] {
        self.compact.danger_unverified_payload()
    }

    /// The signed payload as a strict JSON object.
    ///
    /// # Errors
    /// [`JwsError::Payload`].
    pub fn claims(&self) -> Result<Object<'c>, JwsError> {
        Object::parse(self.payload(), self.payload().len()).map_err(JwsError::Payload)
    }

    /// The signed header's `typ`, as it is written.
    pub fn typ(&self) -> Option<&'c str> {
        self.compact.typ()
    }
}

impl fmt::Debug for ForeignJws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignJws").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
