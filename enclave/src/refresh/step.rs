//! The steps of an exchange: one event in, one action out.

use std::sync::Arc;

use super::answer::{self, Refusal, Terms};
use super::pace::Taken;
use super::request::Author;
use super::start::material;
use super::{
    Action, Adoption, BoundTo, Event, Exchange, PAUSE_MS, RefreshError, State, UpstreamAccess,
    UpstreamAnswer, Wanted,
};
use crate::Enclave;
use crate::audit;
use crate::custody::{Cause, Custody, Exposure, Phase};
use crate::freeze::Touched;
use crate::ids::GrantId;
use crate::pending::Pending;
use crate::record::RecordError;
use crate::registry::Rotation;
use crate::secret::{RawResponse, RefreshToken};
use crate::store::StoreError;
use crate::time::Now;
use crate::upstream_dpop::{BoundKey, ProofFor, ServerKind};
use crate::view::{Held, View};

/// So often the store may refuse an adoption before the record is another owner's: an
/// administrator's change that is being written explains the first.
const MAX_CONFLICTS: u8 = 8;

impl Enclave {
    /// Feeds an event to an exchange; gives what to do next.
    pub fn step_refresh(&self, exchange: &mut Exchange, event: Event, now: &Now) -> Action {
        // Whoever has more to do puts the next one.
        let state = std::mem::replace(&mut exchange.state, State::Done);
        let next = match (state, event) {
            (State::Intending, Event::Committed(intent)) => {
                self.apply(intent);
                self.send(exchange, now)
            }
            // Nothing was sent: the next request simply tries again.
            (State::Intending, Event::CommitFailed(error)) => Ok(finish(Err(error.into()))),
            (State::Sending, Event::Answered(answer)) => self.answered(exchange, answer, now),
            (State::Journaling { answer }, Event::Committed(journal)) => {
                self.apply(journal);
                self.read(exchange, &answer, now)
            }
            // The answer is here: the adoption itself is the better thing to keep.
            (State::Journaling { answer }, Event::CommitFailed(_)) => {
                self.read(exchange, &answer, now)
            }
            (State::Adopting { adoption }, Event::Committed(adopted)) => {
                self.apply(adopted);
                Ok(self.adopted(exchange, adoption, now))
            }
            // A provider's answer is never thrown away: again, after a while.
            (State::Adopting { adoption }, Event::CommitFailed(error)) => {
                Ok(hold(exchange, adoption, &error))
            }
            (State::Adopting { adoption }, Event::Resumed) => match adoption.successor {
                // The record is another owner's by now: it must find the token.
                Some(successor) if exchange.conflicts > MAX_CONFLICTS => {
                    self.orphan(exchange, successor)
                }
                _ => self.adopt(exchange, adoption, now),
            },
            (State::Orphaning { .. }, Event::Committed(orphaned)) => {
                self.apply(orphaned);
                Ok(finish(Err(RefreshError::ProviderUnclear)))
            }
            // It is there already: only one answer to a token holds a successor.
            (State::Orphaning { .. }, Event::CommitFailed(StoreError::Conflict { .. })) => {
                Ok(finish(Err(RefreshError::ProviderUnclear)))
            }
            (State::Orphaning { successor }, Event::CommitFailed(error)) => {
                Ok(hold_orphan(exchange, successor, error))
            }
            (State::Orphaning { successor }, Event::Resumed) => self.orphan(exchange, successor),
            (State::Settling { result, .. }, Event::Committed(settled)) => {
                self.apply(settled);
                Ok(finish(Err(result)))
            }
            // The durable intent stands: it says no less than what was to be said.
            (State::Settling { phase, result }, Event::CommitFailed(_)) => {
                self.set_phase(&exchange.grant, phase);
                Ok(finish(Err(result)))
            }
            // An event that does not belong to the state changes nothing.
            (state, _) => {
                exchange.state = state;
                Ok(Action::Pause(PAUSE_MS))
            }
        };
        next.unwrap_or_else(|error| self.leave(exchange, error))
    }

