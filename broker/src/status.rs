//! The one map from errors to what a gRPC caller learns: a code, a stable
//! reason, a fixed phrase. The log gets the rest.

pub(crate) mod actor;
pub(crate) mod approval;
mod client;
mod connect;
mod event;
mod evidence_bundle;
pub(crate) mod life;
pub(crate) mod limits;
mod policy;
mod several;
mod upstream;

use std::collections::HashMap;
use std::time::Duration;

use enclave::admin::AdminError;
use enclave::introspect::IntrospectError;
use enclave::issue::IssueError;
use enclave::log::LogError;
use enclave::policy::Denied;
use enclave::rate::RateExceeded;
use enclave::replay::ReplayError;
use enclave::revoke::RevokeError;
use enclave::store::StoreError;
use enclave::upstream_bound::UpstreamChallenge;
use jose::dpop::DpopError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::evidence::EvidenceError;
use crate::log::LogReadError;

/// The domain of the reasons.
pub const DOMAIN: &str = "tokenkeep.v1";

/// What a caller learns of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason, upper snake case.
    pub reason: &'static str,
    /// The OAuth error code, where there is one.
    pub oauth_error: Option<&'static str>,
    /// What to tell a person.
    pub message: String,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// The field that is wrong, and the rule that it breaks.
    pub field: Option<Box<(&'static str, String)>>,
    /// Both clocks, where they differ by too much.
    pub clocks: Option<Clocks>,
    /// What a proof for the provider must carry, where one is needed.
    pub upstream: Option<Box<UpstreamChallenge>>,
}

/// What a caller's clock said and what ours says, Unix time in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The time in what the caller made.
    pub claimed_s: u64,
    /// Our time.
    pub server_s: u64,
}

impl Refusal {
    fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            oauth_error: None,
            message: message.into(),
            retry_after: None,
            field: None,
            clocks: None,
            upstream: None,
        }
    }

    fn clocks(mut self, clocks: Option<Clocks>) -> Self {
        self.clocks = clocks;
        self
    }

    fn oauth(mut self, error: &'static str) -> Self {
        self.oauth_error = Some(error);
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    fn field(mut self, field: &'static str, rule: impl Into<String>) -> Self {
        self.field = Some(Box::new((field, rule.into())));
        self
    }

    /// An argument that breaks a rule.
    pub fn argument(field: &'static str, rule: impl Into<String>) -> Self {
        let rule = rule.into();
        let message = format!("{field}: {rule}");
        Self::new(Code::InvalidArgument, "INVALID_REQUEST", message)
            .oauth("invalid_request")
            .field(field, rule)
    }

    /// Our own fault.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            Code::Internal,
            "INTERNAL",
            "the service failed; its log says why",
        )
    }

    /// A change that witnesses have not seen in time.
    #[must_use]
    pub fn not_cosigned() -> Self {
        Self::new(
            Code::Unavailable,
            "NOT_COSIGNED",
            "the change is durable and in force here, but too few witnesses have seen it: ask again until it is acknowledged",
        )
        .retry(Duration::from_secs(5))
    }

    /// One stream of leaves too many.
    #[must_use]
    pub fn too_many_tails() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "TOO_MANY_TAILS",
            "too many read the logs as they grow: try again, or list the leaves",
        )
        .retry(Duration::from_secs(10))
    }

    /// More requests are under way than may be.
    #[must_use]
    pub fn overloaded(after: Duration) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "OVERLOADED",
            "the service has more to do than it can: come back later",
        )
        .oauth("temporarily_unavailable")
        .retry(after)
    }

    /// A message over its bound.
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            "the message is larger than the service accepts",
        )
        .oauth("invalid_request")
    }

    /// A message that is not of its type.
    #[must_use]
    pub fn malformed() -> Self {
        Self::new(
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
            "the message does not decode as the method's request",
        )
        .oauth("invalid_request")
    }

    /// A method that is not there.
    #[must_use]
    pub fn unknown_method() -> Self {
        Self::new(
            Code::Unimplemented,
            "UNKNOWN_METHOD",
            "this version has no such method",
        )
    }

    /// A request that took too long.
    #[must_use]
    pub fn deadline() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the service did not finish the request in time",
        )
        .retry(Duration::from_secs(1))
    }

    /// The status for it, with its details.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut metadata = HashMap::new();
        if let Some(error) = self.oauth_error {
            metadata.insert("oauth_error".to_owned(), error.to_owned());
        }
        if let Some(Clocks {
            claimed_s,
            server_s,
        }) = self.clocks
        {
            metadata.insert("claimed_time_s".to_owned(), claimed_s.to_string());
            metadata.insert("server_time_s".to_owned(), server_s.to_string());
        }
        if let Some(upstream) = &self.upstream {
            metadata.insert("upstream_htu".to_owned(), upstream.htu.clone());
            let nonce = upstream.nonce.iter();
            let named = nonce.map(|nonce| ("upstream_dpop_nonce".to_owned(), nonce.clone()));
            metadata.extend(named);
        }
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, metadata);
        if let Some(after) = self.retry_after {
            details.set_retry_info(Some(after));
        }
        if let Some(violation) = &self.field {
            let (field, rule) = &**violation;
            details.add_bad_request_violation(*field, rule.clone());
        }
        Status::with_error_details(self.code, self.message.clone(), details)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.status()
    }
}

