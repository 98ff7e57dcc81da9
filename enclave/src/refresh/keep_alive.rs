//! Exchanges that nobody asked for: refresh tokens that their provider would drop for want of use, and deposited ones
//! that are still to be replaced.

use crate::Enclave;
use crate::custody::{Custody, Exposure, Phase};
use crate::ids::GrantId;
use crate::refresh::Wanted;
use crate::registry::{Grant, Provider};
use crate::time::Now;
use crate::view::{Held, View};

impl Enclave {
    /// Grants that are awake and whose refresh token was not used for half of its provider's idle
    /// lifetime, or is to be rotated, with what to ask for; at most `limit`. What freezes, holds and
    /// rates say is asked when the exchange begins.
    ///
    /// They are given in the order of their ids, from the one behind `after` on and then from the first:
    /// those that stay due, because nothing can be done for them, do not stand before the others.
    #[must_use]
    pub fn due_for_keep_alive(
        &self,
        now: &Now,
        after: Option<&GrantId>,
        limit: usize,
    ) -> Vec<(GrantId, Wanted)> {
        let view = self.view.read();
        let drops = |provider: &Held<Provider>| provider.value.profile.idle_lifetime_s.is_some();
        // Among a million grants few are new, and most providers drop nothing.
        let some_idle = view.providers.values().any(drops);
        let may_be = |custody: &Custody| some_idle || custody.exposure == Exposure::ToBeRotated;
        let due = view.custody.iter().filter_map(|(id, held)| {
            let (grant, provider) = may_be(&held.value).then(|| registered(&view, id))??;
            let kept = held.value.exposure == Exposure::ToBeRotated || !view.is_asleep(grant, now);
            (kept && is_due(&held.value, provider, now)).then_some((id, grant, provider))
        });
        let mut due: Vec<_> = due.collect();
        due.sort_unstable_by_key(|(id, ..)| *id);
        let first = after.map_or(0, |after| due.partition_point(|(id, ..)| *id <= after));
        due.rotate_left(first);
        let due = due.into_iter().take(limit);
        due.map(|(id, grant, provider)| (id.clone(), whole(grant, provider)))
            .collect()
    }

    /// What an exchange for a grant asks for that is made for the refresh token's own sake.
    #[must_use]
    pub fn whole_grant(&self, id: &GrantId) -> Option<Wanted> {
        let view = self.view.read();
        let (grant, provider) = registered(&view, id)?;
        Some(whole(grant, provider))
    }
}

fn is_due(custody: &Custody, provider: &Provider, now: &Now) -> bool {
    let usable = match custody.phase {
        Phase::Idle | Phase::Uncertain { .. } => true,
        Phase::Intent { .. } | Phase::NeedsConsent { .. } | Phase::Revoked => false,
    };
    let idles = || {
        let idle_s = provider.profile.idle_lifetime_s;
        idle_s.is_some_and(|idle_s| custody.refreshed_at_s.saturating_add(idle_s / 2) <= now.hi_s)
    };
    usable && (custody.exposure == Exposure::ToBeRotated || idles())
}

fn registered<'v>(view: &'v View, id: &GrantId) -> Option<(&'v Grant, &'v Provider)> {
    let grant = &view.grants.get(id)?.value;
    let app = view.apps.get(&grant.app)?;
    let provider = view.providers.get(&app.value.provider)?;
    Some((grant, &provider.value))
}

fn whole(grant: &Grant, provider: &Provider) -> Wanted {
    let targets = grant.targets.iter();
    let resource = targets
        .filter_map(|name| provider.target(name))
        .find_map(|target| target.api.upstream_resource());
    Wanted {
        scopes: grant.scopes.clone(),
        resource: resource.map(ToOwned::to_owned),
        client_key: None,
    }
}
