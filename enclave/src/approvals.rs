//! Approvals: calls that a person of the tenant must have agreed to, each call for itself.
//!
//! A grant names operations that need it. A client's call of one is refused and waits here; when an administrator of
//! the tenant has approved it, the same client may make that one call once. All of it is memory of one boot: after a
//! restart everything is to be asked anew.

use std::collections::HashMap;

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use crate::ids::{ClientId, GrantId, TenantId};
use crate::operation::OperationName;
use crate::time::Now;

/// How long a call waits for a decision, in milliseconds.
pub const WAITS_MS: u64 = 900_000;

/// How long an approved call may be made, in milliseconds.
pub const USABLE_MS: u64 = 600_000;

/// When a client may look again for a decision, in seconds.
pub const ASK_AGAIN_S: u64 = 15;

/// The most calls of one client to one tenant that wait or are decided: it leaves room for others.
const MAX_OF_CLIENT: usize = 32;

/// The most calls of one tenant that wait or are decided.
const MAX_OF_TENANT: usize = 128;

/// The most calls that wait or are decided.
const MAX_IN_ALL: usize = 4_096;

/// A call that needs somebody's approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: String,
    /// Whose data it is about.
    pub tenant: TenantId,
    /// The grant.
    pub grant: GrantId,
    /// Who calls.
    pub client: ClientId,
    /// What it calls.
    pub operation: OperationName,
    /// By which method.
    pub method: String,
    /// Where: the path and query below the target.
    pub path_and_query: String,
    /// On whose behalf, the one who acts now first.
    pub actors: Vec<String>,
    /// When it was asked first, Unix time in seconds.
    pub asked_at_s: u64,
    /// What became of it.
    pub state: ApprovalState,
    /// For how many more seconds that holds.
    pub ends_in_s: u64,
}

/// What became of a call that needs approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// It waits.
    Waiting,
    /// An administrator approved it: it may be made once.
    Approved {
        /// The administrator's name.
        by: String,
    },
    /// An administrator denied it.
    Denied {
        /// The administrator's name.
        by: String,
    },
}

/// What makes one call the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    grant: GrantId,
    client: ClientId,
    operation: String,
    method: String,
    path_sha256: [u8; 32],
    actors: Vec<String>,
}

#[derive(Debug)]
struct Kept {
    approval: Approval,
    /// Its leaf is durable: it can be decided.
    durable: bool,
    until_ms: u64,
}

/// The calls that wait or are decided.
#[derive(Debug, Default)]
pub(crate) struct Approvals(Mutex<HashMap<Call, Kept>>);

/// A change, when its leaf is durable.
#[derive(Debug)]
pub(crate) enum ApprovalEffect {
    Asked {
        id: String,
    },
    Decided {
        id: String,
        state: ApprovalState,
        until_ms: u64,
    },
}

/// What is known of a call that somebody wants to make.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It may be made, this once.
    Approved { id: String },
    /// It waits, and that is to be written down.
    Asked { id: String },
    /// It waits.
    Waiting { id: String },
    /// It must not be made.
    Denied { id: String },
    /// No more calls can wait.
    Full,
}

impl Approval {
    fn call(&self) -> Call {
        Call {
            grant: self.grant.clone(),
            client: self.client.clone(),
            operation: self.operation.to_string(),
            method: self.method.clone(),
            path_sha256: self.path_sha256(),
            actors: self.actors.clone(),
        }
    }

    /// What a leaf names the path by.
    pub(crate) fn path_sha256(&self) -> [u8; 32] {
        let digest = digest(&SHA256, self.path_and_query.as_bytes());
        let mut sha256 = [0; 32];
        for (to, from) in sha256.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        sha256
    }
}

impl Approvals {
    /// Looks for what became of a call, and uses up its approval if there is one. A call that nobody asked for waits
    /// from now on.
    pub(crate) fn take(&self, asked: Approval, now: &Now) -> Found {
        let mut kept = self.0.lock();
        kept.retain(|_, kept| now.mono_ms < kept.until_ms);
        let call = asked.call();
        if let Some(found) = kept.get(&call) {
            let id = found.approval.id.clone();
            return match &found.approval.state {
                ApprovalState::Waiting if found.durable => Found::Waiting { id },
                ApprovalState::Waiting => Found::Asked { id },
                ApprovalState::Denied { .. } => Found::Denied { id },
                ApprovalState::Approved { .. } => {
                    kept.remove(&call);
                    Found::Approved { id }
                }
            };
        }
        let (mut of_tenant, mut of_client) = (0_usize, 0_usize);
        for Kept { approval, .. } in kept.values() {
            let same_tenant = approval.tenant == asked.tenant;
            let same_client = same_tenant && approval.client == asked.client;
            of_tenant = of_tenant.saturating_add(usize::from(same_tenant));
            of_client = of_client.saturating_add(usize::from(same_client));
        }
        let full =
            kept.len() >= MAX_IN_ALL || of_tenant >= MAX_OF_TENANT || of_client >= MAX_OF_CLIENT;
        if full {
            return Found::Full;
        }
        let id = asked.id.clone();
        let waits = Kept {
            approval: asked,
            durable: false,
            until_ms: now.mono_ms.saturating_add(WAITS_MS),
        };
        kept.insert(call, waits);
        Found::Asked { id }
    }

    /// Those of a tenant that can be looked at, the oldest first.
    pub(crate) fn of_tenant(&self, tenant: &TenantId, now: &Now) -> Vec<Approval> {
        let kept = self.0.lock();
        let shown = kept.values().filter_map(|kept| kept.shown(now));
        let mut shown: Vec<Approval> = shown
            .filter(|approval| approval.tenant == *tenant)
            .collect();
        shown.sort_by(|a, b| (a.asked_at_s, &a.id).cmp(&(b.asked_at_s, &b.id)));
        shown
    }

    /// The one of an id, if it can be looked at.
    pub(crate) fn one(&self, id: &str, now: &Now) -> Option<Approval> {
        let kept = self.0.lock();
        let mut shown = kept.values().filter_map(|kept| kept.shown(now));
        shown.find(|approval| approval.id == id)
    }

    pub(crate) fn apply(&self, effect: ApprovalEffect) {
        let mut kept = self.0.lock();
        let (ApprovalEffect::Asked { id } | ApprovalEffect::Decided { id, .. }) = &effect;
        let Some(kept) = kept.values_mut().find(|kept| kept.approval.id == *id) else {
            return;
        };
        match effect {
            ApprovalEffect::Asked { .. } => kept.durable = true,
            ApprovalEffect::Decided {
                id: _,
                state,
                until_ms,
            } => {
                kept.approval.state = state;
                kept.until_ms = until_ms;
            }
        }
    }
}

impl Kept {
    fn shown(&self, now: &Now) -> Option<Approval> {
        let left_ms = self.until_ms.checked_sub(now.mono_ms)?;
        let shown = self.durable && left_ms > 0;
        shown.then(|| Approval {
            ends_in_s: left_ms.div_ceil(1_000),
            ..self.approval.clone()
        })
    }
}

#[cfg(test)]
mod tests;