impl From<&RateExceeded> for Refusal {
    fn from(exceeded: &RateExceeded) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "RATE_LIMITED",
            "the client asks too often",
        )
        .oauth("slow_down")
        .retry(Duration::from_millis(exceeded.retry_after_ms))
    }
}

impl From<&IntrospectError> for Refusal {
    fn from(error: &IntrospectError) -> Self {
        match error {
            IntrospectError::Client(error) => error.into(),
            IntrospectError::Rate(exceeded) => exceeded.into(),
            IntrospectError::NotWitnessed => (&Denied::NotWitnessed).into(),
        }
    }
}

impl From<&RevokeError> for Refusal {
    fn from(error: &RevokeError) -> Self {
        match error {
            RevokeError::Client(error) => error.into(),
            RevokeError::Rate(exceeded) => exceeded.into(),
            RevokeError::Full => Self::new(
                Code::Unavailable,
                "TOO_MANY_REVOCATIONS",
                "no more revocations can be held: the token still holds, try again",
            )
            .retry(Duration::from_secs(60)),
            RevokeError::Internal(_) => Self::internal(),
        }
    }
}

impl From<&StoreError> for Refusal {
    fn from(error: &StoreError) -> Self {
        let unavailable =
            |message: &str| Self::new(Code::Unavailable, "STORE_UNAVAILABLE", message);
        match error {
            StoreError::Conflict { .. } => Self::new(
                Code::Aborted,
                "CONFLICT",
                "somebody else changed it at the same time: read it and try again",
            ),
            StoreError::TooLarge => Self::internal(),
            StoreError::Full => unavailable("the store is out of space; nothing was changed"),
            StoreError::ReadOnly => unavailable("the store is read-only; nothing was changed"),
            StoreError::Io { .. } => unavailable("the store failed; nothing was changed"),
            StoreError::Closed => unavailable("the service is stopping"),
        }
        .retry_if(
            matches!(error, StoreError::Full | StoreError::Io { .. }),
            Duration::from_secs(1),
        )
    }
}

impl Refusal {
    fn retry_if(self, condition: bool, after: Duration) -> Self {
        if condition { self.retry(after) } else { self }
    }
}

