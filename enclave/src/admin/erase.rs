//! Erasing a tenant: its key's wrap is deleted at once, and then whatever opens an older wrap is destroyed.
//!
//! 1. [`Enclave::erase_tenant`]: the wrap and the registration are gone, and nothing of the tenant is served. What older
//!    copies of the disk hold opens under the root of then.
//! 2. The shell makes a new root, and [`Enclave::root_replaced`] writes down what could open the one before.
//! 3. When all of that is confirmed to be destroyed, [`Enclave::settle_erasures`] calls the erasure done.
//!
//! Each step is durable, and a start goes on where the last boot stopped. Meanwhile [`Enclave::sweep`] takes the
//! tenant's records, which nobody can read, out of the store.

use serde::{Deserialize, Serialize};

use super::list::hide_limits;
use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::TenantId;
use crate::keys::envelope::Retired;
use crate::pending::Pending;
use crate::record::{Place, Realm, RecordError, Table};
use crate::registry::Tenant;
use crate::store::{Batch, MAX_BATCH_ENTRIES, Record, Write};
use crate::time::Now;
use crate::view::{Effect, Held};

/// Erasures that one batch moves on.
const MAX_MOVED: usize = 256;

/// A tenant's erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// Whose. The id is never used again.
    pub tenant: TenantId,
    /// Unix time in seconds.
    pub begun_at_s: u64,
    /// The administrator's name.
    pub by: String,
    /// How far it is.
    pub phase: ErasurePhase,
}

/// How far an erasure is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case", deny_unknown_fields)]
pub enum ErasurePhase {
    /// The wrap is gone; the root under which it was is not yet replaced.
    Begun {},
    /// The root is replaced; these could open the one before.
    Waiting {
        /// Those that were to be destroyed then.
        retired: Vec<Retired>,
    },
    /// All of them confirmed that they destroyed it.
    Done {
        /// Unix time in seconds.
        at_s: u64,
    },
}

