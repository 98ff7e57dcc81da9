//! The terms of a grant: what its tenant sets for it beside whom and what it is for, and may set anew.

use serde::{Deserialize, Serialize};

use crate::limits::{LimitOf, Limits, TargetLimits};
use crate::registry::Grant;

/// The terms of a grant; what is absent is not bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantTerms {
    /// What may be done with it.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// What may be done with it at one of its targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_limits: Vec<TargetLimits>,
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

    /// Whether they fit a grant.
    pub(crate) fn check(&self, grant: &Grant) -> Result<(), BrokenTerm> {
        let Self {
            limits,
            target_limits,
        } = self;
        let broken = |field, rule| Err(BrokenTerm { field, rule });
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
            limits,
            target_limits,
        } = self;
        let none = Limits::default();
        let now_at = |target| {
            let mut at = target_limits
                .iter()
                .filter(|limits| limits.target == target);
            at.next().map_or(none, |limits| limits.limits)
        };
        let mut targets = before.target_limits.iter();
        limits.widen(&before.limits)
            || targets.any(|before| now_at(before.target.clone()).widen(&before.limits))
    }
}
