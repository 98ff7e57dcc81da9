//! How an exchange begins: from the cache, or with a durable intent.

use std::sync::Arc;

use super::pace::Whom;
use super::{Action, Adoption, Exchange, RefreshError, State, UpstreamAccess, Wanted};
use crate::Enclave;
use crate::custody::{self, Custody, Head, Phase};
use crate::freeze::Touched;
use crate::ids::{GrantId, ProviderId};
use crate::limits::Counted;
use crate::pending::Pending;
use crate::record::{Place, RecordError, Table};
use crate::registry::{App, Grant, Provider, Rotation};
use crate::relayed_proof::RelayedProof;
use crate::seal::SealError;
use crate::secret::{DpopPrivateKey, RefreshToken};
use crate::store::Batch;
use crate::time::Now;
use crate::view::{Effect, Held, View};

/// What a request for an upstream access token leads to.
#[derive(Debug)]
pub enum Begin {
    /// There is one already.
    Cached(Arc<UpstreamAccess>),
    /// An exchange with the provider is needed: run it.
    Exchange(Box<Exchange>, Action),
}

/// An upstream access token from the cache.
#[derive(Debug)]
pub enum Cached {
    /// It has most of its life before it.
    Fresh(Arc<UpstreamAccess>),
    /// It serves, and another should be asked for meanwhile.
    Ageing(Arc<UpstreamAccess>),
}

/// All that a request to the provider is made of.
pub(super) struct Material {
    pub(super) grant: Arc<Grant>,
    pub(super) app: Arc<App>,
    pub(super) provider: Arc<Provider>,
}

impl Material {
    pub(super) fn whom(&self) -> Whom {
        (self.provider.id.clone(), self.grant.tenant.clone())
    }

    /// An exchange that has not begun.
    pub(super) fn exchange(&self) -> Exchange {
        Exchange {
            grant: self.grant.id.clone(),
            tenant: self.grant.tenant.clone(),
            wanted: Wanted::with(self.grant.scopes.clone()),
            granted: self.grant.scopes.clone(),
            provider: Arc::clone(&self.provider),
            before: Phase::Idle,
            attempt: 0,
            intent_generation: 0,
            presented_generation: 0,
            conflicts: 0,
            challenged: false,
            relayed: None,
            state: State::Done,
        }
    }
}

impl Enclave {
    /// An upstream access token for a grant from the cache, while it lasts.
    #[must_use]
    pub fn cached_upstream(&self, grant: &GrantId, wanted: &Wanted, now: &Now) -> Option<Cached> {
        let cache = self.upstream.lock();
        let access = Arc::clone(cache.get(grant)?.get(wanted)?);
        if now.mono_ms < access.fresh_until_ms {
            Some(Cached::Fresh(access))
        } else if now.mono_ms < access.usable_until_ms {
            Some(Cached::Ageing(access))
        } else {
            None
        }
    }

    /// The provider of a grant and how many of its exchanges may be under way at
    /// once, if that is bounded. The caller sees to it.
    #[must_use]
    pub fn in_flight(&self, grant: &GrantId) -> Option<(ProviderId, u32)> {
        let provider = material(&self.view.read(), grant).ok()?.provider;
        let bound = provider.profile.in_flight(provider.rotation)?;
        Some((provider.id.clone(), bound))
    }

    /// Begins to get an upstream access token. The caller sees
    /// to it that a grant has one exchange at a time.
    ///
    /// # Errors
    /// [`RefreshError`] if the grant can't be used now.
    pub fn begin_refresh(
        &self,
        grant: &GrantId,
        wanted: &Wanted,
        now: &Now,
    ) -> Result<Begin, RefreshError> {
        self.begin(grant, wanted, None, now)
    }

    /// As [`begin_refresh`](Self::begin_refresh), for a token that is bound to the key of a client's proof, which goes
    /// with the exchange.
    ///
    /// # Errors
    /// [`RefreshError`] as there, and [`RefreshError::TooManyKeys`].
    pub fn begin_relayed(
        &self,
        grant: &GrantId,
        wanted: &Wanted,
        proof: RelayedProof,
        now: &Now,
    ) -> Result<Begin, RefreshError> {
        self.client_keys.admits(grant, proof.jkt(), now)?;
        self.begin(grant, wanted, Some(proof), now)
    }

