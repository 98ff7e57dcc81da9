//! Places that tenants share: so many in all, so many of one tenant.

use std::collections::HashMap;
use std::sync::Arc;

use enclave::ids::TenantId;
use parking_lot::Mutex;

/// How many places are taken, of each tenant.
#[derive(Debug)]
pub struct Places {
    of_a_tenant: usize,
    in_all: usize,
    counts: Mutex<HashMap<TenantId, usize>>,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    tenant: TenantId,
}

impl Places {
    /// So many of one tenant, and so many in all.
    #[must_use]
    pub fn new(of_a_tenant: usize, in_all: usize) -> Arc<Self> {
        Arc::new(Self {
            of_a_tenant,
            in_all,
            counts: Mutex::default(),
        })
    }

    /// A place for a tenant; none if there are as many as may be.
    #[must_use]
    pub fn enter(self: &Arc<Self>, tenant: &TenantId) -> Option<Place> {
        let mut counts = self.counts.lock();
        let all = counts.values().copied().fold(0, usize::saturating_add);
        let own = counts.get(tenant).copied().unwrap_or_default();
        if all >= self.in_all || own >= self.of_a_tenant {
            return None;
        }
        counts.insert(tenant.clone(), own.saturating_add(1));
        Some(Place {
            places: Arc::clone(self),
            tenant: tenant.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock();
        match counts.get_mut(&self.tenant) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            Some(_) | None => {
                counts.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_so_many_and_there_are_so_many_in_all() {
        let places = Places::new(2, 4);
        let enter = |name: &str| places.enter(&TenantId::parse(name).unwrap());
        let first = enter("acme").unwrap();
        let second = enter("acme").unwrap();
        assert!(enter("acme").is_none(), "one tenant's are taken");
        // The others' are free still.
        let others = [enter("other").unwrap(), enter("third").unwrap()];
        assert!(enter("fourth").is_none(), "all are taken");
        assert!(enter("other").is_none(), "all are taken");
        drop(first);
        let again = enter("fourth").unwrap();
        assert!(enter("acme").is_none(), "all are taken");
        drop((second, others, again));
        assert!(places.counts.lock().is_empty(), "all are given back");
    }
}
