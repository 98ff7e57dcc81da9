//! The life of a grant: when it was used last, when it falls asleep, when its tenant is to review it.
//!
//! When a grant was used last is known to the second in the memory of a boot, and on the disk as of an hour ago at
//! worst: a use writes it down only if what stands there is an hour old. After a start the latest that it can have been
//! counts, so that no grant falls asleep early.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::{GrantId, TenantId};
use crate::pending::Pending;
use crate::record::{Place, RecordError, Table};
use crate::registry::Grant;
use crate::seal::SealError;
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, Held, View};

/// How old what stands on the disk of a grant's last use may become, in seconds.
pub const MARK_AFTER_S: u64 = 3_600;

/// How many grants are tended in one batch.
const TENDED_AT_ONCE: usize = 64;

/// What is kept of a grant's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    used_at_s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asleep_since_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_of_review_s: Option<u64>,
}

/// What is known of a grant's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Whose grant it is.
    pub(crate) tenant: TenantId,
    /// When it was used last, as far as that is written down, Unix time in seconds.
    pub(crate) used_at_s: u64,
    /// It was written down in this boot.
    of_this_boot: bool,
    /// Since when it is asleep, if it is.
    pub(crate) asleep_since_s: Option<u64>,
    /// The review date that its tenant was told of.
    pub(crate) told_of_review_s: Option<u64>,
}

impl Life {
    /// Of a grant that is used, or begins to be watched, at this moment.
    fn begun(tenant: &TenantId, now: &Now) -> Self {
        Self {
            tenant: tenant.clone(),
            used_at_s: now.hi_s,
            of_this_boot: true,
            asleep_since_s: None,
            told_of_review_s: None,
        }
    }

    pub(crate) fn from_record(tenant: TenantId, body: &[u8]) -> Result<Self, RecordError> {
        let Stored {
            used_at_s,
            asleep_since_s,
            told_of_review_s,
        } = serde_json::from_slice(body).map_err(|_| RecordError::Schema)?;
        Ok(Self {
            tenant,
            used_at_s,
            of_this_boot: false,
            asleep_since_s,
            told_of_review_s,
        })
    }

    fn stored(&self) -> Stored {
        Stored {
            used_at_s: self.used_at_s,
            asleep_since_s: self.asleep_since_s,
            told_of_review_s: self.told_of_review_s,
        }
    }

    /// The latest that it can have been used.
    fn latest_use_s(&self) -> u64 {
        let unknown_s = if self.of_this_boot { 0 } else { MARK_AFTER_S };
        self.used_at_s.saturating_add(unknown_s)
    }
}

/// When grants that can fall asleep were used last in this boot.
#[derive(Debug, Default)]
pub(crate) struct LastUses(Mutex<HashMap<GrantId, LastUse>>);

#[derive(Clone, Copy, Debug, Default)]
struct LastUse {
    used_at_s: u64,
    /// When it was written down last, or began to be.
    marked_at_s: u64,
}

impl LastUses {
    /// Notes a use. True if it is to be written down.
    fn note(&self, grant: &GrantId, written_s: u64, now: &Now) -> bool {
        let mut uses = self.0.lock();
        let last = match uses.get_mut(grant) {
            Some(last) => last,
            None => uses.entry(grant.clone()).or_default(),
        };
        last.used_at_s = last.used_at_s.max(now.hi_s);
        let written_s = last.marked_at_s.max(written_s);
        let old = now.hi_s >= written_s.saturating_add(MARK_AFTER_S);
        if old {
            last.marked_at_s = now.hi_s;
        }
        old
    }

    fn of(&self, grant: &GrantId) -> Option<u64> {
        self.0.lock().get(grant).map(|last| last.used_at_s)
    }

    /// Forgets a grant that is gone.
    pub(crate) fn forget(&self, grant: &GrantId) {
        self.0.lock().remove(grant);
    }
}

/// What is due in a grant's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due<'v> {
    pub(crate) grant: &'v Grant,
    /// It was not used for as long as its tenant set.
    pub(crate) sleeps: bool,
    /// The review date that its tenant is to be told of.
    pub(crate) review_at_s: Option<u64>,
}

impl View {
    /// The latest that a grant can have been used, Unix time in seconds.
    fn latest_use_s(&self, grant: &Grant) -> u64 {
        let written = self.lives.get(&grant.id);
        let written_s = written.map_or(0, |held| held.value.latest_use_s());
        let noted_s = self.last_uses.of(&grant.id).unwrap_or(0);
        written_s.max(noted_s).max(grant.created_at_s)
    }

    /// When a grant falls asleep if it is not used, Unix time in seconds; none if never, or if it is asleep.
    fn sleeps_at_s(&self, grant: &Grant) -> Option<u64> {
        let idle_s = grant.terms.as_deref()?.sleep_after_idle_s?;
        let asleep = self.asleep_since_s(&grant.id).is_some();
        (!asleep).then(|| self.latest_use_s(grant).saturating_add(idle_s))
    }

    /// Since when a grant is asleep, once that is written down.
    pub(crate) fn asleep_since_s(&self, grant: &GrantId) -> Option<u64> {
        self.lives.get(grant)?.value.asleep_since_s
    }

    /// Whether a grant is asleep, written down or not.
    pub(crate) fn is_asleep(&self, grant: &Grant, now: &Now) -> bool {
        self.asleep_since_s(&grant.id).is_some()
            || self.sleeps_at_s(grant).is_some_and(|at_s| now.lo_s >= at_s)
    }

