//! Calls that a person of the tenant must have agreed to.

use super::GatewayError;
use crate::Enclave;
use crate::approvals::{Approval, ApprovalEffect, Found};
use crate::audit::{CallInQuestion, Event};
use crate::mint::token_id;
use crate::pending::Pending;
use crate::policy::Denied;
use crate::registry::Grant;
use crate::store::{Batch, Leaf};
use crate::time::Now;
use crate::view::{Effect, View};

/// What became of a call that may need approval.
pub(super) enum Ruling<T> {
    /// It needs none, or has it: then it has an id and a leaf of its own.
    Passed(Option<(String, Leaf)>),
    /// It waits, or must not be made. The refusal waits for its leaf, if it has one.
    Refused(Pending<T>),
}

impl Enclave {
    /// Looks for the approval of a call whose operation needs one.
    pub(super) fn approve<T>(
        &self,
        view: &View,
        grant: &Grant,
        asked: impl FnOnce(String) -> Option<Approval>,
        now: &Now,
    ) -> Result<Ruling<T>, GatewayError> {
        let needs_any = grant.terms.as_deref();
        if needs_any.is_none_or(|terms| terms.approval_operations.is_empty()) {
            return Ok(Ruling::Passed(None));
        }
        let Some(asked) = asked(token_id(&*self.rng)?) else {
            return Ok(Ruling::Passed(None));
        };
        let of_call = asked.clone();
        let leaf = |id: &str, used: bool| {
            let call = CallInQuestion {
                approval: id,
                grant: &of_call.grant,
                client: &of_call.client,
                operation: of_call.operation.to_string(),
                method: &of_call.method,
                path_sha256: hex::encode(of_call.path_sha256()),
                actors: of_call.actors.iter().map(String::as_str).collect(),
            };
            let event = if used {
                Event::ApprovalUsed(call)
            } else {
                Event::ApprovalAsked(call)
            };
            self.leaf(view, Some(&of_call.tenant), &event, now)
        };
        let refused = |leaves: Vec<Leaf>, effects, denied| {
            let batch = Batch {
                writes: Vec::new(),
                leaves,
            };
            Ok(Ruling::Refused(Pending::refused_with(
                batch, effects, denied,
            )))
        };
        match self.approvals.take(asked, now) {
            Found::Approved { id } => {
                let leaf = leaf(&id, true)?;
                Ok(Ruling::Passed(Some((id, leaf))))
            }
            Found::Asked { id } => {
                let leaf = leaf(&id, false)?;
                let asked = ApprovalEffect::Asked { id: id.clone() };
                let effects = vec![Effect::Approval(asked)];
                let denied = Denied::ApprovalRequired { approval: id };
                refused(vec![leaf], effects, denied)
            }
            Found::Waiting { id } => refused(
                Vec::new(),
                Vec::new(),
                Denied::ApprovalRequired { approval: id },
            ),
            Found::Denied { id } => refused(
                Vec::new(),
                Vec::new(),
                Denied::ApprovalDenied { approval: id },
            ),
            Found::Full => Err(Denied::TooManyApprovals.into()),
        }
    }
}
