//! What a tenant sets for its grants, one by one and all together, and sets anew.
//!
//! Whoever guards the tenant may tighten. What lets more pass than before is its owner's alone to set.

use super::grants::own_grant;
use super::{AdminError, Administrator, GrantView, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::{GrantId, TenantId};
use crate::limits::{LimitOf, Limits};
use crate::operation::OperationName;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::registry::{Api, Grant, Tenant};
use crate::store::Batch;
use crate::terms::{BrokenTerm, GrantTerms};
use crate::time::Now;
use crate::view::{Effect, Held, View};

impl From<BrokenTerm> for AdminError {
    fn from(BrokenTerm { field, rule }: BrokenTerm) -> Self {
        Self::Field { field, rule }
    }
}

/// Whether terms fit a grant and what its provider's targets have.
pub(super) fn check_terms(
    view: &View,
    grant: &Grant,
    terms: &GrantTerms,
) -> Result<(), AdminError> {
    let app = view.apps.get(&grant.app);
    let provider = app.and_then(|app| view.providers.get(&app.value.provider));
    let has = |name: &OperationName| {
        let target = provider.and_then(|provider| provider.value.target(&name.target));
        let Some(Api::Gateway { operations, .. }) = target.map(|target| &target.api) else {
            return false;
        };
        let mut operations = operations.iter();
        let operation = operations.find(|operation| operation.id == name.operation);
        grant.targets.contains(&name.target)
            && operation.is_some_and(|operation| grant.allows(&name.target, operation))
    };
    Ok(terms.check(grant, has)?)
}

impl Enclave {
    /// Replaces a grant's terms. They hold from the next token and call on.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none, or it is another tenant's; [`AdminError::Forbidden`] for whoever
    /// guards the tenant without owning it and would let more pass than before.
    pub fn update_grant(
        &self,
        by: &Administrator,
        id: &GrantId,
        terms: GrantTerms,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        let view = self.view.read();
        let grant = own_grant(&view, by, id, Administrator::guards_tenant)?;
        check_terms(&view, grant, &terms)?;
        let before = grant.terms.as_deref().cloned().unwrap_or_default();
        let widened = terms.widen(&before);
        forbid_unless(!widened || by.owns_tenant(&grant.tenant))?;
        let event = Event::GrantChanged {
            grant: id,
            by: &by.name,
            widened,
            terms: &terms,
        };
        let leaf = self.leaf(&view, Some(&grant.tenant), &event, now)?;
        let grant = Grant {
            terms: terms.or_none(),
            ..grant.clone()
        };
        let place = Place::tenant(&grant.tenant, Table::Grants, id.as_str());
        let key = view.realm_key(&grant.tenant)?;
        let generation = view.grants.get(id).map_or(0, |held| held.generation);
        let mut batch = Batch {
            writes: vec![self.seal_json(&key, &place, generation, &grant)?],
            leaves: vec![leaf],
        };
        let mut effects = Vec::new();
        // It is watched from now on: nobody knows when it was used before.
        let watched = grant
            .terms
            .as_deref()
            .and_then(|terms| terms.sleep_after_idle_s);
        if watched.is_some() && before.sleep_after_idle_s.is_none() {
            let mut life = self.awake(&view, &grant, now);
            life.asleep_since_s = view.asleep_since_s(id);
            let (write, effect) = self.write_life(&view, &grant, life)?;
            batch.writes.push(write);
            effects.push(effect);
        }
        let answer = self.view_of(&view, &grant);
        let held = Held::new(generation.saturating_add(1), grant);
        effects.push(Effect::Grant(held));
        Ok(Pending::new(batch, effects, Touched::nothing(), answer))
    }

    /// Wakes a grant that fell asleep. One that is awake stays as it is.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none, or it is another tenant's.
    pub fn wake_grant(
        &self,
        by: &Administrator,
        id: &GrantId,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        let view = self.view.read();
        let grant = own_grant(&view, by, id, Administrator::guards_tenant)?;
        let mut answer = self.view_of(&view, grant);
        if !view.is_asleep(grant, now) {
            let nothing = Batch::default();
            let touched = Touched::nothing();
            return Ok(Pending::new(nothing, Vec::new(), touched, answer));
        }
        let life = self.awake(&view, grant, now);
        (answer.asleep_since_s, answer.last_used_s) = (None, Some(life.used_at_s));
        let (write, effect) = self.write_life(&view, grant, life)?;
        let event = Event::GrantWoken {
            grant: id,
            by: &by.name,
        };
        let batch = Batch {
            writes: vec![write],
            leaves: vec![self.leaf(&view, Some(&grant.tenant), &event, now)?],
        };
        Ok(Pending::new(
            batch,
            vec![effect],
            Touched::nothing(),
            answer,
        ))
    }

    /// Sets what may be done with all grants of a tenant together. It holds from the next token and call on.
    ///
    /// # Errors
    /// As [`update_grant`](Self::update_grant).
    pub fn set_tenant_limits(
        &self,
        by: &Administrator,
        id: &TenantId,
        limits: Limits,
        now: &Now,
    ) -> Result<Pending<Tenant>, AdminError> {
        forbid_unless(by.guards_tenant(id))?;
        let view = self.view.read();
        let held = view.tenants.get(id).ok_or(AdminError::NotFound("tenant"))?;
        if let Some(rule) = limits.broken(LimitOf::Tenant) {
            let field = "limits";
            return Err(AdminError::Field { field, rule });
        }
        let widened = limits.widen(&held.value.limits);
        forbid_unless(!widened || by.owns_tenant(id))?;
        let event = Event::TenantLimitsSet {
            by: &by.name,
            widened,
            limits: &limits,
        };
        let leaf = self.leaf(&view, Some(id), &event, now)?;
        let tenant = Tenant {
            limits,
            ..(*held.value).clone()
        };
        let place = Place::system(Table::Tenants, id.as_str());
        let batch = Batch {
            writes: vec![self.seal_json(&self.system_key, &place, held.generation, &tenant)?],
            leaves: vec![leaf],
        };
        let next = Held::new(held.generation.saturating_add(1), tenant.clone());
        let effects = vec![Effect::Tenant(next)];
        Ok(Pending::new(batch, effects, Touched::nothing(), tenant))
    }
}

#[cfg(test)]
mod tests;
