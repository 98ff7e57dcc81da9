//! Sealing of stored records, each with a one-use key.
//!
//! 32 random bytes of salt, HKDF-SHA-256(realm key, salt, label) → AES-256-GCM.
//! A salt is never used twice, so no nonce state can repeat after a rollback,
//! and tenant, table, name, generation and schema are associated data: a record
//! opens at its own place only.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::SecureRandom;
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of salt in front of each sealed record.
pub const SALT_BYTES: usize = 32;

/// Bytes of authentication tag at the end of each sealed record.
pub const TAG_BYTES: usize = 16;

/// Why bytes could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The bytes are not what was sealed at this place under this key.
    #[error("the sealed bytes do not belong at this place")]
    NotAuthentic,
    /// The system gave no random bytes, or the input is too long to seal.
    #[error("sealing failed")]
    Failed,
}

/// A key of 32 bytes from which one-use keys are derived. It may have succeeded others: it seals, and what they sealed
/// opens as well.
pub struct SealingKey {
    current: Zeroizing<[u8; 32]>,
    /// Newest first.
    earlier: Vec<Zeroizing<[u8; 32]>>,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey([redacted])")
    }
}

/// Random bytes that make a key for one use: whatever they are drawn for has them alone.
#[derive(Debug)]
pub(crate) struct OneUseSalt([u8; SALT_BYTES]);

impl OneUseSalt {
    pub(crate) fn draw(rng: &dyn SecureRandom) -> Result<Self, SealError> {
        let mut salt = [0; SALT_BYTES];
        rng.fill(&mut salt).map_err(|_| SealError::Failed)?;
        Ok(Self(salt))
    }

    /// With other random bytes, of a public name, by one call of the system.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub(crate) fn draw_with_name(rng: &dyn SecureRandom) -> Result<(Self, [u8; 16]), SealError> {
        let (mut drawn, mut salt, mut name) = ([0; SALT_BYTES + 16], [0; SALT_BYTES], [0; 16]);
        rng.fill(&mut drawn).map_err(|_| SealError::Failed)?;
        let (of_salt, of_name) = drawn.split_at(SALT_BYTES);
        salt.copy_from_slice(of_salt);
        name.copy_from_slice(of_name);
        Ok((Self(salt), name))
    }
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// Derives 32 bytes by HKDF-SHA-256 [RFC 5869].
///
/// # Errors
/// [`SealError::Failed`], which HKDF gives for outputs of impossible length only.
pub fn derive(key: &[u8], salt: &[u8], label: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let prk = Salt::new(HKDF_SHA256, salt).extract(key);
    let info = [label];
    let okm = prk.expand(&info, Bytes32).map_err(|_| SealError::Failed)?;
    let mut out = Zeroizing::new([0; 32]);
    okm.fill(out.as_mut()).map_err(|_| SealError::Failed)?;
    Ok(out)
}