    /// The intent is durable: look at the freezes once more, then send.
    fn send(&self, exchange: &mut Exchange, now: &Now) -> Result<Action, RefreshError> {
        let view = self.view.read();
        if self.check_fresh(now).is_err() {
            let before = exchange.before;
            return self.settle(&view, exchange, before, RefreshError::NotWitnessed, now);
        }
        let material = material(&view, &exchange.grant)?;
        let touched = view.touched(&material.grant, None, None);
        if let Some(subject) = view.frozen(&touched) {
            let before = exchange.before;
            return self.settle(
                &view,
                exchange,
                before,
                RefreshError::Frozen { subject },
                now,
            );
        }
        let (_, token, kept) = self.open_custody(&view, exchange)?;
        let provider = &material.provider;
        let key = kept.map(|kept| BoundKey::open(&kept, &*self.rng));
        let key = key.transpose().map_err(RecordError::from)?;
        let proof = match (&exchange.relayed, key) {
            (Some(relayed), _) => Some(relayed.proof().to_owned()),
            (None, None) => None,
            (None, Some(key)) => {
                let endpoint = &provider.token_endpoint;
                let nonce = self
                    .server_nonces
                    .newest(ServerKind::Authorization, endpoint);
                let request = ProofFor {
                    method: "POST",
                    url: endpoint.as_str(),
                    nonce: nonce.as_deref(),
                    access_token: None,
                };
                let proof = key.proof(&request, now, &*self.rng);
                Some(proof.map_err(RecordError::from)?)
            }
        };
        let author = Author {
            provider,
            app: &material.app,
            credential: self.open_credential(&view, &material.app)?,
            rng: &*self.rng,
            now,
        };
        let request = author.refresh(&token, &exchange.wanted, proof);
        let request = request.map_err(RecordError::from)?;
        exchange.state = State::Sending;
        Ok(Action::Send(request))
    }

    fn answered(
        &self,
        exchange: &mut Exchange,
        answer: UpstreamAnswer,
        now: &Now,
    ) -> Result<Action, RefreshError> {
        let (status, retry_after_s, dpop_nonce, body) = match answer {
            UpstreamAnswer::NotSent => {
                self.pace.report(&exchange.whom(), Taken::Unwell, now);
                let before = exchange.before;
                let view = self.view.read();
                return self.settle(
                    &view,
                    exchange,
                    before,
                    RefreshError::ProviderUnreachable,
                    now,
                );
            }
            UpstreamAnswer::Ambiguous => {
                self.pace.report(&exchange.whom(), Taken::Unwell, now);
                let provider = &exchange.provider;
                // A token that never rotates may be presented twice at a time.
                if provider.rotation != Rotation::Never {
                    self.pace.quiet(&exchange.grant, &provider.profile, now);
                }
                return self.unclear(exchange, now);
            }
            UpstreamAnswer::Cut { status, body } => {
                self.pace.report(&exchange.whom(), Taken::Unwell, now);
                self.pace.settled(&exchange.grant, now);
                let salvageable = status == 200 && answer::salvaged(&body).is_some();
                return if salvageable {
                    self.journal(exchange, body)
                } else {
                    self.unclear(exchange, now)
                };
            }
            UpstreamAnswer::Response {
                status,
                retry_after_s,
                dpop_nonce,
                body,
            } => (status, retry_after_s, dpop_nonce, body),
        };
        if let Some(nonce) = &dpop_nonce {
            let endpoint = &exchange.provider.token_endpoint;
            let kind = ServerKind::Authorization;
            self.server_nonces.keep(kind, endpoint, nonce);
        }
        let taken = if status >= 500 {
            Taken::Unwell
        } else {
            Taken::Well
        };
        self.pace.report(&exchange.whom(), taken, now);
        self.pace.settled(&exchange.grant, now);
        if let Some(patience_s) = retry_after_s.filter(|_| matches!(status, 429 | 503)) {
            self.pace.be_patient(&exchange.whom(), patience_s, now);
        }
        if status == 200 {
            return self.journal(exchange, body);
        }
        let profile = &exchange.provider.profile;
        // Asked for before the token is looked at [RFC 9449 §8]: it is not spent, and goes out once more, with another
        // proof, after another look at the freezes.
        let asks_for_nonce =
            profile.dpop && dpop_nonce.is_some() && answer::asks_for_nonce(status, &body);
        if asks_for_nonce && exchange.relayed.is_some() {
            // Only its client can make another proof.
            let endpoint = &exchange.provider.token_endpoint;
            let kind = ServerKind::Authorization;
            if let Some(newest) = self.server_nonces.newest(kind, endpoint) {
                let before = exchange.before;
                let error = RefreshError::ProofNonce { newest };
                return self.settle(&self.view.read(), exchange, before, error, now);
            }
        } else if asks_for_nonce && !exchange.challenged {
            exchange.challenged = true;
            return self.send(exchange, now);
        }
        let refusal = answer::refusal(status, retry_after_s, &body, profile);
        self.refusal(exchange, refusal, now)
    }

