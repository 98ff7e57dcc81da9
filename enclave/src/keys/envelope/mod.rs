//! The envelope: the root key, wrapped for those who may open it.
//!
//! | recipient | opens with |
//! | --- | --- |
//! | *local* | a key that the TEE derives for this chip and configuration, and the quorum's secret |
//! | *off-chip* | the quorum's secret alone: on TDX, which has no such key, and on a new chip |
//! | *recovery* | the private key of a recovery set, which its people combine from their shares |
//!
//! The **quorum's secret** is random. It is split among the keyholders, and each one's piece is sealed under the share
//! that it releases, so that a quorum of shares gives it back. The chip's key alone opens nothing.
//!
//! | module | holds |
//! | --- | --- |
//! | [`header`](Custody) | what the file says in clear, authenticated by the root |
//! | [`quorum`](QuorumSecret) | the quorum's secret and its pieces |

mod header;
mod quorum;
#[cfg(test)]
mod tests;

use attestation::{DepositContext, DepositEnvelope, DepositPrivateKey};
use base64ct::{Base64UrlUnpadded, Encoding};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use thiserror::Error;
use zeroize::Zeroizing;

use super::root::{RootKey, StateKey, Unlocked};
use crate::seal::{SealError, SealingKey, derive, length_prefixed};
use header::{File, Header, Recipient};

pub use header::{Custody, Hex, Holder, Retired};
pub use quorum::{NewHolder, QuorumSecret, gather, share_out};

/// The longest envelope file in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 64 * 1024;

const FORMAT: &str = "tokenkeep/envelope/v3";
const LOCAL_LABEL: &[u8] = b"tokenkeep/envelope/local/v2";
const OFF_CHIP_LABEL: &[u8] = b"tokenkeep/envelope/off-chip/v2";
const STATE_LABEL: &[u8] = b"tokenkeep/envelope/state/v2";

/// A key that the TEE derives, with what it was made to depend on.
#[derive(Clone, Copy)]
pub struct TeeKey<'a> {
    /// The key.
    pub key: &'a [u8; 32],
    /// What it depends on, as the header records it.
    pub inputs: &'a str,
}

impl std::fmt::Debug for TeeKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TeeKey([redacted], {})", self.inputs)
    }
}

/// Whom an envelope is sealed for.
#[derive(Debug)]
pub struct Recipients<'a> {
    /// The id of the state.
    pub state: [u8; 16],
    /// Who holds the quorum's secret.
    pub custody: &'a Custody,
    /// The quorum's secret.
    pub quorum: &'a QuorumSecret,
    /// The TEE-derived key, where there is one.
    pub local: Option<TeeKey<'a>>,
    /// Whether the quorum's secret is enough on any chip.
    pub off_chip: bool,
    /// The public key of the recovery set, if there is one.
    pub recovery: Option<[u8; 32]>,
    /// What opened an earlier root and is not yet known to be destroyed.
    pub retired: &'a [Retired],
}

/// What one has to open an envelope with.
#[derive(Debug, Default)]
pub struct Secrets<'a> {
    /// The TEE-derived key.
    pub local: Option<TeeKey<'a>>,
    /// The quorum's secret.
    pub quorum: Option<&'a QuorumSecret>,
    /// The private key of the recovery set.
    pub recovery: Option<&'a DepositPrivateKey>,
}

/// The kinds of recipients, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientKind {
    /// This chip, with the quorum.
    Local,
    /// The quorum, on any chip.
    OffChip,
    /// A recovery set.
    Recovery,
}

impl RecipientKind {
    const ALL: [Self; 3] = [Self::Local, Self::OffChip, Self::Recovery];

    /// Its name in the header and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::OffChip => "off_chip",
            Self::Recovery => "recovery",
        }
    }
}

/// An opened envelope.
#[derive(Debug)]
pub struct Opened {
    /// The keys.
    pub keys: Unlocked,
    /// Which recipient opened.
    pub by: RecipientKind,
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
    /// A recipient is of a kind that this program does not know.
    #[error("the envelope has a recipient of the unknown kind {0:?}")]
    UnknownRecipient(String),
    /// Nobody could open it.
    #[error(
        "the envelope would have no recipient: allow off_chip, or run where the TEE derives keys"
    )]
    NobodyCouldOpen,
    /// No recipient opened: another chip, another configuration, other shares, or a
    /// changed file.
    #[error("no recipient of the envelope opens with this TEE's key and these shares")]
    NoRecipient,
    /// A recipient opened, but the rest is not what was sealed with it.
    #[error("the envelope was changed: its header is not the one that was sealed")]
    HeaderChanged,
    /// A keyholder's share does not open its piece.
    #[error("the share of the keyholder {holder} is not the one that the envelope was made with")]
    WrongShare {
        /// Its name.
        holder: String,
    },
    /// Fewer shares than the quorum.
    #[error("{found} of {needed} shares")]
    TooFewShares {
        /// As many there are.
        found: usize,
        /// As many are needed.
        needed: usize,
    },
    /// The quorum can't be split among the keyholders.
    #[error("a quorum of {quorum} of {holders} keyholders can't be")]
    Quorum {
        /// How many are needed.
        quorum: usize,
        /// How many there are.
        holders: usize,
    },
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// An envelope as it was read. Its header is believed only when it opens.
#[derive(Debug)]
pub struct Envelope {
    header: Header,
    sealed_state: Vec<u8>,
}

