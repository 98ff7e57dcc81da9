//! What a client learns when it does not get a provider's own token.

use std::time::Duration;

use enclave::policy::Denied;
use enclave::refresh::RefreshError;
use enclave::replay::ReplayError;
use enclave::upstream_bound::{UpstreamBoundError, UpstreamChallenge};
use tonic::Code;

use super::{Refusal, proof_clocks};

impl Refusal {
    fn challenge(reason: &'static str, message: &str, challenge: &UpstreamChallenge) -> Self {
        Self {
            upstream: Some(Box::new(challenge.clone())),
            ..Self::new(Code::Unauthenticated, reason, message)
        }
    }
}

impl From<&UpstreamBoundError> for Refusal {
    fn from(error: &UpstreamBoundError) -> Self {
        let invalid =
            |message: String| Self::new(Code::Unauthenticated, "INVALID_UPSTREAM_PROOF", message);
        match error {
            UpstreamBoundError::Issue(error) => error.into(),
            UpstreamBoundError::Binding => Self::argument(
                "binding",
                "a provider's token is bound to the key of a DPoP proof",
            ),
            UpstreamBoundError::NotAllowed => Self::new(
                Code::PermissionDenied,
                "UPSTREAM_BOUND_NOT_ALLOWED",
                "the grant does not let the provider's own tokens out: ask its owner",
            )
            .oauth("access_denied"),
            UpstreamBoundError::Direct => {
                Self::argument("resource", "must be an API of the provider's, with this mode")
            }
            UpstreamBoundError::ProofRequired(challenge) => Self::challenge(
                "UPSTREAM_PROOF_REQUIRED",
                "make a proof for the provider as the metadata upstream-htu and upstream-dpop-nonce say, and send it as upstream_proof",
                challenge,
            ),
            UpstreamBoundError::Nonce(challenge) => Self::challenge(
                "UPSTREAM_DPOP_NONCE_REQUIRED",
                "make a new proof for the provider with the nonce in the metadata upstream-dpop-nonce",
                challenge,
            ),
            UpstreamBoundError::Proof(error) => {
                invalid(format!("the proof for the provider is not valid: {error}"))
                    .clocks(proof_clocks(error))
            }
            UpstreamBoundError::Ath => invalid(
                "the proof for the provider has ath: it is for a token endpoint, where there is none".to_owned(),
            ),
            UpstreamBoundError::Replay(ReplayError::Replayed) => invalid(
                "the proof for the provider was used before: make a new one for each request"
                    .to_owned(),
            ),
            UpstreamBoundError::Replay(ReplayError::Full) => Self::new(
                Code::ResourceExhausted,
                "TOO_MANY_PROOFS",
                "too many requests in this time span",
            )
            .retry(Duration::from_secs(60)),
            UpstreamBoundError::Refresh(error) => error.into(),
        }
    }
}

