//! The gateway's rules: which call passes, what is forwarded, what comes back.
//!
//! A request passes size and syntax → token → proof → grant, then its leaf is
//! made durable; only then is anything upstream touched. What is forwarded is
//! built anew from typed parts, and the bearer is injected last.

pub mod address;
mod admit;
mod approve;
mod bound;
mod complete;
mod echo;
mod headers;
mod path;
mod references;
mod token;

use http::{HeaderMap, Method};
use jose::dpop::DpopError;
use thiserror::Error;

use crate::actor::ActorError;
use crate::authenticate::Peer;
use crate::freeze::Touched;
use crate::http_url::HttpUrl;
use crate::ids::{ClientId, GrantId, TargetName, TenantId};
use crate::limits::{ByteBudgets, LimitError};
use crate::nonce::NonceError;
use crate::operation::{Operation, OperationError};
use crate::policy::Denied;
use crate::proof::ProofError;
use crate::rate::RateExceeded;
use crate::refresh::Wanted;
use crate::replay::ReplayError;
use crate::seal::SealError;
use crate::secret::{CredentialHeader, UpstreamAccessToken};
use references::References;

pub use complete::{CallEnd, Completed, CompletedCall};
pub(crate) use echo::Needles;
pub use echo::{EchoFilter, Echoed};
pub use headers::AnswerError;
pub use path::PathError;
pub use token::TokenError;
pub(crate) use token::VerifiedTokens;

/// The methods that are forwarded.
pub const METHODS: [Method; 6] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// A request as it came in at the gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayRequest<'a> {
    /// Its method.
    pub method: &'a Method,
    /// The authority that it names, in `Host` or `:authority`.
    pub authority: &'a str,
    /// Its path, percent-encoded as it was sent, without the query.
    pub path: &'a str,
    /// Its query, as it was sent.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The size of its body in bytes, if it is known beforehand.
    pub body_bytes: Option<u64>,
    /// What its connection proved.
    pub peer: &'a Peer,
}

/// A request that passed: what may be forwarded once its leaf is durable.
#[derive(Debug)]
pub struct Admitted {
    /// Whose grant it is: connections to APIs are shared with nobody else.
    pub tenant: TenantId,
    /// The grant that it draws on.
    pub grant: GrantId,
    /// What the upstream token is asked for with: the scopes of its token, the resource of its target.
    pub wanted: Wanted,
    /// Who called, for the service's own log.
    pub client: ClientId,
    /// The target, for the service's own log.
    pub target: TargetName,
    /// The operation, if the target lists some.
    operation: Option<Operation>,
    method: Method,
    base_url: HttpUrl,
    path_and_query: String,
    headers: HeaderMap,
    touched: Touched,
    byte_budgets: Option<ByteBudgets>,
    jti: String,
    references: References,
}

impl Admitted {
    /// All that the call touches, to be looked at as long as it lasts.
    #[must_use]
    pub fn touched(&self) -> Touched {
        self.touched.clone()
    }

    /// On whose accounts the bytes of its bodies count, if there is any limit of them.
    #[must_use]
    pub fn byte_budgets(&self) -> Option<ByteBudgets> {
        self.byte_budgets.clone()
    }

    /// The most bytes that the body may have, if it is bounded.
    #[must_use]
    pub fn max_body_bytes(&self) -> Option<u64> {
        self.operation.as_ref()?.max_body_bytes
    }

    /// The error for a body of more bytes than it may have; none if it is not bounded.
    #[must_use]
    pub fn body_too_large(&self) -> Option<GatewayError> {
        let operation = self.operation.as_ref()?;
        Some(operation.too_large(operation.max_body_bytes?).into())
    }
}

/// A request to a provider's API, complete but for its body.
pub struct UpstreamCall {
    /// The target's base URL: whom to connect to.
    pub base_url: HttpUrl,
    /// The method.
    pub method: Method,
    /// The path and query to ask for.
    pub path_and_query: String,
    /// The headers, all but `authorization` and those of the connection.
    pub headers: HeaderMap,
    /// The header `authorization`, with the provider's access token.
    pub authorization: CredentialHeader,
    /// What the answer passes through.
    pub answer: AnswerRules,
}

/// What an API's answer passes through.
#[derive(Debug)]
pub struct AnswerRules {
    references: References,
    echo: EchoFilter,
}

impl AnswerRules {
    /// For the answer to a request for `path_and_query` at `base_url`, made with this
    /// token; references are rewritten to `prefix`. None if there is no such URL.
    #[must_use]
    pub fn new(
        base_url: &HttpUrl,
        path_and_query: &str,
        prefix: &str,
        token: &UpstreamAccessToken,
    ) -> Option<Self> {
        let needles = Needles::new(token.expose()).map(std::sync::Arc::new);
        Some(Self {
            references: References::new(base_url, path_and_query, prefix)?,
            echo: EchoFilter::new(needles),
        })
    }

    /// The headers that are passed on, and the filter for the body.
    ///
    /// # Errors
    /// [`AnswerError`]: nothing of this answer may leave.
    pub fn accept(self, headers: &HeaderMap) -> Result<(HeaderMap, EchoFilter), AnswerError> {
        let headers = headers::answer_headers(&self.references, &self.echo, headers)?;
        Ok((headers, self.echo))
    }
}

impl std::fmt::Debug for UpstreamCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "UpstreamCall({} {:?}, [redacted])",
            self.method, self.base_url
        )
    }
}

/// Why a call did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GatewayError {
    /// The method is not forwarded.
    #[error("this method is not forwarded")]
    Method,
    /// The path names no grant and target, or is not in normal form.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There are no credentials, or not exactly one.
    #[error(
        "there must be exactly one header authorization, of scheme DPoP (or Bearer, for a token that is bound to a certificate)"
    )]
    Authorization,
    /// The token is not one that may be used here.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The proof has no acceptable nonce.
    #[error(transparent)]
    Nonce(#[from] NonceError),
    /// The proof is not valid for this request and token.
    #[error(transparent)]
    Proof(#[from] DpopError),
    /// The proof was used before, or no more can be remembered.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// It is none of the operations that are allowed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The client calls too often.
    #[error(transparent)]
    Rate(#[from] RateExceeded),
    /// The token was asked for on behalf of more actors than the grant allows now.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// A limit that the vendor or the tenant set is reached.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The grant does not allow it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The enclave could not seal: its own fault.
    #[error(transparent)]
    Internal(#[from] SealError),
}

impl From<ProofError> for GatewayError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Nonce(error) => Self::Nonce(error),
            ProofError::Proof(error) => Self::Proof(error),
            ProofError::Replay(error) => Self::Replay(error),
        }
    }
}

#[cfg(test)]
mod tests;
