//! What whoever watches events learns of the end of a stream, or why there is none.

use std::time::Duration;

use enclave::admin::{AdminError, EventError};
use tonic::Code;

use super::Refusal;
use crate::event_feed::EventsError;

impl From<&EventsError> for Refusal {
    fn from(error: &EventsError) -> Self {
        match error {
            EventsError::Log(error) => error.into(),
            // As if it had never been there.
            EventsError::Event(EventError::Erased) => (&AdminError::NotFound("tenant")).into(),
            EventsError::Event(EventError::Closed) => Self::internal(),
        }
    }
}

impl Refusal {
    /// More streams of events than there may be.
    #[must_use]
    pub fn too_many_watches() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "TOO_MANY_WATCHES",
            "too many watch the tenant's events: end another stream",
        )
        .retry(Duration::from_secs(10))
    }

    /// More tests of webhooks at a time than are posted.
    #[must_use]
    pub fn too_many_tests() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "TOO_MANY_TESTS",
            "other tests of webhooks are being posted: try again",
        )
        .retry(Duration::from_secs(5))
    }

    /// A test that a webhook did not take.
    pub(crate) fn webhook_not_taken(why: &str) -> Self {
        let message = format!("the webhook did not take the test: {why}");
        Self::new(Code::FailedPrecondition, "WEBHOOK_NOT_TAKEN", message)
    }

    /// A stream that ends because the service does.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(Code::Unavailable, "STOPPING", "the service is stopping")
    }

    /// A stream whose reader does not read on.
    #[must_use]
    pub fn slow_consumer() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "SLOW_CONSUMER",
            "events waited too long to be read: go on from `next` of the last message",
        )
        .retry(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use enclave::log::LogError;

    use super::*;

    #[test]
    fn each_end_has_its_code_and_reason() {
        let rows = [
            (Refusal::too_many_watches(), "TOO_MANY_WATCHES", 10),
            (Refusal::too_many_tests(), "TOO_MANY_TESTS", 5),
            (Refusal::slow_consumer(), "SLOW_CONSUMER", 1),
        ];
        for (refusal, reason, retry_s) in rows {
            assert_eq!(
                (refusal.code, refusal.reason),
                (Code::ResourceExhausted, reason)
            );
            assert_eq!(refusal.retry_after, Some(Duration::from_secs(retry_s)));
        }
        let not_taken = Refusal::webhook_not_taken("status 500");
        assert_eq!(
            (not_taken.code, not_taken.reason),
            (Code::FailedPrecondition, "WEBHOOK_NOT_TAKEN")
        );
        let stopping = Refusal::stopping();
        assert_eq!(
            (stopping.code, stopping.reason),
            (Code::Unavailable, "STOPPING")
        );
        let rows = [
            (
                EventsError::Log(LogError::Beyond { size: 1 }.into()),
                Code::InvalidArgument,
                "BEYOND_THE_LOG",
            ),
            (EventError::Erased.into(), Code::NotFound, "NOT_FOUND"),
            (EventError::Closed.into(), Code::Internal, "INTERNAL"),
        ];
        for (error, code, reason) in rows {
            let refusal = Refusal::from(&error);
            assert_eq!((refusal.code, refusal.reason), (code, reason), "{error}");
        }
    }
}