impl Enclave {
    /// Begins to erase a tenant: from the moment that this is durable on, nothing of it is served.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn erase_tenant(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        now: &Now,
    ) -> Result<Pending<Erasure>, AdminError> {
        forbid_unless(by.is_operator() || by.owns_tenant(tenant))?;
        let view = self.view.read();
        let (Some(key), Some(registered)) =
            (view.tenant_keys.get(tenant), view.tenants.get(tenant))
        else {
            return Err(AdminError::NotFound("tenant"));
        };
        let erasure = Erasure {
            tenant: tenant.clone(),
            begun_at_s: now.lo_s,
            by: by.name.clone(),
            phase: ErasurePhase::Begun {},
        };
        let gone = |table, expected_generation| Write {
            key: self.cabinet.key(&Place::system(table, tenant.as_str())),
            expected_generation,
            sealed: None,
        };
        let place = Place::system(Table::Erasures, tenant.as_str());
        let event = Event::TenantErased {
            tenant,
            by: &by.name,
        };
        let batch = Batch {
            writes: vec![
                gone(Table::TenantKeys, key.generation),
                gone(Table::Tenants, registered.generation),
                self.seal_json(&self.system_key, &place, 0, &erasure)?,
            ],
            leaves: vec![self.leaf(&view, None, &event, now)?],
        };
        let effects = vec![Effect::Erasure(Held::new(1, erasure.clone()))];
        Ok(Pending::new(batch, effects, Touched::nothing(), erasure))
    }

    /// A tenant's erasure, if one was begun.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn erasure(
        &self,
        by: &Administrator,
        tenant: &TenantId,
    ) -> Result<Option<Erasure>, AdminError> {
        forbid_unless(by.is_operator() || by.sees_tenant(tenant))?;
        let view = self.view.read();
        let held = view.erasures.get(tenant);
        Ok(held.map(|held| (*held.value).clone()))
    }

    /// A registered tenant.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn tenant(&self, by: &Administrator, tenant: &TenantId) -> Result<Tenant, AdminError> {
        forbid_unless(by.is_operator() || by.sees_tenant(tenant))?;
        let view = self.view.read();
        let held = view.tenants.get(tenant);
        let held = held.ok_or(AdminError::NotFound("tenant"))?;
        let mut tenant = (*held.value).clone();
        hide_limits(by, &mut tenant);
        Ok(tenant)
    }

    /// The erasures that are not done.
    #[must_use]
    pub fn open_erasures(&self) -> Vec<Erasure> {
        let view = self.view.read();
        let all = view.erasures.values().map(|held| (*held.value).clone());
        all.filter(|erasure| !matches!(erasure.phase, ErasurePhase::Done { .. }))
            .collect()
    }

    /// The root that these tenants' wraps were under is replaced, and `retired` could open it.
    ///
    /// # Errors
    /// [`RecordError::Seal`] without randomness.
    pub fn root_replaced(
        &self,
        tenants: &[TenantId],
        retired: &[Retired],
    ) -> Result<Option<Pending<()>>, RecordError> {
        let waiting = |erasure: &Erasure| {
            let concerned = tenants.contains(&erasure.tenant);
            let begun = matches!(erasure.phase, ErasurePhase::Begun {});
            let retired = retired.to_vec();
            (concerned && begun).then_some(ErasurePhase::Waiting { retired })
        };
        self.move_erasures(waiting, None)
    }

    /// Calls those erasures done for which nothing of what they wait for is still to be destroyed.
    ///
    /// # Errors
    /// [`RecordError::Seal`] without randomness.
    pub fn settle_erasures(
        &self,
        still: &[Retired],
        now: &Now,
    ) -> Result<Option<Pending<()>>, RecordError> {
        let done = |erasure: &Erasure| match &erasure.phase {
            ErasurePhase::Waiting { retired } => {
                let over = !retired.iter().any(|one| still.contains(one));
                over.then_some(ErasurePhase::Done { at_s: now.lo_s })
            }
            ErasurePhase::Begun {} | ErasurePhase::Done { .. } => None,
        };
        self.move_erasures(done, Some(now))
    }

    /// Leaves are written for what is done, at a time.
    fn move_erasures(
        &self,
        next: impl Fn(&Erasure) -> Option<ErasurePhase>,
        done: Option<&Now>,
    ) -> Result<Option<Pending<()>>, RecordError> {
        let view = self.view.read();
        let mut batch = Batch::default();
        let mut effects = Vec::new();
        let moved = view.erasures.values().filter_map(|held| {
            let phase = next(&held.value)?;
            let erasure = Erasure {
                phase,
                ..(*held.value).clone()
            };
            Some((held.generation, erasure))
        });
        for (generation, erasure) in moved.take(MAX_MOVED) {
            let place = Place::system(Table::Erasures, erasure.tenant.as_str());
            let write = self.seal_json(&self.system_key, &place, generation, &erasure)?;
            batch.writes.push(write);
            if let Some(now) = done {
                let tenant = &erasure.tenant;
                let event = Event::TenantErasureDone { tenant };
                batch.leaves.push(self.leaf(&view, None, &event, now)?);
            }
            let held = Held::new(generation.saturating_add(1), erasure);
            effects.push(Effect::Erasure(held));
        }
        if effects.is_empty() {
            return Ok(None);
        }
        Ok(Some(Pending::new(batch, effects, Touched::nothing(), ())))
    }

    /// Takes out of the store what of these records belongs to erased tenants; none if nothing does.
    ///
    /// # Errors
    /// [`RecordError`] if a record is not this enclave's.
    pub fn sweep(&self, records: &[Record]) -> Result<Option<Pending<usize>>, RecordError> {
        let view = self.view.read();
        let mut writes = Vec::new();
        for record in records.iter().take(MAX_BATCH_ENTRIES) {
            let place = self.cabinet.locate(record)?;
            let Realm::Tenant(tenant) = &place.realm else {
                continue;
            };
            if view.erasures.contains_key(tenant) {
                writes.push(Write {
                    key: record.key,
                    expected_generation: record.generation,
                    sealed: None,
                });
            }
        }
        if writes.is_empty() {
            return Ok(None);
        }
        let count = writes.len();
        let batch = Batch {
            writes,
            leaves: Vec::new(),
        };
        let touched = Touched::nothing();
        Ok(Some(Pending::new(batch, Vec::new(), touched, count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Role;
    use crate::issue::IssueError;
    use crate::keys::envelope::Hex;
    use crate::limits::Limits;
    use crate::policy::Denied;
    use crate::registry::Rotation;
    use crate::testing::{World, id};

    fn acme() -> TenantId {
        id("acme")
    }

    fn erase(world: &World) -> Erasure {
        let by = world.admin();
        let pending = world.enclave.erase_tenant(by, &acme(), &world.now);
        world.settle(pending.unwrap())
    }

    fn records(world: &World) -> Vec<Record> {
        world.store.records.lock().values().cloned().collect()
    }

    fn phase(world: &World) -> ErasurePhase {
        let found = world.enclave.erasure(world.admin(), &acme()).unwrap();
        found.unwrap().phase
    }

    fn retired(share: u8) -> Retired {
        Retired::Share {
            name: "k".into(),
            url: "http://127.0.0.1:1".into(),
            key: Hex([1; 32]),
            share: Hex([share; 16]),
        }
    }

    #[test]
    fn nothing_of_an_erased_tenant_is_served_or_opens_again() {
        let mut world = World::new(Rotation::Strict);
        drop(world.ask(|_| {}).unwrap());
        let before = records(&world);
        assert_eq!(erase(&world).phase, ErasurePhase::Begun {});
        for boot in [
            "the same boot",
            "a boot that finds its records",
            "a swept boot",
        ] {
            let refused = world.ask(|_| {}).unwrap_err();
            let none = IssueError::Denied(Denied::NoSuchGrant);
            assert_eq!(refused.to_string(), none.to_string(), "{boot}");
            assert_eq!(world.enclave.open_erasures().len(), 1, "{boot}");
            let again = world
                .enclave
                .erase_tenant(world.admin(), &acme(), &world.now);
            assert_eq!(again.unwrap_err(), AdminError::NotFound("tenant"), "{boot}");
            let tenant = Tenant {
                id: acme(),
                display_name: "again".into(),
                limits: Limits::default(),
            };
            let again = world
                .enclave
                .create_tenant(world.admin(), tenant, &world.now);
            let refused = again.unwrap_err();
            assert!(
                matches!(
                    refused,
                    AdminError::Field {
                        field: "tenant.id",
                        ..
                    }
                ),
                "{boot}: {refused}"
            );
            world.restart();
            if boot == "a boot that finds its records" {
                let swept = world.enclave.sweep(&records(&world)).unwrap().unwrap();
                assert_eq!(world.settle(swept), 2, "the grant and its custody");
                assert!(world.enclave.sweep(&records(&world)).unwrap().is_none());
            }
        }
        assert!(records(&world).len() < before.len());
    }

    #[test]
    fn what_was_under_way_does_not_bring_a_tenant_back() {
        let mut world = World::new(Rotation::Strict);
        let sealed = world.seal("acme", "crm-app", "other", "refresh-token", "r");
        let request = crate::admin::DepositRequest {
            grant: crate::registry::Grant {
                id: id("other"),
                ..world.grant()
            },
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        let late = world
            .enclave
            .deposit(world.admin(), request, &world.now)
            .unwrap();
        erase(&world);
        drop(world.settle(late));
        let other = |asking: &mut crate::testing::Asking| asking.grant = Some("other".into());
        assert_eq!(world.ask(other).err(), Some(Denied::NoSuchGrant.into()));
        assert!(world.enclave.view.read().custody.is_empty());
        // The record is in the store, and the next boot passes it over.
        world.restart();
        assert_eq!(world.ask(other).err(), Some(Denied::NoSuchGrant.into()));
        let swept = world.enclave.sweep(&records(&world)).unwrap().unwrap();
        assert_eq!(world.settle(swept), 4);
        world.restart();
    }

    #[test]
    fn an_erasure_is_done_when_all_that_opens_the_old_root_is_destroyed() {
        let mut world = World::new(Rotation::Strict);
        erase(&world);
        let all = [retired(1), retired(2)];
        let settle = |world: &World, still: &[Retired]| {
            let pending = world.enclave.settle_erasures(still, &world.now).unwrap();
            pending.map(|pending| world.settle(pending)).is_some()
        };
        // Not before the root was replaced, whatever is destroyed.
        assert!(!settle(&world, &[]));
        let other = world.enclave.root_replaced(&[id("other")], &all).unwrap();
        assert!(other.is_none());
        let replaced = world.enclave.root_replaced(&[acme()], &all).unwrap();
        world.settle(replaced.unwrap());
        world.restart();
        assert_eq!(
            phase(&world),
            ErasurePhase::Waiting {
                retired: all.to_vec()
            }
        );
        assert!(!settle(&world, &all));
        assert!(!settle(&world, &all[1..]));
        // What a later root waits for is not this erasure's matter.
        assert!(settle(&world, &[retired(3)]));
        world.restart();
        let at_s = world.now.lo_s;
        assert_eq!(phase(&world), ErasurePhase::Done { at_s });
        assert!(world.enclave.open_erasures().is_empty());
        assert!(!settle(&world, &[]));
    }

    #[test]
    fn only_the_operator_and_the_tenant_itself_erase() {
        let world = World::new(Rotation::Strict);
        let by = |roles| Administrator {
            name: "a".into(),
            spki_sha256: [7; 32],
            roles,
        };
        let rows = [
            (Role::Operator, true),
            (Role::Tenant(acme()), true),
            (Role::Tenant(id("other")), false),
            (Role::Vendor(id("crm-sync")), false),
        ];
        for (role, may) in rows {
            let by = by(vec![role]);
            let erased = world.enclave.erase_tenant(&by, &acme(), &world.now);
            let asked = world.enclave.erasure(&by, &acme());
            if may {
                assert_eq!(asked, Ok(None), "{by:?}");
                assert!(erased.is_ok(), "{by:?}");
            } else {
                assert_eq!(asked, Err(AdminError::Forbidden), "{by:?}");
                assert_eq!(erased.unwrap_err(), AdminError::Forbidden, "{by:?}");
            }
        }
    }
}
