//! One signature line of a note.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use super::{KeyId, KeyName, KeyNameError};
use crate::base64;

/// Em dash and space, with which a signature line begins.
pub(super) const LINE_PREFIX: &str = "\u{2014} ";

/// Why a line is no signature.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignatureLineError {
    /// No em dash and space at its start.
    #[error("a signature line begins with an em dash and a space")]
    Prefix,
    /// Not a name and a signature with a space between.
    #[error("a signature line has a name and a signature")]
    Form,
    /// The name is none.
    #[error("the signature line's name is malformed")]
    Name(#[source] KeyNameError),
    /// Not canonical base64.
    #[error("a signature is not canonical base64")]
    Base64,
    /// No room for a key id and at least one byte.
    #[error("a signature of {found_bytes} bytes is too short")]
    TooShort {
        /// Key id and signature as found.
        found_bytes: usize,
    },
}

/// A signature by a named key, not yet verified: key name, key id, and bytes whose meaning the key's
/// type defines. `FromStr` and `Display` are the line without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: KeyName,
    key_id: KeyId,
    bytes: Vec<u8>,
}

impl NoteSignature {
    pub(crate) fn from_parts(name: KeyName, key_id: KeyId, bytes: Vec<u8>) -> Self {
        Self {
            name,
            key_id,
            bytes,
        }
    }

    /// The key's name, as claimed.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The key's id, as claimed.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The signature without the key id.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromStr for NoteSignature {
    type Err = SignatureLineError;

    fn from_str(line: &str) -> Result<Self, SignatureLineError> {
        let rest = line
            .strip_prefix(LINE_PREFIX)
            .ok_or(SignatureLineError::Prefix)?;
        let (name, signature) = rest.split_once(' ').ok_or(SignatureLineError::Form)?;
        let name = name.parse().map_err(SignatureLineError::Name)?;
        let signature = base64::decode(signature).ok_or(SignatureLineError::Base64)?;
        match signature.split_first_chunk() {
            Some((id, bytes)) if !bytes.is_empty() => {
                let key_id = KeyId::from_u32(u32::from_be_bytes(*id));
                Ok(Self {
                    name,
                    key_id,
                    bytes: bytes.to_vec(),
                })
            }
            Some(_) | None => Err(SignatureLineError::TooShort {
                found_bytes: signature.len(),
            }),
        }
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.key_id.as_u32().to_be_bytes();
        let signature = [id.as_slice(), &self.bytes].concat();
        write!(
            f,
            "{LINE_PREFIX}{} {}",
            self.name,
            base64::encode(&signature)
        )
    }
}