    /// When a grant was used last, as far as its tenant is told: to the hour after a start.
    pub(crate) fn last_used_s(&self, grant: &GrantId) -> Option<u64> {
        let written_s = self.lives.get(grant).map(|held| held.value.used_at_s);
        written_s.max(self.last_uses.of(grant))
    }

    /// The review date that a grant's tenant was not told of yet.
    fn open_review_s(&self, grant: &Grant) -> Option<u64> {
        let review_at_s = grant.terms.as_deref()?.review_at_s?;
        let told = self.lives.get(&grant.id);
        let told_s = told.and_then(|held| held.value.told_of_review_s);
        (told_s != Some(review_at_s)).then_some(review_at_s)
    }

    fn tended(&self) -> impl Iterator<Item = &Grant> {
        let grants = self.tended.iter().filter_map(|id| self.grants.get(id));
        grants
            .map(|held| &*held.value)
            .filter(|grant| !self.is_revoked(&grant.id))
    }
}

/// What is due at this moment.
pub(crate) fn due<'v>(view: &'v View, now: &Now) -> impl Iterator<Item = Due<'v>> {
    let at_s = now.lo_s;
    view.tended().filter_map(move |grant| {
        let due = Due {
            grant,
            sleeps: view
                .sleeps_at_s(grant)
                .is_some_and(|sleeps_s| at_s >= sleeps_s),
            review_at_s: view
                .open_review_s(grant)
                .filter(|review_s| at_s >= *review_s),
        };
        (due.sleeps || due.review_at_s.is_some()).then_some(due)
    })
}

impl Enclave {
    /// Puts grants to sleep that were not used for as long as their tenants set, and tells tenants of reviews that are
    /// due: as many as fit into a batch; none if nothing is due.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn tend(&self, now: &Now) -> Result<Option<Pending<()>>, RecordError> {
        let view = self.view.read();
        let mut batch = Batch::default();
        let mut effects = Vec::new();
        for due in due(&view, now).take(TENDED_AT_ONCE) {
            let Due {
                grant,
                sleeps,
                review_at_s,
            } = due;
            let tenant = Some(&grant.tenant);
            let mut life = self.life(&view, grant, now);
            if sleeps {
                life.asleep_since_s = Some(now.lo_s);
                let event = Event::GrantSlept {
                    grant: &grant.id,
                    last_used_s: view.last_used_s(&grant.id),
                };
                batch.leaves.push(self.leaf(&view, tenant, &event, now)?);
            }
            if let (Some(review_at_s), Some(terms)) = (review_at_s, &grant.terms) {
                life.told_of_review_s = Some(review_at_s);
                let event = Event::GrantReviewDue {
                    grant: &grant.id,
                    review_at_s,
                    owner: &terms.owner,
                    purpose: &terms.purpose,
                };
                batch.leaves.push(self.leaf(&view, tenant, &event, now)?);
            }
            let (write, effect) = self.write_life(&view, grant, life)?;
            batch.writes.push(write);
            effects.push(effect);
        }
        if effects.is_empty() {
            return Ok(None);
        }
        Ok(Some(Pending::new(batch, effects, Touched::nothing(), ())))
    }

    /// In how many seconds something is due next, if anything is.
    #[must_use]
    pub fn tend_in_s(&self, now: &Now) -> Option<u64> {
        let view = self.view.read();
        let next_s = view.tended().filter_map(|grant| {
            let both = [view.sleeps_at_s(grant), view.open_review_s(grant)];
            both.into_iter().flatten().min()
        });
        next_s.min().map(|at_s| at_s.saturating_sub(now.lo_s))
    }

    /// Notes that a grant is used, and gives what is to be written down with that, if anything is.
    pub(crate) fn note_use(
        &self,
        view: &View,
        grant: &Grant,
        now: &Now,
    ) -> Result<Option<(Write, Effect)>, SealError> {
        let sleeps = grant.terms.as_deref();
        if sleeps.and_then(|terms| terms.sleep_after_idle_s).is_none() {
            return Ok(None);
        }
        let written = view.lives.get(&grant.id);
        let written_s = written.map_or(0, |held| held.value.used_at_s);
        if !view.last_uses.note(&grant.id, written_s, now) {
            return Ok(None);
        }
        let life = Life {
            used_at_s: now.hi_s,
            of_this_boot: true,
            ..self.life(view, grant, now)
        };
        let write = self.write_life(view, grant, life);
        write.map(Some).map_err(|_| SealError::Failed)
    }

    /// What is known of a grant's life, or its beginning.
    pub(crate) fn life(&self, view: &View, grant: &Grant, now: &Now) -> Life {
        let held = view.lives.get(&grant.id);
        held.map_or_else(
            || Life::begun(&grant.tenant, now),
            |held| (*held.value).clone(),
        )
    }

    /// The life of a grant that is awake from this moment on.
    pub(crate) fn awake(&self, view: &View, grant: &Grant, now: &Now) -> Life {
        Life {
            told_of_review_s: self.life(view, grant, now).told_of_review_s,
            ..Life::begun(&grant.tenant, now)
        }
    }

    pub(crate) fn write_life(
        &self,
        view: &View,
        grant: &Grant,
        life: Life,
    ) -> Result<(Write, Effect), RecordError> {
        let key = view.realm_key(&grant.tenant)?;
        let place = Place::tenant(&grant.tenant, Table::Lives, grant.id.as_str());
        let generation = view.lives.get(&grant.id).map_or(0, |held| held.generation);
        let write = self.seal_json(&key, &place, generation, &life.stored())?;
        let held = Held::new(generation.saturating_add(1), life);
        Ok((write, Effect::Life(grant.id.clone(), held)))
    }
}

#[cfg(test)]
mod tests;
