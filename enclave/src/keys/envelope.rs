//! The envelope: the root key, wrapped for those who may open it.
//!
//! The *local* recipient needs two things that no single party but the enclave
//! has: a key that the TEE derives for this chip and configuration, and a share
//! that comes from elsewhere. The chip's key alone never suffices.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::root::RootKey;
use crate::seal::{SealError, SealingKey, derive, length_prefixed};

/// The longest envelope file in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 64 * 1024;

/// Shares have at least this many bytes.
pub const MIN_SHARE_BYTES: usize = 32;

const FORMAT: &str = "tokenkeep/envelope/v1";
const WRAP_LABEL: &[u8] = b"tokenkeep/envelope/local/v1";

/// What the local recipient is made of.
pub struct LocalSecret<'a> {
    /// The TEE-derived key.
    pub tee_key: &'a [u8; 32],
    /// What the TEE-derived key was made to depend on, recorded in the header.
    pub tee_key_inputs: &'a str,
    /// The share.
    pub share: &'a [u8],
}

impl std::fmt::Debug for LocalSecret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalSecret([redacted], {})", self.tee_key_inputs)
    }
}

/// Why an envelope could not be made or opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// The file is larger than [`MAX_ENVELOPE_BYTES`].
    #[error("the envelope is too large")]
    TooLarge,
    /// The file is not an envelope.
    #[error("the envelope can't be read: it is damaged or of another format")]
    Unreadable,
    /// The file is of a format that this program does not know.
    #[error("the envelope has the unknown format {0:?}")]
    UnknownFormat(String),
    /// No recipient opened: another chip, another configuration, another share,
    /// or a changed file.
    #[error("no recipient of the envelope opens with this TEE's key and this share")]
    NoRecipient,
    /// The share is shorter than [`MIN_SHARE_BYTES`].
    #[error("the share must have at least 32 bytes")]
    ShortShare,
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    recipients: Vec<Recipient>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Recipient {
    Local {
        tee_key_inputs: String,
        sealed_root: String,
    },
}

fn local_key(local: &LocalSecret<'_>) -> Result<SealingKey, EnvelopeError> {
    if local.share.len() < MIN_SHARE_BYTES {
        return Err(EnvelopeError::ShortShare);
    }
    let both = Zeroizing::new(length_prefixed(&[local.tee_key, local.share]));
    Ok(SealingKey::new(derive(&both, b"", WRAP_LABEL)?))
}

fn place(tee_key_inputs: &str) -> Vec<u8> {
    length_prefixed(&[FORMAT.as_bytes(), b"local", tee_key_inputs.as_bytes()])
}

/// Wraps a root key for the local recipient; gives the envelope's file.
///
/// # Errors
/// [`EnvelopeError::ShortShare`], or [`EnvelopeError::Seal`] without randomness.
pub fn wrap(
    root: &RootKey,
    local: &LocalSecret<'_>,
    rng: &dyn SecureRandom,
) -> Result<Vec<u8>, EnvelopeError> {
    let key = local_key(local)?;
    let sealed = key.seal(rng, WRAP_LABEL, &place(local.tee_key_inputs), root.expose())?;
    let file = File {
        format: FORMAT.to_owned(),
        recipients: vec![Recipient::Local {
            tee_key_inputs: local.tee_key_inputs.to_owned(),
            sealed_root: Base64UrlUnpadded::encode_string(&sealed),
        }],
    };
    serde_json::to_vec_pretty(&file).map_err(|_| EnvelopeError::Unreadable)
}

fn read(file: &[u8]) -> Result<File, EnvelopeError> {
    if file.len() > MAX_ENVELOPE_BYTES {
        return Err(EnvelopeError::TooLarge);
    }
    let file: File = serde_json::from_slice(file).map_err(|_| EnvelopeError::Unreadable)?;
    if file.format != FORMAT {
        return Err(EnvelopeError::UnknownFormat(file.format));
    }
    Ok(file)
}

/// What the TEE-derived key of the local recipient depends on, as the header
/// records it. It is authenticated when the envelope opens.
///
/// # Errors
/// [`EnvelopeError`] if the file is no envelope or has no local recipient.
pub fn local_inputs(file: &[u8]) -> Result<String, EnvelopeError> {
    let Recipient::Local { tee_key_inputs, .. } = read(file)?
        .recipients
        .into_iter()
        .next()
        .ok_or(EnvelopeError::NoRecipient)?;
    Ok(tee_key_inputs)
}

