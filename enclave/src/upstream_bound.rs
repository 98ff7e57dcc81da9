//! The story of a provider's own access token for a client, bound to the client's key:
//! may it have a token → does the grant let it out → is one at hand, or is the proof for the provider good →
//! the exchange with that proof → write down.
//!
//! A confidential client's refresh token is not bound to a key [RFC 9449 §5], so that the proof of the app's own
//! client can go with the exchange. The refresh token stays here; what leaves is of use to the key alone.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use thiserror::Error;

use crate::Enclave;
use crate::actor::{self, Act};
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::{ClientId, GrantId, TenantId};
use crate::issue::{Authorized, Binding, Decided, IssueError, IssueRequest, Issued};
use crate::mint::Confirmation;
use crate::pending::Pending;
use crate::policy::Denied;
use crate::refresh::{BoundTo, Cached, RefreshError, UpstreamAccess, Wanted};
use crate::registry::{Api, App, AuthMethod, ClientKind, Grant, Provider};
use crate::relayed_proof::{RelayedProof, RelayedProofError, htu_of};
use crate::replay::ReplayError;
use crate::ruling::Mark;
use crate::scope::Scopes;
use crate::seal::SealError;
use crate::stage::Stages;
use crate::store::Batch;
use crate::time::Now;
use crate::upstream_dpop::ServerKind;
use jose::dpop::DpopError;

/// What a proof for the provider must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamChallenge {
    /// Its `htu`: the provider's token endpoint.
    pub htu: String,
    /// Its `nonce`, if the provider has given one.
    pub nonce: Option<String>,
}

/// Why a client does not get a provider's token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpstreamBoundError {
    /// It may have no token at all.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// It is to be bound to a certificate.
    #[error("a provider's token is bound to the key of a proof")]
    Binding,
    /// The grant does not let the provider's tokens out.
    #[error("the grant does not let the provider's own tokens out")]
    NotAllowed,
    /// The resource is no API of the provider's.
    #[error("the resource is no API of the provider's")]
    Direct,
    /// There is no proof for the provider.
    #[error("a proof for the provider is needed")]
    ProofRequired(Box<UpstreamChallenge>),
    /// The proof for the provider does not have its newest nonce.
    #[error("the proof for the provider does not have its newest nonce")]
    Nonce(Box<UpstreamChallenge>),
    /// The proof for the provider is not valid.
    #[error("proof for the provider: {0}")]
    Proof(DpopError),
    /// The proof for the provider names an access token.
    #[error("proof for the provider: it has ath")]
    Ath,
    /// The proof for the provider was used before, or no more can be remembered.
    #[error("proof for the provider: {0}")]
    Replay(ReplayError),
    /// Nothing came of the exchange.
    #[error(transparent)]
    Refresh(RefreshError),
}

impl From<Denied> for UpstreamBoundError {
    fn from(denied: Denied) -> Self {
        Self::Issue(denied.into())
    }
}

impl From<SealError> for UpstreamBoundError {
    fn from(error: SealError) -> Self {
        Self::Issue(error.into())
    }
}

/// A request that may have a provider's token.
#[derive(Debug)]
pub struct Sought {
    /// The grant to draw on.
    pub grant: GrantId,
    /// What the token is asked for with.
    pub wanted: Wanted,
    tenant: TenantId,
    client: ClientId,
    resource: String,
    scopes: Scopes,
    cnf: Confirmation,
    expires_at_s: Option<u64>,
    htu: String,
    touched: Touched,
    act: Option<Box<Act>>,
    agent: bool,
    policy: Option<Mark>,
}

impl Sought {
    /// What the client learns when nothing came of the exchange.
    #[must_use]
    pub fn refused(self, error: RefreshError) -> UpstreamBoundError {
        if let RefreshError::ProofNonce { newest } = error {
            let challenge = UpstreamChallenge {
                htu: self.htu,
                nonce: Some(newest),
            };
            return UpstreamBoundError::Nonce(Box::new(challenge));
        }
        UpstreamBoundError::Refresh(error)
    }
}

/// Where a provider's token comes from.
#[derive(Debug)]
pub enum Seeking {
    /// One for this key is at hand: [`Enclave::give_upstream`].
    Held(Sought, Arc<UpstreamAccess>),
    /// An exchange with this proof brings one.
    Exchange(Sought, RelayedProof),
    /// From nowhere: the tenant's policy does not permit it, and the refusal waits for its leaf.
    Refused(Pending<Issued>),
}

/// Whether a grant may let the provider's tokens out.
pub(crate) fn may_be_allowed(
    grant: &Grant,
    app: &App,
    provider: &Provider,
) -> Result<(), &'static str> {
    if !provider.profile.dpop {
        return Err(
            "the provider's profile must say dpop: a token that is bound to nothing stays inside",
        );
    }
    if app.auth_method == AuthMethod::None {
        return Err(
            "not with a public client: its refresh token is bound to the enclave's own key [RFC 9449 §5]",
        );
    }
    let approvals = grant.terms.as_deref();
    let approvals = approvals.is_some_and(|terms| !terms.approval_operations.is_empty());
    if !grant.operations.is_empty() || approvals {
        return Err(
            "not with operations, or such as need approval: the gateway alone holds calls to them",
        );
    }
    Ok(())
}