impl From<&Denied> for Refusal {
    fn from(denied: &Denied) -> Self {
        match denied {
            Denied::NoSuchGrant => Self::new(
                Code::NotFound,
                "GRANT_NOT_FOUND",
                "there is no such grant for this client",
            )
            .oauth("invalid_grant"),
            Denied::Resource => Self::new(
                Code::InvalidArgument,
                "INVALID_TARGET",
                "the grant does not allow this resource",
            )
            .oauth("invalid_target")
            .field("resource", "must be a resource of the grant"),
            Denied::Scope => Self::new(
                Code::InvalidArgument,
                "INVALID_SCOPE",
                "the grant does not have a scope that was asked for",
            )
            .oauth("invalid_scope")
            .field("scopes", "must be within the grant's"),
            Denied::Frozen { .. } => Self::new(
                Code::FailedPrecondition,
                "FROZEN",
                "stopped by an administrator: ask the owner of the grant",
            )
            .oauth("access_denied"),
            Denied::NotWitnessed => Self::new(
                Code::Unavailable,
                "NOT_WITNESSED",
                "too few witnesses vouch for the service's state at the moment",
            )
            .retry(Duration::from_secs(5)),
            Denied::Revoked => Self::new(
                Code::FailedPrecondition,
                "GRANT_REVOKED",
                "the grant's owner revoked it: a new consent is needed",
            )
            .oauth("invalid_grant"),
            Denied::Policy { decision } => Self::new(
                Code::PermissionDenied,
                "POLICY_DENIED",
                format!("the tenant's policy does not allow this: ask the owner of the grant about decision {decision}"),
            )
            .oauth("access_denied"),
            Denied::PolicyUnusable { decision } => Self::new(
                Code::FailedPrecondition,
                "POLICY_UNUSABLE",
                format!("the tenant's policy does not fit this version: its owner must set it anew (decision {decision})"),
            )
            .oauth("access_denied"),
            Denied::PolicyChanged => Self::new(
                Code::Unavailable,
                "POLICY_CHANGED",
                "the tenant's policy changed meanwhile: ask again",
            )
            .retry(Duration::from_secs(1)),
            Denied::Asleep => life::asleep(),
            Denied::ApprovalRequired { approval } => approval::required_refusal(approval),
            Denied::ApprovalDenied { approval } => approval::denied_refusal(approval),
            Denied::TooManyApprovals => approval::too_many(),
            Denied::Expired => Self::new(
                Code::FailedPrecondition,
                "GRANT_EXPIRED",
                "the grant has come to the end that its owner set: a new consent is needed",
            )
            .oauth("invalid_grant"),
            Denied::NeedsConsent { cause } => Self::new(
                Code::FailedPrecondition,
                "NEEDS_CONSENT",
                format!(
                    "the grant's owner must consent again (cause: {})",
                    cause.word()
                ),
            )
            .oauth("invalid_grant"),
        }
    }
}

/// Both clocks, if a proof was refused for its time.
fn proof_clocks(error: &DpopError) -> Option<Clocks> {
    let (DpopError::TooOld { iat_s, now_s } | DpopError::FromFuture { iat_s, now_s }) = error
    else {
        return None;
    };
    Some(Clocks {
        claimed_s: *iat_s,
        server_s: *now_s,
    })
}

