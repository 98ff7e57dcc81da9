//! What follows a call: its completion leaf, and what an API's answer says of
//! the token that it was called with.

use std::sync::Arc;

use serde::Serialize;

use super::Admitted;
use crate::Enclave;
use crate::audit::Event;
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

/// A call that is over.
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

impl Enclave {
    /// The completion leaf of a call. Nothing waits for it, and there is nothing
    /// to release.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn complete_call(
        &self,
        admitted: &Admitted,
        completed: &Completed,
        now: &Now,
    ) -> Result<Pending<()>, SealError> {
        let event = Event::GatewayCompleted {
            grant: &admitted.grant,
            jti: &admitted.jti,
            status: completed.status,
            request_bytes: completed.request_bytes,
            answer_bytes: completed.answer_bytes,
            end: completed.end,
        };
        let view = self.view.read();
        let leaf = self.leaf(&view, Some(&admitted.tenant), &event, now)?;
        let batch = Batch {
            writes: Vec::new(),
            leaves: vec![leaf],
        };
        Ok(Pending::new(
            batch,
            Vec::new(),
            admitted.touched.clone(),
            (),
        ))
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
