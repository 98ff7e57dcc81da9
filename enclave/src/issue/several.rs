//! Several tokens for one proof: who asks is decided once, each token on its own.

use thiserror::Error;

use super::{Binding, Decided, Door, IssueError, Issued, TokenAsk};
use crate::Enclave;
use crate::authenticate::Credentials;
use crate::pending::Pending;
use crate::stage::Stages;
use crate::time::Now;

/// The most tokens of one request.
pub const MAX_ASKS: usize = 16;

/// A request for several tokens, as it came in.
#[derive(Clone, Debug)]
pub struct SeveralRequest<'a> {
    /// What the caller shows of itself.
    pub credentials: Credentials<'a>,
    /// What to bind all of the tokens to.
    pub binding: Binding<'a>,
    /// What is wanted: at most [`MAX_ASKS`].
    pub asks: Vec<TokenAsk<'a>>,
}

/// Why nothing was decided on any of the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SeveralError {
    /// None is asked for, or too many are.
    #[error("{found} tokens are asked for: one request is good for 1 to {MAX_ASKS}")]
    Count {
        /// So many.
        found: usize,
    },
    /// The caller or its proof is refused.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Enclave {
    /// Decides on several requests of one caller, and mints those tokens that it may have; each waits for a leaf of its
    /// own. What one is refused for does not touch the others. `stages` is told as each stage of each is passed.
    ///
    /// # Errors
    /// [`SeveralError`] if the caller or the proof is refused: then no token was decided on.
    pub fn issue_several(
        &self,
        request: &SeveralRequest<'_>,
        now: &Now,
        stages: &impl Stages,
    ) -> Result<Vec<Result<Pending<Issued>, IssueError>>, SeveralError> {
        let found = request.asks.len();
        if !(1..=MAX_ASKS).contains(&found) {
            return Err(SeveralError::Count { found });
        }
        let door = Door::GrpcSeveral;
        let proved = self.proved(door, &request.credentials, &request.binding, now, stages)?;
        let answers =
            request
                .asks
                .iter()
                .map(|ask| match self.decided(&proved, ask, now, stages)? {
                    Decided::Authorized(authorized) => self.minted(authorized, now, stages),
                    Decided::Refused(refusal) => Ok(refusal),
                });
        Ok(answers.collect())
    }
}

#[cfg(test)]
mod tests;
