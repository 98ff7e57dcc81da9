//! JWK thumbprints [RFC 7638]: the one name of a public key.

use std::{fmt, hash, str::FromStr};

use subtle::ConstantTimeEq as _;

use crate::base64url;

/// The SHA-256 thumbprint of a public key: 32 bytes, written as 43 characters of base64url. Equality
/// takes constant time.
#[derive(Clone, Copy)]
pub struct Thumbprint([u8; 32]);

/// The text is not a thumbprint: canonical base64url of exactly 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 JWK thumbprint")]
pub struct NotThumbprint;

impl Thumbprint {
    /// A thumbprint that was computed before and kept as bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Thumbprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Thumbprint {}

impl hash::Hash for Thumbprint {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl FromStr for Thumbprint {
    type Err = NotThumbprint;

    fn from_str(text: &str) -> Result<Self, NotThumbprint> {
        base64url::decode_array(text)
            .map(Self)
            .map_err(|_| NotThumbprint)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        base64url::write(f, &self.0)
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_name_the_same_key() {
        let thumbprint = Thumbprint::from_bytes([0xfb; 32]);
        let text = thumbprint.to_string();
        assert_eq!(text.len(), 43);
        assert_eq!(text.parse(), Ok(thumbprint));
        assert_eq!(format!("{thumbprint:?}"), format!("Thumbprint({text})"));
        assert_ne!(thumbprint, Thumbprint::from_bytes([0xfa; 32]));
    }

    #[test]
    fn the_hash_goes_by_the_bytes() {
        use std::hash::{BuildHasher as _, RandomState};
        let state = RandomState::new();
        let hash = |byte| state.hash_one(Thumbprint::from_bytes([byte; 32]));
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn other_texts_are_refused() {
        let text = Thumbprint::from_bytes([0; 32]).to_string();
        let stray = format!("{}B", text.get(..42).unwrap());
        for bad in [
            "",
            &text[1..],
            &format!("{text}A"),
            &format!("{text}="),
            &stray,
        ] {
            assert_eq!(bad.parse::<Thumbprint>(), Err(NotThumbprint), "{bad}");
        }
    }
}
