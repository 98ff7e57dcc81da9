//! What follows a call: its completion leaf, and what an API's answer says of
//! the token that it was called with.

use std::sync::Arc;

use serde::Serialize;

use super::Admitted;
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::{GrantId, TenantId};
use crate::pending::Pending;
use crate::refresh::UpstreamAccess;
use crate::seal::SealError;
use crate::store::Batch;
use crate::time::Now;

/// A token that an API refuses sooner than this after it was issued is not
/// doubted, in milliseconds.
const DOUBT_AFTER_MS: u64 = 5_000;

/// How an answer came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// The client got all of it.
    Complete,
    /// There was none: the API was not reached or did not answer.
    NoAnswer,
    /// The connection to the API broke or stood still.
    Broken,
    /// The client hung up.
    Abandoned,
    /// It was cut by an administrator: frozen, or the grant was revoked.
    Stopped,
    /// It was cut, because a limit of bytes was reached.
    Limited,
    /// It was cut, because it repeated the bearer.
    EchoCut,
    /// It was refused, because an echo could not have been seen in it.
    Encoded,
}

/// How a call went that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The API's status, if it answered.
    pub status: Option<u16>,
    /// Bytes of the request's body that were sent.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were handed to the connection. Of an answer that was cut, the last of them may not
    /// have reached the caller.
    pub answer_bytes: u64,
    /// How it ended.
    pub end: CallEnd,
}

/// What is to be written down of a call that is over.
#[derive(Clone, Debug)]
pub struct CompletedCall {
    tenant: TenantId,
    grant: GrantId,
    jti: String,
    completed: Completed,
}

impl Admitted {
    /// What is to be written down of the call, which is over.
    #[must_use]
    pub fn completed(&self, completed: Completed) -> CompletedCall {
        CompletedCall {
            tenant: self.tenant.clone(),
            grant: self.grant.clone(),
            jti: self.jti.clone(),
            completed,
        }
    }
}

impl Enclave {
    /// The completion leaves of calls. Nothing waits for them, and there is nothing to release. Of a tenant that was
    /// erased meanwhile there is nothing to write.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn complete_calls(
        &self,
        calls: &[CompletedCall],
        now: &Now,
    ) -> Result<Pending<()>, SealError> {
        let view = self.view.read();
        let known = calls
            .iter()
            .filter(|call| view.realm_key(&call.tenant).is_ok());
        let leaves = known.map(|call| {
            let event = Event::GatewayCompleted {
                grant: &call.grant,
                jti: &call.jti,
                status: call.completed.status,
                request_bytes: call.completed.request_bytes,
                answer_bytes: call.completed.answer_bytes,
                end: call.completed.end,
            };
            self.leaf(&view, Some(&call.tenant), &event, now)
        });
        let batch = Batch {
            writes: Vec::new(),
            leaves: leaves.collect::<Result<_, _>>()?,
        };
        Ok(Pending::new(batch, Vec::new(), Touched::nothing(), ()))
    }

    /// Says whether a token that an API has just refused (401) may merely have been
    /// withdrawn early, so that the call is worth one more try with a new one. If so,
    /// it is discarded. One that came from the provider this moment is not: an API
    /// that always refuses must not cost an exchange a call.
    pub fn doubt_upstream(
        &self,
        admitted: &Admitted,
        access: &Arc<UpstreamAccess>,
        now: &Now,
    ) -> bool {
        let since = now.mono_ms.saturating_sub(access.obtained_ms);
        let doubtful = since >= DOUBT_AFTER_MS;
        if doubtful {
            self.discard_upstream(admitted, access);
        }
        doubtful
    }

    /// Forgets an upstream access token, if it is still the one in the cache: an
    /// API refused it, or repeated it where others may have seen it.
    pub fn discard_upstream(&self, admitted: &Admitted, access: &Arc<UpstreamAccess>) {
        let mut cache = self.upstream.lock();
        if let Some(of_grant) = cache.get_mut(&admitted.grant) {
            of_grant.retain(|_, held| !Arc::ptr_eq(held, access));
        }
    }
}
