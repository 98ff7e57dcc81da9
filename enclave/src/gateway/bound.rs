//! Calls with an access token that is bound to the enclave's own key: the proof towards the API, and its nonces.

use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::Admitted;
use crate::Enclave;
use crate::refresh::{BoundTo, UpstreamAccess};
use crate::seal::SealError;
use crate::time::Now;
use crate::upstream_dpop::{ProofFor, ServerKind};

/// The header with a server's nonce.
const DPOP_NONCE: &str = "dpop-nonce";

impl Enclave {
    /// The proof of a call, if its access token is bound to a key [RFC 9449 §7].
    pub(super) fn api_proof(
        &self,
        admitted: &Admitted,
        access: &UpstreamAccess,
        now: &Now,
    ) -> Result<Option<HeaderValue>, SealError> {
        let key = match &access.bound_to {
            BoundTo::Nothing => return Ok(None),
            BoundTo::OwnKey(key) => key,
            // It is for its client alone, who has the key.
            BoundTo::ClientKey(_) => return Err(SealError::Failed),
        };
        let url = format!("{}{}", admitted.base_url.origin(), admitted.path_and_query);
        let nonce = self
            .server_nonces
            .newest(ServerKind::Resource, &admitted.base_url);
        let token = std::str::from_utf8(access.token.expose()).map_err(|_| SealError::Failed)?;
        let request = ProofFor {
            method: admitted.method.as_str(),
            url: &url,
            nonce: nonce.as_deref(),
            access_token: Some(token),
        };
        let proof = key.proof(&request, now, &*self.rng)?;
        let proof = HeaderValue::try_from(proof).map_err(|_| SealError::Failed)?;
        Ok(Some(proof))
    }

    /// Takes in the nonce of an API's answer. True if the API refused the call for want of it: it has not acted on it,
    /// and another proof may pass [RFC 9449 §9].
    pub fn api_answered(
        &self,
        admitted: &Admitted,
        access: &UpstreamAccess,
        status: u16,
        headers: &HeaderMap,
    ) -> bool {
        if !matches!(access.bound_to, BoundTo::OwnKey(_)) {
            return false;
        }
        let mut nonces = headers.get_all(DPOP_NONCE).iter();
        // Of two none is the right one.
        let nonce = nonces.next().filter(|_| nonces.next().is_none());
        let Some(nonce) = nonce.and_then(|nonce| nonce.to_str().ok()) else {
            return false;
        };
        let kind = ServerKind::Resource;
        self.server_nonces.keep(kind, &admitted.base_url, nonce);
        let asks = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            text.contains("error=\"use_dpop_nonce\"")
        };
        status == 401 && headers.get_all(WWW_AUTHENTICATE).iter().any(asks)
    }
}
