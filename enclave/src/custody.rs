//! Custody of a grant's refresh token: the token, how often it was exchanged,
//! and where its exchange with the provider stands.

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;
use crate::record::RecordError;
use crate::secret::RefreshToken;
use zeroize::Zeroizing;

/// Why a grant can't be used until its owner consents again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The provider said `invalid_grant` to a token that was surely current.
    RefusedByProvider,
    /// The process died, or the connection broke, between the provider's answer
    /// and its arrival here; the next try was refused.
    LostInExchange,
}

impl Cause {
    /// The stable word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RefusedByProvider => "refused_by_provider",
            Self::LostInExchange => "lost_in_exchange",
        }
    }
}

/// Where the exchange of a refresh token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The token is current and not in use.
    Idle,
    /// The token is about to be presented, or was, and no answer is recorded.
    Intent {
        /// How often this very token was presented before without a known end.
        attempt: u32,
    },
    /// The token was presented and what became of it is not known. It may be
    /// presented once more.
    Uncertain {
        /// How often it was presented.
        attempt: u32,
    },
    /// The token is lost or refused: the owner must consent again.
    NeedsConsent {
        /// Why.
        cause: Cause,
    },
    /// Its owner revoked the grant. The token is not here any more, and no other
    /// phase follows. It also stands for a grant that was deleted: the record stays,
    /// so that its generations never begin anew and no step of an exchange of the old
    /// grant fits a new one.
    Revoked,
}

/// What is known of a grant's refresh token without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custody {
    /// Whose grant it is.
    pub(crate) tenant: TenantId,
    /// Rises by one with each refresh token that the provider gave.
    pub refresh_generation: u64,
    /// Where its exchange stands.
    pub phase: Phase,
    /// The whole record as it is stored, to be opened for use.
    pub(crate) sealed: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    refresh_generation: u64,
    phase: Phase,
}

/// Encodes the body of a custody record: the length of the head (u16), the
/// head, the token's bytes.
pub(crate) fn encode(
    refresh_generation: u64,
    phase: Phase,
    token: &RefreshToken,
) -> Result<Zeroizing<Vec<u8>>, RecordError> {
    let head = Head {
        refresh_generation,
        phase,
    };
    let head = serde_json::to_vec(&head).map_err(|_| RecordError::Schema)?;
    let head_len = u16::try_from(head.len()).map_err(|_| RecordError::Schema)?;
    let capacity = head
        .len()
        .saturating_add(token.expose().len())
        .saturating_add(2);
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    body.extend_from_slice(&head_len.to_be_bytes());
    body.extend_from_slice(&head);
    body.extend_from_slice(token.expose());
    Ok(body)
}

/// Decodes the body of a custody record.
pub(crate) fn decode(body: &[u8]) -> Result<(u64, Phase, RefreshToken), RecordError> {
    let (len, rest) = body.split_first_chunk::<2>().ok_or(RecordError::Schema)?;
    let (head, token) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*len)))
        .ok_or(RecordError::Schema)?;
    let head: Head = serde_json::from_slice(head).map_err(|_| RecordError::Schema)?;
    let token = RefreshToken::new(token.to_vec());
    Ok((head.refresh_generation, head.phase, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_as_it_was() {
        let token = RefreshToken::new(b"r-1".to_vec());
        let phases = [
            Phase::Idle,
            Phase::Intent { attempt: 2 },
            Phase::Uncertain { attempt: 1 },
            Phase::NeedsConsent {
                cause: Cause::LostInExchange,
            },
            Phase::Revoked,
        ];
        for phase in phases {
            let body = encode(9, phase, &token).unwrap();
            let (generation, found, back) = decode(&body).unwrap();
            assert_eq!(
                (generation, found, back.expose()),
                (9, phase, token.expose())
            );
        }
        for bad in [&b""[..], b"\0", b"\0\x09{}", b"\0\x02{}r"] {
            assert_eq!(decode(bad).map(|_| ()), Err(RecordError::Schema), "{bad:?}");
        }
    }
}
