//! A client's DPoP proof for its provider: it is checked here before anything is presented, and judged there.
//!
//! A confidential client's refresh token is not bound to a key [RFC 9449 §5], so the exchange may carry the proof of
//! whoever the new access token is for. What is wrong with the proof is found before the refresh token leaves: its
//! form, its key, its target, its time, its nonce, and whether it was relayed before.

use jose::Thumbprint;
use jose::dpop::{DpopError, Expected, IatRule, Proof};
use jose::target_uri::TargetUri;
use thiserror::Error;

use crate::Enclave;
use crate::http_url::HttpUrl;
use crate::nonce::Step;
use crate::replay::ReplayError;
use crate::time::Now;
use crate::upstream_dpop::ServerKind;

/// A proof that may go on to the provider, once. Only the enclave's check makes one:
///
/// ```compile_fail
/// fn forge(proof: String, jkt: String) -> enclave::relayed_proof::RelayedProof {
///     enclave::relayed_proof::RelayedProof { proof, jkt } // private
/// }
/// ```
pub struct RelayedProof {
    proof: String,
    jkt: String,
}

impl RelayedProof {
    /// The proof, as it came.
    pub(crate) fn proof(&self) -> &str {
        &self.proof
    }

    /// The thumbprint of the key that made it.
    pub(crate) fn jkt(&self) -> &str {
        &self.jkt
    }

    /// One that nobody checked.
    #[cfg(test)]
    pub(crate) fn unchecked(proof: &str, jkt: &str) -> Self {
        Self {
            proof: proof.to_owned(),
            jkt: jkt.to_owned(),
        }
    }
}

impl std::fmt::Debug for RelayedProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayedProof([redacted], {})", self.jkt)
    }
}

/// Why a proof does not go on to the provider.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RelayedProofError {
    /// It is not a valid proof for the provider's token endpoint by the caller's key.
    #[error(transparent)]
    Proof(#[from] DpopError),
    /// It names an access token: it is one for an API.
    #[error("the proof has ath: it is one for an API, not for a token endpoint")]
    Ath,
    /// It does not carry the newest nonce that the provider gave.
    #[error("the proof does not have the provider's newest nonce")]
    Nonce {
        /// The newest.
        newest: String,
    },
    /// It was relayed before, or no more can be remembered.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Where a proof for a token endpoint is to be used, as it names it: without query [RFC 9449 §4.2].
pub(crate) fn htu_of(endpoint: &HttpUrl) -> &str {
    let url = endpoint.as_str();
    url.split(['?', '#']).next().unwrap_or(url)
}

impl Enclave {
    /// Checks a proof by the key `bound` for a provider's token endpoint, and remembers it.
    pub(crate) fn accept_relayed(
        &self,
        proof: &[u8],
        bound: Thumbprint,
        endpoint: &HttpUrl,
        now: &Now,
    ) -> Result<RelayedProof, RelayedProofError> {
        let htu = TargetUri::parse(endpoint.as_str()).map_err(|_| DpopError::HtuMalformed)?;
        let expected = Expected {
            htm: "POST",
            htu,
            access_token: None,
            bound_jkt: Some(bound),
            now_s: now.lo_s,
            // The nonce is not one of ours: whether it is fresh we can't know.
            iat: IatRule::WITHOUT_NONCE,
        };
        let verified = Proof::from_header_values([proof])?.verify(&expected)?;
        if verified.has_ath() {
            return Err(RelayedProofError::Ath);
        }
        let newest = self
            .server_nonces
            .newest(ServerKind::Authorization, endpoint);
        if let Some(newest) = newest.filter(|newest| verified.nonce() != Some(newest)) {
            return Err(RelayedProofError::Nonce { newest });
        }
        // It is fresh for 70 s at most, and remembered for five steps of a minute at least.
        self.relayed
            .insert(Step::of(now), verified.replay_id(), now)?;
        let proof = std::str::from_utf8(proof).map_err(|_| DpopError::NotText)?;
        Ok(RelayedProof {
            proof: proof.to_owned(),
            jkt: verified.jkt().to_string(),
        })
    }
}
