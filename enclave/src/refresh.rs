//! Refreshing upstream without losing a grant: a state machine that is fed
//! events and yields actions. It does no I/O of its own.
//!
//! ```text
//! begin ─► Commit(intent) ─► Send ─► Commit(journal) ─► Commit(adopt) ─► Finish
//!                              │                          ▲
//!                              └► Commit(settle) ─► Finish │ Pause, as long as the
//!                                                          │ store can't be written
//! ```
//! The caller runs one exchange per grant at a time, on a task of its own, so
//! that nobody who hangs up cancels it.

mod answer;
mod assertion;
mod client_keys;
mod credential;
mod journal;
mod keep_alive;
mod leave;
mod orphan;
mod pace;
mod request;
mod resume;
mod salvage;
mod start;
mod step;
mod tell;

use std::sync::{Arc, OnceLock};

use thiserror::Error;

use crate::custody::{Cause, Exposure, Phase};
use crate::freeze::Subject;
use crate::gateway::{EchoFilter, Needles};
use crate::http_url::HttpUrl;
use crate::ids::{GrantId, TenantId};
use crate::keys::ClientCertificate;
use crate::limits::LimitError;
use crate::pending::{Durable, Pending};
use crate::record::RecordError;
use crate::registry::{Provider, Rotation};
use crate::relayed_proof::RelayedProof;
use crate::scope::Scopes;
use crate::secret::{
    CredentialHeader, RawResponse, RefreshToken, UpstreamAccessToken, UpstreamBody,
};
use crate::store::StoreError;
use crate::upstream_dpop::BoundKey;

pub(crate) use answer::{Consented, asks_for_nonce, consented, error_code};
pub(crate) use client_keys::ClientKeys;
pub use client_keys::MAX_CLIENT_KEYS_PER_GRANT;
pub(crate) use orphan::parse as parse_orphan;
pub(crate) use pace::Pace;
pub(crate) use request::Author;
pub use start::{Begin, Cached};
pub use tell::{Telling, Told};

/// How long to wait before a commit is tried again that must not be given up.
pub const PAUSE_MS: u64 = 250;

/// What an upstream access token is asked for with. Each has a token of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Its scopes.
    pub scopes: Scopes,
    /// What the provider knows the API by [RFC 8707], where it is asked for with that.
    pub resource: Option<String>,
    /// The thumbprint of the client's key that it is to be bound to, if it is for a client. It is not used here.
    pub(crate) client_key: Option<String>,
}

impl Wanted {
    /// With these scopes, for whatever API.
    #[must_use]
    pub const fn with(scopes: Scopes) -> Self {
        Self {
            scopes,
            resource: None,
            client_key: None,
        }
    }
}

/// A request to a provider's token endpoint. Send it on a fresh connection,
/// once, and follow no redirect.
pub struct UpstreamRequest {
    /// Where to.
    pub url: HttpUrl,
    /// The header `authorization`, if the app authenticates by it.
    pub authorization: Option<CredentialHeader>,
    /// The form.
    pub body: UpstreamBody,
    /// What is shown in the TLS handshake of this one connection, if the app authenticates by it.
    pub certificate: Option<Box<ClientCertificate>>,
    /// The header `dpop`, if the tokens are to be bound to a key.
    pub dpop: Option<String>,
    /// How long it may take in milliseconds, from the connection to the answer's
    /// last byte.
    pub deadline_ms: u64,
}

impl std::fmt::Debug for UpstreamRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamRequest({:?}, [redacted])", self.url)
    }
}

/// What came of sending a request.
#[derive(Debug)]
pub enum UpstreamAnswer {
    /// Surely nothing reached the provider.
    NotSent,
    /// It was sent, or may have been, and no whole answer came back.
    Ambiguous,
    /// An answer whose body did not arrive whole.
    Cut {
        /// The HTTP status.
        status: u16,
        /// What arrived of the body.
        body: RawResponse,
    },
    /// A whole answer.
    Response {
        /// The HTTP status.
        status: u16,
        /// `Retry-After` in seconds, if it was a number.
        retry_after_s: Option<u64>,
        /// The header `dpop-nonce`, if there is exactly one.
        dpop_nonce: Option<String>,
        /// The body, within its bound.
        body: RawResponse,
    },
}

