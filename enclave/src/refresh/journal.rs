//! The journal: a provider's raw answer, kept until it is adopted.
//!
//! An entry names the generation of the custody record that it answers, so that
//! an older one is never taken for the answer to a later exchange.

use zeroize::Zeroizing;

use super::start::material;
use super::{Action, Exchange, RefreshError, State, answer};
use crate::Enclave;
use crate::freeze::Touched;
use crate::ids::GrantId;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::secret::{RawResponse, RefreshToken};
use crate::store::{Batch, Write};
use crate::view::{Effect, HeldSealed, View};

/// An entry: the custody record's generation (u64, big-endian), then the answer.
pub(super) fn encode(custody_generation: u64, answer: &RawResponse) -> Zeroizing<Vec<u8>> {
    let capacity = answer.expose().len().saturating_add(8);
    let mut entry = Zeroizing::new(Vec::with_capacity(capacity));
    entry.extend_from_slice(&custody_generation.to_be_bytes());
    entry.extend_from_slice(answer.expose());
    entry
}

/// The answer in an entry, if it belongs to this generation.
pub(super) fn decode(entry: &[u8], custody_generation: u64) -> Option<RawResponse> {
    let (generation, answer) = entry.split_first_chunk::<8>()?;
    (u64::from_be_bytes(*generation) == custody_generation)
        .then(|| RawResponse::new(answer.to_vec()))
}

impl Enclave {
    /// Seals the raw answer to the journal before anything reads it.
    pub(super) fn journal(
        &self,
        exchange: &mut Exchange,
        body: RawResponse,
    ) -> Result<Action, RefreshError> {
        let view = self.view.read();
        // A grant that was revoked meanwhile leaves nothing behind, but what the
        // provider must be told of.
        if let Err(error) = self.own_custody(&view, exchange) {
            return self.leave_behind(&view, exchange, answer::successor(&body), error);
        }
        let held = view.journal.get(&exchange.grant);
        let generation = held.map_or(0, |held| held.generation);
        let key = view.realm_key(&exchange.tenant)?;
        let place = Place::tenant(&exchange.tenant, Table::Journal, exchange.grant.as_str());
        let custody = view.custody.get(&exchange.grant);
        let custody_generation = custody.map_or(0, |held| held.generation);
        let entry = encode(custody_generation, &body);
        let write = self
            .cabinet
            .seal(&*self.rng, &key, &place, generation, &entry)?;
        let effects = vec![Effect::Journal(
            exchange.grant.clone(),
            HeldSealed {
                generation: generation.saturating_add(1),
                sealed: write.sealed.as_deref().unwrap_or_default().into(),
            },
        )];
        let batch = Batch {
            writes: vec![write],
            leaves: Vec::new(),
        };
        exchange.state = State::Journaling { answer: body };
        let pending = Pending::new(batch, effects, Touched::nothing(), ());
        Ok(Action::Commit(pending))
    }

    /// What the journal holds has been read: it goes with what came of it.
    pub(super) fn clear_journal(
        &self,
        view: &View,
        exchange: &Exchange,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(held) = view.journal.get(&exchange.grant) {
            let place = Place::tenant(&exchange.tenant, Table::Journal, exchange.grant.as_str());
            batch.writes.push(Write {
                key: self.cabinet.key(&place),
                expected_generation: held.generation,
                sealed: None,
            });
            effects.push(Effect::JournalGone(exchange.grant.clone()));
        }
    }

    /// The new refresh token in a grant's journal, if there is one.
    pub(crate) fn journalled_successor(
        &self,
        view: &View,
        grant: &GrantId,
    ) -> Option<RefreshToken> {
        // What does not open is told of by whoever needs it opened.
        let raw = self.journalled(view, grant).ok()??;
        answer::successor(&raw)
    }

    /// The provider's answer to the exchange that a crash cut off, if it was
    /// journalled.
    pub(super) fn journalled(
        &self,
        view: &View,
        grant: &GrantId,
    ) -> Result<Option<RawResponse>, RefreshError> {
        let (Some(held), Some(custody)) = (view.journal.get(grant), view.custody.get(grant)) else {
            return Ok(None);
        };
        let tenant = &material(view, grant)?.grant.tenant;
        let key = view.realm_key(tenant)?;
        let place = Place::tenant(tenant, Table::Journal, grant.as_str());
        let entry = self
            .cabinet
            .open(&key, &place, held.generation, &held.sealed)?;
        Ok(decode(&entry, custody.generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_serves_its_own_generation_only() {
        let entry = encode(7, &RawResponse::new(b"{}".to_vec()));
        let decoded = |generation| decode(&entry, generation).map(|raw| raw.expose().to_vec());
        assert_eq!(decoded(7), Some(b"{}".to_vec()));
        assert_eq!(decoded(8), None);
        assert!(decode(&entry[..7], 7).is_none());
    }
}