    fn refusal(
        &self,
        exchange: &mut Exchange,
        refusal: Refusal,
        now: &Now,
    ) -> Result<Action, RefreshError> {
        match refusal {
            // It may be the proof that is not taken: no client's proof ends a grant.
            Refusal::InvalidGrant if exchange.relayed.is_some() => {
                self.forget_upstream(&exchange.grant);
                let (before, error) = (exchange.before, RefreshError::RefusedWithProof);
                self.settle(&self.view.read(), exchange, before, error, now)
            }
            Refusal::InvalidGrant => {
                let cause = if exchange.attempt > 1 {
                    Cause::LostInExchange
                } else {
                    Cause::RefusedByProvider
                };
                self.lose(exchange, cause, now)
            }
            Refusal::Unspent(error) => {
                if let RefreshError::RateLimited { retry_after_s } = &error {
                    let whom = exchange.whom();
                    self.pace.be_patient(&whom, *retry_after_s, now);
                } else if exchange.relayed.is_none() || concerns_app(&error) {
                    self.pace.refused(&exchange.grant, &error, now);
                }
                let before = exchange.before;
                self.settle(&self.view.read(), exchange, before, error, now)
            }
            Refusal::Unclear => self.unclear(exchange, now),
        }
    }

    pub(super) fn read(
        &self,
        exchange: &mut Exchange,
        body: &RawResponse,
        now: &Now,
    ) -> Result<Action, RefreshError> {
        let mut jitter = [0];
        // Without random bytes all are renewed at the same part of their lives.
        let _same = self.rng.fill(&mut jitter);
        // If it is another's by now, whoever writes it finds out, and puts the new token where it belongs.
        let custody = self.open_custody(&self.view.read(), exchange);
        let (known, kept) =
            custody.map_or((None, None), |(head, _, kept)| (head.subject_sha256, kept));
        let key = kept.map(|kept| BoundKey::open(&kept, &*self.rng));
        let key = key.transpose().map_err(RecordError::from)?;
        let bound_to = match (&exchange.relayed, key) {
            (Some(relayed), _) => BoundTo::ClientKey(relayed.jkt().to_owned()),
            (None, Some(key)) => BoundTo::OwnKey(Arc::new(key)),
            (None, None) => BoundTo::Nothing,
        };
        let granted = match bound_to {
            // What leaves can do no more than its client may.
            BoundTo::ClientKey(_) => &exchange.wanted.scopes,
            BoundTo::OwnKey(_) | BoundTo::Nothing => &exchange.granted,
        };
        let terms = Terms {
            granted,
            bound_to,
            jitter: u8::from_be_bytes(jitter),
        };
        let Some(adoption) = answer::success(body, &terms, now) else {
            let profile = &exchange.provider.profile;
            let refusal = answer::refusal_in_success(body, profile).unwrap_or(Refusal::Unclear);
            return self.refusal(exchange, refusal, now);
        };
        if let (Some(known), Some(subject)) = (known, adoption.subject_sha256)
            && known != subject
        {
            return self.lose(exchange, Cause::AnotherUser, now);
        }
        self.adopt(exchange, adoption, now)
    }

    /// Commits the new refresh token, before anything else is looked at.
    fn adopt(
        &self,
        exchange: &mut Exchange,
        adoption: Adoption,
        now: &Now,
    ) -> Result<Action, RefreshError> {
        self.adopt_in(&self.view.read(), exchange, adoption, now)
    }

