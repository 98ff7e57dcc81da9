//! Keep-alive: refresh tokens that their provider would drop for want of use.

use crate::Enclave;
use crate::custody::Phase;
use crate::ids::GrantId;
use crate::refresh::Wanted;
use crate::registry::Provider;
use crate::time::Now;
use crate::view::Held;

impl Enclave {
    /// Grants whose refresh token was not used for half of its provider's idle
    /// lifetime, with the scopes to ask for; at most `limit`. What freezes, holds and
    /// rates say is asked when the exchange begins.
    #[must_use]
    pub fn due_for_keep_alive(&self, now: &Now, limit: usize) -> Vec<(GrantId, Wanted)> {
        let view = self.view.read();
        let drops = |provider: &Held<Provider>| provider.value.profile.idle_lifetime_s.is_some();
        if !view.providers.values().any(drops) {
            return Vec::new();
        }
        let is_due = |grant: &GrantId| {
            let held = view.custody.get(grant)?;
            let usable = match held.value.phase {
                Phase::Idle | Phase::Uncertain { .. } => true,
                Phase::Intent { .. } | Phase::NeedsConsent { .. } | Phase::Revoked => false,
            };
            let grant = view.grants.get(grant)?;
            let app = view.apps.get(&grant.value.app)?;
            let provider = view.providers.get(&app.value.provider)?;
            let idle_s = provider.value.profile.idle_lifetime_s?;
            let due_s = held.value.refreshed_at_s.saturating_add(idle_s / 2);
            let targets = grant.value.targets.iter();
            let resource = targets
                .filter_map(|name| provider.value.target(name))
                .find_map(|target| target.api.upstream_resource());
            (usable && due_s <= now.hi_s).then(|| Wanted {
                scopes: grant.value.scopes.clone(),
                resource: resource.map(ToOwned::to_owned),
            })
        };
        let due = view.grants.keys();
        due.filter_map(|grant| Some((grant.clone(), is_due(grant)?)))
            .take(limit)
            .collect()
    }
}
