//! What a caller learns of a limit that is reached.

use std::time::Duration;

use enclave::limits::{LimitError, LimitOf};
use tonic::Code;

use super::Refusal;

/// The stable reason for a limit that is reached.
#[must_use]
pub(crate) fn reason(error: &LimitError) -> &'static str {
    match error {
        LimitError::Reached { of, .. } => match of {
            LimitOf::Client => "CLIENT_LIMIT_REACHED",
            LimitOf::Target => "TARGET_LIMIT_REACHED",
            LimitOf::Grant => "GRANT_LIMIT_REACHED",
            LimitOf::Tenant => "TENANT_LIMIT_REACHED",
        },
        LimitError::Full => "TOO_MANY_COUNTED",
    }
}

/// What to tell a person.
#[must_use]
pub(crate) fn message(error: &LimitError) -> String {
    match error {
        LimitError::Reached { of, counted, .. } => {
            let setter = match of {
                LimitOf::Client => "its vendor",
                LimitOf::Target | LimitOf::Grant | LimitOf::Tenant => "the owner of the grant",
            };
            let (of, counted) = (of.word(), counted.word());
            format!("the {of}'s limit of {counted} is reached: come back later, or ask {setter}")
        }
        LimitError::Full => "too many are counted at this moment: come back later".to_owned(),
    }
}

impl From<&LimitError> for Refusal {
    fn from(error: &LimitError) -> Self {
        Self::new(Code::ResourceExhausted, reason(error), message(error))
            .oauth("slow_down")
            .retry(Duration::from_millis(error.retry_after_ms()))
    }
}

#[cfg(test)]
mod tests {
    use enclave::issue::IssueError;
    use enclave::limits::Counted;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn each_limit_says_whose_it_is_of_what_and_when_to_come_back() {
        let reached = |of, counted| LimitError::Reached {
            of,
            counted,
            retry_after_ms: 1_500,
        };
        let rows = [
            (
                reached(LimitOf::Client, Counted::Tokens),
                "CLIENT_LIMIT_REACHED",
                "the client's limit of tokens is reached: come back later, or ask its vendor",
                1_500,
            ),
            (
                reached(LimitOf::Target, Counted::Calls),
                "TARGET_LIMIT_REACHED",
                "the target's limit of calls is reached: come back later, or ask the owner of the grant",
                1_500,
            ),
            (
                reached(LimitOf::Grant, Counted::Bytes),
                "GRANT_LIMIT_REACHED",
                "the grant's limit of bytes is reached: come back later, or ask the owner of the grant",
                1_500,
            ),
            (
                reached(LimitOf::Tenant, Counted::Exchanges),
                "TENANT_LIMIT_REACHED",
                "the tenant's limit of exchanges is reached: come back later, or ask the owner of the grant",
                1_500,
            ),
            (
                LimitError::Full,
                "TOO_MANY_COUNTED",
                "too many are counted at this moment: come back later",
                1_000,
            ),
        ];
        for (error, reason, message, retry_ms) in rows {
            let refusal = Refusal::from(&IssueError::from(error));
            assert_eq!(
                (refusal.code, refusal.reason, refusal.oauth_error),
                (Code::ResourceExhausted, reason, Some("slow_down"))
            );
            assert_eq!(refusal.message, message);
            let retry = refusal.status().get_details_retry_info().unwrap();
            assert_eq!(retry.retry_delay, Some(Duration::from_millis(retry_ms)));
        }
    }
}
