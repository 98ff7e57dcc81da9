//! Keys of note signatures: the verifier's text form and the signer.

use core::fmt;
use core::str::FromStr;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use thiserror::Error;

use super::signed::check_text;
use super::{KeyName, KeyNameError, MAX_NAME_BYTES, NoteError, NoteSignature};
use crate::base64;
use crate::hash::sha256;

/// Length of an Ed25519 public key [RFC 8032].
pub(crate) const PUBLIC_KEY_BYTES: usize = 32;
/// Longest verifier key read: name, two pluses, 8 hex digits, 33 bytes in base64.
pub const MAX_KEY_BYTES: usize = MAX_NAME_BYTES + 2 + 8 + 44;
/// Signature type of Ed25519 over the note text [C2SP signed-note].
const ED25519_NOTE: u8 = 0x01;

/// Why text is no verifier key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Longer than [`MAX_KEY_BYTES`].
    #[error("a verifier key of {found_bytes} bytes is too long")]
    TooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// Not `name+id+key`.
    #[error("a verifier key is name+id+key")]
    Form,
    /// The name is none.
    #[error("the verifier key's name is malformed")]
    Name(#[source] KeyNameError),
    /// The id is not 8 lowercase hex digits.
    #[error("a key id is 8 lowercase hex digits")]
    Id,
    /// The key is not canonical base64.
    #[error("a verifier key is not canonical base64")]
    Base64,
    /// Signatures of another type than the caller takes.
    #[error("signature type {found:#04x} where {expected:#04x} is needed")]
    SignatureType {
        /// What the caller takes.
        expected: u8,
        /// What the key says.
        found: u8,
    },
    /// Not a type byte and 32 bytes of key.
    #[error("a verifier key holds {found_bytes} bytes, not 33")]
    Length {
        /// Type byte and key as found.
        found_bytes: usize,
    },
    /// The id is not that of this name, type and key.
    #[error("the verifier key's id is {found}, that of its name and key is {expected}")]
    IdMismatch {
        /// Computed.
        expected: KeyId,
        /// Stated.
        found: KeyId,
    },
}

/// Short identifier of a key in a signature line. Not a strong hash: with the name it says which
/// configured key to verify with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(u32);

impl KeyId {
    pub(super) const fn from_u32(id: u32) -> Self {
        Self(id)
    }

    /// As a number; big-endian in a signature.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// `SHA-256(name || 0x0A || type || public key)[:4]` [C2SP signed-note].
    fn compute(name: &KeyName, signature_type: u8, public_key: &[u8; PUBLIC_KEY_BYTES]) -> Self {
        let hash = sha256(&[
            name.as_str().as_bytes(),
            b"\n",
            &[signature_type],
            public_key,
        ]);
        let [a, b, c, d, ..] = *hash.as_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A named Ed25519 public key for one signature type: what [`VerifierKey`] and
/// [`crate::CosignerKey`] share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Vkey {
    pub(crate) name: KeyName,
    pub(crate) id: KeyId,
    pub(crate) public_key: [u8; PUBLIC_KEY_BYTES],
}

impl Vkey {
    pub(crate) fn new(
        name: KeyName,
        signature_type: u8,
        public_key: [u8; PUBLIC_KEY_BYTES],
    ) -> Self {
        let id = KeyId::compute(&name, signature_type, &public_key);
        Self {
            name,
            id,
            public_key,
        }
    }

    pub(crate) fn parse(text: &str, signature_type: u8) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong {
                found_bytes: text.len(),
            });
        }
        // The name has no plus; the base64 may have some.
        let (name, rest) = text.split_once('+').ok_or(KeyError::Form)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Form)?;
        let name = name.parse().map_err(KeyError::Name)?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 8 || !id.bytes().all(lower_hex) {
            return Err(KeyError::Id);
        }
        let found = KeyId(u32::from_str_radix(id, 16).map_err(|_| KeyError::Id)?);
        let key = base64::decode(key).ok_or(KeyError::Base64)?;
        let length = KeyError::Length {
            found_bytes: key.len(),
        };
        let (found_type, key) = key.split_first().ok_or(length)?;
        if *found_type != signature_type {
            let (expected, found) = (signature_type, *found_type);
            return Err(KeyError::SignatureType { expected, found });
        }
        let public_key = key.try_into().map_err(|_| length)?;
        let vkey = Self::new(name, signature_type, public_key);
        if vkey.id != found {
            return Err(KeyError::IdMismatch {
                expected: vkey.id,
                found,
            });
        }
        Ok(vkey)
    }

    pub(crate) fn format(&self, signature_type: u8) -> String {
        let key = [&[signature_type], self.public_key.as_slice()].concat();
        format!("{}+{}+{}", self.name, self.id, base64::encode(&key))
    }

    /// Whether a signature line names this key: both name and id, not one of them.
    pub(crate) fn is_named_by(&self, signature: &NoteSignature) -> bool {
        signature.name() == &self.name && signature.key_id() == self.id
    }
}

/// Whether `signature` is one of `message` by this key [RFC 8032].
pub(crate) fn verify_ed25519(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(message, signature)
        .is_ok()
}

/// A public key that verifies note signatures of type `0x01`: Ed25519 over the text.
///
/// `FromStr` and `Display` are its text form `name+id+base64(0x01 || key)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey(Vkey);

impl VerifierKey {
    /// The key with this name and these 32 bytes [RFC 8032 §5.1.2].
    #[must_use]
    pub fn new(name: KeyName, public_key: [u8; 32]) -> Self {
        Self(Vkey::new(name, ED25519_NOTE, public_key))
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.0.name
    }

