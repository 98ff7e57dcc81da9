//! How an exchange begins: from the cache, or with a durable intent.

use std::sync::Arc;

use super::{Action, Exchange, RefreshError, State, UpstreamAccess};
use crate::Enclave;
use crate::custody::{self, Custody, Phase};
use crate::freeze::Touched;
use crate::ids::GrantId;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::registry::{App, Grant, Provider};
use crate::scope::Scopes;
use crate::secret::{ClientSecret, RefreshToken};
use crate::store::Batch;
use crate::time::Now;
use crate::view::{Held, View};

/// What a request for an upstream access token leads to.
#[derive(Debug)]
pub enum Begin {
    /// There is one already.
    Cached(Arc<UpstreamAccess>),
    /// An exchange with the provider is needed: run it.
    Exchange(Box<Exchange>, Action),
}

/// All that a request to the provider is made of.
pub(super) struct Material {
    pub(super) grant: Arc<Grant>,
    pub(super) app: Arc<App>,
    pub(super) provider: Arc<Provider>,
}

impl Enclave {
    /// An upstream access token for a grant from the cache, while it lasts.
    #[must_use]
    pub fn cached_upstream(
        &self,
        grant: &GrantId,
        scopes: &Scopes,
        now: &Now,
    ) -> Option<Arc<UpstreamAccess>> {
        let cache = self.upstream.lock();
        let access = cache.get(grant)?.get(scopes)?;
        (now.mono_ms < access.fresh_until_ms).then(|| Arc::clone(access))
    }

    /// Begins to get an upstream access token with these scopes. The caller sees
    /// to it that a grant has one exchange at a time.
    ///
    /// # Errors
    /// [`RefreshError`] if the grant can't be used now.
    pub fn begin_refresh(
        &self,
        grant: &GrantId,
        scopes: &Scopes,
        now: &Now,
    ) -> Result<Begin, RefreshError> {
        if let Some(access) = self.cached_upstream(grant, scopes, now) {
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
        let (before, presented) = match held.value.phase {
            Phase::Idle => (Phase::Idle, 0),
            // Only one exchange runs at a time, so this one was cut off.
            Phase::Uncertain { attempt } | Phase::Intent { attempt } => {
                (Phase::Uncertain { attempt }, attempt)
            }
            Phase::NeedsConsent { cause } => return Err(RefreshError::NeedsConsent { cause }),
            Phase::Revoked => return Err(RefreshError::Revoked),
        };
        self.upstream_rates
            .take(grant, now)
            .map_err(|exceeded| RefreshError::RateLimited {
                retry_after_s: exceeded.retry_after_ms.div_ceil(1_000),
            })?;
        let attempt = presented.saturating_add(1);
        let exchange = Exchange {
            grant: grant.clone(),
            tenant: material.grant.tenant.clone(),
            scopes: scopes.clone(),
            granted: material.grant.scopes.clone(),
            rotation: material.provider.rotation,
            before,
            attempt,
            intent_generation: held.generation.saturating_add(1),
            state: State::Intending,
        };
        let phase = Phase::Intent { attempt };
        let intent = self.seal_custody(&view, &exchange, held, None, phase)?;
        let pending = Pending::new(intent.0, vec![intent.1], Touched::nothing(), ());
        Ok(Begin::Exchange(Box::new(exchange), Action::Commit(pending)))
    }

    /// The batch and effect that give a grant's custody a phase and, if there is
    /// one, a new token.
    pub(super) fn write_custody(
        &self,
        view: &View,
        exchange: &Exchange,
        successor: Option<&RefreshToken>,
        phase: Phase,
    ) -> Result<(Batch, crate::view::Effect), RefreshError> {
        let held = self.own_custody(view, exchange)?;
        self.seal_custody(view, exchange, held, successor, phase)
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
        successor: Option<&RefreshToken>,
        phase: Phase,
    ) -> Result<(Batch, crate::view::Effect), RefreshError> {
        let place = custody_place(exchange);
        let key = view.realm_key(&exchange.tenant)?;
        let body = self
            .cabinet
            .open(&key, &place, held.generation, &held.value.sealed)?;
        let (refresh_generation, _, token) = custody::decode(&body)?;
        let refresh_generation = match successor {
            Some(_) => refresh_generation.saturating_add(1),
            None => refresh_generation,
        };
        let token = successor.unwrap_or(&token);
        self.custody_write(
            view,
            &place,
            &exchange.grant,
            held.generation,
            (refresh_generation, phase, token),
        )
        .map_err(RefreshError::from)
    }

    /// The refresh token of a grant, opened for use.
    pub(super) fn open_token(
        &self,
        view: &View,
        exchange: &Exchange,
    ) -> Result<RefreshToken, RefreshError> {
        let held = self.own_custody(view, exchange)?;
        let key = view.realm_key(&exchange.tenant)?;
        let place = custody_place(exchange);
        let body = self
            .cabinet
            .open(&key, &place, held.generation, &held.value.sealed)?;
        Ok(custody::decode(&body)?.2)
    }

    /// The secret of an app, opened for use, if it has one.
    pub(super) fn open_app_secret(
        &self,
        view: &View,
        app: &App,
    ) -> Result<Option<ClientSecret>, RefreshError> {
        let Some(held) = view.app_secrets.get(&app.id) else {
            return Ok(None);
        };
        let place = Place::system(Table::AppSecrets, app.id.as_str());
        let key = &self.system_key;
        let body = self
            .cabinet
            .open(key, &place, held.generation, &held.sealed)?;
        Ok(Some(ClientSecret::new(body.to_vec())))
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