impl From<&IssueError> for Refusal {
    fn from(error: &IssueError) -> Self {
        match error {
            IssueError::Client(error) => error.into(),
            IssueError::Nonce(_) => Self::new(
                Code::Unauthenticated,
                "USE_DPOP_NONCE",
                "make a new proof with the nonce in the metadata dpop-nonce",
            )
            .oauth("use_dpop_nonce"),
            IssueError::Proof(error) => Self::new(
                Code::Unauthenticated,
                "INVALID_DPOP_PROOF",
                format!("the DPoP proof is not valid: {error}"),
            )
            .oauth("invalid_dpop_proof")
            .clocks(proof_clocks(error)),
            IssueError::Replay(ReplayError::Replayed) => Self::new(
                Code::Unauthenticated,
                "INVALID_DPOP_PROOF",
                "the DPoP proof was used before: make a new one for each request",
            )
            .oauth("invalid_dpop_proof"),
            IssueError::Replay(ReplayError::Full) => Self::new(
                Code::ResourceExhausted,
                "TOO_MANY_PROOFS",
                "too many requests in this time span",
            )
            .oauth("slow_down")
            .retry(Duration::from_secs(60)),
            IssueError::NothingToBindTo => {
                Self::argument("binding", "the connection has no client certificate")
            }
            IssueError::Rate(exceeded) => exceeded.into(),
            IssueError::Limit(limit) => limit.into(),
            IssueError::Actor(actor) => actor.into(),
            IssueError::GrantId(error) => Self::argument("grant", error.to_string()),
            IssueError::Scopes(error) => Self::new(
                Code::InvalidArgument,
                "INVALID_SCOPE",
                format!("scopes: {error}"),
            )
            .oauth("invalid_scope")
            .field("scopes", error.to_string()),
            IssueError::Denied(denied) => denied.into(),
            IssueError::Internal(_) => Self::internal(),
        }
    }
}

impl From<&AdminError> for Refusal {
    fn from(error: &AdminError) -> Self {
        match error {
            AdminError::Caller(error) => error.into(),
            AdminError::Forbidden => Self::new(
                Code::PermissionDenied,
                "FORBIDDEN",
                "the administrator's roles do not allow this",
            ),
            AdminError::NotFound(what) => {
                Self::new(Code::NotFound, "NOT_FOUND", format!("no such {what}"))
            }
            AdminError::Exists(what) => Self::new(
                Code::AlreadyExists,
                "ALREADY_EXISTS",
                format!("there is already a {what} with this id"),
            ),
            AdminError::Id { field, error } => Self::argument(field, error.to_string()),
            AdminError::Url { field, error } => Self::argument(field, error.to_string()),
            AdminError::Template { field, error } => Self::argument(field, error.to_string()),
            AdminError::Scopes(error) => Self::argument("scopes", error.to_string()),
            AdminError::Field { field, rule } => Self::argument(field, *rule),
            AdminError::Profile(error) => Self::argument("profile_file", error.to_string()),
            AdminError::Deposit => Self::new(
                Code::InvalidArgument,
                "DEPOSIT_NOT_OPENED",
                "the deposit does not open: seal it anew to the key of fresh evidence",
            ),
            AdminError::Revoked => Self::new(
                Code::FailedPrecondition,
                "GRANT_REVOKED",
                "the grant is revoked: delete it before its id is used again",
            ),
            AdminError::Busy => Self::new(
                Code::Aborted,
                "GRANT_BUSY",
                "the grant's token is being exchanged: try again",
            )
            .retry(Duration::from_secs(1)),
            AdminError::Policy(error) => error.into(),
            AdminError::InventoryTooLarge => Self::inventory_too_large(error.to_string()),
            AdminError::Connect(error) => error.into(),
            AdminError::Internal(_) => Self::internal(),
        }
    }
}

impl From<&LogReadError> for Refusal {
    fn from(error: &LogReadError) -> Self {
        match error {
            LogReadError::Log(LogError::Unknown) => Self::new(
                Code::NotFound,
                "LOG_NOT_FOUND",
                "there is no such log: ListLogs names those that there are",
            ),
            LogReadError::Log(LogError::Beyond { size }) => Self::new(
                Code::InvalidArgument,
                "BEYOND_THE_LOG",
                format!("the log has {size} leaves"),
            ),
            LogReadError::Log(LogError::Reversed) => {
                Self::argument("old_size", "must not be above new_size")
            }
            LogReadError::Log(
                LogError::Leaf { .. }
                | LogError::Missing
                | LogError::Gap { .. }
                | LogError::Leaves
                | LogError::Read
                | LogError::Full
                | LogError::Origin
                | LogError::Key,
            ) => Self::internal(),
            LogReadError::Store(error) => error.into(),
        }
    }
}

