//! Limits, and the terms of grants.

use enclave::admin::AdminError;
use enclave::limits::{Limit, Limits, TargetLimits};
use enclave::terms::GrantTerms;
use proto::v1;

use super::{operation_name, present, target_name};

/// Reads a message as limits; without one there are none. The bounds are the enclave's to check.
#[must_use]
pub fn limits(message: Option<v1::Limits>) -> Limits {
    let v1::Limits {
        tokens,
        calls,
        bytes,
        exchanges,
    } = message.unwrap_or_default();
    let limit = |message: v1::Limit| Limit {
        amount: message.amount,
        period_s: message.period_s,
        burst: match message.burst {
            0 => message.amount,
            burst => burst,
        },
    };
    Limits {
        tokens: tokens.map(limit),
        calls: calls.map(limit),
        bytes: bytes.map(limit),
        exchanges: exchanges.map(limit),
    }
}

/// The message for limits, if there are any.
#[must_use]
pub fn limits_message(limits: Limits) -> Option<v1::Limits> {
    if limits.is_none() {
        return None;
    }
    let Limits {
        tokens,
        calls,
        bytes,
        exchanges,
    } = limits;
    let limit = |limit: Limit| v1::Limit {
        amount: limit.amount,
        period_s: limit.period_s,
        burst: limit.burst,
    };
    Some(v1::Limits {
        tokens: tokens.map(limit),
        calls: calls.map(limit),
        bytes: bytes.map(limit),
        exchanges: exchanges.map(limit),
    })
}

/// Reads a message as the terms of a grant; without one there are none.
///
/// # Errors
/// [`AdminError`].
pub fn terms(message: Option<v1::GrantTerms>) -> Result<GrantTerms, AdminError> {
    let v1::GrantTerms {
        limits: own,
        target_limits,
        owner,
        purpose,
        review_at_s,
        sleep_after_idle_s,
        max_actor_depth,
        approval_operations,
    } = message.unwrap_or_default();
    let given = |seconds: u64| Some(seconds).filter(|seconds| *seconds != 0);
    let target_limits = target_limits.into_iter().map(|message| {
        let v1::TargetLimits {
            target,
            limits: of_target,
        } = message;
        let of_target = present("grant.terms.target_limits.limits", of_target)?;
        Ok::<TargetLimits, AdminError>(TargetLimits {
            target: target_name("grant.terms.target_limits.target", &target)?,
            limits: limits(Some(of_target)),
        })
    });
    Ok(GrantTerms {
        owner,
        purpose,
        review_at_s: given(review_at_s),
        sleep_after_idle_s: given(sleep_after_idle_s),
        max_actor_depth,
        approval_operations: approval_operations
            .iter()
            .map(|name| operation_name("grant.terms.approval_operations", name))
            .collect::<Result<_, _>>()?,
        limits: limits(own),
        target_limits: target_limits.collect::<Result<_, _>>()?,
    })
}

/// The message for the terms of a grant.
#[must_use]
pub fn terms_message(terms: GrantTerms) -> v1::GrantTerms {
    let GrantTerms {
        owner,
        purpose,
        review_at_s,
        sleep_after_idle_s,
        max_actor_depth,
        approval_operations,
        limits,
        target_limits,
    } = terms;
    let target_limits = target_limits.into_iter();
    v1::GrantTerms {
        limits: limits_message(limits),
        target_limits: target_limits
            .map(|TargetLimits { target, limits }| v1::TargetLimits {
                target: target.into(),
                limits: limits_message(limits),
            })
            .collect(),
        owner,
        purpose,
        review_at_s: review_at_s.unwrap_or_default(),
        sleep_after_idle_s: sleep_after_idle_s.unwrap_or_default(),
        max_actor_depth,
        approval_operations: approval_operations.into_iter().map(Into::into).collect(),
    }
}
