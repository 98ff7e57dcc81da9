//! Decisions on calls that need a person's approval.

use super::freezes::MAX_REASON_BYTES;
use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::approvals::{Approval, ApprovalEffect, ApprovalState, USABLE_MS, WAITS_MS};
use crate::audit::{DecidedCall, Event};
use crate::freeze::Touched;
use crate::ids::TenantId;
use crate::pending::Pending;
use crate::store::Batch;
use crate::time::Now;
use crate::view::Effect;

/// An administrator's decision on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be made once.
    Approve,
    /// It must not be made.
    Deny,
}

impl Enclave {
    /// The calls of a tenant that wait for a decision or are decided, for those who see the tenant.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`].
    pub fn approvals(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        now: &Now,
    ) -> Result<Vec<Approval>, AdminError> {
        forbid_unless(by.sees_tenant(tenant))?;
        Ok(self.approvals.of_tenant(tenant, now))
    }

    /// Decides on a call. As long as it was not made, the last decision counts.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is no such call, it was made or came to its end, or it is another tenant's.
    pub fn decide_approval(
        &self,
        by: &Administrator,
        id: &str,
        decision: Decision,
        reason: &str,
        now: &Now,
    ) -> Result<Pending<Approval>, AdminError> {
        if reason.len() > MAX_REASON_BYTES {
            return Err(AdminError::Field {
                field: "reason",
                rule: "at most 512 bytes",
            });
        }
        let found = self.approvals.one(id, now);
        let found = found.filter(|approval| by.sees_tenant(&approval.tenant));
        let mut approval = found.ok_or(AdminError::NotFound("approval"))?;
        forbid_unless(by.guards_tenant(&approval.tenant))?;
        let name = by.name.clone();
        let (state, holds_ms) = match decision {
            Decision::Approve => (ApprovalState::Approved { by: name }, USABLE_MS),
            Decision::Deny => (ApprovalState::Denied { by: name }, WAITS_MS),
        };
        let decided = DecidedCall {
            approval: id,
            grant: &approval.grant,
            client: &approval.client,
            operation: approval.operation.to_string(),
            by: &by.name,
            reason,
        };
        let event = match decision {
            Decision::Approve => Event::ApprovalApproved(decided),
            Decision::Deny => Event::ApprovalDenied(decided),
        };
        let view = self.view.read();
        let leaf = self.leaf(&view, Some(&approval.tenant), &event, now)?;
        let batch = Batch {
            writes: Vec::new(),
            leaves: vec![leaf],
        };
        let effect = ApprovalEffect::Decided {
            id: id.to_owned(),
            state: state.clone(),
            until_ms: now.mono_ms.saturating_add(holds_ms),
        };
        approval.state = state;
        approval.ends_in_s = holds_ms / 1_000;
        let effects = vec![Effect::Approval(effect)];
        Ok(Pending::new(batch, effects, Touched::nothing(), approval))
    }
}
