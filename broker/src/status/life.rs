//! What a caller learns of a grant that sleeps.

use tonic::Code;

use super::Refusal;

/// What to tell a person of a grant that sleeps.
pub(crate) const ASLEEP: &str =
    "the grant fell asleep for want of use: its tenant wakes it with `tokenkeep grant wake`";

/// The refusal for a grant that sleeps.
pub(super) fn asleep() -> Refusal {
    Refusal::new(Code::FailedPrecondition, "GRANT_ASLEEP", ASLEEP).oauth("invalid_grant")
}

#[cfg(test)]
mod tests {
    use enclave::issue::IssueError;
    use enclave::policy::Denied;

    use super::*;

    #[test]
    fn a_grant_that_sleeps_says_how_it_is_woken() {
        let refusal = Refusal::from(&IssueError::from(Denied::Asleep));
        assert_eq!(
            (refusal.code, refusal.reason, refusal.oauth_error),
            (
                Code::FailedPrecondition,
                "GRANT_ASLEEP",
                Some("invalid_grant")
            )
        );
        assert!(refusal.message.contains("tokenkeep grant wake"));
        assert_eq!(refusal.retry_after, None);
    }
}