/// Joins parts so that no two lists of parts give the same bytes: each part
/// behind its length as a big-endian `u32`.
#[must_use]
pub fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.iter().map(|part| part.len().saturating_add(4));
    let mut out = Vec::with_capacity(bytes.fold(0, usize::saturating_add));
    for part in parts {
        let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

impl SealingKey {
    /// Takes a key.
    #[must_use]
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self {
            current: key,
            earlier: Vec::new(),
        }
    }

    /// Takes what [`expose_all`](Self::expose_all) gave.
    #[must_use]
    pub fn of_all(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks::<32>();
        let mut keys = keys.iter().map(|key| Zeroizing::new(*key));
        let current = keys.next().filter(|_| rest.is_empty())?;
        Some(Self {
            current,
            earlier: keys.collect(),
        })
    }

    /// Its successor.
    #[must_use]
    pub fn succeeded_by(&self, next: &Self) -> Self {
        let before = std::iter::once(&self.current).chain(&self.earlier);
        Self {
            current: next.current.clone(),
            earlier: before.cloned().collect(),
        }
    }

    /// As many keys it is.
    #[must_use]
    pub fn count(&self) -> usize {
        self.earlier.len().saturating_add(1)
    }

    /// The key's bytes and those before it, newest first, to be wrapped under another key.
    #[must_use]
    pub fn expose_all(&self) -> Zeroizing<Vec<u8>> {
        let mut all = Zeroizing::new(Vec::with_capacity(self.count().saturating_mul(32)));
        for key in std::iter::once(&self.current).chain(&self.earlier) {
            all.extend_from_slice(key.as_ref());
        }
        all
    }

    /// The bytes of the first key of the line: it names things, whatever succeeded it.
    #[must_use]
    pub fn expose_first(&self) -> &[u8; 32] {
        self.earlier.last().unwrap_or(&self.current)
    }

    fn one_use(key: &[u8; 32], salt: &[u8], label: &[u8]) -> Result<LessSafeKey, SealError> {
        let key = derive(key, salt, label)?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| SealError::Failed)?;
        Ok(LessSafeKey::new(key))
    }

    /// Seals `plain` to `place`: salt, ciphertext, tag.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub fn seal(
        &self,
        rng: &dyn SecureRandom,
        label: &[u8],
        place: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        self.seal_with(OneUseSalt::draw(rng)?, label, place, plain)
    }

    /// The same, with a salt that was drawn for it.
    pub(crate) fn seal_with(
        &self,
        OneUseSalt(salt): OneUseSalt,
        label: &[u8],
        place: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let key = Self::one_use(&self.current, &salt, label)?;
        let mut sealed = Vec::with_capacity(plain.len().saturating_add(SALT_BYTES + TAG_BYTES));
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(plain);
        let (_salt, body) = sealed
            .split_at_mut_checked(SALT_BYTES)
            .ok_or(SealError::Failed)?;
        // The key is used once, so the nonce is fixed.
        let tag = key
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(place), body)
            .map_err(|_| SealError::Failed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) sealed to the same label and place.
    ///
    /// # Errors
    /// [`SealError::NotAuthentic`] for anything else.
    pub fn open(
        &self,
        label: &[u8],
        place: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (salt, body) = sealed
            .split_at_checked(SALT_BYTES)
            .ok_or(SealError::NotAuthentic)?;
        for key in std::iter::once(&self.current).chain(&self.earlier) {
            let key = Self::one_use(key, salt, label)?;
            let mut body = Zeroizing::new(body.to_vec());
            let plain = key.open_in_place(zero_nonce(), Aad::from(place), &mut body);
            if let Ok(plain_len) = plain.map(|plain| plain.len()) {
                body.truncate(plain_len);
                return Ok(body);
            }
        }
        Err(SealError::NotAuthentic)
    }
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn opens_at_its_own_place_only() {
        let rng = SystemRandom::new();
        let sealed = key(1).seal(&rng, b"label", b"place", b"plain").unwrap();
        let open = |k: &SealingKey, label: &[u8], place: &[u8], bytes: &[u8]| {
            k.open(label, place, bytes).map(|p| p.to_vec())
        };
        assert_eq!(
            open(&key(1), b"label", b"place", &sealed),
            Ok(b"plain".to_vec())
        );
        let refused = Err(SealError::NotAuthentic);
        assert_eq!(open(&key(2), b"label", b"place", &sealed), refused);
        assert_eq!(open(&key(1), b"other", b"place", &sealed), refused);
        assert_eq!(open(&key(1), b"label", b"elsewhere", &sealed), refused);
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(
                open(&key(1), b"label", b"place", &flipped),
                refused,
                "byte {at}"
            );
            assert_eq!(
                open(&key(1), b"label", b"place", &sealed[..at]),
                refused,
                "cut {at}"
            );
        }
    }

    #[test]
    fn a_successor_seals_by_itself_and_opens_what_those_before_it_sealed() {
        let rng = SystemRandom::new();
        let first = key(1);
        let second = first.succeeded_by(&key(2));
        let third = second.succeeded_by(&key(3));
        let seal = |by: &SealingKey| by.seal(&rng, b"label", b"place", b"plain").unwrap();
        let open = |by: &SealingKey, sealed: &[u8]| {
            let opened = by.open(b"label", b"place", sealed);
            opened.map(|plain| plain.to_vec())
        };
        let plain = Ok(b"plain".to_vec());
        for sealed in [seal(&first), seal(&second), seal(&third)] {
            assert_eq!(open(&third, &sealed), plain);
        }
        let refused = Err(SealError::NotAuthentic);
        assert_eq!(open(&first, &seal(&second)), refused);
        assert_eq!(open(&second, &seal(&third)), refused);
        assert_eq!(open(&key(3), &seal(&third)), plain);
        assert_eq!(third.expose_first(), &[1; 32]);
        let again = SealingKey::of_all(&third.expose_all()).unwrap();
        assert_eq!(again.expose_all(), third.expose_all());
        for bad in [0, 31, 33, 95] {
            assert!(SealingKey::of_all(&vec![1; bad]).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_same_plaintext_never_seals_alike() {
        let rng = SystemRandom::new();
        let one = key(1).seal(&rng, b"l", b"p", b"x").unwrap();
        let two = key(1).seal(&rng, b"l", b"p", b"x").unwrap();
        assert_ne!(one[..SALT_BYTES], two[..SALT_BYTES]);
        assert_ne!(one, two);
    }

    #[test]
    fn length_prefixes_tell_parts_apart() {
        assert_ne!(
            length_prefixed(&[b"ab", b"c"]),
            length_prefixed(&[b"a", b"bc"])
        );
        assert_ne!(length_prefixed(&[b"ab"]), length_prefixed(&[b"ab", b""]));
    }
}
