//! What a proof for a grant's provider must carry, as a refusal of the service says.

use jose::target_uri::TargetUri;

use crate::rpc_error::RpcError;

/// The reasons that say it: there was no proof, or its nonce is not the newest.
const REASONS: [&str; 2] = ["UPSTREAM_PROOF_REQUIRED", "UPSTREAM_DPOP_NONCE_REQUIRED"];

const UPSTREAM_HTU: &str = "upstream_htu";
const UPSTREAM_DPOP_NONCE: &str = "upstream_dpop_nonce";

/// Where the proof is to be used, and the nonce for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamChallenge {
    pub(crate) htu: String,
    pub(crate) nonce: Option<String>,
}

impl UpstreamChallenge {
    /// What a refusal says. None if it says nothing of the kind, or asks for a proof for the service itself, whose
    /// method `own_htu` is.
    pub(crate) fn told_by(refusal: &RpcError, own_htu: &str) -> Option<Self> {
        if !REASONS.contains(&refusal.reason()?) {
            return None;
        }
        let detail = |name| {
            let mut details = refusal.details().iter();
            let (_, value) = details.find(|(found, _)| found == name)?;
            Some(value.clone())
        };
        let htu = detail(UPSTREAM_HTU)?;
        let target = TargetUri::parse(&htu).ok()?;
        if TargetUri::parse(own_htu).ok()? == target {
            return None;
        }
        let nonce = detail(UPSTREAM_DPOP_NONCE);
        Some(Self { htu, nonce })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc_error::ERROR_DOMAIN;
    use std::collections::HashMap;
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    const OWN: &str = "https://keep.example/tokenkeep.v1.TokenService/IssueToken";

    fn told(reason: &str, details: &[(&str, &str)]) -> Option<UpstreamChallenge> {
        let details = details
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let details: HashMap<String, String> = details.collect();
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, details);
        let status = Status::with_error_details(Code::Unauthenticated, "no", details);
        UpstreamChallenge::told_by(&RpcError::from(status), OWN)
    }

    #[test]
    fn a_challenge_names_a_target_and_perhaps_a_nonce() {
        let htu = "https://op.example/token";
        let challenge = |nonce: Option<&str>| {
            Some(UpstreamChallenge {
                htu: htu.to_owned(),
                nonce: nonce.map(str::to_owned),
            })
        };
        let (at, nonce) = ((UPSTREAM_HTU, htu), (UPSTREAM_DPOP_NONCE, "n-1"));
        assert_eq!(told(REASONS[0], &[at]), challenge(None));
        assert_eq!(told(REASONS[1], &[at, nonce]), challenge(Some("n-1")));
    }

    #[test]
    fn a_proof_is_made_for_no_other_reason_and_never_for_the_service_itself() {
        let at = |htu| (UPSTREAM_HTU, htu);
        let rows = [
            ("USE_DPOP_NONCE", vec![at("https://op.example/token")]),
            (REASONS[0], vec![]),
            (REASONS[0], vec![at("no URL")]),
            (REASONS[0], vec![at(OWN)]),
            (
                REASONS[0],
                vec![at(
                    "HTTPS://KEEP.EXAMPLE:443/tokenkeep.v1.TokenService/IssueToken?q",
                )],
            ),
        ];
        for (reason, details) in rows {
            assert_eq!(told(reason, &details), None, "{reason} {details:?}");
        }
    }
}
