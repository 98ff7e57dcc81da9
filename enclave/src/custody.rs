//! Custody of a grant's refresh token: the token, how often it was exchanged,
//! and where its exchange with the provider stands.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;
use crate::record::RecordError;
use crate::refresh::Told;
use crate::secret::{DpopPrivateKey, RefreshToken};
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
    /// The provider answered with an id token of another user.
    AnotherUser,
}

impl Cause {
    /// The stable word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RefusedByProvider => "refused_by_provider",
            Self::LostInExchange => "lost_in_exchange",
            Self::AnotherUser => "another_user",
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

/// Whether the refresh token was elsewhere before it came here, so that a copy of it may still be of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// The provider gave it to this enclave, and whatever went before it is of no use.
    #[default]
    None,
    /// It was deposited, and is to be exchanged as soon as that can be.
    ToBeRotated,
    /// It was deposited, or stands for one that was and still works: the provider does not replace tokens, does not end
    /// those that it replaced, or was not to be asked.
    BeforeDeposit,
}

impl Exposure {
    /// Whether a copy outside may still be of use.
    #[must_use]
    pub fn is_exposed(self) -> bool {
        self != Self::None
    }

    /// What is left of it after an exchange that went well. `superseded` says that the provider gave another token, and
    /// that the one before it ends with that.
    pub(crate) fn exchanged(self, superseded: bool) -> Self {
        match self {
            Self::None => Self::None,
            Self::ToBeRotated | Self::BeforeDeposit if superseded => Self::None,
            Self::ToBeRotated | Self::BeforeDeposit => Self::BeforeDeposit,
        }
    }
}

/// What is known of a grant's refresh token without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custody {
    /// Whose grant it is.
    pub(crate) tenant: TenantId,
    /// Rises by one with each refresh token that the provider gave.
    pub refresh_generation: u64,
    /// When the provider gave it, or last let it serve, Unix time in seconds.
    pub refreshed_at_s: u64,
    /// Where its exchange stands.
    pub phase: Phase,
    /// What the provider made of the grant's revocation.
    pub told: Option<Told>,
    /// Whether the token was elsewhere before.
    pub exposure: Exposure,
    /// The whole record as it is stored, to be opened for use.
    pub(crate) sealed: Arc<[u8]>,
}

/// What a custody record says beside the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Rises by one with each refresh token that the provider gave.
    pub(crate) refresh_generation: u64,
    /// Where the exchange stands.
    pub(crate) phase: Phase,
    /// When the provider gave the token, or last let it serve.
    #[serde(default)]
    pub(crate) refreshed_at_s: u64,
    /// Who consented, once an id token said so: SHA-256 over issuer and subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject_sha256: Option<[u8; 32]>,
    /// What the provider made of the grant's revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) told: Option<Told>,
    /// Whether the token was elsewhere before.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) exposure: Exposure,
    /// How long the key is that stands before the token; [`encode`] sets it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) dpop_key_bytes: u16,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_none(exposure: &Exposure) -> bool {
    !exposure.is_exposed()
}

impl Head {
    /// Of a token that was just deposited.
    pub(crate) fn deposited(refresh_generation: u64, at_s: u64) -> Self {
        Self {
            refresh_generation,
            phase: Phase::Idle,
            refreshed_at_s: at_s,
            subject_sha256: None,
            told: None,
            exposure: Exposure::None,
            dpop_key_bytes: 0,
        }
    }

    /// Of a grant that came to its end.
    pub(crate) fn ended(refresh_generation: u64) -> Self {
        Self {
            phase: Phase::Revoked,
            ..Self::deposited(refresh_generation, 0)
        }
    }
}