fn local_key(tee: &TeeKey<'_>, quorum: &QuorumSecret) -> Result<SealingKey, SealError> {
    let both = Zeroizing::new(length_prefixed(&[tee.key, quorum.expose()]));
    Ok(SealingKey::new(derive(&both, b"", LOCAL_LABEL)?))
}

fn off_chip_key(quorum: &QuorumSecret) -> Result<SealingKey, SealError> {
    let key = derive(quorum.expose(), b"", OFF_CHIP_LABEL)?;
    Ok(SealingKey::new(key))
}

fn place(kind: RecipientKind, state: &[u8; 16], detail: &[u8]) -> Vec<u8> {
    length_prefixed(&[FORMAT.as_bytes(), kind.as_str().as_bytes(), state, detail])
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

/// Sealed to a recovery set, for this very state.
fn recovery_context(digest: &[u8; 32]) -> DepositContext<'_> {
    DepositContext {
        tenant: "",
        app: "envelope",
        grant: "",
        kind: "recovery",
        bundle_digest: digest,
    }
}

fn key_of(plain: &[u8]) -> Result<Zeroizing<[u8; 32]>, EnvelopeError> {
    let mut bytes = Zeroizing::new([0; 32]);
    if plain.len() != bytes.len() {
        return Err(EnvelopeError::Unreadable);
    }
    bytes.copy_from_slice(plain);
    Ok(bytes)
}

/// Wraps keys; gives the envelope's file.
///
/// # Errors
/// [`EnvelopeError::NobodyCouldOpen`], or [`EnvelopeError::Seal`] without randomness or for a recovery key that is none.
pub fn seal(
    keys: &Unlocked,
    to: &Recipients<'_>,
    rng: &dyn SecureRandom,
) -> Result<Vec<u8>, EnvelopeError> {
    let Recipients {
        state,
        custody,
        quorum,
        local,
        off_chip,
        recovery,
        retired,
    } = to;
    let root = keys.root.expose();
    let mut recipients = Vec::new();
    if let Some(tee) = local {
        let place = place(RecipientKind::Local, state, tee.inputs.as_bytes());
        let sealed = local_key(tee, quorum)?.seal(rng, LOCAL_LABEL, &place, root)?;
        recipients.push(Recipient {
            kind: RecipientKind::Local.as_str().to_owned(),
            tee_key_inputs: Some(tee.inputs.to_owned()),
            recovery_key: None,
            sealed_root: Base64UrlUnpadded::encode_string(&sealed),
        });
    }
    if *off_chip {
        let place = place(RecipientKind::OffChip, state, b"");
        let sealed = off_chip_key(quorum)?.seal(rng, OFF_CHIP_LABEL, &place, root)?;
        recipients.push(Recipient {
            kind: RecipientKind::OffChip.as_str().to_owned(),
            tee_key_inputs: None,
            recovery_key: None,
            sealed_root: Base64UrlUnpadded::encode_string(&sealed),
        });
    }
    if recipients.is_empty() {
        return Err(EnvelopeError::NobodyCouldOpen);
    }
    if let Some(public) = recovery {
        let digest = sha256(&place(RecipientKind::Recovery, state, public));
        let sealed = DepositEnvelope::seal(public, &recovery_context(&digest), root, rng);
        let sealed = sealed.map_err(|_| SealError::Failed)?;
        let sealed = [sealed.encapsulated_key(), sealed.ciphertext()].concat();
        recipients.push(Recipient {
            kind: RecipientKind::Recovery.as_str().to_owned(),
            tee_key_inputs: None,
            recovery_key: Some(Hex(*public)),
            sealed_root: Base64UrlUnpadded::encode_string(&sealed),
        });
    }
    let header = Header {
        format: FORMAT.to_owned(),
        state: Hex(*state),
        custody: (*custody).clone(),
        recipients,
        retired: retired.to_vec(),
    };
    let authenticated = header.bytes()?;
    let sealed_state =
        keys.root
            .envelope_key()?
            .seal(rng, STATE_LABEL, &authenticated, keys.state.expose())?;
    let file = File {
        header,
        sealed_state: Base64UrlUnpadded::encode_string(&sealed_state),
    };
    let bytes = serde_json::to_vec_pretty(&file).map_err(|_| EnvelopeError::Unreadable)?;
    if bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(EnvelopeError::TooLarge);
    }
    Ok(bytes)
}