/// What the exchange wants done next.
#[derive(Debug)]
pub enum Action {
    /// Commit, then [`Event::Committed`] or [`Event::CommitFailed`].
    Commit(Pending<()>),
    /// Send, then [`Event::Answered`].
    Send(UpstreamRequest),
    /// Wait this many milliseconds, then [`Event::Resumed`].
    Pause(u64),
    /// The exchange is over.
    Finish(Result<Arc<UpstreamAccess>, RefreshError>),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The commit is durable.
    Committed(Durable<()>),
    /// The commit failed; nothing of it was kept.
    CommitFailed(StoreError),
    /// The request came to an end.
    Answered(UpstreamAnswer),
    /// The pause is over.
    Resumed,
}

/// What an upstream access token is bound to.
#[derive(Clone, Debug)]
pub(crate) enum BoundTo {
    /// Nothing: whoever has it can use it.
    Nothing,
    /// A key of the enclave's.
    OwnKey(Arc<BoundKey>),
    /// A client's key, by its thumbprint: of no use here.
    ClientKey(String),
}

/// A provider's access token, inside the enclave.
pub struct UpstreamAccess {
    pub(crate) token: UpstreamAccessToken,
    /// What it is bound to.
    pub(crate) bound_to: BoundTo,
    /// The scopes it carries, if the provider names them.
    pub(crate) scopes: Option<Scopes>,
    /// Until when no other is asked for, on the monotonic clock.
    pub(crate) fresh_until_ms: u64,
    /// Until when it is used, on the monotonic clock.
    pub(crate) usable_until_ms: u64,
    /// When it ends, on the monotonic clock.
    pub(crate) ends_ms: u64,
    /// Since when it is held, on the monotonic clock.
    pub(crate) obtained_ms: u64,
    /// What an echo of it looks like; made when it is first used at an API.
    pub(crate) needles: OnceLock<Option<Arc<Needles>>>,
}

impl UpstreamAccess {
    /// A filter for an answer to a request with this token.
    pub(crate) fn echo_filter(&self) -> EchoFilter {
        let make = || Needles::new(self.token.expose()).map(Arc::new);
        EchoFilter::new(self.needles.get_or_init(make).clone())
    }
}

impl std::fmt::Debug for UpstreamAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamAccess([redacted], {})", self.fresh_until_ms)
    }
}

