//! Hashes of the Merkle tree: leaf, node, empty root [RFC 6962 §2.1].

use core::fmt;

use ring::digest;
use thiserror::Error;

use crate::base64;

/// Length of a [`struct@Hash`] in bytes: SHA-256's output.
pub const HASH_BYTES: usize = 32;

/// Put before a leaf's bytes, so that no leaf hashes like an inner node [RFC 6962 §2.1].
const LEAF_PREFIX: u8 = 0x00;
/// Put before the two children of an inner node [RFC 6962 §2.1].
const NODE_PREFIX: u8 = 0x01;

/// Why bytes are not a [`struct@Hash`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HashError {
    /// Not 32 bytes.
    #[error("a hash has 32 bytes, not {found_bytes}")]
    Length {
        /// What there was instead.
        found_bytes: usize,
    },
    /// Not canonical base64.
    #[error("a hash is not canonical base64")]
    Base64,
}

/// A SHA-256 hash in the tree: of a leaf, of an inner node, or the root. 32 bytes.
///
/// `Display` is standard base64, as in a checkpoint; `Debug` is hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; HASH_BYTES]);

impl Hash {
    /// Takes 32 bytes as a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// Reads standard base64 of exactly 32 bytes.
    ///
    /// # Errors
    /// [`HashError::Base64`] if it is not canonical, [`HashError::Length`] if it is not 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, HashError> {
        let bytes = base64::decode(text).ok_or(HashError::Base64)?;
        Self::try_from(bytes.as_slice())
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashError;

    fn try_from(bytes: &[u8]) -> Result<Self, HashError> {
        match <[u8; HASH_BYTES]>::try_from(bytes) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(_) => Err(HashError::Length {
                found_bytes: bytes.len(),
            }),
        }
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The root of the tree without leaves: SHA-256 of nothing [RFC 6962 §2.1].
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The hash of a leaf's bytes: `SHA-256(0x00 || leaf)` [RFC 6962 §2.1].
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[LEAF_PREFIX], leaf])
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)` [RFC 6962 §2.1].
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[NODE_PREFIX], &left.0, &right.0])
}

/// SHA-256 over the concatenated parts.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let digest = context.finish();
    let mut bytes = [0; HASH_BYTES];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    Hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_follows_rfc_6962() {
        // SHA-256 of "", of 00, of 00 4c313233343536, of 01 4e313233 4e343536 are public knowledge:
        // `printf '\x00L123456' | sha256sum`.
        assert_eq!(
            format!("{:?}", empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            format!("{:?}", leaf_hash(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            format!("{:?}", leaf_hash(b"L123456")),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
        );
        let (left, right) = (leaf_hash(b""), leaf_hash(&[0]));
        assert_eq!(
            format!("{:?}", node_hash(&left, &right)),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }

    #[test]
    fn hash_text_that_is_not_32_canonical_bytes_is_refused() {
        let good = leaf_hash(b"x");
        assert_eq!(Hash::from_base64(&good.to_string()), Ok(good));
        let text = good.to_string();
        let rows = [
            (String::new(), HashError::Length { found_bytes: 0 }),
            ("AQ==".to_owned(), HashError::Length { found_bytes: 1 }),
            (
                base64::encode(&[7; 33]),
                HashError::Length { found_bytes: 33 },
            ),
            (text.replace('=', ""), HashError::Base64),
            (format!("{text}\n"), HashError::Base64),
        ];
        for (text, error) in rows {
            assert_eq!(Hash::from_base64(&text), Err(error), "{text:?}");
        }
    }
}
