//! The story of one request for a token:
//! who asks → with which key → on which grant → may it → does the tenant's policy permit it → mint → write down.
//! Where the provider's own token is wanted, [`upstream_bound`](crate::upstream_bound) goes on instead of minting.

mod several;

use std::sync::Arc;

use jose::dpop::DpopError;
use tenant_policy::Ask as PolicyAsk;
use thiserror::Error;

use crate::Enclave;
use crate::actor::{self, Act, ActorError};
use crate::audit::Event;
use crate::authenticate::{self, AuthenticationError, Credentials};
use crate::config::Config;
use crate::ids::{GrantId, IdError};
use crate::limits::{Counted, LimitError};
use crate::mint::{self, Claims, Confirmation};
use crate::nonce::{NonceError, Role};
use crate::pending::Pending;
use crate::policy::{self, Allowed, Ask, Denied};
use crate::proof::ProofError;
use crate::rate::RateExceeded;
use crate::registry::{Client, ClientKind, Grant};
use crate::replay::ReplayError;
use crate::ruling::{Asked, Mark, Rule};
use crate::scope::{ScopeError, Scopes};
use crate::seal::SealError;
use crate::stage::{Stage, Stages};
use crate::time::Now;

pub use several::{MAX_ASKS, SeveralError, SeveralRequest};

/// The method of a gRPC call as a proof names it.
pub const HTM: &str = "POST";

/// The path of the method as a proof names it, behind the gRPC origin.
pub const PATH: &str = "/tokenkeep.v1.TokenService/IssueToken";

/// The path of the method for several tokens.
pub const SEVERAL_PATH: &str = "/tokenkeep.v1.TokenService/IssueTokens";

/// The path of the token endpoint, behind the public origin.
pub const TOKEN_ENDPOINT_PATH: &str = "/token";

/// The door that a request came in by. Each has its own target for proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The token service over gRPC.
    Grpc,
    /// The same for several tokens at a time.
    GrpcSeveral,
    /// The token endpoint over HTTP.
    TokenEndpoint,
    /// The token endpoint's alias for clients with certificates [RFC 8705 §5].
    MtlsTokenEndpoint,
}

impl Door {
    /// Whose nonces its proofs carry.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Grpc | Self::GrpcSeveral => Role::Token,
            Self::TokenEndpoint | Self::MtlsTokenEndpoint => Role::TokenEndpoint,
        }
    }

    fn htu(self, config: &Config) -> String {
        match self {
            Self::Grpc => config.grpc_url(PATH),
            Self::GrpcSeveral => config.grpc_url(SEVERAL_PATH),
            Self::TokenEndpoint => config.token_endpoint(),
            Self::MtlsTokenEndpoint => config.mtls_token_endpoint(),
        }
    }
}

/// What the token is to be bound to: exactly one thing.
#[derive(Clone, Debug)]
pub enum Binding<'a> {
    /// The key of a proof: the values of the metadata or header `dpop`
    /// [RFC 9449 §5].
    Proof(Vec<&'a [u8]>),
    /// The certificate of the connection [RFC 8705 §3]. The connection is fresh by
    /// itself, so there is no nonce and nothing to replay.
    Certificate,
}

/// A request for a token, as it came in.
#[derive(Clone, Debug)]
pub struct IssueRequest<'a> {
    /// The door that it came in by.
    pub door: Door,
    /// What the caller shows of itself.
    pub credentials: Credentials<'a>,
    /// What to bind the token to.
    pub binding: Binding<'a>,
    /// The grant to draw on; without one, the only one that names the client and
    /// the resource.
    pub grant: Option<&'a str>,
    /// The resource wanted.
    pub resource: &'a str,
    /// The scopes wanted; none asks for all.
    pub scopes: &'a [String],
    /// On whose behalf the client asks, the one who acts now first [RFC 8693 §4.1].
    pub actors: &'a [String],
}

