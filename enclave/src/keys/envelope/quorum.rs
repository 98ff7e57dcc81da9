//! The quorum's secret, and its pieces: one a keyholder, sealed under the share that the keyholder releases.

use attestation::secret_sharing::{self, Share, SharingError};
use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::header::{Custody, Hex, Holder};
use super::{EnvelopeError, FORMAT};
use crate::seal::{SealError, SealingKey, derive, length_prefixed};

const PIECE_LABEL: &[u8] = b"tokenkeep/envelope/piece/v2";

/// What a quorum of keyholders gives back.
pub struct QuorumSecret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for QuorumSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QuorumSecret([redacted])")
    }
}

impl QuorumSecret {
    /// A new random secret.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, SealError> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill(secret.as_mut()).map_err(|_| SealError::Failed)?;
        Ok(Self(secret))
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A keyholder that enrolled: what it is, and the share that it released.
pub struct NewHolder {
    /// Its name in the manifest.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// Its public key.
    pub key: [u8; 32],
    /// The id of its share.
    pub share: [u8; 16],
    /// The share.
    pub secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for NewHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewHolder({}, [redacted])", self.name)
    }
}

fn piece_key(share: &[u8; 32]) -> Result<SealingKey, SealError> {
    Ok(SealingKey::new(derive(share, b"", PIECE_LABEL)?))
}

fn place(state: &[u8; 16], key: &[u8; 32], share: &[u8; 16], index: u8) -> Vec<u8> {
    length_prefixed(&[FORMAT.as_bytes(), state, key, share, &[index]])
}

/// Splits the secret among keyholders, each one's piece sealed under its share.
///
/// # Errors
/// [`EnvelopeError::Quorum`], or [`EnvelopeError::Seal`] without randomness.
pub fn share_out(
    secret: &QuorumSecret,
    state: &[u8; 16],
    quorum: usize,
    holders: &[NewHolder],
    rng: &dyn SecureRandom,
) -> Result<Custody, EnvelopeError> {
    let pieces = secret_sharing::split(secret.expose(), quorum, holders.len(), rng);
    let pieces = pieces.map_err(|error| match error {
        SharingError::Random => EnvelopeError::Seal(SealError::Failed),
        SharingError::Threshold { .. }
        | SharingError::Index
        | SharingError::Twice { .. }
        | SharingError::Empty => EnvelopeError::Quorum {
            quorum,
            holders: holders.len(),
        },
    })?;
    let holders = holders.iter().zip(&pieces).map(|(holder, piece)| {
        let index = piece.index();
        let place = place(state, &holder.key, &holder.share, index);
        let key = piece_key(&holder.secret)?;
        let sealed = key.seal(rng, PIECE_LABEL, &place, piece.expose())?;
        Ok(Holder {
            name: holder.name.clone(),
            url: holder.url.clone(),
            key: Hex(holder.key),
            share: Hex(holder.share),
            index,
            sealed_piece: Base64UrlUnpadded::encode_string(&sealed),
        })
    });
    Ok(Custody {
        quorum,
        holders: holders.collect::<Result<_, EnvelopeError>>()?,
    })
}

/// The secret, from the shares that keyholders released, each by its keyholder's place in the list.
///
/// # Errors
/// [`EnvelopeError::WrongShare`], [`EnvelopeError::TooFewShares`]; [`EnvelopeError::Unreadable`] for pieces that are
/// none.
pub fn gather(
    custody: &Custody,
    state: &[u8; 16],
    released: &[(usize, Zeroizing<[u8; 32]>)],
) -> Result<QuorumSecret, EnvelopeError> {
    let Custody { quorum, holders } = custody;
    let mut pieces: Vec<Share> = Vec::new();
    for (at, secret) in released {
        let holder = holders.get(*at).ok_or(EnvelopeError::Unreadable)?;
        let sealed = Base64UrlUnpadded::decode_vec(&holder.sealed_piece)
            .map_err(|_| EnvelopeError::Unreadable)?;
        let place = place(state, &holder.key.0, &holder.share.0, holder.index);
        let opened = piece_key(secret)?.open(PIECE_LABEL, &place, &sealed);
        let opened = opened.map_err(|_| EnvelopeError::WrongShare {
            holder: holder.name.clone(),
        })?;
        let piece = Share::new(holder.index, super::key_of(&opened)?);
        let piece = piece.map_err(|_| EnvelopeError::Unreadable)?;
        if pieces.iter().any(|other| other.index() == piece.index()) {
            continue;
        }
        pieces.push(piece);
        if pieces.len() == *quorum {
            break;
        }
    }
    if pieces.len() < *quorum {
        return Err(EnvelopeError::TooFewShares {
            found: pieces.len(),
            needed: *quorum,
        });
    }
    let secret = secret_sharing::combine(&pieces).map_err(|_| EnvelopeError::Unreadable)?;
    Ok(QuorumSecret(secret))
}
