//! How exchanges that a crash cut off go on at the next start.

use super::{Action, Exchange, RefreshError, State};
use crate::Enclave;
use crate::custody::Phase;
use crate::ids::GrantId;
use crate::secret::RawResponse;
use crate::time::Now;

use super::start::material;

/// How far an exchange had come when a crash cut it off.
enum CutOff {
    /// None was under way.
    No,
    /// No answer is recorded.
    Unanswered { attempt: u32 },
    /// The journal holds the provider's answer.
    Answered(Box<Exchange>, RawResponse),
}

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
        let (mut exchange, raw) = match self.cut_off(grant)? {
            CutOff::No => return Ok(None),
            CutOff::Unanswered { attempt } => {
                // Nothing is under way any more: a new deposit may come.
                self.set_phase(grant, Phase::Uncertain { attempt });
                return Ok(None);
            }
            CutOff::Answered(exchange, raw) => (exchange, raw),
        };
        let action = self.read(&mut exchange, &raw, now)?;
        // How long ago the answer came is not known, nor for which scopes: its
        // access token is not used.
        if let State::Adopting { adoption } = &mut exchange.state {
            adoption.access = Err(RefreshError::ProviderUnclear);
        }
        Ok(Some((*exchange, action)))
    }

    /// What the records say of a grant's exchange, if a crash cut it off.
    fn cut_off(&self, grant: &GrantId) -> Result<CutOff, RefreshError> {
        let view = self.view.read();
        let Some(held) = view.custody.get(grant) else {
            return Ok(CutOff::No);
        };
        let Phase::Intent { attempt } = held.value.phase else {
            return Ok(CutOff::No);
        };
        let Some(raw) = self.journalled(&view, grant)? else {
            return Ok(CutOff::Unanswered { attempt });
        };
        let exchange = Exchange {
            before: Phase::Uncertain { attempt },
            attempt,
            intent_generation: held.generation,
            presented_generation: held.value.refresh_generation,
            ..material(&view, grant)?.exchange()
        };
        Ok(CutOff::Answered(Box::new(exchange), raw))
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
