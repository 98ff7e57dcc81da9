//! Replacing the keys that the enclave speaks with, and tenants' keys.

use std::sync::Arc;

use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::boot::BootError;
use crate::freeze::Touched;
use crate::ids::TenantId;
use crate::keys::keyring::KeyringError;
use crate::keys::ring::{KeyKind, RING};
use crate::keys::{KeyState, Making, Speaking, Turned};
use crate::pending::Pending;
use crate::record::{Place, RecordError, Table};
use crate::seal::SealError;
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, TenantKey};

/// The most keys of one tenant, earlier ones included: what is older stays readable by them.
pub(crate) const MAX_TENANT_KEYS: usize = 64;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// What a rotation failed for that is no fault of the caller.
fn internal(_: KeyringError) -> AdminError {
    SealError::Failed.into()
}

fn no_bundle(_: BootError) -> AdminError {
    SealError::Failed.into()
}

impl Enclave {
    /// Replaces a key. The new one speaks when this is durable; what of the old one lives on, and how long, says
    /// `overlap_s`: without it the kind's default, 0 for nothing.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn rotate_key(
        &self,
        by: &Administrator,
        kind: KeyKind,
        overlap_s: Option<u64>,
        now: &Now,
    ) -> Result<Pending<Vec<KeyState>>, AdminError> {
        forbid_unless(by.is_operator())?;
        self.replace_key(&by.name, kind, overlap_s, now)
    }

    /// Replaces the signing key if it is older than the manifest lets it be.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn rotate_if_due(&self, now: &Now) -> Result<Option<Pending<Vec<KeyState>>>, AdminError> {
        let Some(days) = self.config.signing_key_days else {
            return Ok(None);
        };
        let made_at_s = self.keys().made_at_s(KeyKind::Signing);
        let due_s = made_at_s.saturating_add(days.saturating_mul(DAY_S));
        if now.lo_s < due_s {
            return Ok(None);
        }
        self.replace_key("schedule", KeyKind::Signing, None, now)
            .map(Some)
    }

    fn replace_key(
        &self,
        by: &str,
        kind: KeyKind,
        overlap_s: Option<u64>,
        now: &Now,
    ) -> Result<Pending<Vec<KeyState>>, AdminError> {
        let overlap_s = overlap_s.unwrap_or(kind.default_overlap_s());
        if overlap_s > kind.max_overlap_s() {
            return Err(AdminError::Field {
                field: "overlap_s",
                rule: "at most a day for signing and deposit, a year for ca and log",
            });
        }
        let speaking = self.speaking();
        if overlap_s > 0 && !speaking.keys.has_room(kind) {
            return Err(AdminError::Field {
                field: "kind",
                rule: "earlier keys of this kind are in their overlap still: wait until they end, or give overlap_s 0",
            });
        }
        let making = Making {
            hosts: &self.config.hosts,
            token_alg: self.config.token_alg,
            emulated: self.config.emulated,
            now,
            rng: &*self.rng,
        };
        let turned = speaking.keys.rotated(kind, overlap_s, &making);
        let turned = turned.map_err(internal)?;
        let deposit = (kind == KeyKind::Deposit).then_some(overlap_s);
        self.turn_keys(&speaking, turned, (Some(by), deposit), now)
    }

    /// Ends what overlaps kept, where they are over; none if there is nothing to end.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn retire_keys(&self, now: &Now) -> Result<Option<Pending<Vec<KeyState>>>, AdminError> {
        let speaking = self.speaking();
        let Some(turned) = speaking.keys.retired(now) else {
            return Ok(None);
        };
        self.turn_keys(&speaking, turned, (None, None), now)
            .map(Some)
    }

    /// `by` is who rotates; nobody if an overlap ends.
    fn turn_keys(
        &self,
        speaking: &Speaking,
        turned: Turned,
        (by, deposit_overlap_s): (Option<&str>, Option<u64>),
        now: &Now,
    ) -> Result<Pending<Vec<KeyState>>, AdminError> {
        let Turned {
            keys,
            put,
            delete,
            changes,
        } = turned;
        let states = keys.states();
        let mut batch = Batch::default();
        for (name, key) in &put {
            let place = Place::system(Table::Keys, name);
            let write = self
                .cabinet
                .seal(&*self.rng, &self.system_key, &place, 0, key)?;
            batch.writes.push(write);
        }
        for name in &delete {
            // A key's record is written once.
            batch.writes.push(Write {
                key: self.cabinet.key(&Place::system(Table::Keys, name)),
                expected_generation: 1,
                sealed: None,
            });
        }
        let place = Place::system(Table::Keys, RING);
        let before = speaking.keys.ring().generation;
        let ring = &*keys.ring().value;
        let write = self.seal_json(&self.system_key, &place, before, ring)?;
        batch.writes.push(write);
        let view = self.view.read();
        for change in &changes {
            let event = match by {
                Some(by) => Event::KeyRotated { change, by },
                None => Event::KeyRetired { change },
            };
            let leaf = self.leaf(&view, None, &event, now)?;
            batch.leaves.push(leaf);
        }
        drop(view);
        let next = speaking.with(&self.config, keys, deposit_overlap_s, now);
        let effects = vec![Effect::Speaking(Box::new(next.map_err(no_bundle)?))];
        Ok(Pending::new(batch, effects, Touched::nothing(), states))
    }

    /// The keys in use, and a tenant's if one is named.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn key_states(
        &self,
        by: &Administrator,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<KeyState>, AdminError> {
        let Some(tenant) = tenant else {
            return Ok(self.keys().states());
        };
        forbid_unless(by.is_operator() || by.sees_tenant(tenant))?;
        let view = self.view.read();
        let held = view.tenant_keys.get(tenant);
        let held = held.ok_or(AdminError::NotFound("tenant"))?;
        Ok(tenant_states(held.key.count()))
    }

    /// Gives a tenant a new key: what is written from now on is sealed under it. The earlier ones stay wrapped beside
    /// it, for the records and leaves that they sealed, until the tenant is erased.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn rotate_tenant_key(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        now: &Now,
    ) -> Result<Pending<Vec<KeyState>>, AdminError> {
        forbid_unless(by.is_operator() || by.guards_tenant(tenant))?;
        let under = self.wrap_key();
        let view = self.view.read();
        let held = view.tenant_keys.get(tenant);
        let held = held.ok_or(AdminError::NotFound("tenant"))?;
        if held.key.count() >= MAX_TENANT_KEYS {
            return Err(AdminError::Field {
                field: "tenant",
                rule: "a tenant has 64 keys at most, earlier ones included",
            });
        }
        let key = held.key.succeeded_by(&self.new_tenant_key()?);
        let place = Place::system(Table::TenantKeys, tenant.as_str());
        let write = self.cabinet.seal(
            &*self.rng,
            &under,
            &place,
            held.generation,
            &key.expose_all(),
        )?;
        let number = u32::try_from(key.count()).map_err(|_| RecordError::Schema)?;
        let event = Event::TenantKeyRotated {
            number,
            by: &by.name,
        };
        let batch = Batch {
            writes: vec![write],
            // Sealed under the key before, and so is what others write meanwhile: it opens all the same.
            leaves: vec![self.leaf(&view, Some(tenant), &event, now)?],
        };
        let states = tenant_states(key.count());
        let generation = held.generation.saturating_add(1);
        let held = TenantKey::new(tenant, generation, Arc::new(key), under);
        let effects = vec![Effect::TenantKey(tenant.clone(), held)];
        Ok(Pending::new(batch, effects, Touched::nothing(), states))
    }
}

/// A tenant's keys, the current one first. Nothing names them: they have no public half.
fn tenant_states(count: usize) -> Vec<KeyState> {
    (1..=count)
        .rev()
        .map(|number| KeyState {
            kind: "tenant",
            number: u32::try_from(number).unwrap_or(u32::MAX),
            state: if number == count {
                "current"
            } else {
                "earlier"
            },
            id: String::new(),
            made_at_s: 0,
            until_s: 0,
        })
        .collect()
}

#[cfg(test)]
mod tests;
