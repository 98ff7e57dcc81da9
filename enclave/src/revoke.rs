//! Revocation of a token that the enclave minted [RFC 7009]: its id is written
//! down and refused until it has expired.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Enclave;
use crate::audit::Event;
use crate::authenticate::{AuthenticationError, Credentials};
use crate::freeze::Touched;
use crate::pending::Pending;
use crate::rate::RateExceeded;
use crate::record::{Place, RecordError, Table};
use crate::seal::SealError;
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, Held};

/// The most revocations that are held at a time.
pub const MAX_REVOKED: usize = 100_000;

/// How long a revocation outlives its token, in seconds: a host's clock that is
/// set back by less does not bring the token back.
pub const OUTLIVES_S: u64 = 3_600;

/// How many ended revocations are dropped at a time.
const DROPPED_AT_A_TIME: usize = 256;

/// A token that was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedToken {
    /// Its id.
    pub jti: String,
    /// When it expires by itself, Unix time in seconds.
    pub expires_at_s: u64,
}

/// Why a revocation was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RevokeError {
    /// The caller is not a registered client.
    #[error(transparent)]
    Client(#[from] AuthenticationError),
    /// The client asks too often.
    #[error(transparent)]
    Rate(#[from] RateExceeded),
    /// No more revocations can be held until older tokens expire.
    #[error("too many revoked tokens")]
    Full,
    /// The enclave could not seal: its own fault.
    #[error(transparent)]
    Internal(#[from] SealError),
}

impl From<RecordError> for RevokeError {
    fn from(_: RecordError) -> Self {
        Self::Internal(SealError::Failed)
    }
}

impl Enclave {
    /// Revokes a token of the caller's own. `None` if there is nothing to do: the
    /// token is not one that holds, or another's [RFC 7009 §2.2]; the caller
    /// learns no difference.
    ///
    /// A commit that ends in [`Conflict`](crate::store::StoreError::Conflict)
    /// says that the token was revoked at the same time by another request.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub fn revoke_token(
        &self,
        credentials: &Credentials<'_>,
        token: &str,
        now: &Now,
    ) -> Result<Option<Pending<()>>, RevokeError> {
        let caller = self.authenticate(credentials, now)?;
        self.issue_rates.take(&caller.client().id, now)?;
        let Ok(claims) = self.read_token(token, now) else {
            return Ok(None);
        };
        if claims.client_id != caller.client().id {
            return Ok(None);
        }
        let view = self.view.read();
        if view.revoked.len() >= MAX_REVOKED {
            return Err(RevokeError::Full);
        }
        let revoked = RevokedToken {
            jti: claims.jti.clone(),
            expires_at_s: claims.exp,
        };
        let place = Place::system(Table::RevokedTokens, &revoked.jti);
        let write = self.seal_json(&self.system_key, &place, 0, &revoked)?;
        let event = Event::TokenRevoked {
            grant: &claims.grant,
            client: &claims.client_id,
            jti: &revoked.jti,
        };
        let tenant = view
            .grants
            .get(&claims.grant)
            .map(|held| &held.value.tenant);
        let leaf = self.leaf(&view, tenant, &event, now)?;
        let batch = Batch {
            writes: vec![write],
            leaves: vec![leaf],
        };
        let effects = vec![Effect::Revoked(Held::new(1, revoked))];
        Ok(Some(Pending::new(batch, effects, Touched::nothing(), ())))
    }

    /// Drops revocations whose tokens have long expired; `None` if there are
    /// none. Nothing depends on its commit.
    #[must_use]
    pub fn drop_ended_revocations(&self, now: &Now) -> Option<Pending<()>> {
        let view = self.view.read();
        let ended = view
            .revoked_by_expiry
            .iter()
            .take_while(|(expires_at_s, _)| expires_at_s.saturating_add(OUTLIVES_S) < now.lo_s)
            .take(DROPPED_AT_A_TIME);
        let mut batch = Batch::default();
        let mut effects = Vec::new();
        for (_, jti) in ended {
            let Some(held) = view.revoked.get(jti) else {
                continue;
            };
            let place = Place::system(Table::RevokedTokens, jti);
            batch.writes.push(Write {
                key: self.cabinet.key(&place),
                expected_generation: held.generation,
                sealed: None,
            });
            effects.push(Effect::RevocationGone(jti.clone()));
        }
        if batch.writes.is_empty() {
            return None;
        }
        Some(Pending::new(batch, effects, Touched::nothing(), ()))
    }
}

#[cfg(test)]
mod tests;
