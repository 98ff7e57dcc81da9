//! Approvals of calls.

use enclave::admin::{AdminError, Decision};
use enclave::approvals::{Approval, ApprovalState};
use proto::v1;

/// Reads an administrator's decision. An unknown one is never taken for another.
///
/// # Errors
/// [`AdminError::Field`].
pub fn decision(number: i32) -> Result<Decision, AdminError> {
    match v1::ApprovalDecision::try_from(number) {
        Ok(v1::ApprovalDecision::Approve) => Ok(Decision::Approve),
        Ok(v1::ApprovalDecision::Deny) => Ok(Decision::Deny),
        Ok(v1::ApprovalDecision::Unspecified) | Err(_) => Err(AdminError::Field {
            field: "decision",
            rule: "must be APPROVE or DENY",
        }),
    }
}

/// The message for a call that needs approval.
#[must_use]
pub fn approval_message(approval: Approval) -> v1::Approval {
    let Approval {
        id,
        tenant,
        grant,
        client,
        operation,
        method,
        path_and_query,
        actors,
        asked_at_s,
        state,
        ends_in_s,
    } = approval;
    let (state, by) = match state {
        ApprovalState::Waiting => (v1::ApprovalState::Waiting, String::new()),
        ApprovalState::Approved { by } => (v1::ApprovalState::Approved, by),
        ApprovalState::Denied { by } => (v1::ApprovalState::Denied, by),
    };
    v1::Approval {
        id,
        tenant: tenant.into(),
        grant: grant.into(),
        client: client.into(),
        operation: operation.into(),
        method,
        path_and_query,
        actors,
        asked_at_s,
        state: state.into(),
        by,
        ends_in_s,
    }
}