    /// Its id.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.0.id
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0.public_key
    }

    /// Whether a signature line names this key.
    pub(super) fn is_named_by(&self, signature: &NoteSignature) -> bool {
        self.0.is_named_by(signature)
    }

    pub(super) fn verifies(&self, text: &str, signature: &NoteSignature) -> bool {
        verify_ed25519(&self.0.public_key, text.as_bytes(), signature.bytes())
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Vkey::parse(text, ED25519_NOTE).map(Self)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(ED25519_NOTE))
    }
}

/// Signs notes with type `0x01`. Holds the private key; its `Debug` shows the public one alone.
pub struct NoteSigner {
    key: VerifierKey,
    pair: Ed25519KeyPair,
}

impl NoteSigner {
    /// A signer with this name. The caller keeps the seed the pair was made from.
    ///
    /// # Errors
    /// [`KeyError::Length`] if the pair's public key had not 32 bytes.
    pub fn new(name: KeyName, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        Ok(Self {
            key: VerifierKey::new(name, public_key_of(&pair)?),
            pair,
        })
    }

    /// The key that verifies what this signs.
    #[must_use]
    pub const fn verifier_key(&self) -> &VerifierKey {
        &self.key
    }

    /// Signs a note text.
    ///
    /// # Errors
    /// [`NoteError`] if it is not a note's text: see [`super::Note::new`].
    pub fn sign(&self, text: &str) -> Result<NoteSignature, NoteError> {
        check_text(text)?;
        let signature = self.pair.sign(text.as_bytes());
        let (name, id) = (self.key.name().clone(), self.key.key_id());
        Ok(NoteSignature::from_parts(
            name,
            id,
            signature.as_ref().to_vec(),
        ))
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoteSigner")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The public half as an array.
pub(crate) fn public_key_of(pair: &Ed25519KeyPair) -> Result<[u8; PUBLIC_KEY_BYTES], KeyError> {
    let public_key = pair.public_key().as_ref();
    public_key.try_into().map_err(|_| KeyError::Length {
        found_bytes: public_key.len(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the documentation of Go's `golang.org/x/mod/sumdb/note`.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn verifier_keys_of_others_are_read_and_written_back() {
        for text in [
            GO_KEY,
            // [C2SP signed-note], "Example".
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        ] {
            let key: VerifierKey = text.parse().expect("published key");
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn malformed_verifier_keys_are_refused() {
        let replaced = |from: &str, to: &str| GO_KEY.replacen(from, to, 1);
        let key = GO_KEY.rsplit('+').next().expect("key");
        let raw = base64::decode(key).expect("base64");
        let with_raw = |raw: &[u8]| format!("PeterNeumann+c74f20a3+{}", base64::encode(raw));
        let id = |id| KeyId(u32::from_str_radix(id, 16).expect("hex"));
        let rows = [
            (String::new(), KeyError::Form),
            ("PeterNeumann".to_owned(), KeyError::Form),
            ("PeterNeumann+c74f20a3".to_owned(), KeyError::Form),
            (
                replaced("PeterNeumann", ""),
                KeyError::Name(KeyNameError::Empty),
            ),
            (
                replaced("PeterNeumann", "Peter Neumann"),
                KeyError::Name(KeyNameError::Character { found: ' ' }),
            ),
            (replaced("c74f20a3", "C74F20A3"), KeyError::Id),
            (replaced("c74f20a3", "c74f20a"), KeyError::Id),
            (replaced("c74f20a3", "+74f20a3"), KeyError::Id),
            (replaced("c74f20a3", "0c74f20a3"), KeyError::Id),
            (replaced("ARpc", "A-pc"), KeyError::Base64),
            (format!("{GO_KEY}\n"), KeyError::Base64),
            (
                "PeterNeumann+c74f20a3+".to_owned(),
                KeyError::Length { found_bytes: 0 },
            ),
            (with_raw(&raw[..32]), KeyError::Length { found_bytes: 32 }),
            (
                with_raw(&[&raw[..], &[0]].concat()),
                KeyError::Length { found_bytes: 34 },
            ),
            (
                with_raw(&[&[4], &raw[1..]].concat()),
                KeyError::SignatureType {
                    expected: 1,
                    found: 4,
                },
            ),
            (
                replaced("c74f20a3", "c74f20a4"),
                KeyError::IdMismatch {
                    expected: id("c74f20a3"),
                    found: id("c74f20a4"),
                },
            ),
            (
                replaced("PeterNeumann", "EnochRoot"),
                KeyError::IdMismatch {
                    expected: Vkey::new(
                        "EnochRoot".parse().expect("name"),
                        1,
                        raw[1..].try_into().expect("32"),
                    )
                    .id,
                    found: id("c74f20a3"),
                },
            ),
            ("n".repeat(310), KeyError::TooLong { found_bytes: 310 }),
        ];
        for (text, error) in rows {
            assert_eq!(text.parse::<VerifierKey>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_signer_shows_nothing_private() {
        let seed = [0x5a; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("seed");
        let signer = NoteSigner::new("log.example".parse().expect("name"), pair).expect("key");
        let shown = format!("{signer:?}");
        assert!(shown.starts_with("NoteSigner { key: VerifierKey("));
        assert!(!shown.contains("90, 90") && !shown.to_lowercase().contains("5a5a"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_refused(text in ".{0,120}", tail in "[A-Za-z0-9+/=]{0,60}") {
            for text in [text.clone(), format!("{text}+0123abcd+{tail}")] {
                if let Ok(key) = text.parse::<VerifierKey>() {
                    prop_assert_eq!(key.to_string(), text);
                }
            }
        }
    }
}
