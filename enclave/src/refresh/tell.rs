//! Telling a provider that a grant was revoked [RFC 7009], with what came of it for
//! the record.
//!
//! It begins when no exchange of the grant is under way any more, presents the last
//! refresh token that is known of it, and is tried until the provider's answer
//! settles it.

use serde::{Deserialize, Serialize};

use super::answer::{self, Refusal};
use super::pace::Taken;
use super::request::Author;
use super::start::material;
use super::{Exchange, RefreshError, UpstreamAnswer, UpstreamRequest};
use crate::Enclave;
use crate::audit::Event;
use crate::custody::Head;
use crate::freeze::Touched;
use crate::ids::GrantId;
use crate::pending::Pending;
use crate::record::{Place, RecordError, Table};
use crate::secret::RefreshToken;
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, HeldSealed, View};

/// What a provider made of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It answered that the token is not valid any more.
    Proved,
    /// It refused, and asking again would not help: revoke the consent there by hand.
    Refused,
    /// It has no way to be told: revoke the consent there by hand.
    Unsupported,
}

impl Told {
    /// The stable word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
        }
    }
}

/// How a provider is told.
#[derive(Debug)]
pub enum Telling {
    /// Send this, then [`Enclave::heard`].
    Send(UpstreamRequest),
    /// There is nothing to send: commit and release this.
    Record(Pending<Told>),
}

impl Enclave {
    /// The revoked grants whose providers were not told yet.
    #[must_use]
    pub fn to_be_told(&self) -> Vec<GrantId> {
        self.view.read().revocations.keys().cloned().collect()
    }

    /// Begins to tell a provider. The caller sees to it that no exchange of the
    /// grant is under way.
    ///
    /// # Errors
    /// [`RefreshError`]: not now, or not any more.
    pub fn tell(&self, grant: &GrantId, now: &Now) -> Result<Telling, RefreshError> {
        let view = self.view.read();
        let material = material(&view, grant)?;
        let held = view.revocations.get(grant);
        let held = held.ok_or(RefreshError::NoSuchGrant)?;
        let Some(endpoint) = &material.provider.revocation_endpoint else {
            let pending = self.told(&view, grant, Told::Unsupported, now)?;
            return Ok(Telling::Record(pending));
        };
        // An old state must not speak for a new one here either.
        self.check_fresh(now)
            .map_err(|_| RefreshError::NotWitnessed)?;
        self.pace
            .admit(&material.whom(), &material.provider.profile, now)?;
        let tenant = &material.grant.tenant;
        let key = view.realm_key(tenant)?;
        let place = Place::tenant(tenant, Table::Revocations, grant.as_str());
        let token = self
            .cabinet
            .open(&key, &place, held.generation, &held.sealed)?;
        let token = RefreshToken::new(token.to_vec());
        let author = Author {
            provider: &material.provider,
            app: &material.app,
            credential: self.open_credential(&view, &material.app)?,
            rng: &*self.rng,
            now,
        };
        let request = author.revocation(endpoint, &token);
        Ok(Telling::Send(request.map_err(RecordError::from)?))
    }

    /// Takes in a provider's answer. `None` if it settles nothing: tell it again,
    /// after a while.
    ///
    /// # Errors
    /// [`RefreshError`] if the grant is not there any more.
    pub fn heard(
        &self,
        grant: &GrantId,
        answer: UpstreamAnswer,
        now: &Now,
    ) -> Result<Option<Pending<Told>>, RefreshError> {
        let view = self.view.read();
        let material = material(&view, grant)?;
        let whom = material.whom();
        let UpstreamAnswer::Response {
            status,
            retry_after_s,
            dpop_nonce: _,
            body,
        } = answer
        else {
            self.pace.report(&whom, Taken::Unwell, now);
            return Ok(None);
        };
        let taken = if status >= 500 {
            Taken::Unwell
        } else {
            Taken::Well
        };
        self.pace.report(&whom, taken, now);
        if let Some(patience_s) = retry_after_s {
            self.pace.be_patient(&whom, patience_s, now);
        }
        let profile = &material.provider.profile;
        let told = match status {
            // Also for a token that was not valid before [RFC 7009 §2.2].
            200 => match answer::refusal_in_success(&body, profile) {
                None | Some(Refusal::InvalidGrant) => Told::Proved,
                Some(Refusal::Unspent(_) | Refusal::Unclear) => Told::Refused,
            },
            408 | 429 => return Ok(None),
            400..=499 => match answer::error_code(&body).as_deref() {
                Some("unsupported_token_type") => Told::Unsupported,
                Some("invalid_token") => Told::Proved,
                Some(code) if profile.is_dead(code) => Told::Proved,
                Some(_) | None => Told::Refused,
            },
            _ => return Ok(None),
        };
        self.told(&view, grant, told, now).map(Some)
    }

    /// Writes down what came of it, and destroys the token that was kept for it.
    fn told(
        &self,
        view: &View,
        grant: &GrantId,
        told: Told,
        now: &Now,
    ) -> Result<Pending<Told>, RefreshError> {
        let kept = view.revocations.get(grant);
        let kept = kept.ok_or(RefreshError::NoSuchGrant)?;
        let custody = view.custody.get(grant).ok_or(RefreshError::NoSuchGrant)?;
        let tenant = &custody.value.tenant;
        let head = Head {
            told: Some(told),
            ..Head::ended(custody.value.refresh_generation)
        };
        let (mut batch, effect) = self.custody_write(
            view,
            &Place::tenant(tenant, Table::Custody, grant.as_str()),
            grant,
            custody.generation,
            (head, &RefreshToken::new(Vec::new()), None),
        )?;
        let place = Place::tenant(tenant, Table::Revocations, grant.as_str());
        batch.writes.push(Write {
            key: self.cabinet.key(&place),
            expected_generation: kept.generation,
            sealed: None,
        });
        let event = Event::ProviderTold {
            grant,
            outcome: told.word(),
        };
        let leaf = self
            .leaf(view, Some(tenant), &event, now)
            .map_err(RecordError::from)?;
        batch.leaves.push(leaf);
        let effects = vec![effect, Effect::ToldProvider(grant.clone())];
        Ok(Pending::new(batch, effects, Touched::nothing(), told))
    }

    /// A successor that arrives for a grant that was revoked meanwhile is what the
    /// provider has to be told of: the token that was kept for it is spent.
    pub(super) fn bequeath(
        &self,
        view: &View,
        exchange: &Exchange,
        successor: &RefreshToken,
    ) -> Result<Option<(Batch, Effect)>, RefreshError> {
        let Some(kept) = view.revocations.get(&exchange.grant) else {
            return Ok(None);
        };
        let key = view.realm_key(&exchange.tenant)?;
        let place = Place::tenant(
            &exchange.tenant,
            Table::Revocations,
            exchange.grant.as_str(),
        );
        let write = self.cabinet.seal(
            &*self.rng,
            &key,
            &place,
            kept.generation,
            successor.expose(),
        )?;
        let held = HeldSealed {
            generation: kept.generation.saturating_add(1),
            sealed: write.sealed.as_deref().unwrap_or_default().into(),
        };
        let batch = Batch {
            writes: vec![write],
            leaves: Vec::new(),
        };
        Ok(Some((
            batch,
            Effect::Revocation(exchange.grant.clone(), held),
        )))
    }
}
