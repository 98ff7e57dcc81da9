//! The public key that access tokens are signed with, as the key bundle names it: P-256 for ES256, Ed25519 for EdDSA.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use crate::p256::P256PublicKey;

/// DER of a SubjectPublicKeyInfo for Ed25519 up to the key [RFC 8410 §4].
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A key that access tokens are verified by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenPublicKey {
    /// For ES256.
    P256(P256PublicKey),
    /// For EdDSA [RFC 8032 §5.1.5].
    Ed25519([u8; 32]),
}

/// Bytes that are neither kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an uncompressed P-256 public key nor an Ed25519 one")]
pub struct NotTokenKey;

impl TokenPublicKey {
    /// The longest key, bytes.
    pub const MAX_BYTES: usize = 65;

    /// A key from its bytes: an uncompressed point of 65, or the 32 of Ed25519.
    ///
    /// # Errors
    /// [`NotTokenKey`] for another length or form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotTokenKey> {
        match <[u8; 32]>::try_from(bytes) {
            Ok(key) => Ok(Self::Ed25519(key)),
            Err(_) => P256PublicKey::from_point(bytes)
                .map(Self::P256)
                .map_err(|_| NotTokenKey),
        }
    }

    /// The bytes that [`Self::from_bytes`] reads.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::P256(key) => key.point(),
            Self::Ed25519(key) => key,
        }
    }

    /// What it verifies, in the words of JOSE [RFC 7518 §3.1; RFC 8037 §3.1].
    #[must_use]
    pub const fn alg(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// DER of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.spki_der(),
            Self::Ed25519(key) => [ED25519_SPKI_PREFIX.as_slice(), key].concat(),
        }
    }

    /// The key as a JSON Web Key of this id, with its members in alphabetical order [RFC 7517 §4; RFC 8037 §2].
    #[must_use]
    pub fn jwk(&self, kid: &str) -> Value {
        let alg = self.alg();
        match self {
            Self::P256(key) => {
                let (x, y) = key.jwk_coordinates();
                json!({"alg": alg, "crv": "P-256", "kid": kid, "kty": "EC", "use": "sig", "x": x, "y": y})
            }
            Self::Ed25519(key) => {
                let x = Base64UrlUnpadded::encode_string(key);
                json!({"alg": alg, "crv": "Ed25519", "kid": kid, "kty": "OKP", "use": "sig", "x": x})
            }
        }
    }
}

impl From<P256PublicKey> for TokenPublicKey {
    fn from(key: P256PublicKey) -> Self {
        Self::P256(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8037 §A.2.
    const ED25519: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn each_kind_comes_back_as_it_was_and_nothing_else_is_a_key() {
        let mut point = [7; 65];
        point[0] = 4;
        for (bytes, alg) in [(&[9; 32][..], "EdDSA"), (&point[..], "ES256")] {
            let key = TokenPublicKey::from_bytes(bytes).unwrap();
            assert_eq!((key.as_bytes(), key.alg()), (bytes, alg));
        }
        let mut compressed = point;
        compressed[0] = 2;
        for bytes in [&[][..], &[4; 31], &[4; 33], &[4; 64], &[4; 66], &compressed] {
            assert_eq!(TokenPublicKey::from_bytes(bytes), Err(NotTokenKey));
        }
    }

    #[test]
    fn an_ed25519_key_is_written_as_the_rfcs_do() {
        let key = TokenPublicKey::from_bytes(&hex::decode(ED25519).unwrap()).unwrap();
        // RFC 8037 §A.2, with the members that a resource server needs.
        assert_eq!(
            key.jwk("k").to_string(),
            r#"{"alg":"EdDSA","crv":"Ed25519","kid":"k","kty":"OKP","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#
        );
        // RFC 8410 §4.
        assert_eq!(
            hex::encode(key.spki_der()),
            format!("302a300506032b6570032100{ED25519}")
        );
    }
}