impl Enclave {
    /// Decides whether a client may have a provider's token, and where it comes from. Nothing was presented when this
    /// refuses.
    ///
    /// # Errors
    /// [`UpstreamBoundError`] says which step refused.
    pub fn seek_upstream(
        &self,
        request: &IssueRequest<'_>,
        upstream_proof: Option<&[u8]>,
        now: &Now,
        stages: &impl Stages,
    ) -> Result<Seeking, UpstreamBoundError> {
        // May it have a token?
        if matches!(request.binding, Binding::Certificate) {
            return Err(UpstreamBoundError::Binding);
        }
        let Authorized {
            client,
            grant,
            cnf,
            allowed,
            act,
            policy,
        } = match self.authorized(request, now, stages)? {
            Decided::Authorized(authorized) => authorized,
            Decided::Refused(refusal) => return Ok(Seeking::Refused(refusal)),
        };
        let jkt = cnf.thumbprint().to_owned();

        // Does the grant let the provider's tokens out?
        let view = self.view.read();
        let app = &view.apps.get(&grant.app).ok_or(Denied::NoSuchGrant)?.value;
        let provider = view.providers.get(&app.provider);
        let provider = &provider.ok_or(Denied::NoSuchGrant)?.value;
        if !grant.allow_upstream_bound || may_be_allowed(&grant, app, provider).is_err() {
            return Err(UpstreamBoundError::NotAllowed);
        }
        let target = provider.target(&allowed.target).ok_or(Denied::Resource)?;
        let resource = match &target.api {
            Api::Gateway {
                upstream_resource, ..
            } => upstream_resource.clone(),
            Api::Direct { .. } => return Err(UpstreamBoundError::Direct),
        };
        let endpoint = provider.token_endpoint.clone();
        drop(view);
        let sought = Sought {
            grant: grant.id.clone(),
            wanted: Wanted {
                scopes: allowed.scopes.clone(),
                resource,
                client_key: Some(jkt.clone()),
            },
            tenant: grant.tenant.clone(),
            client: client.id.clone(),
            resource: allowed.resource,
            scopes: allowed.scopes,
            cnf,
            expires_at_s: grant.expires_at_s,
            htu: htu_of(&endpoint).to_owned(),
            touched: allowed.touched,
            act,
            agent: client.kind == ClientKind::Agent,
            policy,
        };

        // Is one at hand, or is the proof good?
        if let Some(Cached::Fresh(access)) =
            self.cached_upstream(&sought.grant, &sought.wanted, now)
        {
            return Ok(Seeking::Held(sought, access));
        }
        let challenge = |nonce| {
            Box::new(UpstreamChallenge {
                htu: sought.htu.clone(),
                nonce,
            })
        };
        let Some(proof) = upstream_proof else {
            let kind = ServerKind::Authorization;
            let newest = self.server_nonces.newest(kind, &endpoint);
            return Err(UpstreamBoundError::ProofRequired(challenge(newest)));
        };
        let bound = jkt.parse().map_err(|_| SealError::Failed)?;
        let proof = self.accept_relayed(proof, bound, &endpoint, now);
        let proof = proof.map_err(|error| match error {
            RelayedProofError::Proof(error) => UpstreamBoundError::Proof(error),
            RelayedProofError::Ath => UpstreamBoundError::Ath,
            RelayedProofError::Nonce { newest } => {
                UpstreamBoundError::Nonce(challenge(Some(newest)))
            }
            RelayedProofError::Replay(error) => UpstreamBoundError::Replay(error),
        })?;
        Ok(Seeking::Exchange(sought, proof))
    }

    /// Gives a provider's token to the client whose key it is bound to. It leaves when its leaf is durable and nothing
    /// that it touches was stopped since.
    ///
    /// # Errors
    /// [`UpstreamBoundError`]: it would outlive the grant, or is not that client's.
    pub fn give_upstream(
        &self,
        sought: Sought,
        access: &UpstreamAccess,
        now: &Now,
    ) -> Result<Pending<Issued>, UpstreamBoundError> {
        let is_own =
            matches!(&access.bound_to, BoundTo::ClientKey(jkt) if jkt == sought.cnf.thumbprint());
        if !is_own {
            return Err(SealError::Failed.into());
        }
        let expires_in_s = access.ends_ms.saturating_sub(now.mono_ms) / 1_000;
        let ends_s = now.lo_s.saturating_add(expires_in_s);
        // We can't shorten it.
        if sought.expires_at_s.is_some_and(|end_s| ends_s > end_s) {
            return Err(Denied::Expired.into());
        }
        let scopes = access.scopes.clone().unwrap_or(sought.scopes);
        let token = std::str::from_utf8(access.token.expose()).map_err(|_| SealError::Failed)?;
        let event = Event::UpstreamTokenReleased {
            grant: &sought.grant,
            client: &sought.client,
            resource: &sought.resource,
            scope: scopes.to_string(),
            cnf: sought.cnf.clone(),
            token_sha256: hex::encode(digest(&SHA256, token.as_bytes())),
            expires_at_s: ends_s,
            actors: actor::names(sought.act.as_deref()),
            agent: sought.agent,
            policy: sought.policy,
        };
        let view = self.view.read();
        let leaf = self.leaf(&view, Some(&sought.tenant), &event, now)?;
        let held = view.grants.get(&sought.grant);
        let held = held.ok_or(Denied::NoSuchGrant)?;
        let (writes, effects) = self.note_use(&view, &held.value, now)?.unzip();
        let issued = Issued {
            access_token: token.to_owned(),
            expires_in_s,
            scopes,
            resource: sought.resource,
            token_type: sought.cnf.token_type(),
            client: sought.client,
        };
        let batch = Batch {
            writes: writes.into_iter().collect(),
            leaves: vec![leaf],
        };
        let effects = effects.into_iter().collect();
        Ok(Pending::new(batch, effects, sought.touched, issued))
    }
}

#[cfg(test)]
mod tests;