/// Opens an envelope's file as the local recipient.
///
/// # Errors
/// [`EnvelopeError`] says whether the file or the secret does not fit.
pub fn open(file: &[u8], local: &LocalSecret<'_>) -> Result<RootKey, EnvelopeError> {
    let file = read(file)?;
    let key = local_key(local)?;
    for recipient in &file.recipients {
        let Recipient::Local {
            tee_key_inputs,
            sealed_root,
        } = recipient;
        let sealed =
            Base64UrlUnpadded::decode_vec(sealed_root).map_err(|_| EnvelopeError::Unreadable)?;
        let Ok(plain) = key.open(WRAP_LABEL, &place(tee_key_inputs), &sealed) else {
            continue;
        };
        let mut bytes = Zeroizing::new([0; 32]);
        if plain.len() != bytes.len() {
            return Err(EnvelopeError::Unreadable);
        }
        bytes.copy_from_slice(&plain);
        return Ok(RootKey::from_bytes(bytes));
    }
    Err(EnvelopeError::NoRecipient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    const SHARE: &[u8] = &[5; 32];

    fn local<'a>(tee_key: &'a [u8; 32], share: &'a [u8]) -> LocalSecret<'a> {
        LocalSecret {
            tee_key,
            tee_key_inputs: "policy,guest_svn,tcb",
            share,
        }
    }

    #[test]
    fn opens_with_the_chips_key_and_the_share_together_only() {
        let rng = SystemRandom::new();
        let root = RootKey::generate(&rng).unwrap();
        let file = wrap(&root, &local(&[1; 32], SHARE), &rng).unwrap();
        let text = String::from_utf8(file.clone()).unwrap();
        let open_with = |file: &[u8], tee: &[u8; 32], share: &[u8]| {
            open(file, &local(tee, share)).map(|root| *root.expose())
        };
        assert_eq!(open_with(&file, &[1; 32], SHARE), Ok(*root.expose()));

        let other_format = text.replace("envelope/v1", "envelope/v9");
        let other_inputs = text.replace("guest_svn", "guest_xxx");
        let extra = text.replacen('{', "{\"x\":1,", 1);
        let big = vec![b' '; MAX_ENVELOPE_BYTES + 1];
        let unknown = EnvelopeError::UnknownFormat("tokenkeep/envelope/v9".into());
        type Row<'a> = (&'a str, &'a [u8], [u8; 32], &'a [u8], EnvelopeError);
        let rows: [Row<'_>; 8] = [
            (
                "other chip",
                &file,
                [2; 32],
                SHARE,
                EnvelopeError::NoRecipient,
            ),
            (
                "other share",
                &file,
                [1; 32],
                &[6; 32],
                EnvelopeError::NoRecipient,
            ),
            ("no share", &file, [1; 32], &[], EnvelopeError::ShortShare),
            (
                "header changed",
                other_inputs.as_bytes(),
                [1; 32],
                SHARE,
                EnvelopeError::NoRecipient,
            ),
            (
                "unknown format",
                other_format.as_bytes(),
                [1; 32],
                SHARE,
                unknown,
            ),
            (
                "unknown member",
                extra.as_bytes(),
                [1; 32],
                SHARE,
                EnvelopeError::Unreadable,
            ),
            (
                "cut short",
                &file[..40],
                [1; 32],
                SHARE,
                EnvelopeError::Unreadable,
            ),
            ("too large", &big, [1; 32], SHARE, EnvelopeError::TooLarge),
        ];
        for (what, file, tee, share, expected) in rows {
            assert_eq!(open_with(file, &tee, share), Err(expected), "{what}");
        }
    }

    #[test]
    fn the_file_shows_no_key() {
        let rng = SystemRandom::new();
        let root = RootKey::generate(&rng).unwrap();
        let file = wrap(&root, &local(&[1; 32], SHARE), &rng).unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let text = String::from_utf8(file.clone()).unwrap();
        let base64 = Base64UrlUnpadded::encode_string(root.expose());
        assert!(!text.contains(&base64[..40]) && !text.contains(&hex(root.expose())));
        assert!(!file.windows(32).any(|window| window == root.expose()));
    }
}