impl Envelope {
    /// Reads an envelope's file.
    ///
    /// # Errors
    /// [`EnvelopeError`] if it is none, or of a format or with a recipient that is not known.
    pub fn parse(file: &[u8]) -> Result<Self, EnvelopeError> {
        if file.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge);
        }
        let unreadable = |_| EnvelopeError::Unreadable;
        let Ok(file) = serde_json::from_slice::<File>(file) else {
            return Err(header::other_format(file).unwrap_or(EnvelopeError::Unreadable));
        };
        let File {
            header,
            sealed_state,
        } = file;
        header.check()?;
        Ok(Self {
            header,
            sealed_state: Base64UrlUnpadded::decode_vec(&sealed_state).map_err(unreadable)?,
        })
    }

    /// The id of the state.
    #[must_use]
    pub fn state(&self) -> [u8; 16] {
        self.header.state.0
    }

    /// Who holds the quorum's secret.
    #[must_use]
    pub fn custody(&self) -> &Custody {
        &self.header.custody
    }

    /// What the TEE-derived key of the local recipient depends on, if there is one.
    #[must_use]
    pub fn local_inputs(&self) -> Option<&str> {
        let mut local = self.header.of(RecipientKind::Local);
        local.find_map(|recipient| recipient.tee_key_inputs.as_deref())
    }

    /// Whether the quorum's secret is enough on any chip.
    #[must_use]
    pub fn is_off_chip(&self) -> bool {
        self.header.of(RecipientKind::OffChip).next().is_some()
    }

    /// The public key of the recovery set, if it has one.
    #[must_use]
    pub fn recovery(&self) -> Option<[u8; 32]> {
        let mut recovery = self.header.of(RecipientKind::Recovery);
        recovery.find_map(|recipient| recipient.recovery_key.map(|key| key.0))
    }

    /// What opened an earlier root and is not yet known to be destroyed.
    #[must_use]
    pub fn retired(&self) -> &[Retired] {
        &self.header.retired
    }

    /// Opens it: local first, then off-chip, then recovery.
    ///
    /// # Errors
    /// [`EnvelopeError::NoRecipient`] if none opens; [`EnvelopeError::HeaderChanged`] if one does, and the header is
    /// not the one that was sealed.
    pub fn open(&self, secrets: &Secrets<'_>) -> Result<Opened, EnvelopeError> {
        for kind in RecipientKind::ALL {
            for recipient in self.header.of(kind) {
                let sealed = Base64UrlUnpadded::decode_vec(&recipient.sealed_root)
                    .map_err(|_| EnvelopeError::Unreadable)?;
                let Some(root) = self.open_root(kind, recipient, &sealed, secrets)? else {
                    continue;
                };
                let root = RootKey::from_bytes(key_of(&root)?);
                let state = root
                    .envelope_key()?
                    .open(STATE_LABEL, &self.header.bytes()?, &self.sealed_state)
                    .map_err(|_| EnvelopeError::HeaderChanged)?;
                let state = StateKey::from_bytes(key_of(&state)?);
                let keys = Unlocked { root, state };
                return Ok(Opened { keys, by: kind });
            }
        }
        Err(EnvelopeError::NoRecipient)
    }

    fn open_root(
        &self,
        kind: RecipientKind,
        recipient: &Recipient,
        sealed: &[u8],
        secrets: &Secrets<'_>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, EnvelopeError> {
        let state = &self.header.state.0;
        Ok(match kind {
            RecipientKind::Local => {
                let (Some(tee), Some(quorum)) = (&secrets.local, secrets.quorum) else {
                    return Ok(None);
                };
                let inputs = recipient.tee_key_inputs.as_deref().unwrap_or_default();
                let place = place(kind, state, inputs.as_bytes());
                local_key(tee, quorum)?
                    .open(LOCAL_LABEL, &place, sealed)
                    .ok()
            }
            RecipientKind::OffChip => {
                let Some(quorum) = secrets.quorum else {
                    return Ok(None);
                };
                let place = place(kind, state, b"");
                off_chip_key(quorum)?
                    .open(OFF_CHIP_LABEL, &place, sealed)
                    .ok()
            }
            RecipientKind::Recovery => {
                let (Some(private), Some(public)) = (secrets.recovery, recipient.recovery_key)
                else {
                    return Ok(None);
                };
                let digest = sha256(&place(kind, state, &public.0));
                let opened = sealed.split_first_chunk::<32>().and_then(|(key, rest)| {
                    let sealed = DepositEnvelope::from_parts(key, rest.to_vec()).ok()?;
                    sealed.open(private, &recovery_context(&digest)).ok()
                });
                opened.map(|root| Zeroizing::new(root.expose_secret().to_vec()))
            }
        })
    }
}
