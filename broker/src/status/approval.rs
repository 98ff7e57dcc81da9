//! What a caller learns of a call that a person must approve.

use std::time::Duration;

use enclave::approvals::ASK_AGAIN_S;
use tonic::Code;

use super::Refusal;

/// What to tell a person of a call that waits.
#[must_use]
pub(crate) fn required(approval: &str) -> String {
    format!(
        "the tenant wants a person's approval for this call: it waits as {approval}, send the same call again when `tokenkeep approval approve` was run"
    )
}

/// What to tell a person of a call that was denied.
#[must_use]
pub(crate) fn denied(approval: &str) -> String {
    format!("an administrator of the tenant denied this call (approval {approval})")
}

/// What to tell a person when no more calls can wait.
pub(crate) const TOO_MANY: &str = "too many calls wait for the tenant's approval: come back later";

pub(super) fn required_refusal(approval: &str) -> Refusal {
    Refusal::new(
        Code::FailedPrecondition,
        "APPROVAL_REQUIRED",
        required(approval),
    )
    .retry(Duration::from_secs(ASK_AGAIN_S))
}

pub(super) fn denied_refusal(approval: &str) -> Refusal {
    Refusal::new(Code::PermissionDenied, "APPROVAL_DENIED", denied(approval))
}

pub(super) fn too_many() -> Refusal {
    Refusal::new(Code::ResourceExhausted, "TOO_MANY_APPROVALS", TOO_MANY)
        .retry(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use enclave::policy::Denied;

    use super::*;

    #[test]
    fn each_has_its_code_reason_and_patience() {
        let approval = || "a-1".to_owned();
        let rows = [
            (
                Denied::ApprovalRequired {
                    approval: approval(),
                },
                Code::FailedPrecondition,
                "APPROVAL_REQUIRED",
                Some(Duration::from_secs(15)),
            ),
            (
                Denied::ApprovalDenied {
                    approval: approval(),
                },
                Code::PermissionDenied,
                "APPROVAL_DENIED",
                None,
            ),
            (
                Denied::TooManyApprovals,
                Code::ResourceExhausted,
                "TOO_MANY_APPROVALS",
                Some(Duration::from_secs(60)),
            ),
        ];
        for (denied, code, reason, retry) in rows {
            let refusal = Refusal::from(&denied);
            assert_eq!((refusal.code, refusal.reason), (code, reason));
            assert_eq!(refusal.retry_after, retry);
            let named = refusal.message.contains("a-1");
            assert_eq!(named, denied != Denied::TooManyApprovals);
        }
    }
}