    pub(super) fn adopt_in(
        &self,
        view: &View,
        exchange: &mut Exchange,
        adoption: Adoption,
        now: &Now,
    ) -> Result<Action, RefreshError> {
        if let Err(error) = self.own_custody(view, exchange) {
            return self.leave_behind(view, exchange, adoption.successor, error);
        }
        let (mut batch, effect) =
            self.write_custody(view, exchange, Some(&adoption), Phase::Idle, now)?;
        let mut effects = vec![effect];
        self.clear_journal(view, exchange, &mut batch, &mut effects);
        self.clear_orphans(
            view,
            &exchange.tenant,
            &exchange.grant,
            &mut batch,
            &mut effects,
        );
        let held = view.custody.get(&exchange.grant);
        let generation = held.map_or(0, |held| held.value.refresh_generation);
        let exposure = held.map_or(Exposure::None, |held| held.value.exposure);
        let rotated = adoption.successor.is_some();
        let event = audit::Event::Refreshed {
            grant: &exchange.grant,
            refresh_generation: generation.saturating_add(u64::from(rotated)),
            rotated,
            refused: unusable(&adoption),
            exposed_before_deposit: exchange.exposure_after(exposure, &adoption).is_exposed(),
        };
        let leaf = self
            .leaf(view, Some(&exchange.tenant), &event, now)
            .map_err(RecordError::from)?;
        batch.leaves.push(leaf);
        exchange.state = State::Adopting { adoption };
        Ok(Action::Commit(Pending::new(
            batch,
            effects,
            Touched::nothing(),
            (),
        )))
    }

    /// The new refresh token is durable: only now may the access token be used.
    fn adopted(&self, exchange: &Exchange, adoption: Adoption, now: &Now) -> Action {
        self.pace.forget(&exchange.grant);
        let access = match adoption.access {
            Ok(access) => access,
            Err(error) => return finish(Err(error)),
        };
        let view = self.view.read();
        let Some(grant) = view.grants.get(&exchange.grant) else {
            return finish(Err(RefreshError::NoSuchGrant));
        };
        if let Some(subject) = view.frozen(&view.touched(&grant.value, None, None)) {
            return finish(Err(RefreshError::Frozen { subject }));
        }
        if view.is_revoked(&exchange.grant) {
            return finish(Err(RefreshError::Revoked));
        }
        if let BoundTo::ClientKey(jkt) = &access.bound_to {
            self.client_keys
                .has_token(&exchange.grant, jkt, access.ends_ms, now);
        }
        self.keep_upstream(&exchange.grant, &exchange.wanted, &access, now);
        finish(Ok(access))
    }

    /// What became of the token is not known; the next try will tell.
    fn unclear(&self, exchange: &mut Exchange, now: &Now) -> Result<Action, RefreshError> {
        let phase = match exchange.provider.rotation {
            // A token that never rotates can't have been spent.
            Rotation::Never => Phase::Idle,
            Rotation::Strict | Rotation::Grace => Phase::Uncertain {
                attempt: exchange.attempt,
            },
        };
        let view = self.view.read();
        self.settle(&view, exchange, phase, RefreshError::ProviderUnclear, now)
    }

    /// The very bytes that are current are of no use any more: the owner is needed.
    fn lose(
        &self,
        exchange: &mut Exchange,
        cause: Cause,
        now: &Now,
    ) -> Result<Action, RefreshError> {
        let phase = Phase::NeedsConsent { cause };
        let view = self.view.read();
        let (mut batch, effect) = self.write_custody(&view, exchange, None, phase, now)?;
        let mut effects = vec![effect];
        self.clear_journal(&view, exchange, &mut batch, &mut effects);
        let event = audit::Event::NeedsConsent {
            grant: &exchange.grant,
            cause: cause.word(),
        };
        let leaf = self
            .leaf(&view, Some(&exchange.tenant), &event, now)
            .map_err(RecordError::from)?;
        batch.leaves.push(leaf);
        self.forget_upstream(&exchange.grant);
        self.pace.forget(&exchange.grant);
        exchange.state = State::Settling {
            phase,
            result: RefreshError::NeedsConsent { cause },
        };
        let pending = Pending::new(batch, effects, Touched::nothing(), ());
        Ok(Action::Commit(pending))
    }