    fn begin(
        &self,
        grant: &GrantId,
        wanted: &Wanted,
        relayed: Option<RelayedProof>,
        now: &Now,
    ) -> Result<Begin, RefreshError> {
        if wanted.client_key.as_deref() != relayed.as_ref().map(RelayedProof::jkt) {
            // Another key's proof, or none: our own fault.
            return Err(RecordError::from(SealError::Failed).into());
        }
        if let Some(Cached::Fresh(access)) = self.cached_upstream(grant, wanted, now) {
            return Ok(Begin::Cached(access));
        }
        let view = self.view.read();
        let material = material(&view, grant)?;
        let held = view.custody.get(grant).ok_or(RefreshError::NoSuchGrant)?;
        let touched = view.touched(&material.grant, None, None);
        if let Some(subject) = view.frozen(&touched) {
            return Err(RefreshError::Frozen { subject });
        }
        self.check_fresh(now)
            .map_err(|_| RefreshError::NotWitnessed)?;
        if let Some(successor) = self.orphan_of(&view, &material.grant, held)? {
            return self.begin_adoption(&view, &material, held, successor, now);
        }
        let (before, presented) = match held.value.phase {
            Phase::Idle => (Phase::Idle, 0),
            // Only one exchange runs at a time, so this one was cut off.
            Phase::Uncertain { attempt } | Phase::Intent { attempt } => {
                (Phase::Uncertain { attempt }, attempt)
            }
            Phase::NeedsConsent { cause } => return Err(RefreshError::NeedsConsent { cause }),
            Phase::Revoked => return Err(RefreshError::Revoked),
        };
        let profile = &material.provider.profile;
        let may_be_at_work = presented > 0 && material.provider.rotation != Rotation::Never;
        self.pace.held(grant, may_be_at_work, profile, now)?;
        let whom = material.whom();
        self.pace.waits(&whom, now)?;
        // Who is over a rate of its own takes nothing of what the tenant's other grants may ask.
        self.upstream_rates
            .take(grant, now)
            .map_err(|exceeded| RefreshError::RateLimited {
                retry_after_s: exceeded.retry_after_ms.div_ceil(1_000),
            })?;
        self.count(&view, Counted::Exchanges, &material.grant, None, now)?;
        self.pace.admit(&whom, profile, now)?;
        let attempt = presented.saturating_add(1);
        let exchange = Exchange {
            wanted: wanted.clone(),
            before,
            attempt,
            intent_generation: held.generation.saturating_add(1),
            presented_generation: held.value.refresh_generation,
            relayed,
            state: State::Intending,
            ..material.exchange()
        };
        let phase = Phase::Intent { attempt };
        let intent = self.seal_custody(&view, &exchange, held, None, phase, now)?;
        let pending = Pending::new(intent.0, vec![intent.1], Touched::nothing(), ());
        Ok(Begin::Exchange(Box::new(exchange), Action::Commit(pending)))
    }

    /// The batch and effect that give a grant's custody a phase and, if there is
    /// one, a new token.
    pub(super) fn write_custody(
        &self,
        view: &View,
        exchange: &Exchange,
        adopted: Option<&Adoption>,
        phase: Phase,
        now: &Now,
    ) -> Result<(Batch, Effect), RefreshError> {
        let held = self.own_custody(view, exchange)?;
        self.seal_custody(view, exchange, held, adopted, phase, now)
    }

    /// The custody record that an exchange works on, if it still is the one that
    /// its intent made.
    pub(super) fn own_custody<'v>(
        &self,
        view: &'v View,
        exchange: &Exchange,
    ) -> Result<&'v Held<Custody>, RefreshError> {
        let held = view.custody.get(&exchange.grant);
        let held = held.ok_or(RefreshError::NoSuchGrant)?;
        if held.value.phase == Phase::Revoked {
            return Err(RefreshError::Revoked);
        }
        // Deleted, and made anew under the same name.
        if held.generation != exchange.intent_generation {
            return Err(RefreshError::NoSuchGrant);
        }
        Ok(held)
    }

    fn seal_custody(
        &self,
        view: &View,
        exchange: &Exchange,
        held: &Held<Custody>,
        adopted: Option<&Adoption>,
        phase: Phase,
        now: &Now,
    ) -> Result<(Batch, Effect), RefreshError> {
        let place = custody_place(exchange);
        let key = view.realm_key(&exchange.tenant)?;
        let body = self
            .cabinet
            .open(&key, &place, held.generation, &held.value.sealed)?;
        let (mut head, token, dpop_key) = custody::decode(&body)?;
        head.phase = phase;
        let mut token = &token;
        if let Some(adoption) = adopted {
            head.refreshed_at_s = now.lo_s;
            head.subject_sha256 = head.subject_sha256.or(adoption.subject_sha256);
            head.exposure = exchange.exposure_after(head.exposure, adoption);
            if let Some(successor) = &adoption.successor {
                head.refresh_generation = head.refresh_generation.saturating_add(1);
                token = successor;
            }
        }
        self.custody_write(
            view,
            &place,
            &exchange.grant,
            held.generation,
            (head, token, dpop_key.as_ref()),
        )
        .map_err(RefreshError::from)
    }

    /// What a grant's custody record says, with its refresh token opened for use.
    pub(super) fn open_custody(
        &self,
        view: &View,
        exchange: &Exchange,
    ) -> Result<(Head, RefreshToken, Option<DpopPrivateKey>), RefreshError> {
        let held = self.own_custody(view, exchange)?;
        let key = view.realm_key(&exchange.tenant)?;
        let place = custody_place(exchange);
        let body = self
            .cabinet
            .open(&key, &place, held.generation, &held.value.sealed)?;
        Ok(custody::decode(&body)?)
    }
}

fn custody_place(exchange: &Exchange) -> Place {
    Place::tenant(&exchange.tenant, Table::Custody, exchange.grant.as_str())
}

pub(super) fn material(view: &View, grant: &GrantId) -> Result<Material, RefreshError> {
    let absent = RefreshError::NoSuchGrant;
    let grant = &view.grants.get(grant).ok_or(absent.clone())?.value;
    let app = &view.apps.get(&grant.app).ok_or(absent.clone())?.value;
    let provider = &view.providers.get(&app.provider).ok_or(absent)?.value;
    Ok(Material {
        grant: Arc::clone(grant),
        app: Arc::clone(app),
        provider: Arc::clone(provider),
    })
}
