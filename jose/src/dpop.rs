//! DPoP proofs [RFC 9449 §4]: make them, and check them in stages.
//!
//! ```text
//! header values ─ Proof::from_header_values ─▶ Proof ─ nonce() ─ the caller's MAC check
//!                                                └──── verify ─▶ VerifiedProof ─ replay_id() ─ the caller's cache, last
//! ```
//!
//! The order is size, framing, header, nonce, key and signature, claims, `htm` and `htu`, `ath` and
//! `jkt`, `jti`: the cheap before the dear, and nothing a stranger sends reaches the replay cache.

mod check;
mod error;
mod make;

pub use check::{Expected, IatRule, Proof, VerifiedProof};
pub use error::{Claim, DpopError};
pub use make::{ProofParams, random_jti};

use ring::digest;

use crate::base64url;

/// The `typ` of a proof, compared byte by byte [RFC 9449 §4.2].
pub const PROOF_TYP: &str = "dpop+jwt";

/// Longest proof that is read. A real one takes 550 bytes.
pub const MAX_PROOF_BYTES: usize = 4096;

/// Longest `jti` that is accepted; only a digest of it is ever kept [RFC 9449 §11.1].
pub const MAX_JTI_BYTES: usize = 256;

/// The hash that ties a proof to an access token: base64url of the SHA-256 of its ASCII text
/// [RFC 9449 §4.2].
pub fn ath(access_token: &str) -> String {
    base64url::encode(digest::digest(&digest::SHA256, access_token.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests;
