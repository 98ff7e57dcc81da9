//! What all doors for tokens share: ask the enclave, make durable, give out.

use std::sync::Arc;

use enclave::authenticate::Credentials;
use enclave::issue::{IssueRequest, Issued, SeveralRequest};
use enclave::log::Receipt;
use enclave::mint::Claims;
use enclave::store::StoreError;
use futures_util::future::join_all;

use crate::events;
use crate::metrics::stages::Laps;
use crate::shell::Shell;
use crate::status::Refusal;

impl Shell {
    /// Issues a token, which leaves when its leaf is durable, with the leaf's receipt.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn issue(
        self: &Arc<Self>,
        request: &IssueRequest<'_>,
    ) -> Result<(Issued, Option<Receipt>), Refusal> {
        let pending = {
            let laps = Laps::start();
            self.enclave
                .issue_in_stages(request, &self.clock.now(), &laps)
                .map_err(|error| Refusal::from(&error))
        };
        let issued = match pending {
            Ok(pending) => self.settle_with_receipt(pending).await,
            Err(refusal) => Err(refusal),
        };
        match &issued {
            Ok((issued, _receipt)) => events::token_issued(issued),
            Err(refusal) => events::token_refused(refusal),
        }
        issued
    }

    /// Issues several tokens of one caller, each of which leaves when its leaf is durable. One group of commits can
    /// make all of them durable.
    ///
    /// # Errors
    /// [`Refusal`] of all; those of single tokens are in the answer.
    pub async fn issue_several(
        self: &Arc<Self>,
        request: &SeveralRequest<'_>,
    ) -> Result<Vec<Result<(Issued, Option<Receipt>), Refusal>>, Refusal> {
        let decided = {
            let laps = Laps::start();
            self.enclave
                .issue_several(request, &self.clock.now(), &laps)
                .map_err(|error| Refusal::from(&error))
                .inspect_err(events::token_refused)?
        };
        let answers = join_all(decided.into_iter().map(async |pending| {
            let pending = pending.map_err(|error| Refusal::from(&error))?;
            self.settle_with_receipt(pending).await
        }));
        let answers = answers.await;
        for answer in &answers {
            match answer {
                Ok((issued, _receipt)) => events::token_issued(issued),
                Err(refusal) => events::token_refused(refusal),
            }
        }
        Ok(answers)
    }

    /// The claims of a token that holds and is the caller's own.
    ///
    /// # Errors
    /// [`Refusal`] if the caller may not ask.
    pub fn introspect(
        &self,
        credentials: &Credentials<'_>,
        token: &str,
    ) -> Result<Option<Claims>, Refusal> {
        self.enclave
            .introspect(credentials, token, &self.clock.now())
            .map_err(|error| Refusal::from(&error))
            .inspect_err(events::token_refused)
    }

    /// Revokes a token, if it is the caller's own and holds.
    ///
    /// # Errors
    /// [`Refusal`] if the caller may not ask, or the token still holds.
    pub async fn revoke(
        self: &Arc<Self>,
        credentials: &Credentials<'_>,
        token: &str,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let pending = self
            .enclave
            .revoke_token(credentials, token, &now)
            .map_err(|error| Refusal::from(&error))
            .inspect_err(events::token_refused)?;
        let Some(pending) = pending else {
            return Ok(());
        };
        match self.conclude(pending).await {
            Ok((released, _receipt)) => released.map_err(|denied| Refusal::from(&denied))?,
            // Another request has revoked the same token.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(Refusal::from(&error)),
        }
        self.cosigned().await?;
        if let Some(ended) = self.enclave.drop_ended_revocations(&now) {
            // Nothing depends on it; the next revocation tries again.
            drop(self.conclude(ended).await);
        }
        Ok(())
    }
}
