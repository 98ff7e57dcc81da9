//! Introspection [RFC 7662]: a client asks whether a token of its own still
//! holds. Of any other token, and of any that does not hold, it learns nothing.

use std::sync::Arc;

use thiserror::Error;

use crate::Enclave;
use crate::authenticate::assertion::Rules;
use crate::authenticate::{self, Authenticated, AuthenticationError, Credentials};
use crate::mint::Claims;
use crate::policy::{self, Ask};
use crate::rate::RateExceeded;
use crate::scope::Scopes;
use crate::time::Now;
use crate::view::View;

/// Why a question about a token was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IntrospectError {
    /// The caller is not a registered client.
    #[error(transparent)]
    Client(#[from] AuthenticationError),
    /// The client asks too often.
    #[error(transparent)]
    Rate(#[from] RateExceeded),
    /// Too few witnesses vouch for the state that the answer would come from.
    #[error("too few witnesses vouch for the state")]
    NotWitnessed,
}

impl Enclave {
    pub(crate) fn assertion_rules<'a>(&'a self, now: &'a Now) -> Rules<'a> {
        Rules {
            issuer: &self.config.issuer,
            boot_s: self.began_s,
            now,
        }
    }

    /// The client that shows these credentials, when nothing else is to be
    /// proved.
    pub(crate) fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: &Now,
    ) -> Result<Authenticated, AuthenticationError> {
        authenticate::caller(&self.view.read(), credentials, &self.assertion_rules(now))?
            .enter(&self.spent, now)
    }

    /// The claims of a token that is the caller's own and would be accepted now;
    /// `None` for any other.
    ///
    /// # Errors
    /// [`IntrospectError`] if the caller may not ask.
    pub fn introspect(
        &self,
        credentials: &Credentials<'_>,
        token: &str,
        now: &Now,
    ) -> Result<Option<Claims>, IntrospectError> {
        let caller = self.authenticate(credentials, now)?;
        self.issue_rates.take(&caller.client().id, now)?;
        let Ok(claims) = self.read_token(token, now) else {
            return Ok(None);
        };
        let holds = claims.client_id == caller.client().id
            && self.still_allows(&self.view.read(), &caller, &claims, now);
        if !holds {
            return Ok(None);
        }
        // An older state would call a token good that was stopped since.
        match self.freshness.check(now) {
            Ok(()) => Ok(Some(Arc::unwrap_or_clone(claims))),
            Err(_) => Err(IntrospectError::NotWitnessed),
        }
    }

    fn still_allows(
        &self,
        view: &View,
        caller: &Authenticated,
        claims: &Claims,
        now: &Now,
    ) -> bool {
        let Ok(grant) = policy::find_grant(view, &claims.client_id, &claims.grant) else {
            return false;
        };
        let Ok(scopes) = Scopes::parse(claims.scope.split(' ').filter(|s| !s.is_empty())) else {
            return false;
        };
        let ask = Ask {
            client: caller.client(),
            grant: &grant.value,
            resource: &claims.aud,
            scopes: &scopes,
            bound_to: claims.cnf.thumbprint(),
        };
        policy::authorize(view, &self.config.gateway_origin, &ask, now).is_ok()
    }
}

#[cfg(test)]
mod tests;
