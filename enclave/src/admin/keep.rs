//! Keeping a refresh token that came in: a new grant, or an existing one with a new token.

use super::{AdminError, Administrator, GrantView};
use crate::Enclave;
use crate::audit::Event;
use crate::connect::ConnectError;
use crate::custody::{self, Exposure, Head, Phase};
use crate::freeze::Touched;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::registry::Grant;
use crate::secret::{DpopPrivateKey, RefreshToken};
use crate::store::Batch;
use crate::time::Now;
use crate::view::{Effect, Held, View};

/// What came in.
pub(crate) struct Kept<'a> {
    pub(crate) token: &'a RefreshToken,
    /// The key that upstream tokens are bound to, if they are.
    pub(crate) dpop_key: Option<&'a DpopPrivateKey>,
    /// Whose consent it is, if that is known.
    pub(crate) subject_sha256: Option<[u8; 32]>,
}

/// How it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Sealed, by an administrator who had it.
    Deposit {
        /// Whether the provider is to be asked for another in its place.
        rotate: bool,
    },
    /// From the provider: nobody else has ever had it.
    Consent,
}

impl Enclave {
    /// The batch that makes a grant, or gives an existing one that is equal a new refresh token.
    pub(crate) fn keep_grant(
        &self,
        by: &Administrator,
        mut grant: Grant,
        kept: &Kept<'_>,
        source: Source,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        let view = self.view.read();
        self.check_place(&view, &grant)?;
        self.check_subject(&view, &grant, kept)?;
        let held = view.grants.get(&grant.id);
        grant.created_at_s = held.map_or(now.lo_s, |held| held.value.created_at_s);
        grant.terms = held.map_or(grant.terms, |held| held.value.terms.clone());
        let mut batch = Batch::default();
        let mut effects = Vec::new();
        if held.is_none() {
            let place = Place::tenant(&grant.tenant, Table::Grants, grant.id.as_str());
            let key = view.realm_key(&grant.tenant)?;
            batch.writes.push(self.seal_json(&key, &place, 0, &grant)?);
            effects.push(Effect::Grant(Held::new(1, grant.clone())));
        }
        let custody = view.custody.get(&grant.id);
        let refresh_generation =
            custody.map_or(1, |held| held.value.refresh_generation.saturating_add(1));
        let exposure = match source {
            Source::Deposit { rotate: true } => Exposure::ToBeRotated,
            Source::Deposit { rotate: false } => Exposure::BeforeDeposit,
            Source::Consent => Exposure::None,
        };
        let head = Head {
            subject_sha256: kept.subject_sha256,
            exposure,
            ..Head::deposited(refresh_generation, now.lo_s)
        };
        let place = Place::tenant(&grant.tenant, Table::Custody, grant.id.as_str());
        let (custody_batch, effect) = self.custody_write(
            &view,
            &place,
            &grant.id,
            custody.map_or(0, |held| held.generation),
            (head, kept.token, kept.dpop_key),
        )?;
        batch.writes.extend(custody_batch.writes);
        effects.push(effect);
        self.clear_orphans(&view, &grant.tenant, &grant.id, &mut batch, &mut effects);

        let (first, by) = (held.is_none(), by.name.as_str());
        let event = match source {
            Source::Deposit { .. } => Event::Deposited {
                grant: &grant.id,
                by,
                first,
                exposed_before_deposit: true,
            },
            Source::Consent => Event::Connected {
                grant: &grant.id,
                by,
                first,
            },
        };
        batch
            .leaves
            .push(self.leaf(&view, Some(&grant.tenant), &event, now)?);
        let mut answer = self.view_of(&view, &grant);
        answer.refresh_generation = refresh_generation;
        answer.exposure = exposure;
        answer.needs_consent = None;
        Ok(Pending::new(batch, effects, Touched::nothing(), answer))
    }

    /// Whether the grant's id is free for it, or its own.
    pub(crate) fn check_place(&self, view: &View, grant: &Grant) -> Result<(), AdminError> {
        let held = view.grants.get(&grant.id);
        if let Some(held) = held {
            if held.value.tenant != grant.tenant {
                return Err(AdminError::Exists("grant"));
            }
            // Whoever says nothing of the terms leaves them as they are.
            let unsaid = grant.terms.is_none();
            let terms = if unsaid {
                &held.value.terms
            } else {
                &grant.terms
            };
            let same = Grant {
                created_at_s: held.value.created_at_s,
                terms: terms.clone(),
                ..grant.clone()
            };
            if *held.value != same {
                return Err(AdminError::Field {
                    field: "grant",
                    rule: "a new token for an existing grant must not change the rest of it",
                });
            }
        }
        let custody = view.custody.get(&grant.id);
        // A name that another tenant used before stays its own.
        if custody.is_some_and(|held| held.value.tenant != grant.tenant) {
            return Err(AdminError::Exists("grant"));
        }
        if held.is_some() && view.is_revoked(&grant.id) {
            return Err(AdminError::Revoked);
        }
        if custody.is_some_and(|held| matches!(held.value.phase, Phase::Intent { .. })) {
            return Err(AdminError::Busy);
        }
        Ok(())
    }

    /// Whether the one who consents now is the one who did before, as far as both are known.
    fn check_subject(&self, view: &View, grant: &Grant, kept: &Kept<'_>) -> Result<(), AdminError> {
        let custody = view.custody.get(&grant.id);
        let known = view.grants.contains_key(&grant.id);
        let (Some(held), Some(subject), true) = (custody, kept.subject_sha256, known) else {
            return Ok(());
        };
        let key = view.realm_key(&grant.tenant)?;
        let place = Place::tenant(&grant.tenant, Table::Custody, grant.id.as_str());
        let sealed = &held.value.sealed;
        let body = self.cabinet.open(&key, &place, held.generation, sealed)?;
        let (head, _token, _key) = custody::decode(&body)?;
        if head.subject_sha256.is_some_and(|before| before != subject) {
            return Err(ConnectError::AnotherUser.into());
        }
        Ok(())
    }
}