impl From<&RefreshError> for Refusal {
    fn from(error: &RefreshError) -> Self {
        let after = |seconds: &u64| Duration::from_secs(*seconds);
        let unavailable =
            |reason, message: &str| Self::new(Code::Unavailable, reason, message.to_owned());
        match error {
            RefreshError::NoSuchGrant => (&Denied::NoSuchGrant).into(),
            RefreshError::Frozen { subject } => (&Denied::Frozen {
                subject: subject.clone(),
            })
                .into(),
            RefreshError::NotWitnessed => (&Denied::NotWitnessed).into(),
            RefreshError::Revoked => (&Denied::Revoked).into(),
            RefreshError::NeedsConsent { cause } => (&Denied::NeedsConsent { cause: *cause }).into(),
            RefreshError::ProviderUnreachable => unavailable(
                "PROVIDER_UNREACHABLE",
                "the provider can't be reached; it has not seen the request",
            )
            .retry(Duration::from_secs(1)),
            RefreshError::ProviderUnclear => unavailable(
                "PROVIDER_UNCLEAR",
                "the provider gave no usable answer; the next request tries again",
            )
            .retry(Duration::from_secs(1)),
            RefreshError::ProviderRefused { code } => Self::new(
                Code::FailedPrecondition,
                "PROVIDER_REFUSED",
                format!("the provider refused the exchange: {code}"),
            ),
            RefreshError::RefusedWithProof => Self::new(
                Code::FailedPrecondition,
                "PROVIDER_REFUSED",
                "the provider refused the exchange with this proof; the grant itself is not lost",
            ),
            // `Sought::refused` says what the proof must carry.
            RefreshError::ProofNonce { .. } => Self::new(
                Code::Unauthenticated,
                "UPSTREAM_DPOP_NONCE_REQUIRED",
                "the provider wants another nonce in the proof",
            ),
            RefreshError::TooManyKeys { retry_after_s } => Self::new(
                Code::ResourceExhausted,
                "UPSTREAM_TOO_MANY_KEYS",
                "as many keys have the provider's tokens of this grant as may: use one of them, or wait until a token ends",
            )
            .retry(after(retry_after_s)),
            RefreshError::Quiet { retry_after_s } => unavailable(
                "PROVIDER_QUIET_TIME",
                "an earlier exchange of this grant got no answer and may still be under way",
            )
            .retry(after(retry_after_s)),
            RefreshError::ProviderPaused { retry_after_s } => unavailable(
                "PROVIDER_PAUSED",
                "the provider failed repeatedly and is left alone for a while",
            )
            .retry(after(retry_after_s)),
            RefreshError::RateLimited { retry_after_s } => Self::new(
                Code::ResourceExhausted,
                "PROVIDER_RATE_LIMITED",
                "the rate of exchanges is limited",
            )
            .retry(after(retry_after_s)),
            RefreshError::Limit(limit) => limit.into(),
            RefreshError::UnusableToken(_) => Self::new(
                Code::FailedPrecondition,
                "PROVIDER_TOKEN_REFUSED",
                "the provider's access token is of no use: it is not bound to the key, or can do more than was asked for",
            ),
            RefreshError::Store(error) => error.into(),
            RefreshError::Record(_) => Self::internal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enclave::custody::Cause;
    use enclave::freeze::Subject;
    use enclave::ids::GrantId;
    use enclave::issue::IssueError;
    use enclave::record::RecordError;
    use enclave::store::StoreError;
    use jose::dpop::DpopError;
    use tonic_types::StatusExt;

    fn challenge(nonce: Option<&str>) -> Box<UpstreamChallenge> {
        Box::new(UpstreamChallenge {
            htu: "https://op.example/token".to_owned(),
            nonce: nonce.map(ToOwned::to_owned),
        })
    }

    #[test]
    fn each_error_has_its_code_and_reason() {
        use UpstreamBoundError as Error;
        let subject = Subject::Grant(GrantId::parse("g").unwrap());
        let cause = Cause::LostInExchange;
        let retry_after_s = 7;
        let rows = [
            (
                Error::Issue(IssueError::NothingToBindTo),
                Code::InvalidArgument,
                "INVALID_REQUEST",
            ),
            (Error::Binding, Code::InvalidArgument, "INVALID_REQUEST"),
            (
                Error::NotAllowed,
                Code::PermissionDenied,
                "UPSTREAM_BOUND_NOT_ALLOWED",
            ),
            (Error::Direct, Code::InvalidArgument, "INVALID_REQUEST"),
            (
                Error::ProofRequired(challenge(None)),
                Code::Unauthenticated,
                "UPSTREAM_PROOF_REQUIRED",
            ),
            (
                Error::Nonce(challenge(Some("n"))),
                Code::Unauthenticated,
                "UPSTREAM_DPOP_NONCE_REQUIRED",
            ),
            (
                Error::Proof(DpopError::Missing),
                Code::Unauthenticated,
                "INVALID_UPSTREAM_PROOF",
            ),
            (Error::Ath, Code::Unauthenticated, "INVALID_UPSTREAM_PROOF"),
            (
                Error::Replay(ReplayError::Replayed),
                Code::Unauthenticated,
                "INVALID_UPSTREAM_PROOF",
            ),
            (
                Error::Replay(ReplayError::Full),
                Code::ResourceExhausted,
                "TOO_MANY_PROOFS",
            ),
            (
                Error::Refresh(RefreshError::NoSuchGrant),
                Code::NotFound,
                "GRANT_NOT_FOUND",
            ),
            (
                Error::Refresh(RefreshError::Frozen { subject }),
                Code::FailedPrecondition,
                "FROZEN",
            ),
            (
                Error::Refresh(RefreshError::NotWitnessed),
                Code::Unavailable,
                "NOT_WITNESSED",
            ),
            (
                Error::Refresh(RefreshError::Revoked),
                Code::FailedPrecondition,
                "GRANT_REVOKED",
            ),
            (
                Error::Refresh(RefreshError::NeedsConsent { cause }),
                Code::FailedPrecondition,
                "NEEDS_CONSENT",
            ),
            (
                Error::Refresh(RefreshError::ProviderUnreachable),
                Code::Unavailable,
                "PROVIDER_UNREACHABLE",
            ),
            (
                Error::Refresh(RefreshError::ProviderUnclear),
                Code::Unavailable,
                "PROVIDER_UNCLEAR",
            ),
            (
                Error::Refresh(RefreshError::ProviderRefused {
                    code: "invalid_client",
                }),
                Code::FailedPrecondition,
                "PROVIDER_REFUSED",
            ),
            (
                Error::Refresh(RefreshError::RefusedWithProof),
                Code::FailedPrecondition,
                "PROVIDER_REFUSED",
            ),
            (
                Error::Refresh(RefreshError::ProofNonce {
                    newest: "n".to_owned(),
                }),
                Code::Unauthenticated,
                "UPSTREAM_DPOP_NONCE_REQUIRED",
            ),
            (
                Error::Refresh(RefreshError::TooManyKeys { retry_after_s }),
                Code::ResourceExhausted,
                "UPSTREAM_TOO_MANY_KEYS",
            ),
            (
                Error::Refresh(RefreshError::Quiet { retry_after_s }),
                Code::Unavailable,
                "PROVIDER_QUIET_TIME",
            ),
            (
                Error::Refresh(RefreshError::ProviderPaused { retry_after_s }),
                Code::Unavailable,
                "PROVIDER_PAUSED",
            ),
            (
                Error::Refresh(RefreshError::RateLimited { retry_after_s }),
                Code::ResourceExhausted,
                "PROVIDER_RATE_LIMITED",
            ),
            (
                Error::Refresh(RefreshError::UnusableToken("why")),
                Code::FailedPrecondition,
                "PROVIDER_TOKEN_REFUSED",
            ),
            (
                Error::Refresh(RefreshError::Store(StoreError::Full)),
                Code::Unavailable,
                "STORE_UNAVAILABLE",
            ),
            (
                Error::Refresh(RefreshError::Record(RecordError::Schema)),
                Code::Internal,
                "INTERNAL",
            ),
        ];
        for (error, code, reason) in rows {
            let refusal = Refusal::from(&error);
            assert_eq!((refusal.code, refusal.reason), (code, reason), "{error:?}");
            let waits = matches!(
                error,
                Error::Refresh(
                    RefreshError::TooManyKeys { .. }
                        | RefreshError::Quiet { .. }
                        | RefreshError::ProviderPaused { .. }
                        | RefreshError::RateLimited { .. }
                )
            );
            if waits {
                assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)));
            }
        }
    }

    #[test]
    fn a_challenge_says_what_the_proof_must_carry() {
        let told = |error: UpstreamBoundError| {
            let info = Refusal::from(&error).status().get_details_error_info();
            let mut told: Vec<_> = info.unwrap().metadata.into_iter().collect();
            told.sort();
            told
        };
        let htu = (
            "upstream_htu".to_owned(),
            "https://op.example/token".to_owned(),
        );
        let nonce = ("upstream_dpop_nonce".to_owned(), "n-1".to_owned());
        let required = told(UpstreamBoundError::ProofRequired(challenge(None)));
        assert_eq!(required, std::slice::from_ref(&htu));
        let newest = told(UpstreamBoundError::Nonce(challenge(Some("n-1"))));
        assert_eq!(newest, [nonce, htu]);
    }

    #[test]
    fn a_proof_of_another_time_is_told_both_clocks() {
        let error = DpopError::TooOld { iat_s: 1, now_s: 2 };
        let refusal = Refusal::from(&UpstreamBoundError::Proof(error));
        let clocks = refusal.clocks.unwrap();
        assert_eq!((clocks.claimed_s, clocks.server_s), (1, 2));
    }
}
