//! The end of a grant: revoked by its owner, and deleted.

use super::freezes::MAX_REASON_BYTES;
use super::{AdminError, Administrator, GrantView, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::custody::{self, Head};
use crate::freeze::Touched;
use crate::ids::{GrantId, TenantId};
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::registry::Grant;
use crate::secret::RefreshToken;
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, Held, HeldSealed, View};

impl Enclave {
    /// Revokes a grant for good: its refresh token leaves custody, nothing is
    /// issued or forwarded for it any more, and an exchange that is under way ends
    /// without a token. The refresh token is kept apart, sealed, for the one
    /// purpose of telling the provider. Revoking again changes nothing.
    ///
    /// A commit that ends in [`Conflict`](crate::store::StoreError::Conflict)
    /// met a step of an exchange: ask again.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none, or it is another tenant's.
    pub fn revoke_grant(
        &self,
        by: &Administrator,
        id: &GrantId,
        reason: &str,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        if reason.len() > MAX_REASON_BYTES {
            return Err(AdminError::Field {
                field: "reason",
                rule: "at most 512 bytes",
            });
        }
        let view = self.view.read();
        let grant = own_grant(&view, by, id, Administrator::guards_tenant)?;
        let mut answer = self.view_of(&view, grant);
        if answer.revoked {
            let nothing = Batch::default();
            return Ok(Pending::new(
                nothing,
                Vec::new(),
                Touched::nothing(),
                answer,
            ));
        }
        let held = view.custody.get(id).ok_or(AdminError::NotFound("grant"))?;
        let key = view.realm_key(&grant.tenant)?;
        let place = custody_place(grant);
        let sealed = &held.value.sealed;
        let body = self.cabinet.open(&key, &place, held.generation, sealed);
        let (head, mut token, _key) = custody::decode(&body?)?;
        // The answer to an exchange that was cut off may hold a newer one.
        if let Some(successor) = self.journalled_successor(&view, id) {
            token = successor;
        }

        // What the provider is to be told about, out of reach of any exchange.
        let revocation = Place::tenant(&grant.tenant, Table::Revocations, id.as_str());
        let generation = view.revocations.get(id).map_or(0, |held| held.generation);
        let kept = self
            .cabinet
            .seal(&*self.rng, &key, &revocation, generation, token.expose())?;
        let revocation = HeldSealed {
            generation: generation.saturating_add(1),
            sealed: kept.sealed.as_deref().unwrap_or_default().into(),
        };

        let nothing = RefreshToken::new(Vec::new());
        let (mut batch, custody) = self.custody_write(
            &view,
            &place,
            id,
            held.generation,
            (Head::ended(head.refresh_generation), &nothing, None),
        )?;
        batch.writes.push(kept);
        let mut effects = vec![custody, Effect::Revocation(id.clone(), revocation)];
        if let Some(journal) = self.journal_gone(&view, grant) {
            batch.writes.push(journal);
            effects.push(Effect::JournalGone(id.clone()));
        }
        self.clear_orphans(&view, &grant.tenant, id, &mut batch, &mut effects);
        let event = Event::GrantRevoked {
            grant: id,
            by: &by.name,
            reason,
        };
        let leaf = self.leaf(&view, Some(&grant.tenant), &event, now)?;
        batch.leaves.push(leaf);
        answer.revoked = true;
        answer.revocation_pending = true;
        answer.needs_consent = None;
        Ok(Pending::new(batch, effects, Touched::nothing(), answer))
    }

    /// Deletes a grant and all that was kept of it, but for the fact that its name was
    /// used. What its provider knows of it
    /// is not touched: revoke it first for that. Its id may be used again, by a new
    /// consent.
    ///
    /// # Errors
    /// As [`revoke_grant`](Self::revoke_grant).
    pub fn delete_grant(
        &self,
        by: &Administrator,
        id: &GrantId,
        now: &Now,
    ) -> Result<Pending<()>, AdminError> {
        let view = self.view.read();
        let grant = own_grant(&view, by, id, Administrator::owns_tenant)?;
        let of = |table, generation| Write {
            key: self
                .cabinet
                .key(&Place::tenant(&grant.tenant, table, id.as_str())),
            expected_generation: generation,
            sealed: None,
        };
        let generation = |held: Option<u64>| held.unwrap_or(0);
        let custody = generation(view.custody.get(id).map(|held| held.generation));
        let nothing = RefreshToken::new(Vec::new());
        let (mut batch, tombstone) = self.custody_write(
            &view,
            &custody_place(grant),
            id,
            custody,
            (Head::ended(0), &nothing, None),
        )?;
        let held = view.grants.get(id).map(|held| held.generation);
        batch.writes.push(of(Table::Grants, generation(held)));
        if let Some(held) = view.revocations.get(id) {
            batch.writes.push(of(Table::Revocations, held.generation));
        }
        if let Some(held) = view.lives.get(id) {
            batch.writes.push(of(Table::Lives, held.generation));
        }
        batch.writes.extend(self.journal_gone(&view, grant));
        let event = Event::GrantDeleted {
            grant: id,
            by: &by.name,
        };
        let leaf = self.leaf(&view, Some(&grant.tenant), &event, now)?;
        batch.leaves.push(leaf);
        let mut effects = vec![tombstone, Effect::GrantGone(id.clone())];
        self.clear_orphans(&view, &grant.tenant, id, &mut batch, &mut effects);
        Ok(Pending::new(batch, effects, Touched::nothing(), ()))
    }

    fn journal_gone(&self, view: &View, grant: &Grant) -> Option<Write> {
        let held = view.journal.get(&grant.id)?;
        let place = Place::tenant(&grant.tenant, Table::Journal, grant.id.as_str());
        Some(Write {
            key: self.cabinet.key(&place),
            expected_generation: held.generation,
            sealed: None,
        })
    }
}

/// A grant that an administrator may change. To whom may not see it, it is as if it weren't there.
pub(super) fn own_grant<'v>(
    view: &'v View,
    by: &Administrator,
    id: &GrantId,
    may: impl Fn(&Administrator, &TenantId) -> bool,
) -> Result<&'v Grant, AdminError> {
    let grant = view
        .grants
        .get(id)
        .map(|held: &Held<Grant>| &*held.value)
        .filter(|grant| by.sees_tenant(&grant.tenant))
        .ok_or(AdminError::NotFound("grant"))?;
    forbid_unless(may(by, &grant.tenant))?;
    Ok(grant)
}

fn custody_place(grant: &Grant) -> Place {
    Place::tenant(&grant.tenant, Table::Custody, grant.id.as_str())
}
