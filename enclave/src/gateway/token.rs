//! Checking a token of our own [RFC 9068 §4].

mod verified;

use std::sync::Arc;

use jose::Alg;
use jose::jws::{Compact, JwsError};
use thiserror::Error;

use crate::Enclave;
use crate::mint::Claims;
use crate::time::Now;

use verified::NewlyVerified;
pub(crate) use verified::VerifiedTokens;

/// Why a token can't be used here. The caller learns `invalid_token` alone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is not a JWS that we would sign.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Its type is not `at+jwt`, or that with `application/` before it.
    #[error("the token's type is not at+jwt")]
    Type,
    /// It names a key that is not ours.
    #[error("the token's key is not one of this issuer's")]
    UnknownKey,
    /// Its claims are not those of our tokens.
    #[error("the token's claims are not those of an access token")]
    Claims,
    /// It is for another issuer.
    #[error("the token is another issuer's")]
    Issuer,
    /// It is for another resource.
    #[error("the token is for another resource")]
    Audience,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It is from a time that is yet to come.
    #[error("the token is not valid yet")]
    FromFuture,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// It is bound in another way than it is shown.
    #[error("the token is bound in another way than it is shown")]
    Scheme,
    /// It is bound to another certificate than the connection's, or that has none.
    #[error("the token is bound to another certificate")]
    Certificate,
}

impl Enclave {
    /// Checks a token for one audience.
    pub(crate) fn check_token(
        &self,
        token: &str,
        audience: &str,
        now: &Now,
    ) -> Result<Arc<Claims>, TokenError> {
        let claims = self.read_token(token, now)?;
        if claims.aud != audience {
            return Err(TokenError::Audience);
        }
        Ok(claims)
    }

    /// Checks a token of ours, whatever its audience.
    pub(crate) fn read_token(&self, token: &str, now: &Now) -> Result<Arc<Claims>, TokenError> {
        let (claims, new) = self.verified_claims(token)?;
        if now.hi_s >= claims.exp {
            return Err(TokenError::Expired);
        }
        if claims.iat > now.hi_s {
            return Err(TokenError::FromFuture);
        }
        let view = self.view.read();
        if view.revoked.contains_key(&claims.jti) {
            return Err(TokenError::Revoked);
        }
        // Under the lock under which an erasure forgets: what was a tenant's does not come back.
        if let Some(new) = new
            && view.grants.contains_key(&claims.grant)
        {
            self.verified_tokens.keep(new);
        }
        Ok(claims)
    }

    /// What a token says that one of our keys signed, whatever the time; and what it can be remembered by, if it is not.
    fn verified_claims(
        &self,
        token: &str,
    ) -> Result<(Arc<Claims>, Option<NewlyVerified>), TokenError> {
        let keys = self.keys();
        let name = VerifiedTokens::name(token);
        let known = name.and_then(|name| self.verified_tokens.find(&name, &keys));
        if let Some(known) = known {
            return Ok((known, None));
        }
        let jws = Compact::parse(token)?;
        // [RFC 9068 §4]
        if !matches!(jws.typ(), Some("at+jwt" | "application/at+jwt")) {
            return Err(TokenError::Type);
        }
        let kid = jws.kid().ok_or(TokenError::UnknownKey)?.to_owned();
        let key = keys.token_public(&kid).ok_or(TokenError::UnknownKey)?;
        let verified = jws.verify(key, &[Alg::Es256, Alg::EdDsa])?;
        let claims: Claims =
            serde_json::from_slice(verified.payload()).map_err(|_| TokenError::Claims)?;
        if claims.iss != self.config.issuer {
            return Err(TokenError::Issuer);
        }
        let claims = Arc::new(claims);
        let new = name.map(|name| NewlyVerified::new(name, kid, *key, &claims));
        Ok((claims, new))
    }
}

#[cfg(test)]
mod tests;
