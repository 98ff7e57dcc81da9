//! The terms of a grant: what its tenant sets for it beside whom and what it is for, and may set anew.

use serde::{Deserialize, Serialize};

use crate::actor::MAX_ACTOR_DEPTH;
use crate::limits::{LimitOf, Limits, TargetLimits};
use crate::operation::OperationName;
use crate::registry::Grant;

/// The terms of a grant; what is absent is not bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantTerms {
    /// Who of the tenant answers for it, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// What it is for, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// When its tenant wants to look at it again, Unix time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review_at_s: Option<u64>,
    /// After how many seconds without use it falls asleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_after_idle_s: Option<u64>,
    /// How many actors a token may be asked for on behalf of; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_actor_depth: u32,
    /// The operations that each call needs a person's approval for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approval_operations: Vec<OperationName>,
    /// What may be done with it.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// What may be done with it at one of its targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_limits: Vec<TargetLimits>,
}

/// The longest owner in bytes.
pub const MAX_OWNER_BYTES: usize = 256;

/// The longest purpose in bytes.
pub const MAX_PURPOSE_BYTES: usize = 1_024;

/// The longest idle time in seconds.
pub const MAX_IDLE_S: u64 = 315_576_000;

fn is_line(text: &str, max_bytes: usize) -> bool {
    text.len() <= max_bytes && !text.chars().any(char::is_control)
}

/// The most operations that need approval.
pub const MAX_APPROVAL_OPERATIONS: usize = 64;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A rule that terms break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BrokenTerm {
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

impl GrantTerms {
    /// The terms, unless they say nothing.
    #[must_use]
    pub fn or_none(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Whether there will be something to do in the grant's life.
    pub(crate) fn tended(&self) -> bool {
        self.review_at_s.is_some() || self.sleep_after_idle_s.is_some()
    }

    /// Whether they fit a grant, whose targets have these operations.
    pub(crate) fn check(
        &self,
        grant: &Grant,
        has: impl Fn(&OperationName) -> bool,
    ) -> Result<(), BrokenTerm> {
        let Self {
            owner,
            purpose,
            review_at_s: _,
            sleep_after_idle_s,
            max_actor_depth,
            approval_operations,
            limits,
            target_limits,
        } = self;
        let broken = |field, rule| Err(BrokenTerm { field, rule });
        if !is_line(owner, MAX_OWNER_BYTES) {
            return broken(
                "grant.terms.owner",
                "at most 256 bytes, no control characters",
            );
        }
        if !is_line(purpose, MAX_PURPOSE_BYTES) {
            return broken(
                "grant.terms.purpose",
                "at most 1024 bytes, no control characters",
            );
        }
        if sleep_after_idle_s.is_some_and(|idle_s| !(1..=MAX_IDLE_S).contains(&idle_s)) {
            return broken("grant.terms.sleep_after_idle_s", "1 second to ten years");
        }
        if *max_actor_depth > MAX_ACTOR_DEPTH {
            return broken("grant.terms.max_actor_depth", "at most 8");
        }
        let mut named = approval_operations.iter().enumerate();
        let twice = |at: usize, name| approval_operations.iter().take(at).any(|one| one == name);
        let fits = approval_operations.len() <= MAX_APPROVAL_OPERATIONS
            && named.all(|(at, name)| has(name) && !twice(at, name));
        if !fits {
            return broken(
                "grant.terms.approval_operations",
                "at most 64 operations that the grant's targets have, each once",
            );
        }
        if let Some(rule) = limits.broken(LimitOf::Grant) {
            return broken("grant.terms.limits", rule);
        }
        for (at, TargetLimits { target, limits }) in target_limits.iter().enumerate() {
            let mut before = target_limits.iter().take(at);
            if !grant.targets.contains(target) || before.any(|other| other.target == *target) {
                let rule = "targets of the grant, each once";
                return broken("grant.terms.target_limits.target", rule);
            }
            if let Some(rule) = limits.broken(LimitOf::Target) {
                return broken("grant.terms.target_limits.limits", rule);
            }
        }
        Ok(())
    }

    /// Whether they let anything pass that those before did not.
    pub(crate) fn widen(&self, before: &Self) -> bool {
        let Self {
            owner,
            purpose,
            review_at_s,
            sleep_after_idle_s,
            max_actor_depth,
            approval_operations,
            limits,
            target_limits,
        } = self;
        let mut approved = before.approval_operations.iter();
        // Absent is later than any moment, and longer than any time.
        let later = |now: &Option<u64>, before: &Option<u64>| {
            now.unwrap_or(u64::MAX) > before.unwrap_or(u64::MAX)
        };
        let none = Limits::default();
        let now_at = |target| {
            let mut at = target_limits
                .iter()
                .filter(|limits| limits.target == target);
            at.next().map_or(none, |limits| limits.limits)
        };
        let mut targets = before.target_limits.iter();
        // What people read of a grant is its owner's to write.
        (owner, purpose) != (&before.owner, &before.purpose)
            || later(review_at_s, &before.review_at_s)
            || later(sleep_after_idle_s, &before.sleep_after_idle_s)
            || *max_actor_depth > before.max_actor_depth
            || approved.any(|name| !approval_operations.contains(name))
            || limits.widen(&before.limits)
            || targets.any(|before| now_at(before.target.clone()).widen(&before.limits))
    }
}
