//! What a caller of the gateway learns of an error: problem details [RFC 9457]
//! and the challenge of RFC 9449 §7.1.

use enclave::approvals::ASK_AGAIN_S;
use enclave::gateway::{AnswerError, GatewayError};
use enclave::limits::LimitError;
use enclave::operation::OperationError;
use enclave::policy::Denied;
use enclave::refresh::RefreshError;
use enclave::replay::ReplayError;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::{ANSWERED_BY, AnswerBody, CallError, full};
use crate::status;
use crate::upstream::UpstreamError;

/// The algorithms of proofs, for the challenge.
const ALGS: &str = "ES256 EdDSA";

/// What a caller learns.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    status: StatusCode,
    /// A stable word in upper snake case.
    reason: &'static str,
    /// The `error` of the challenge, for refused credentials.
    challenge: Option<&'static str>,
    detail: String,
    retry_after_s: Option<u64>,
    /// The approval that the call waits for or was denied.
    approval: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            challenge: None,
            detail: detail.into(),
            retry_after_s: None,
            approval: None,
        }
    }

    fn unauthorized(
        reason: &'static str,
        challenge: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            challenge: Some(challenge),
            ..Self::new(StatusCode::UNAUTHORIZED, reason, detail)
        }
    }

    fn of_approval(mut self, approval: &str) -> Self {
        self.approval = Some(approval.to_owned());
        self
    }

    fn retry(mut self, after_s: u64) -> Self {
        self.retry_after_s = Some(after_s);
        self
    }
}

/// The members of `application/problem+json`.
#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<&'a str>,
}

/// The answer to a call that was not forwarded. A challenge names the metadata of
/// the resource, if the path is one [RFC 9728 §5.1].
pub(super) fn answer(error: &CallError, metadata_url: Option<&str>) -> Response<AnswerBody> {
    let problem = problem(error);
    let body = Body {
        title: problem.status.canonical_reason().unwrap_or("Error"),
        status: problem.status.as_u16(),
        detail: &problem.detail,
        reason: problem.reason,
        approval: problem.approval.as_deref(),
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(full(body));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(ANSWERED_BY, HeaderValue::from_static("gateway"));
    if let Some(error) = problem.challenge {
        let mut challenge = if error.is_empty() {
            format!("DPoP algs=\"{ALGS}\"")
        } else {
            format!("DPoP error=\"{error}\", algs=\"{ALGS}\"")
        };
        if let Some(url) = metadata_url {
            challenge.push_str(&format!(", resource_metadata=\"{url}\""));
        }
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
    }
    if let Some(after_s) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, after_s.into());
    }
    response
}

/// The stable word for an error.
pub(super) fn reason(error: &CallError) -> &'static str {
    problem(error).reason
}

fn problem(error: &CallError) -> Problem {
    match error {
        CallError::Refused(error) => refused(error),
        CallError::Store(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "STORE_UNAVAILABLE",
            "the call could not be written down, so it was not forwarded",
        )
        .retry(1),
        CallError::Refresh(error) => refresh(error),
        CallError::Overloaded => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "OVERLOADED",
            "the gateway has more to do than it can: come back later",
        )
        .retry(1),
        CallError::Upstream(UpstreamError::NotSent { .. }) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "API_UNREACHABLE",
            "the API can't be reached; it has not seen the request",
        ),
        CallError::Upstream(UpstreamError::Ambiguous { .. }) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "API_NO_ANSWER",
            "the API gave no answer; it may have acted on the request",
        ),
        CallError::Challenged => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "API_NONCE_CHANGED",
            "the API wants its newest nonce, which came with its refusal; it has not acted on the request: send it again",
        )
        .retry(0),
        CallError::Answer(AnswerError::Echoed(_)) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "API_ECHOED_CREDENTIAL",
            "the API's answer repeats the credential that it was called with, so it was not passed on; the API has acted on the request",
        ),
        CallError::Answer(AnswerError::Encoded) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "API_ANSWER_ENCODED",
            "the API's answer has a content encoding that was not asked for, so it could not be searched and was not passed on; the API has acted on the request",
        ),
        CallError::Authority => Problem::new(
            StatusCode::BAD_REQUEST,
            "INVALID_AUTHORITY",
            "the request must name one host, and the same wherever it names it",
        ),
        CallError::Framing => Problem::new(
            StatusCode::BAD_REQUEST,
            "INVALID_FRAMING",
            "a request has Content-Length or Transfer-Encoding, not both",
        ),
        CallError::Malformed => Problem::new(
            StatusCode::BAD_REQUEST,
            "INVALID_REQUEST",
            "the request can't be forwarded as it is",
        ),
    }
}