/// Encodes the body of a custody record: the length of the head (u16), the
/// head, the bytes of the DPoP key if there is one, the token's bytes.
pub(crate) fn encode(
    mut head: Head,
    token: &RefreshToken,
    dpop_key: Option<&DpopPrivateKey>,
) -> Result<Zeroizing<Vec<u8>>, RecordError> {
    let key = dpop_key.map(DpopPrivateKey::expose).unwrap_or_default();
    head.dpop_key_bytes = u16::try_from(key.len()).map_err(|_| RecordError::Schema)?;
    let head = serde_json::to_vec(&head).map_err(|_| RecordError::Schema)?;
    let head_len = u16::try_from(head.len()).map_err(|_| RecordError::Schema)?;
    let parts = [&head_len.to_be_bytes()[..], &head, key, token.expose()];
    let capacity = parts.iter().map(|part| part.len()).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    for part in parts {
        body.extend_from_slice(part);
    }
    Ok(body)
}

/// Decodes the body of a custody record.
pub(crate) fn decode(
    body: &[u8],
) -> Result<(Head, RefreshToken, Option<DpopPrivateKey>), RecordError> {
    let (head, key, token) = parts(body)?;
    let key = (!key.is_empty()).then(|| DpopPrivateKey::new(key.to_vec()));
    Ok((head, RefreshToken::new(token.to_vec()), key))
}

/// What the body of a custody record says beside its secrets.
pub(crate) fn head(body: &[u8]) -> Result<Head, RecordError> {
    parts(body).map(|(head, _key, _token)| head)
}

/// The head, the key's bytes and the token's.
fn parts(body: &[u8]) -> Result<(Head, &[u8], &[u8]), RecordError> {
    let (len, rest) = body.split_first_chunk::<2>().ok_or(RecordError::Schema)?;
    let (head, rest) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*len)))
        .ok_or(RecordError::Schema)?;
    let head: Head = serde_json::from_slice(head).map_err(|_| RecordError::Schema)?;
    let (key, token) = rest
        .split_at_checked(usize::from(head.dpop_key_bytes))
        .ok_or(RecordError::Schema)?;
    Ok((head, key, token))
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
            for subject_sha256 in [None, Some([7; 32])] {
                let head = Head {
                    refresh_generation: 9,
                    phase,
                    refreshed_at_s: 5,
                    subject_sha256,
                    told: subject_sha256.map(|_| Told::Proved),
                    exposure: subject_sha256.map_or(Exposure::None, |_| Exposure::ToBeRotated),
                    dpop_key_bytes: 0,
                };
                for key in [None, Some(DpopPrivateKey::new(b"key".to_vec()))] {
                    let body = encode(head, &token, key.as_ref()).unwrap();
                    let (found, back, found_key) = decode(&body).unwrap();
                    assert_eq!(super::head(&body), Ok(found));
                    let dpop_key_bytes = if key.is_some() { 3 } else { 0 };
                    let expected = Head {
                        dpop_key_bytes,
                        ..head
                    };
                    assert_eq!((found, back.expose()), (expected, token.expose()));
                    let exposed = |key: &DpopPrivateKey| key.expose().to_vec();
                    assert_eq!(found_key.as_ref().map(exposed), key.as_ref().map(exposed));
                }
            }
        }
        // As it was written before there were times, subjects and exposures.
        let (found, _, _) =
            decode(b"\0\x2a{\"refresh_generation\":9,\"phase\":\"idle\"}    r").unwrap();
        assert_eq!(found, Head::deposited(9, 0));
        for bad in [&b""[..], b"\0", b"\0\x09{}", b"\0\x02{}r"] {
            assert_eq!(decode(bad).map(|_| ()), Err(RecordError::Schema), "{bad:?}");
        }
    }

    #[test]
    fn only_a_token_that_ends_the_one_before_it_ends_an_exposure() {
        use Exposure::{BeforeDeposit, None, ToBeRotated};
        for (before, superseded, after) in [
            (None, true, None),
            (None, false, None),
            (ToBeRotated, true, None),
            (ToBeRotated, false, BeforeDeposit),
            (BeforeDeposit, true, None),
            (BeforeDeposit, false, BeforeDeposit),
        ] {
            assert_eq!(before.exchanged(superseded), after, "{before:?}");
        }
    }
}
