//! What the envelope's file says in clear: who holds what, and what is to be destroyed.

use std::fmt;

use attestation::manifest::MAX_KEYHOLDERS;
use serde::{Deserialize, Serialize};

use super::{EnvelopeError, FORMAT, RecipientKind};

/// The most recipients of one envelope.
const MAX_RECIPIENTS: usize = 8;
/// The most that waits to be destroyed.
const MAX_RETIRED: usize = 128;

/// Bytes that a file holds as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; N];
        // One form alone: what is authenticated is what stands there.
        let upper = text.char_indices().find(|(_, c)| c.is_ascii_uppercase());
        if let Some((index, c)) = upper {
            return Err(hex::FromHexError::InvalidHexCharacter { c, index });
        }
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(bytes: Hex<N>) -> Self {
        hex::encode(bytes.0)
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Who holds the quorum's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custody {
    /// How many of the keyholders are needed.
    pub quorum: usize,
    /// All of them.
    pub holders: Vec<Holder>,
}

/// One keyholder of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Its name in the manifest.
    pub name: String,
    /// Where it answered.
    pub url: String,
    /// Its public key.
    pub key: Hex<32>,
    /// The id of the share that it holds.
    pub share: Hex<16>,
    /// Which piece of the quorum's secret this is.
    pub(super) index: u8,
    /// The piece, sealed under the share.
    pub(super) sealed_piece: String,
}

/// What opened an earlier root of this state. Until its holder has confirmed that
/// it is destroyed, an erasure is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Retired {
    /// A keyholder's share.
    Share {
        /// The keyholder's name.
        name: String,
        /// Where it answered.
        url: String,
        /// Its public key.
        key: Hex<32>,
        /// The id of the share.
        share: Hex<16>,
    },
    /// The shares of a recovery set.
    Recovery {
        /// The id of the set.
        set: Hex<8>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) header: Header,
    pub(super) sealed_state: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) state: Hex<16>,
    pub(super) custody: Custody,
    pub(super) recipients: Vec<Recipient>,
    pub(super) retired: Vec<Retired>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipient {
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tee_key_inputs: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recovery_key: Option<Hex<32>>,
    pub(super) sealed_root: String,
}

impl Header {
    /// The bytes that the root authenticates.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        serde_json::to_vec(self).map_err(|_| EnvelopeError::Unreadable)
    }

    /// The rules that the form does not hold already.
    pub(super) fn check(&self) -> Result<(), EnvelopeError> {
        let Self {
            format,
            state: _,
            custody,
            recipients,
            retired,
        } = self;
        if format != FORMAT {
            return Err(EnvelopeError::UnknownFormat(format.clone()));
        }
        for recipient in recipients {
            let kind = RecipientKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == recipient.kind);
            let (inputs, key) = match kind {
                None => {
                    let kind = recipient.kind.chars().take(32).collect();
                    return Err(EnvelopeError::UnknownRecipient(kind));
                }
                Some(RecipientKind::Local) => (true, false),
                Some(RecipientKind::OffChip) => (false, false),
                Some(RecipientKind::Recovery) => (false, true),
            };
            if recipient.tee_key_inputs.is_some() != inputs
                || recipient.recovery_key.is_some() != key
            {
                return Err(EnvelopeError::Unreadable);
            }
        }
        let Custody { quorum, holders } = custody;
        if *quorum == 0
            || *quorum > holders.len()
            || holders.len() > MAX_KEYHOLDERS
            || recipients.len() > MAX_RECIPIENTS
            || retired.len() > MAX_RETIRED
        {
            return Err(EnvelopeError::Unreadable);
        }
        Ok(())
    }

    pub(super) fn of(&self, kind: RecipientKind) -> impl Iterator<Item = &Recipient> {
        let recipients = self.recipients.iter();
        recipients.filter(move |recipient| recipient.kind == kind.as_str())
    }
}

/// The format that a file states which is not of this form, if it states one that is
/// not known.
pub(super) fn other_format(file: &[u8]) -> Option<EnvelopeError> {
    #[derive(Deserialize)]
    struct Stated {
        format: Option<String>,
        header: Option<StatedHeader>,
    }
    #[derive(Deserialize)]
    struct StatedHeader {
        format: String,
    }
    let stated: Stated = serde_json::from_slice(file).ok()?;
    let found = stated
        .format
        .or(stated.header.map(|header| header.format))?;
    let found: String = found.chars().take(64).collect();
    (found != FORMAT).then_some(EnvelopeError::UnknownFormat(found))
}