impl From<&EvidenceError> for Refusal {
    fn from(error: &EvidenceError) -> Self {
        match error {
            EvidenceError::Busy => Self::new(
                Code::ResourceExhausted,
                "EVIDENCE_BUSY",
                "too many verifiers wait for evidence",
            )
            .retry(Duration::from_secs(1)),
            EvidenceError::Platform(_) => Self::new(
                Code::Unavailable,
                "NO_EVIDENCE",
                "the platform gave no evidence",
            ),
            EvidenceError::Stopped => {
                Self::new(Code::Unavailable, "STOPPING", "the service is stopping")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use enclave::authenticate::AuthenticationError;
    use enclave::authenticate::assertion::AssertionError;

    use super::*;
    use enclave::custody::Cause;
    use enclave::freeze::Subject;
    use enclave::ids::{ClientId, IdError};
    use enclave::nonce::NonceError;
    use enclave::seal::SealError;

    #[test]
    fn each_error_of_an_assertion_has_its_code_reason_and_clocks() {
        let stranger = "the client assertion is not one of a registered client";
        let both = |claimed_s, server_s| {
            Some(Clocks {
                claimed_s,
                server_s,
            })
        };
        let jws = jose::jws::JwsError::BadSignature;
        let aud = jose::json::JsonError::Missing("aud");
        let (iat_s, now_s) = (7, 9);
        let client = "INVALID_CLIENT";
        let rows = [
            (AssertionError::Repeated, "INVALID_REQUEST", None, None),
            (AssertionError::NotText, client, Some(stranger), None),
            (AssertionError::Jws(jws), client, Some(stranger), None),
            (AssertionError::UnknownClient, client, Some(stranger), None),
            (AssertionError::UnknownKey, client, Some(stranger), None),
            (AssertionError::Type, client, None, None),
            (AssertionError::Claims(aud), client, None, None),
            (AssertionError::Subject, client, None, None),
            (AssertionError::Audience, client, None, None),
            (AssertionError::JtiLength, client, None, None),
            (AssertionError::Replayed, client, None, None),
            (
                AssertionError::Expired { exp_s: 7, now_s },
                client,
                None,
                both(7, 9),
            ),
            (
                AssertionError::TooLong { exp_s: 7, now_s },
                client,
                None,
                both(7, 9),
            ),
            (
                AssertionError::FromFuture { iat_s, now_s },
                client,
                None,
                both(7, 9),
            ),
            (
                AssertionError::TooOld { iat_s, now_s },
                client,
                None,
                both(7, 9),
            ),
            (
                AssertionError::BeforeBoot { iat_s, boot_s: 8 },
                client,
                None,
                both(7, 8),
            ),
            (
                AssertionError::NotYetValid { nbf_s: 7, now_s },
                client,
                None,
                both(7, 9),
            ),
            (AssertionError::Full, "TOO_MANY_ASSERTIONS", None, None),
        ];
        for (error, reason, message, clocks) in rows {
            let refusal = Refusal::from(&AuthenticationError::from(error));
            assert_eq!(refusal.reason, reason, "{error:?}");
            assert_eq!(refusal.clocks, clocks, "{error:?}");
            let code = match reason {
                "INVALID_REQUEST" => Code::InvalidArgument,
                "INVALID_CLIENT" => Code::Unauthenticated,
                _ => Code::ResourceExhausted,
            };
            assert_eq!(refusal.code, code, "{error:?}");
            if let Some(message) = message {
                assert_eq!(refusal.message, message);
            }
        }
        for error in [
            AuthenticationError::TwoMethods,
            AuthenticationError::ClientId,
        ] {
            let refusal = Refusal::from(&error);
            assert_eq!(refusal.code, Code::InvalidArgument);
            assert_eq!(refusal.oauth_error, Some("invalid_request"));
        }
    }

    #[test]
    fn a_skewed_clock_is_told_both_times() {
        let errors = [
            DpopError::TooOld { iat_s: 1, now_s: 2 },
            DpopError::FromFuture { iat_s: 1, now_s: 2 },
        ];
        for error in errors {
            let status = Refusal::from(&IssueError::Proof(error)).status();
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.reason, "INVALID_DPOP_PROOF");
            let both = ["claimed_time_s", "server_time_s"].map(|name| info.metadata[name].as_str());
            assert_eq!(both, ["1", "2"]);
        }
        let other = Refusal::from(&IssueError::Proof(DpopError::Missing));
        assert_eq!(other.clocks, None);
    }

    #[test]
    fn each_error_of_introspection_and_revocation_has_its_code_and_reason() {
        let rate = RateExceeded { retry_after_ms: 20 };
        let no_one = AuthenticationError::NoCertificate;
        let rows = [
            (
                Refusal::from(&IntrospectError::Client(no_one)),
                Code::Unauthenticated,
                "INVALID_CLIENT",
            ),
            (
                Refusal::from(&IntrospectError::Rate(rate)),
                Code::ResourceExhausted,
                "RATE_LIMITED",
            ),
            (
                Refusal::from(&IntrospectError::NotWitnessed),
                Code::Unavailable,
                "NOT_WITNESSED",
            ),
            (
                Refusal::from(&RevokeError::Client(no_one)),
                Code::Unauthenticated,
                "INVALID_CLIENT",
            ),
            (
                Refusal::from(&RevokeError::Rate(rate)),
                Code::ResourceExhausted,
                "RATE_LIMITED",
            ),
            (
                Refusal::from(&RevokeError::Full),
                Code::Unavailable,
                "TOO_MANY_REVOCATIONS",
            ),
            (
                Refusal::from(&RevokeError::Internal(SealError::Failed)),
                Code::Internal,
                "INTERNAL",
            ),
        ];
        for (refusal, code, reason) in rows {
            assert_eq!((refusal.code, refusal.reason), (code, reason));
        }
    }

    #[test]
    fn each_error_of_reading_a_log_has_its_code_and_reason() {
        let leaf = LogError::Leaf {
            log: enclave::store::Log::Control,
            index: 7,
        };
        let rows = [
            (LogError::Unknown, Code::NotFound, "LOG_NOT_FOUND"),
            (
                LogError::Beyond { size: 3 },
                Code::InvalidArgument,
                "BEYOND_THE_LOG",
            ),
            (LogError::Reversed, Code::InvalidArgument, "INVALID_REQUEST"),
            (leaf, Code::Internal, "INTERNAL"),
            (
                LogError::Gap { from: 1, taken: 0 },
                Code::Internal,
                "INTERNAL",
            ),
            (LogError::Leaves, Code::Internal, "INTERNAL"),
            (LogError::Read, Code::Internal, "INTERNAL"),
            (LogError::Full, Code::Internal, "INTERNAL"),
            (LogError::Origin, Code::Internal, "INTERNAL"),
            (LogError::Key, Code::Internal, "INTERNAL"),
        ];
        for (error, code, reason) in rows {
            let refusal = Refusal::from(&LogReadError::from(error));
            assert_eq!((refusal.code, refusal.reason), (code, reason), "{error:?}");
        }
        let closed = LogReadError::from(StoreError::Closed);
        assert_eq!(Refusal::from(&closed), Refusal::from(&StoreError::Closed));
        assert_eq!(
            Refusal::too_many_tails().status().code(),
            Code::ResourceExhausted
        );
    }

    #[test]
    fn each_error_of_an_issuance_has_its_code_and_reason() {
        let subject = Subject::Client(ClientId::parse("c").unwrap());
        let cause = Cause::LostInExchange;
        let rows = [
            (
                AuthenticationError::NoCertificate.into(),
                Code::Unauthenticated,
                "INVALID_CLIENT",
                Some("invalid_client"),
            ),
            (
                AuthenticationError::UnknownCertificate.into(),
                Code::Unauthenticated,
                "INVALID_CLIENT",
                Some("invalid_client"),
            ),
            (
                NonceError::Missing.into(),
                Code::Unauthenticated,
                "USE_DPOP_NONCE",
                Some("use_dpop_nonce"),
            ),
            (
                NonceError::Foreign.into(),
                Code::Unauthenticated,
                "USE_DPOP_NONCE",
                Some("use_dpop_nonce"),
            ),
            (
                NonceError::Stale.into(),
                Code::Unauthenticated,
                "USE_DPOP_NONCE",
                Some("use_dpop_nonce"),
            ),
            (
                IssueError::Proof(DpopError::Missing),
                Code::Unauthenticated,
                "INVALID_DPOP_PROOF",
                Some("invalid_dpop_proof"),
            ),
            (
                ReplayError::Replayed.into(),
                Code::Unauthenticated,
                "INVALID_DPOP_PROOF",
                Some("invalid_dpop_proof"),
            ),
            (
                ReplayError::Full.into(),
                Code::ResourceExhausted,
                "TOO_MANY_PROOFS",
                Some("slow_down"),
            ),
            (
                IssueError::GrantId(IdError::Empty),
                Code::InvalidArgument,
                "INVALID_REQUEST",
                Some("invalid_request"),
            ),
            (
                enclave::scope::ScopeError::TooMany.into(),
                Code::InvalidArgument,
                "INVALID_SCOPE",
                Some("invalid_scope"),
            ),
            (
                Denied::NoSuchGrant.into(),
                Code::NotFound,
                "GRANT_NOT_FOUND",
                Some("invalid_grant"),
            ),
            (
                Denied::Resource.into(),
                Code::InvalidArgument,
                "INVALID_TARGET",
                Some("invalid_target"),
            ),
            (
                Denied::Scope.into(),
                Code::InvalidArgument,
                "INVALID_SCOPE",
                Some("invalid_scope"),
            ),
            (
                Denied::Frozen { subject }.into(),
                Code::FailedPrecondition,
                "FROZEN",
                Some("access_denied"),
            ),
            (
                Denied::NeedsConsent { cause }.into(),
                Code::FailedPrecondition,
                "NEEDS_CONSENT",
                Some("invalid_grant"),
            ),
            (
                Denied::Revoked.into(),
                Code::FailedPrecondition,
                "GRANT_REVOKED",
                Some("invalid_grant"),
            ),
            (
                Denied::Policy {
                    decision: "d".into(),
                }
                .into(),
                Code::PermissionDenied,
                "POLICY_DENIED",
                Some("access_denied"),
            ),
            (
                Denied::PolicyUnusable {
                    decision: "d".into(),
                }
                .into(),
                Code::FailedPrecondition,
                "POLICY_UNUSABLE",
                Some("access_denied"),
            ),
            (
                Denied::PolicyChanged.into(),
                Code::Unavailable,
                "POLICY_CHANGED",
                None,
            ),
            (
                Denied::Expired.into(),
                Code::FailedPrecondition,
                "GRANT_EXPIRED",
                Some("invalid_grant"),
            ),
            (
                IssueError::NothingToBindTo,
                Code::InvalidArgument,
                "INVALID_REQUEST",
                Some("invalid_request"),
            ),
            (
                Denied::NotWitnessed.into(),
                Code::Unavailable,
                "NOT_WITNESSED",
                None,
            ),
            (SealError::Failed.into(), Code::Internal, "INTERNAL", None),
        ];
        for (error, code, reason, oauth_error) in rows {
            let error: IssueError = error;
            let refusal = Refusal::from(&error);
            assert_eq!(
                (refusal.code, refusal.reason, refusal.oauth_error),
                (code, reason, oauth_error),
                "{error:?}"
            );
            let status = refusal.status();
            let info = status.get_details_error_info().unwrap();
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (reason, DOMAIN)
            );
            assert_eq!(status.code(), code);
        }
    }
}
