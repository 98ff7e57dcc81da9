//! Orphans: successors whose exchange lost its record to another owner.
//!
//! An owner that was fenced off while its request was out may come back with the
//! provider's answer. It must not write over what the new owner wrote, and it must
//! not drop the answer either: the token that the new owner has is spent. So it puts
//! the successor where the new owner looks before it presents anything, under the
//! grant's name and the generation of the token that it replaces.

use super::start::Material;
use super::{Action, Adoption, Begin, Exchange, RefreshError, State};
use crate::Enclave;
use crate::custody::{Cause, Custody, Phase};
use crate::freeze::Touched;
use crate::ids::{GrantId, TenantId};
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::registry::Grant;
use crate::secret::RefreshToken;
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, Held, HeldSealed, View};

/// An orphan's name in its table.
fn place(tenant: &TenantId, grant: &GrantId, replaces: u64) -> Place {
    let name = format!("{}.{replaces}", grant.as_str());
    Place::tenant(tenant, Table::Orphans, &name)
}

/// Whose successor an orphan is, and which generation it replaces.
pub(crate) fn parse(name: &str) -> Option<(GrantId, u64)> {
    let (grant, replaces) = name.rsplit_once('.')?;
    Some((GrantId::parse(grant).ok()?, replaces.parse().ok()?))
}

impl Enclave {
    /// Puts a successor away for the grant's new owner.
    pub(super) fn orphan(
        &self,
        exchange: &mut Exchange,
        successor: RefreshToken,
    ) -> Result<Action, RefreshError> {
        let view = self.view.read();
        let key = view.realm_key(&exchange.tenant)?;
        let replaces = exchange.presented_generation;
        let place = place(&exchange.tenant, &exchange.grant, replaces);
        let write = self
            .cabinet
            .seal(&*self.rng, &key, &place, 0, successor.expose())?;
        let held = HeldSealed {
            generation: 1,
            sealed: write.sealed.as_deref().unwrap_or_default().into(),
        };
        let batch = Batch {
            writes: vec![write],
            leaves: Vec::new(),
        };
        exchange.state = State::Orphaning { successor };
        let effects = vec![Effect::Orphan(exchange.grant.clone(), replaces, held)];
        let pending = Pending::new(batch, effects, Touched::nothing(), ());
        Ok(Action::Commit(pending))
    }

    /// The successor of a grant's current token, if another owner left one and
    /// nothing is known to have replaced the token since.
    pub(super) fn orphan_of(
        &self,
        view: &View,
        grant: &Grant,
        held: &Held<Custody>,
    ) -> Result<Option<RefreshToken>, RefreshError> {
        let waits = match held.value.phase {
            Phase::Intent { .. } | Phase::Uncertain { .. } => true,
            Phase::NeedsConsent { cause } => cause == Cause::LostInExchange,
            Phase::Idle | Phase::Revoked => false,
        };
        let replaces = held.value.refresh_generation;
        let orphan = view.orphans.get(&(grant.id.clone(), replaces));
        let Some(orphan) = orphan.filter(|_| waits) else {
            return Ok(None);
        };
        let key = view.realm_key(&grant.tenant)?;
        let place = place(&grant.tenant, &grant.id, replaces);
        let body = self
            .cabinet
            .open(&key, &place, orphan.generation, &orphan.sealed)?;
        Ok(Some(RefreshToken::new(body.to_vec())))
    }

    /// Begins an exchange that presents nothing: it adopts an orphan. It gives no
    /// access token; the next exchange does.
    pub(super) fn begin_adoption(
        &self,
        view: &View,
        material: &Material,
        held: &Held<Custody>,
        successor: RefreshToken,
        now: &Now,
    ) -> Result<Begin, RefreshError> {
        let mut exchange = Exchange {
            before: held.value.phase,
            intent_generation: held.generation,
            presented_generation: held.value.refresh_generation,
            ..material.exchange()
        };
        let adoption = Adoption {
            successor: Some(successor),
            subject_sha256: None,
            access: Err(RefreshError::ProviderUnclear),
        };
        let action = self.adopt_in(view, &mut exchange, adoption, now)?;
        Ok(Begin::Exchange(Box::new(exchange), action))
    }

    /// Adds to a batch that all orphans of a grant go.
    pub(crate) fn clear_orphans(
        &self,
        view: &View,
        tenant: &TenantId,
        grant: &GrantId,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) {
        let of_grant = (grant.clone(), 0)..=(grant.clone(), u64::MAX);
        for ((_, replaces), held) in view.orphans.range(of_grant) {
            batch.writes.push(Write {
                key: self.cabinet.key(&place(tenant, grant, *replaces)),
                expected_generation: held.generation,
                sealed: None,
            });
            effects.push(Effect::OrphanGone(grant.clone(), *replaces));
        }
    }
}