    fn settle(
        &self,
        view: &View,
        exchange: &mut Exchange,
        phase: Phase,
        result: RefreshError,
        now: &Now,
    ) -> Result<Action, RefreshError> {
        let (mut batch, effect) = self.write_custody(view, exchange, None, phase, now)?;
        let mut effects = vec![effect];
        self.clear_journal(view, exchange, &mut batch, &mut effects);
        if let Some(code) = refused_code(&result) {
            let event = audit::Event::RefreshRefused {
                grant: &exchange.grant,
                error: code,
            };
            let leaf = self
                .leaf(view, Some(&exchange.tenant), &event, now)
                .map_err(RecordError::from)?;
            batch.leaves.push(leaf);
        }
        exchange.state = State::Settling { phase, result };
        let pending = Pending::new(batch, effects, Touched::nothing(), ());
        Ok(Action::Commit(pending))
    }

    /// Sets the phase for this boot alone: the durable intent says no less. Where
    /// there is no intent any more, somebody else has the last word.
    pub(super) fn set_phase(&self, grant: &GrantId, phase: Phase) {
        let mut view = self.view.write();
        let intended = |held: &&mut Held<Custody>| matches!(held.value.phase, Phase::Intent { .. });
        if let Some(held) = view.custody.get_mut(grant).filter(intended) {
            let mut custody = (*held.value).clone();
            custody.phase = phase;
            held.value = Arc::new(custody);
        }
    }

    fn keep_upstream(
        &self,
        grant: &GrantId,
        wanted: &Wanted,
        access: &Arc<UpstreamAccess>,
        now: &Now,
    ) {
        let mut cache = self.upstream.lock();
        let of_grant = cache.entry(grant.clone()).or_default();
        of_grant.retain(|_, access| now.mono_ms < access.usable_until_ms);
        if wanted.client_key.is_some() {
            // One a key; the keys are counted.
            of_grant.retain(|kept, _| kept.client_key != wanted.client_key);
            of_grant.insert(wanted.clone(), Arc::clone(access));
            return;
        }
        // Each has a token of its own; a few are enough.
        let own = of_grant.keys().filter(|kept| kept.client_key.is_none());
        if own.count() < crate::MAX_UPSTREAM_TOKENS_PER_GRANT || of_grant.contains_key(wanted) {
            of_grant.insert(wanted.clone(), Arc::clone(access));
        }
    }

    pub(crate) fn forget_upstream(&self, grant: &GrantId) {
        self.upstream.lock().remove(grant);
    }
}

/// Whether a refusal is about the app or what it asks for, whatever proof goes with it.
fn concerns_app(error: &RefreshError) -> bool {
    let codes = [
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
    ];
    matches!(error, RefreshError::ProviderRefused { code } if codes.contains(code))
}

/// The provider's word for a refusal that leaves the refresh token as it was, for the leaf.
fn refused_code(error: &RefreshError) -> Option<&'static str> {
    if *error == RefreshError::RefusedWithProof {
        return Some("invalid_grant");
    }
    if let RefreshError::ProviderRefused { code } = error {
        Some(code)
    } else {
        None
    }
}

/// What of a good answer is of no use, for the leaf.
fn unusable(adoption: &Adoption) -> Option<&'static str> {
    match &adoption.access {
        Err(RefreshError::UnusableToken(why)) => Some(why),
        Ok(_) | Err(_) => None,
    }
}

/// Keeps an adoption that the store did not take, and comes back to it.
fn hold(exchange: &mut Exchange, adoption: Adoption, error: &StoreError) -> Action {
    if matches!(error, StoreError::Conflict { .. }) {
        exchange.conflicts = exchange.conflicts.saturating_add(1);
    }
    if *error == StoreError::Closed {
        // Nothing will ever be written again by this process.
        return finish(Err(error.clone().into()));
    }
    exchange.state = State::Adopting { adoption };
    Action::Pause(PAUSE_MS)
}

/// Keeps a successor that could not be put away, and comes back to it.
fn hold_orphan(exchange: &mut Exchange, successor: RefreshToken, error: StoreError) -> Action {
    if error == StoreError::Closed {
        return finish(Err(error.into()));
    }
    exchange.state = State::Orphaning { successor };
    Action::Pause(PAUSE_MS)
}

pub(super) fn finish(result: Result<Arc<UpstreamAccess>, RefreshError>) -> Action {
    Action::Finish(result)
}

#[cfg(test)]
mod tests;