/// Why there is no upstream access token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefreshError {
    /// The grant does not exist or is not complete.
    #[error("no such grant")]
    NoSuchGrant,
    /// A freeze covers the grant.
    #[error("frozen")]
    Frozen {
        /// What is frozen.
        subject: Subject,
    },
    /// Too few witnesses have lately seen that this enclave goes on from the newest
    /// state: an old refresh token must not be presented.
    #[error("the witnesses' word is missing")]
    NotWitnessed,
    /// The grant's owner revoked it.
    #[error("the grant was revoked")]
    Revoked,
    /// The grant's owner must consent again.
    #[error("the grant needs its owner's consent again")]
    NeedsConsent {
        /// Why.
        cause: Cause,
    },
    /// The provider could not be reached; nothing was sent.
    #[error("the provider can't be reached")]
    ProviderUnreachable,
    /// The provider did not answer, or not in a way that settles what happened
    /// to the refresh token. The next try will tell.
    #[error("the provider gave no usable answer")]
    ProviderUnclear,
    /// The provider refused for a reason that does not concern the token.
    #[error("the provider refused the request: {code}")]
    ProviderRefused {
        /// The OAuth error code, if it is one of RFC 6749's; else `other`.
        code: &'static str,
    },
    /// An exchange without an answer may still be at work at the provider; until it
    /// can't be, nothing more is presented.
    #[error("an earlier exchange may still be under way")]
    Quiet {
        /// When to come back, in seconds.
        retry_after_s: u64,
    },
    /// The provider failed so often lately that it is left alone for a while.
    #[error("the provider is left alone for a while")]
    ProviderPaused {
        /// When to come back, in seconds.
        retry_after_s: u64,
    },
    /// The provider asks for patience, or the grant's own rate is used up.
    #[error("the rate of exchanges is limited")]
    RateLimited {
        /// When to come back, in seconds.
        retry_after_s: u64,
    },
    /// A limit of exchanges that the tenant set is reached.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The provider wants another nonce in a client's proof; the refresh token is as it was.
    #[error("the provider wants another nonce in the proof")]
    ProofNonce {
        /// The newest.
        newest: String,
    },
    /// The provider did not take the refresh token with a client's proof. Which of the two it is, an exchange
    /// without that proof tells.
    #[error("the provider refused the refresh token with this proof")]
    RefusedWithProof,
    /// As many keys of clients have tokens of this grant as may.
    #[error("too many keys have tokens of this grant")]
    TooManyKeys {
        /// When the first of their tokens ends, in seconds.
        retry_after_s: u64,
    },
    /// The provider's answer held an access token of no use to us.
    #[error("the provider's access token was refused: {0}")]
    UnusableToken(&'static str),
    /// Nothing was sent, because the store could not record the intent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The enclave could not seal or open: its own fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// One exchange of one grant's refresh token.
#[derive(Debug)]
pub struct Exchange {
    grant: GrantId,
    tenant: TenantId,
    wanted: Wanted,
    granted: Scopes,
    provider: Arc<Provider>,
    /// The phase to fall back to if nothing was sent.
    before: Phase,
    attempt: u32,
    /// The generation of the custody record while this exchange owns it: that of
    /// its intent. Nothing but this exchange may write a record of this generation
    /// on, so a grant that was revoked or made anew meanwhile is left alone.
    intent_generation: u64,
    /// The generation of the refresh token that is presented.
    presented_generation: u64,
    /// How often the store refused the adoption because the record is another's.
    conflicts: u8,
    /// Whether the provider asked for a nonce already.
    challenged: bool,
    /// The client's proof that goes with it, instead of one of ours.
    relayed: Option<RelayedProof>,
    state: State,
}

impl Exchange {
    /// The grant whose token is exchanged.
    #[must_use]
    pub fn grant(&self) -> &GrantId {
        &self.grant
    }

    fn whom(&self) -> pace::Whom {
        (self.provider.id.clone(), self.tenant.clone())
    }

    /// Whether a copy of the token outside may still be of use when the adoption is durable.
    fn exposure_after(&self, before: Exposure, adoption: &Adoption) -> Exposure {
        let Provider {
            rotation, profile, ..
        } = &*self.provider;
        let ends = *rotation != Rotation::Never && !profile.superseded_still_work;
        before.exchanged(ends && adoption.successor.is_some())
    }
}

#[derive(Debug)]
enum State {
    /// The intent is being committed.
    Intending,
    /// The request is out.
    Sending,
    /// The raw answer is being committed.
    Journaling { answer: RawResponse },
    /// The new refresh token is being committed, or will be after a pause.
    Adopting { adoption: Adoption },
    /// The store knows a later owner of the grant: the new refresh token is being
    /// put where that one finds it.
    Orphaning { successor: RefreshToken },
    /// A phase is being committed; then the exchange ends.
    Settling { phase: Phase, result: RefreshError },
    /// Nothing is left to do.
    Done,
}

/// What a provider's good answer changes.
#[derive(Debug)]
struct Adoption {
    /// The token that replaces the old one, if there is a new one.
    successor: Option<RefreshToken>,
    /// Whose consent it is, if an id token says so.
    subject_sha256: Option<[u8; 32]>,
    /// The access token, or why it is of no use.
    access: Result<Arc<UpstreamAccess>, RefreshError>,
}

#[cfg(test)]
mod begin_tests;
#[cfg(test)]
mod end_tests;
#[cfg(test)]
mod exposure_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