impl<'a> IssueRequest<'a> {
    fn ask(&self) -> TokenAsk<'a> {
        TokenAsk {
            grant: self.grant,
            resource: self.resource,
            scopes: self.scopes,
            actors: self.actors,
        }
    }
}

/// One token that is wanted: the fields are those of [`IssueRequest`].
#[derive(Clone, Copy, Debug)]
pub struct TokenAsk<'a> {
    /// The grant to draw on.
    pub grant: Option<&'a str>,
    /// The resource wanted.
    pub resource: &'a str,
    /// The scopes wanted; none asks for all.
    pub scopes: &'a [String],
    /// On whose behalf the client asks.
    pub actors: &'a [String],
}

/// A token and what the caller must know of it.
pub struct Issued {
    /// The access token. It is bound to the caller's key or certificate.
    pub access_token: String,
    /// Seconds until it expires.
    pub expires_in_s: u64,
    /// The scopes it carries.
    pub scopes: Scopes,
    /// Its sole audience.
    pub resource: String,
    /// How it is to be shown: `DPoP` or `Bearer`.
    pub token_type: &'static str,
    /// Whom it was issued to, for the service's own log.
    pub client: crate::ids::ClientId,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued([redacted], {}, {})", self.resource, self.scopes)
    }
}

/// Why no token was issued.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IssueError {
    /// The caller is not a registered client.
    #[error(transparent)]
    Client(#[from] AuthenticationError),
    /// The proof has no acceptable nonce.
    #[error(transparent)]
    Nonce(#[from] NonceError),
    /// The proof is not valid.
    #[error(transparent)]
    Proof(#[from] DpopError),
    /// The proof was used before, or no more can be remembered.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The token was to be bound to the connection's certificate, and it has none.
    #[error("the connection has no client certificate to bind the token to")]
    NothingToBindTo,
    /// The client asks too often.
    #[error(transparent)]
    Rate(#[from] RateExceeded),
    /// A limit that the vendor or the tenant set is reached.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The grant's name is no id.
    #[error("grant: {0}")]
    GrantId(IdError),
    /// The scopes are ill-formed.
    #[error(transparent)]
    Scopes(#[from] ScopeError),
    /// It can't be asked for on behalf of these actors.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// The caller may not have it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The enclave could not sign or seal: its own fault.
    #[error(transparent)]
    Internal(#[from] SealError),
}

impl From<ProofError> for IssueError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Nonce(error) => Self::Nonce(error),
            ProofError::Proof(error) => Self::Proof(error),
            ProofError::Replay(error) => Self::Replay(error),
        }
    }
}

/// Who asks, and what its tokens are to be bound to, proved.
struct Proved {
    client: Arc<Client>,
    cnf: Confirmation,
    address: Option<std::net::IpAddr>,
}

/// A request that is allowed, before anything is made of it.
pub(crate) struct Authorized {
    pub(crate) client: Arc<Client>,
    pub(crate) grant: Arc<Grant>,
    /// What the token is to be bound to, proved.
    pub(crate) cnf: Confirmation,
    pub(crate) allowed: Allowed,
    /// On whose behalf.
    pub(crate) act: Option<Box<Act>>,
    /// Which policy of the tenant's permitted it, for the leaf.
    pub(crate) policy: Option<Mark>,
}

/// What was decided on a request.
pub(crate) enum Decided {
    /// It may have a token.
    Authorized(Authorized),
    /// The tenant's policy does not permit it; the refusal waits for its leaf.
    Refused(Pending<Issued>),
}

impl Enclave {
    /// Decides whether a request may have a token.
    pub(crate) fn authorized(
        &self,
        request: &IssueRequest<'_>,
        now: &Now,
        stages: &impl Stages,
    ) -> Result<Decided, IssueError> {
        let IssueRequest {
            door,
            credentials,
            binding,
            ..
        } = request;
        let proved = self.proved(*door, credentials, binding, now, stages)?;
        self.decided(&proved, &request.ask(), now, stages)
    }

    /// Who asks, and with which key?
    fn proved(
        &self,
        door: Door,
        credentials: &Credentials<'_>,
        binding: &Binding<'_>,
        now: &Now,
        stages: &impl Stages,
    ) -> Result<Proved, IssueError> {
        let rules = self.assertion_rules(now);
        let caller = authenticate::caller(&self.view.read(), credentials, &rules)?;
        stages.passed(Stage::Authenticate);
        // Before the proof's signature, which is most of the work.
        self.issue_rates.peek(&caller.client().id, now)?;
        let cnf = self.confirmation(door, credentials, binding, now)?;
        // Spent behind the proof, so that an assertion outlives a stale nonce.
        let caller = caller.enter(&self.spent, now)?;
        stages.passed(Stage::Proof);
        Ok(Proved {
            client: caller.into_client(),
            cnf,
            address: credentials.peer.address,
        })
    }

    /// May the caller have this token?
    fn decided(
        &self,
        proved: &Proved,
        wanted: &TokenAsk<'_>,
        now: &Now,
        stages: &impl Stages,
    ) -> Result<Decided, IssueError> {
        let Proved {
            client,
            cnf,
            address,
        } = proved;

        // On which grant, and may it?
        self.issue_rates.take(&client.id, now)?;
        let named = wanted.grant.map(GrantId::parse).transpose();
        let named = named.map_err(IssueError::GrantId)?;
        let scopes = Scopes::parse(wanted.scopes)?;
        let act = Act::parse(wanted.actors)?;
        let view = self.view.read();
        let origin = &self.config.gateway_origin;
        let grant = match &named {
            Some(grant) => policy::find_grant(&view, &client.id, grant)
                .inspect_err(|_| self.count_denial(&view, &client.id, grant, now))?,
            None => policy::grant_of_resource(&view, origin, &client.id, wanted.resource)
                .inspect_err(|_| {
                    let named = policy::grant_in_resource(origin, wanted.resource);
                    if let Some(grant) = named {
                        self.count_denial(&view, &client.id, &grant, now);
                    }
                })?,
        };
        let ask = Ask {
            client,
            grant: &grant.value,
            resource: wanted.resource,
            scopes: &scopes,
            bound_to: cnf.thumbprint(),
        };
        let mut allowed = policy::authorize(&view, origin, &ask, now)
            .inspect_err(|_| self.count_denial(&view, &client.id, &grant.value.id, now))?;
        self.check_fresh(now)?;
        actor::within(act.as_deref(), grant.value.max_actor_depth())?;
        let by = Some((&**client, &allowed.target));
        self.count(&view, Counted::Tokens, &grant.value, by, now)?;

        // Does the tenant's own policy permit it?
        let grant = Arc::clone(&grant.value);
        let asked = Asked {
            client: Arc::clone(client),
            grant: Arc::clone(&grant),
            target: allowed.target.clone(),
            scopes: allowed.scopes.clone(),
            cnf: cnf.clone(),
            tier: self.config.tier.clone(),
            address: *address,
            at_s: now.hi_s,
            ask: PolicyAsk::Issue {
                audience: allowed.resource.clone(),
            },
        };
        let policy = match self.rule(&view, asked, &mut allowed.touched, now)? {
            Rule::Passed(policy) => policy,
            Rule::Refused(refusal) => return Ok(Decided::Refused(refusal)),
        };
        drop(view);
        stages.passed(Stage::Policy);
        Ok(Decided::Authorized(Authorized {
            client: Arc::clone(client),
            grant,
            cnf: cnf.clone(),
            allowed,
            act,
            policy,
        }))
    }

    /// Decides on a request and mints the token, which waits for its leaf.
    ///
    /// # Errors
    /// [`IssueError`] says which step refused.
    pub fn issue(
        &self,
        request: &IssueRequest<'_>,
        now: &Now,
    ) -> Result<Pending<Issued>, IssueError> {
        self.issue_in_stages(request, now, &())
    }

    /// As [`issue`](Self::issue), and tells as each stage is passed.
    ///
    /// # Errors
    /// [`IssueError`] says which step refused.
    pub fn issue_in_stages(
        &self,
        request: &IssueRequest<'_>,
        now: &Now,
        stages: &impl Stages,
    ) -> Result<Pending<Issued>, IssueError> {
        match self.authorized(request, now, stages)? {
            Decided::Authorized(authorized) => self.minted(authorized, now, stages),
            Decided::Refused(refusal) => Ok(refusal),
        }
    }

    /// Mints a token that was decided on.
    fn minted(
        &self,
        authorized: Authorized,
        now: &Now,
        stages: &impl Stages,
    ) -> Result<Pending<Issued>, IssueError> {
        let Authorized {
            client,
            grant,
            cnf,
            allowed,
            act,
            policy,
        } = authorized;

        // Mint.
        let lifetime_s = self.lifetime_s(&grant, now);
        let (jti, salt) = mint::token_id_and_salt(&*self.rng)?;
        let claims = Claims {
            iss: self.config.issuer.clone(),
            sub: client.id.clone(),
            aud: allowed.resource,
            exp: now.lo_s.saturating_add(lifetime_s),
            iat: now.lo_s,
            jti,
            client_id: client.id.clone(),
            scope: allowed.scopes.to_string(),
            cnf,
            grant: grant.id.clone(),
            tier: self.config.tier.clone(),
            act,
        };
        let access_token = mint::mint(self.keys().token(), &claims, &*self.rng)?;

        // Write down; the token leaves when its leaf is durable.
        let event = Event::TokenIssued {
            grant: &grant.id,
            client: &client.id,
            resource: &claims.aud,
            scope: &claims.scope,
            cnf: &claims.cnf,
            jti: &claims.jti,
            expires_at_s: claims.exp,
            actors: actor::names(claims.act.as_deref()),
            agent: client.kind == ClientKind::Agent,
            policy,
        };
        let view = self.view.read();
        let leaf = self.leaf_with(salt, &view, Some(&grant.tenant), &event, now)?;
        stages.passed(Stage::Mint);
        let issued = Issued {
            access_token,
            expires_in_s: lifetime_s,
            scopes: allowed.scopes,
            token_type: claims.cnf.token_type(),
            resource: claims.aud,
            client: client.id.clone(),
        };
        let (writes, effects) = self.note_use(&view, &grant, now)?.unzip();
        let batch = crate::store::Batch {
            writes: writes.into_iter().collect(),
            leaves: vec![leaf],
        };
        let effects = effects.into_iter().collect();
        Ok(Pending::new(batch, effects, allowed.touched, issued))
    }

    /// How long a token lives: as the manifest says, and no longer than the grant
    /// or what the enclave's platform is endorsed by.
    fn lifetime_s(&self, grant: &Grant, now: &Now) -> u64 {
        let ends = [grant.expires_at_s, self.config.endorsed_until_s];
        ends.into_iter()
            .flatten()
            .map(|end_s| end_s.saturating_sub(now.lo_s))
            .fold(self.config.token_lifetime_s, u64::min)
    }

    /// What the token is bound to, once it is proved.
    fn confirmation(
        &self,
        door: Door,
        credentials: &Credentials<'_>,
        binding: &Binding<'_>,
        now: &Now,
    ) -> Result<Confirmation, IssueError> {
        match binding {
            Binding::Proof(values) => {
                let htu = door.htu(&self.config);
                let role = door.role();
                let proof = self.accept_proof(values, role, HTM, &htu, None, now)?;
                Ok(Confirmation::Jkt(proof.jkt().to_string()))
            }
            Binding::Certificate => {
                let certificate = credentials.peer.certificate_sha256;
                let sha256 = certificate.ok_or(IssueError::NothingToBindTo)?;
                Ok(Confirmation::certificate(&sha256))
            }
        }
    }
}

#[cfg(test)]
mod tests;
