//! P-256 public keys: the form of the instance key, the token keys and the manifest signer's key.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use crate::canonical::sha256;

/// DER of a SubjectPublicKeyInfo for P-256 up to the point [RFC 5480 §2].
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A P-256 public key: an uncompressed point of 65 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct P256PublicKey {
    point: [u8; 65],
}

/// Bytes that are no P-256 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an uncompressed P-256 public key")]
pub struct NotP256;

/// A signature that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ES256 signature is invalid")]
pub struct BadSignature;

impl P256PublicKey {
    /// A key from its uncompressed point, `04 || x || y`. That it lies on the curve is checked when it verifies.
    ///
    /// # Errors
    /// [`NotP256`] for another length or form.
    pub fn from_point(point: &[u8]) -> Result<Self, NotP256> {
        let point: [u8; 65] = point.try_into().map_err(|_| NotP256)?;
        match point.first() {
            Some(4) => Ok(Self { point }),
            Some(_) | None => Err(NotP256),
        }
    }

    /// A key from DER of its SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`NotP256`] for any other bytes; there is one encoding.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, NotP256> {
        Self::from_point(der.strip_prefix(&SPKI_PREFIX).ok_or(NotP256)?)
    }

    /// The uncompressed point.
    #[must_use]
    pub const fn point(&self) -> &[u8; 65] {
        &self.point
    }

    /// DER of the SubjectPublicKeyInfo, 91 bytes.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.point].concat()
    }

    /// SHA-256 of the SubjectPublicKeyInfo: how manifests and launches name a key.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(&self.spki_der())
    }

    /// The coordinates in base64url, as a JWK has them [RFC 7518 §6.2.1].
    #[must_use]
    pub fn jwk_coordinates(&self) -> (String, String) {
        let (x, y) = self
            .point
            .get(1..)
            .and_then(|xy| xy.split_at_checked(32))
            .unwrap_or((&[], &[]));
        (
            Base64UrlUnpadded::encode_string(x),
            Base64UrlUnpadded::encode_string(y),
        )
    }

    /// Verifies an ES256 signature of 64 bytes, `r || s`, over `message`.
    ///
    /// # Errors
    /// [`BadSignature`], also when the point is not on the curve.
    pub fn verify_es256(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point)
            .verify(message, signature)
            .map_err(|_| BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    #[test]
    fn a_key_has_one_encoding_and_verifies_its_own_signatures_only() {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .unwrap();
        let key = P256PublicKey::from_point(pair.public_key().as_ref()).unwrap();
        assert_eq!(P256PublicKey::from_spki_der(&key.spki_der()), Ok(key));
        let signature = pair.sign(&random, b"message").unwrap();
        assert_eq!(key.verify_es256(b"message", signature.as_ref()), Ok(()));
        assert_eq!(
            key.verify_es256(b"Message", signature.as_ref()),
            Err(BadSignature)
        );
        let compressed = [&[2], &key.point()[1..33]].concat();
        let long = [key.spki_der().as_slice(), &[0]].concat();
        for bytes in [&[][..], &compressed, &key.point()[..64], &[2; 65]] {
            assert_eq!(P256PublicKey::from_point(bytes), Err(NotP256));
        }
        for bytes in [&[][..], key.point(), &long] {
            assert_eq!(P256PublicKey::from_spki_der(bytes), Err(NotP256));
        }
    }
}
