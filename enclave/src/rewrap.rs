//! A new root: tenants' keys wrapped anew, without a pause.
//!
//! From [`Enclave::begin_root`] on new tenants' keys are wrapped under the new root;
//! [`Enclave::rewrap`] gives the wraps that are left, batch by batch, until there is
//! none. Both roots must open until then: the shell keeps both envelopes, and drops the
//! old one when [`OldRoot::is_needed`] says no. After a crash at any point a boot with
//! both goes on ([`Boot::new`](crate::boot::Boot::new)).

use std::sync::Arc;

use crate::Enclave;
use crate::freeze::Touched;
use crate::keys::root::RootKey;
use crate::pending::Pending;
use crate::record::{Place, RecordError, Table};
use crate::seal::{SealError, SealingKey};
use crate::store::Batch;
use crate::view::{Effect, TenantKey};

/// Wraps of one batch.
const MAX_WRAPS: usize = 512;

/// The root that is being replaced.
#[derive(Debug)]
pub struct OldRoot(Arc<SealingKey>);

impl OldRoot {
    /// Whether a wrap, stored or on its way to the store, is still under it.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Enclave {
    /// What a new tenant's key is wrapped under.
    pub(crate) fn wrap_key(&self) -> Arc<SealingKey> {
        Arc::clone(&self.wrap_key.read())
    }

    /// Wraps under this root from now on. Its envelope must be durable, beside that of
    /// the root before.
    ///
    /// # Errors
    /// [`SealError::Failed`], which does not happen for a root's length.
    pub fn begin_root(&self, next: &RootKey) -> Result<OldRoot, SealError> {
        let next = Arc::new(next.wrap_key()?);
        Ok(OldRoot(std::mem::replace(
            &mut *self.wrap_key.write(),
            next,
        )))
    }

    /// The next wraps that stand under another root, rewritten under this one: a batch
    /// to commit and release. None when there are none left in the view; what is on its
    /// way to it counts in [`OldRoot::is_needed`]. A conflict means that a key was
    /// erased in between: ask again.
    ///
    /// # Errors
    /// [`RecordError::Seal`] without randomness.
    pub fn rewrap(&self) -> Result<Option<Pending<()>>, RecordError> {
        let under = self.wrap_key();
        let view = self.view.read();
        let stale = view.tenant_keys.iter();
        let stale = stale.filter(|(_, held)| !Arc::ptr_eq(&held.under, &under));
        let mut batch = Batch::default();
        let mut effects = Vec::new();
        for (tenant, held) in stale.take(MAX_WRAPS) {
            let TenantKey {
                generation,
                key,
                tag,
                under: _,
            } = held;
            let place = Place::system(Table::TenantKeys, tenant.as_str());
            let write =
                self.cabinet
                    .seal(&*self.rng, &under, &place, *generation, &key.expose_all())?;
            batch.writes.push(write);
            let held = TenantKey {
                generation: generation.saturating_add(1),
                key: Arc::clone(key),
                tag: Arc::clone(tag),
                under: Arc::clone(&under),
            };
            effects.push(Effect::TenantKey(tenant.clone(), held));
        }
        if effects.is_empty() {
            return Ok(None);
        }
        Ok(Some(Pending::new(batch, effects, Touched::nothing(), ())))
    }
}

#[cfg(test)]
mod tests {
    use crate::limits::Limits;
    use crate::registry::{Rotation, Tenant};
    use crate::testing::{World, id};

    fn tenant(name: &str) -> Tenant {
        Tenant {
            id: id(name),
            display_name: name.to_owned(),
            limits: Limits::default(),
        }
    }

    fn rewrap_all(world: &World) -> usize {
        let mut batches: usize = 0;
        while let Some(pending) = world.enclave.rewrap().unwrap() {
            world.settle(pending);
            batches = batches.saturating_add(1);
        }
        batches
    }

    #[test]
    fn under_a_new_root_everything_opens_and_the_old_root_opens_nothing() {
        let mut world = World::new(Rotation::Strict);
        let old = world.new_root();
        assert!(old.is_needed());
        assert_eq!(rewrap_all(&world), 1);
        assert!(!old.is_needed());
        world.restart();
        drop(world.ask(|_| {}).unwrap());
        let refused = world.try_boot_under_old_root().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a stored record does not open: the sealed bytes do not belong at this place"
        );
    }

    #[test]
    fn a_crash_between_root_and_wraps_is_taken_up_by_a_boot_with_both() {
        let mut world = World::new(Rotation::Strict);
        drop(world.new_root());
        // Nothing is rewritten yet: the new root alone opens nothing, both open all.
        world.restart_with_old_root();
        drop(world.ask(|_| {}).unwrap());
        assert_eq!(rewrap_all(&world), 1);
        world.restart();
        drop(world.ask(|_| {}).unwrap());
    }

    #[test]
    fn a_tenant_on_its_way_to_the_store_keeps_the_old_root_needed() {
        let mut world = World::new(Rotation::Strict);
        let pending = world
            .enclave
            .create_tenant(world.admin(), tenant("late"), &world.now)
            .unwrap();
        let old = world.new_root();
        assert_eq!(rewrap_all(&world), 1);
        assert!(old.is_needed(), "a wrap under the old root is on its way");
        world.settle(pending);
        assert_eq!(rewrap_all(&world), 1);
        assert!(!old.is_needed());
        world.restart();
    }
}
