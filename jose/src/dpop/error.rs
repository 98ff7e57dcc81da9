//! Why a DPoP proof is refused: one variant a rule, phrases without the peer's data.

use std::fmt;

use crate::{json::JsonError, jwk::JwkError, jws::JwsError};

/// A claim of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// `jti`
    Jti,
    /// `htm`
    Htm,
    /// `htu`
    Htu,
    /// `iat`
    Iat,
    /// `nonce`
    Nonce,
    /// `ath`
    Ath,
    /// `exp`
    Exp,
    /// `nbf`
    Nbf,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jti => "jti",
            Self::Htm => "htm",
            Self::Htu => "htu",
            Self::Iat => "iat",
            Self::Nonce => "nonce",
            Self::Ath => "ath",
            Self::Exp => "exp",
            Self::Nbf => "nbf",
        })
    }
}

/// Why a proof is refused. `Display` holds a fixed phrase, never what the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// There is no DPoP header [RFC 9449 §4.3 #1].
    #[error("DPoP proof is missing")]
    Missing,
    /// There is more than one DPoP header [RFC 9449 §4.3 #1].
    #[error("more than one DPoP proof")]
    Repeated,
    /// Longer than [`super::MAX_PROOF_BYTES`].
    #[error("DPoP proof too large")]
    TooLarge,
    /// The header value is not UTF-8.
    #[error("DPoP proof is not text")]
    NotText,
    /// Not a well-formed JWS, an algorithm that is not allowed, or a signature that does not verify
    /// [RFC 9449 §4.3, checks 2, 5 and 6].
    #[error("DPoP proof is no valid JWS")]
    Jws(#[source] JwsError),
    /// `typ` is not exactly `dpop+jwt` [RFC 9449 §4.3 #4].
    #[error("DPoP proof has the wrong typ")]
    Typ,
    /// The header has no `jwk` [RFC 9449 §4.3 #3].
    #[error("DPoP proof has no key")]
    JwkMissing,
    /// The header's `jwk` is no object.
    #[error("DPoP proof's key is no JWK")]
    JwkNotObject,
    /// The header's `jwk` is no acceptable public key [RFC 9449 §4.3 #7].
    #[error("DPoP proof's key is not acceptable")]
    Jwk(#[source] JwkError),
    /// The payload is no acceptable JSON object.
    #[error("DPoP proof has a malformed payload")]
    Payload(#[source] JsonError),
    /// A required claim is absent [RFC 9449 §4.3 #3].
    #[error("DPoP proof lacks the claim {0}")]
    ClaimMissing(Claim),
    /// A claim has the wrong type; times are integers.
    #[error("DPoP proof's claim {0} has the wrong type")]
    ClaimType(Claim),
    /// `jti` is empty or longer than [`super::MAX_JTI_BYTES`].
    #[error("DPoP proof's jti is empty or too long")]
    JtiLength,
    /// The rule for times needs a nonce, and the proof has none.
    #[error("DPoP proof needs a nonce")]
    NonceMissing,
    /// `iat` is too far in the past [RFC 9449 §4.3 #11].
    #[error("DPoP proof is too old")]
    TooOld {
        /// The proof's `iat`, seconds since 1970.
        iat_s: u64,
        /// The verifier's clock, seconds since 1970.
        now_s: u64,
    },
    /// `iat` is too far in the future [RFC 9449 §4.3 #11].
    #[error("DPoP proof is from the future")]
    FromFuture {
        /// The proof's `iat`, seconds since 1970.
        iat_s: u64,
        /// The verifier's clock, seconds since 1970.
        now_s: u64,
    },
    /// `exp` has passed [RFC 7519 §4.1.4].
    #[error("DPoP proof has expired")]
    Expired,
    /// `nbf` has not come [RFC 7519 §4.1.5].
    #[error("DPoP proof is not valid yet")]
    NotYetValid,
    /// `htm` is not the method [RFC 9449 §4.3 #8].
    #[error("DPoP proof is for another method")]
    HtmMismatch,
    /// `htu` is no plain absolute `http` or `https` URI.
    #[error("DPoP proof's htu is malformed")]
    HtuMalformed,
    /// `htu` is not the target [RFC 9449 §4.3 #9].
    #[error("DPoP proof is for another target")]
    HtuMismatch,
    /// `ath` is not that of the access token [RFC 9449 §4.3 #12].
    #[error("DPoP proof is for another access token")]
    AthMismatch,
    /// The key is not the one that the access token or grant is bound to [RFC 9449 §4.3 #12].
    #[error("DPoP proof is by another key")]
    KeyMismatch,
}
