//! How exchanges that a crash cut off go on at the next start.

use super::{Action, Exchange, RefreshError, State};
use crate::Enclave;
use crate::custody::Phase;
use crate::ids::GrantId;
use crate::time::Now;

use super::start::material;

impl Enclave {
    /// Adopts the journalled answer of an exchange that was cut off by a crash,
    /// or makes its state uncertain. For the start of the service, once a grant.
    ///
    /// # Errors
    /// [`RefreshError`] if the records can't be opened.
    pub fn resume_refresh(
        &self,
        grant: &GrantId,
        now: &Now,
    ) -> Result<Option<(Exchange, Action)>, RefreshError> {
        let view = self.view.read();
        let Some(held) = view.custody.get(grant) else {
            return Ok(None);
        };
        let Phase::Intent { attempt } = held.value.phase else {
            return Ok(None);
        };
        let Some(raw) = self.journalled(&view, grant)? else {
            drop(view);
            // Nothing is under way any more: a new deposit may come.
            self.set_phase(grant, Phase::Uncertain { attempt });
            return Ok(None);
        };
        let material = material(&view, grant)?;
        let mut exchange = Exchange {
            before: Phase::Uncertain { attempt },
            attempt,
            intent_generation: held.generation,
            presented_generation: held.value.refresh_generation,
            ..material.exchange()
        };
        drop(view);
        let mut action = self.read(&mut exchange, &raw, now)?;
        // How long ago the answer came is not known, nor for which scopes: its
        // access token is not used.
        if let State::Adopting { adoption } = &mut exchange.state {
            adoption.access = Err(RefreshError::ProviderUnclear);
        }
        if let Action::Finish(_) = action {
            action = Action::Finish(Err(RefreshError::ProviderUnclear));
        }
        Ok(Some((exchange, action)))
    }

    /// The grants whose exchange was cut off.
    #[must_use]
    pub fn interrupted(&self) -> Vec<GrantId> {
        let view = self.view.read();
        view.custody
            .iter()
            .filter(|(_, held)| matches!(held.value.phase, Phase::Intent { .. }))
            .map(|(grant, _)| grant.clone())
            .collect()
    }
}