fn refused(error: &GatewayError) -> Problem {
    match error {
        GatewayError::Method => Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            error.to_string(),
        ),
        GatewayError::Path(path) => {
            Problem::new(StatusCode::BAD_REQUEST, "INVALID_PATH", path.to_string())
        }
        // No credentials at all: the challenge has no error [RFC 6750 §3.1].
        GatewayError::Authorization => {
            Problem::unauthorized("NO_CREDENTIALS", "", error.to_string())
        }
        GatewayError::Token(_) => Problem::unauthorized(
            "INVALID_TOKEN",
            "invalid_token",
            "the token is not valid here: ask for one for this resource",
        ),
        GatewayError::Nonce(_) => Problem::unauthorized(
            "USE_DPOP_NONCE",
            "use_dpop_nonce",
            "make a new proof with the nonce in the header DPoP-Nonce",
        ),
        GatewayError::Proof(error) => Problem::unauthorized(
            "INVALID_DPOP_PROOF",
            "invalid_dpop_proof",
            format!("the DPoP proof is not valid: {error}"),
        ),
        GatewayError::Replay(ReplayError::Replayed) => Problem::unauthorized(
            "INVALID_DPOP_PROOF",
            "invalid_dpop_proof",
            "the DPoP proof was used before: make a new one for each request",
        ),
        GatewayError::Replay(ReplayError::Full) => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TOO_MANY_PROOFS",
            "too many requests in this time span",
        )
        .retry(60),
        GatewayError::Operation(error) => operation(error),
        GatewayError::Rate(exceeded) => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "RATE_LIMITED",
            "the client calls too often",
        )
        .retry(exceeded.retry_after_ms.div_ceil(1_000)),
        GatewayError::Actor(error) => Problem::new(
            StatusCode::FORBIDDEN,
            status::actor::NOT_ALLOWED,
            status::actor::not_allowed(error),
        ),
        GatewayError::Limit(limit) => limited(limit),
        GatewayError::Denied(denied) => denied_problem(denied),
        GatewayError::Internal(_) => internal(),
    }
}

fn limited(limit: &LimitError) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        status::limits::reason(limit),
        status::limits::message(limit),
    )
    .retry(limit.retry_after_ms().div_ceil(1_000))
}

fn operation(error: &OperationError) -> Problem {
    let (status, reason) = match error {
        OperationError::Unknown | OperationError::NotGranted(_) => {
            (StatusCode::FORBIDDEN, "OPERATION_NOT_ALLOWED")
        }
        OperationError::Query(_) => (StatusCode::FORBIDDEN, "QUERY_NOT_ALLOWED"),
        OperationError::ContentType(_) => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "CONTENT_TYPE_NOT_ALLOWED",
        ),
        OperationError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE"),
    };
    Problem::new(status, reason, error.to_string())
}

fn denied_problem(denied: &Denied) -> Problem {
    match denied {
        Denied::NoSuchGrant | Denied::Resource | Denied::Scope => Problem::unauthorized(
            "INVALID_TOKEN",
            "invalid_token",
            "the grant does not allow this any more",
        ),
        Denied::Frozen { .. } => Problem::new(
            StatusCode::FORBIDDEN,
            "FROZEN",
            "stopped by an administrator: ask the owner of the grant",
        ),
        Denied::NotWitnessed => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "NOT_WITNESSED",
            "too few witnesses vouch for the service's state at the moment",
        )
        .retry(5),
        Denied::Revoked => Problem::new(
            StatusCode::FORBIDDEN,
            "GRANT_REVOKED",
            "the grant's owner revoked it: a new consent is needed",
        ),
        Denied::Policy { decision } => Problem::new(
            StatusCode::FORBIDDEN,
            "POLICY_DENIED",
            format!(
                "the tenant's policy does not allow this: ask the owner of the grant about decision {decision}"
            ),
        ),
        Denied::PolicyUnusable { decision } => Problem::new(
            StatusCode::FORBIDDEN,
            "POLICY_UNUSABLE",
            format!(
                "the tenant's policy does not fit this version: its owner must set it anew (decision {decision})"
            ),
        ),
        Denied::PolicyChanged => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "POLICY_CHANGED",
            "the tenant's policy changed meanwhile: ask again",
        )
        .retry(1),
        Denied::ApprovalRequired { approval } => Problem::new(
            StatusCode::FORBIDDEN,
            "APPROVAL_REQUIRED",
            status::approval::required(approval),
        )
        .retry(ASK_AGAIN_S)
        .of_approval(approval),
        Denied::ApprovalDenied { approval } => Problem::new(
            StatusCode::FORBIDDEN,
            "APPROVAL_DENIED",
            status::approval::denied(approval),
        )
        .of_approval(approval),
        Denied::TooManyApprovals => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TOO_MANY_APPROVALS",
            status::approval::TOO_MANY,
        )
        .retry(60),
        Denied::Asleep => Problem::new(StatusCode::FORBIDDEN, "GRANT_ASLEEP", status::life::ASLEEP),
        Denied::Expired => Problem::new(
            StatusCode::FORBIDDEN,
            "GRANT_EXPIRED",
            "the grant has come to the end that its owner set: a new consent is needed",
        ),
        Denied::NeedsConsent { cause } => needs_consent(cause.word()),
    }
}

