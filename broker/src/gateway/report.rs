//! What is written down of a call when it is over, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use enclave::gateway::{Admitted, CallEnd, Completed};
use enclave::refresh::UpstreamAccess;
use http::StatusCode;

use super::calls::Place;
use super::completions::Completions;
use crate::events;
use crate::shell::Shell;

/// The report on one call, written down when it is dropped. Nobody waits for
/// that: the decision was durable before the first byte went upstream.
pub(super) struct Report {
    shell: Arc<Shell>,
    completions: Arc<Completions>,
    admitted: Admitted,
    sent: Arc<AtomicU64>,
    completed: Completed,
    /// Its place among the calls under way.
    _place: Place,
}

impl Report {
    pub(super) fn new(
        shell: Arc<Shell>,
        completions: Arc<Completions>,
        admitted: Admitted,
        place: Place,
    ) -> Self {
        let completed = Completed {
            status: None,
            request_bytes: 0,
            answer_bytes: 0,
            end: CallEnd::NoAnswer,
        };
        Self {
            shell,
            completions,
            admitted,
            sent: Arc::default(),
            completed,
            _place: place,
        }
    }

    pub(super) fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// Counts the bytes of the request's body.
    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// The API has answered, and the client is getting it.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.completed.status = Some(status.as_u16());
        self.completed.end = CallEnd::Abandoned;
    }

    /// More of the answer's body was passed on.
    pub(super) fn passed_on(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.completed.answer_bytes = self.completed.answer_bytes.saturating_add(bytes);
    }

    /// The answer has come to an end.
    pub(super) fn ended(&mut self, end: CallEnd) {
        self.completed.end = end;
    }

    /// The API repeated the bearer, which is not used again.
    pub(super) fn echoed(&mut self, access: &Arc<UpstreamAccess>) {
        self.ended(CallEnd::EchoCut);
        self.shell.enclave.discard_upstream(&self.admitted, access);
        events::credential_echoed(&self.admitted);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.completed.request_bytes = self.sent.load(Ordering::Relaxed);
        let call = self.admitted.completed(self.completed);
        self.completions.add(&self.shell, call);
    }
}
