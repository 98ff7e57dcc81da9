//! Acceptance of a DPoP proof: size, framing and header, then the nonce's MAC,
//! then key and signature, claims, target, token, and last and atomically the
//! replay cache.

use jose::dpop::{DpopError, Expected, IatRule, Proof, VerifiedProof};
use jose::target_uri::TargetUri;
use thiserror::Error;

use crate::Enclave;
use crate::nonce::{NonceError, Role};
use crate::replay::ReplayError;
use crate::time::Now;

/// Why a proof was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Its nonce is not acceptable; answer with a fresh one.
    #[error(transparent)]
    Nonce(#[from] NonceError),
    /// It is not a valid proof for this request.
    #[error(transparent)]
    Proof(#[from] DpopError),
    /// It was used before, or no more can be remembered.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

impl Enclave {
    pub(crate) fn accept_proof(
        &self,
        values: &[&[u8]],
        role: Role,
        htm: &str,
        htu: &str,
        access_token: Option<(&str, jose::Thumbprint)>,
        now: &Now,
    ) -> Result<VerifiedProof, ProofError> {
        let proof = Proof::from_header_values(values.iter().copied())?;
        let step = self.nonces.check(role, proof.nonce(), now)?;
        let htu = TargetUri::parse(htu).map_err(|_| DpopError::HtuMalformed)?;
        let expected = Expected {
            htm,
            htu,
            access_token: access_token.as_ref().map(|(token, _)| *token),
            bound_jkt: access_token.as_ref().map(|(_, jkt)| *jkt),
            now_s: now.lo_s,
            iat: IatRule::WITH_NONCE,
        };
        let proof = proof.verify(&expected)?;
        self.replays.insert(step, proof.replay_id(), now)?;
        Ok(proof)
    }
}