fn needs_consent(cause: &str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "NEEDS_CONSENT",
        format!("the grant's owner must consent again (cause: {cause})"),
    )
}

fn internal() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "the service failed; its log says why",
    )
}

/// The stable reason for an exchange that gave nothing.
pub(crate) fn reason_of_refresh(error: &RefreshError) -> &'static str {
    refresh(error).reason
}

fn refresh(error: &RefreshError) -> Problem {
    let gateway = |reason, detail: &str| Problem::new(StatusCode::BAD_GATEWAY, reason, detail);
    match error {
        RefreshError::NoSuchGrant => denied_problem(&Denied::NoSuchGrant),
        RefreshError::Frozen { subject } => denied_problem(&Denied::Frozen {
            subject: subject.clone(),
        }),
        RefreshError::NotWitnessed => denied_problem(&Denied::NotWitnessed),
        RefreshError::Revoked => denied_problem(&Denied::Revoked),
        RefreshError::NeedsConsent { cause } => needs_consent(cause.word()),
        RefreshError::ProviderUnreachable => {
            gateway("PROVIDER_UNREACHABLE", "the provider can't be reached").retry(1)
        }
        RefreshError::ProviderUnclear => gateway(
            "PROVIDER_UNCLEAR",
            "the provider gave no usable answer; the next call tries again",
        )
        .retry(1),
        RefreshError::ProviderRefused { code } => Problem::new(
            StatusCode::BAD_GATEWAY,
            "PROVIDER_REFUSED",
            format!("the provider refused to refresh: {code}"),
        ),
        RefreshError::Quiet { retry_after_s } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PROVIDER_QUIET_TIME",
            "an earlier refresh of this grant got no answer and may still be under way",
        )
        .retry(*retry_after_s),
        RefreshError::ProviderPaused { retry_after_s } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PROVIDER_PAUSED",
            "the provider failed repeatedly and is left alone for a while",
        )
        .retry(*retry_after_s),
        RefreshError::RateLimited { retry_after_s } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PROVIDER_RATE_LIMITED",
            "the rate of refreshes is limited",
        )
        .retry(*retry_after_s),
        RefreshError::Limit(limit) => limited(limit),
        RefreshError::RefusedWithProof => gateway(
            "PROVIDER_REFUSED",
            "the provider refused to refresh with a client's proof",
        ),
        // No call has a client's proof for the provider.
        RefreshError::ProofNonce { .. } => gateway(
            "UPSTREAM_DPOP_NONCE_REQUIRED",
            "the provider wants another nonce in a client's proof",
        ),
        RefreshError::TooManyKeys { retry_after_s } => gateway(
            "UPSTREAM_TOO_MANY_KEYS",
            "as many keys have the provider's tokens of this grant as may",
        )
        .retry(*retry_after_s),
        RefreshError::UnusableToken(_) => gateway(
            "PROVIDER_TOKEN_REFUSED",
            "the provider's access token is of no use",
        ),
        RefreshError::Store(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "STORE_UNAVAILABLE",
            "the refresh could not be made durable",
        )
        .retry(1),
        RefreshError::Record(_) => internal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enclave::gateway::TokenError;
    use enclave::nonce::NonceError;

    #[test]
    fn each_challenge_says_what_to_do_and_where_to_read() {
        let proof = GatewayError::Proof(jose::dpop::DpopError::HtuMismatch);
        let rows = [
            (GatewayError::Authorization, "DPoP algs=\"ES256 EdDSA\""),
            (
                GatewayError::Token(TokenError::Revoked),
                "DPoP error=\"invalid_token\", algs=\"ES256 EdDSA\"",
            ),
            (
                GatewayError::Nonce(NonceError::Missing),
                "DPoP error=\"use_dpop_nonce\", algs=\"ES256 EdDSA\"",
            ),
            (
                proof,
                "DPoP error=\"invalid_dpop_proof\", algs=\"ES256 EdDSA\"",
            ),
        ];
        for (error, expected) in rows {
            let error = CallError::Refused(error);
            let plain = answer(&error, None);
            assert_eq!(plain.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(plain.headers()[WWW_AUTHENTICATE], expected);
            let pointed = answer(&error, Some("https://g.test/m"));
            let expected = format!("{expected}, resource_metadata=\"https://g.test/m\"");
            assert_eq!(pointed.headers()[WWW_AUTHENTICATE], expected.as_str());
        }
        let other = answer(&CallError::Refused(GatewayError::Method), Some("x"));
        assert!(!other.headers().contains_key(WWW_AUTHENTICATE));
    }
}
