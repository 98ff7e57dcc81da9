//! How an exchange ends whose grant came to its end while its request was out.

use super::step::finish;
use super::{Action, Exchange, RefreshError, State};
use crate::Enclave;
use crate::custody::Phase;
use crate::freeze::Touched;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::secret::RefreshToken;
use crate::store::{Batch, Write};
use crate::view::{Effect, View};

impl Enclave {
    /// The grant came to its end while its request was out. A successor replaces what
    /// the provider is to be told of.
    pub(super) fn leave_behind(
        &self,
        view: &View,
        exchange: &mut Exchange,
        successor: Option<RefreshToken>,
        error: RefreshError,
    ) -> Result<Action, RefreshError> {
        let revoked = error == RefreshError::Revoked;
        let Some(successor) = successor.filter(|_| revoked) else {
            return Err(error);
        };
        let Some((mut batch, effect)) = self.bequeath(view, exchange, &successor)? else {
            return Err(error);
        };
        let mut effects = vec![effect];
        self.clear_journal(view, exchange, &mut batch, &mut effects);
        exchange.state = State::Settling {
            phase: Phase::Revoked,
            result: error,
        };
        let pending = Pending::new(batch, effects, Touched::nothing(), ());
        Ok(Action::Commit(pending))
    }

    /// The exchange can't go on. If the grant came to its end meanwhile, what the
    /// journal holds of the provider's answer is destroyed as well.
    pub(super) fn leave(&self, exchange: &mut Exchange, error: RefreshError) -> Action {
        let view = self.view.read();
        let ended = matches!(error, RefreshError::Revoked | RefreshError::NoSuchGrant);
        let Some(held) = view.journal.get(&exchange.grant).filter(|_| ended) else {
            return finish(Err(error));
        };
        let place = Place::tenant(&exchange.tenant, Table::Journal, exchange.grant.as_str());
        let batch = Batch {
            writes: vec![Write {
                key: self.cabinet.key(&place),
                expected_generation: held.generation,
                sealed: None,
            }],
            leaves: Vec::new(),
        };
        exchange.state = State::Settling {
            phase: Phase::Revoked,
            result: error,
        };
        let effects = vec![Effect::JournalGone(exchange.grant.clone())];
        Action::Commit(Pending::new(batch, effects, Touched::nothing(), ()))
    }
}
