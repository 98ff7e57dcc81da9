//! Limits: how much may be asked for, called, carried and exchanged on one account.
//!
//! A vendor limits its clients; a tenant limits its grants, their targets, and all of its grants together. What counts
//! on several accounts is taken from each of them or from none. The counts are memory of this boot: one moment an
//! account, the one at which all that it holds has run out again. There are so many at most; who is not counted yet
//! when no more fit is refused.

mod meters;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use meters::Meters;

use crate::Enclave;
use crate::ids::{ClientId, GrantId, TargetName, TenantId};
use crate::registry::{Client, Grant};
use crate::time::Now;
use crate::view::View;

/// The largest amount and burst of a limit.
pub const MAX_AMOUNT: u64 = 1 << 40;

/// The longest period of a limit in seconds: a day.
pub const MAX_PERIOD_S: u32 = 86_400;

/// The fewest bytes that a limit of bytes lets pass at once.
pub const MIN_BURST_BYTES: u64 = 65_536;

/// How long bytes that are on their way are held back at most, in milliseconds; who would have to wait longer is cut.
pub const LONGEST_WAIT_MS: u64 = 10_000;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Access tokens that are asked for.
    Tokens,
    /// Calls at the gateway.
    Calls,
    /// Bytes of bodies that pass the gateway, both ways.
    Bytes,
    /// Exchanges of refresh tokens at providers.
    Exchanges,
}

impl Counted {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Calls => "calls",
            Self::Bytes => "bytes",
            Self::Exchanges => "exchanges",
        }
    }
}

/// So much in a period in the long run, so much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// In a period, in the long run: 1 to [`MAX_AMOUNT`].
    pub amount: u64,
    /// The period in seconds: 1 to [`MAX_PERIOD_S`].
    pub period_s: u32,
    /// At once: 1 to [`MAX_AMOUNT`].
    pub burst: u64,
}

/// The limits of one account; what is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Access tokens that are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Limit>,
    /// Calls at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Limit>,
    /// Bytes of bodies that pass the gateway, both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Limit>,
    /// Exchanges of refresh tokens at providers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchanges: Option<Limit>,
}

/// The limits of one target of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetLimits {
    /// The target.
    pub target: TargetName,
    /// What may be done there.
    pub limits: Limits,
}

/// Which kind of account a limit is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOf {
    /// A client's: its vendor set it.
    Client,
    /// A target's within a grant: the tenant set it.
    Target,
    /// A grant's: its tenant set it.
    Grant,
    /// All of a tenant's grants': the tenant set it.
    Tenant,
}

impl LimitOf {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Target => "target",
            Self::Grant => "grant",
            Self::Tenant => "tenant",
        }
    }
}

/// Why something is not counted, and so does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LimitError {
    /// A limit is reached.
    #[error("the {}'s limit of {} is reached", .of.word(), .counted.word())]
    Reached {
        /// Whose limit.
        of: LimitOf,
        /// Of what.
        counted: Counted,
        /// When to come back, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// No more accounts can be counted.
    #[error("too many accounts are counted at once")]
    Full,
}

impl LimitError {
    /// When to come back, in milliseconds from now.
    #[must_use]
    pub fn retry_after_ms(&self) -> u64 {
        match self {
            Self::Reached { retry_after_ms, .. } => *retry_after_ms,
            Self::Full => 1_000,
        }
    }
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    Client(ClientId),
    Target(GrantId, TargetName),
    Grant(GrantId),
    Tenant(TenantId),
}

impl Account {
    fn kind(&self) -> LimitOf {
        match self {
            Self::Client(_) => LimitOf::Client,
            Self::Target(..) => LimitOf::Target,
            Self::Grant(_) => LimitOf::Grant,
            Self::Tenant(_) => LimitOf::Tenant,
        }
    }
}

/// What an account may spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    account: Account,
    limit: Limit,
}

/// On whose accounts the bytes of a call count.
#[derive(Clone, Debug)]
pub struct ByteBudgets(Arc<[Budget]>);

impl Limit {
    /// Which rule it breaks, if any.
    fn broken(self, counted: Counted) -> Option<&'static str> {
        let Self {
            amount,
            period_s,
            burst,
        } = self;
        let fits = (1..=MAX_AMOUNT).contains(&amount)
            && (1..=MAX_PERIOD_S).contains(&period_s)
            && (1..=MAX_AMOUNT).contains(&burst);
        if !fits {
            return Some("1 to 2^40 in 1 to 86400 seconds, 1 to 2^40 at once");
        }
        let too_small = counted == Counted::Bytes && burst < MIN_BURST_BYTES;
        too_small.then_some("at least 65536 bytes at once")
    }

    /// Whether it lets more pass than another.
    fn is_wider(self, than: Self) -> bool {
        let a_period = |limit: Self, other: Self| {
            u128::from(limit.amount).saturating_mul(u128::from(other.period_s))
        };
        self.burst > than.burst || a_period(self, than) > a_period(than, self)
    }

    /// How long an amount takes to run out, in nanoseconds.
    fn lasts_ns(self, amount: u64) -> u64 {
        let period_ns = u128::from(self.period_s).saturating_mul(1_000_000_000);
        let all_ns = u128::from(amount).saturating_mul(period_ns);
        let lasts_ns = all_ns.div_ceil(u128::from(self.amount.max(1)));
        u64::try_from(lasts_ns).unwrap_or(u64::MAX)
    }
}

impl Limits {
    /// The limit of one thing.
    #[must_use]
    pub fn of(&self, counted: Counted) -> Option<Limit> {
        match counted {
            Counted::Tokens => self.tokens,
            Counted::Calls => self.calls,
            Counted::Bytes => self.bytes,
            Counted::Exchanges => self.exchanges,
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Which rule they break, if any. Exchanges are a grant's own: no client's and no target's.
    pub(crate) fn broken(&self, of: LimitOf) -> Option<&'static str> {
        let Self {
            tokens,
            calls,
            bytes,
            exchanges,
        } = self;
        let each = [
            (tokens, Counted::Tokens),
            (calls, Counted::Calls),
            (bytes, Counted::Bytes),
            (exchanges, Counted::Exchanges),
        ];
        let stray = exchanges.is_some() && matches!(of, LimitOf::Client | LimitOf::Target);
        if stray {
            return Some("exchanges are counted for grants and tenants");
        }
        let mut each = each.into_iter();
        each.find_map(|(limit, counted)| limit.and_then(|limit| limit.broken(counted)))
    }

    /// Whether they let more pass than those before.
    pub(crate) fn widen(&self, before: &Self) -> bool {
        let all = [
            Counted::Tokens,
            Counted::Calls,
            Counted::Bytes,
            Counted::Exchanges,
        ];
        all.into_iter()
            .any(|counted| match (before.of(counted), self.of(counted)) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(before), Some(after)) => after.is_wider(before),
            })
    }
}

/// On whose accounts something counts: the narrowest first.
pub(crate) fn budgets(
    view: &View,
    counted: Counted,
    grant: &Grant,
    by: Option<(&Client, &TargetName)>,
) -> Vec<Budget> {
    let client = by.and_then(|(client, _target)| {
        let limit = client.limits.of(counted)?;
        Some((Account::Client(client.id.clone()), limit))
    });
    let terms = grant.terms.as_deref();
    let target = by.and_then(|(_client, target)| {
        let limits = terms?.target_limits.iter();
        let mut limits = limits.filter(|limits| limits.target == *target);
        let limit = limits.next()?.limits.of(counted)?;
        Some((Account::Target(grant.id.clone(), target.clone()), limit))
    });
    let own = terms.and_then(|terms| {
        let limit = terms.limits.of(counted)?;
        Some((Account::Grant(grant.id.clone()), limit))
    });
    let tenant = view.tenants.get(&grant.tenant).and_then(|tenant| {
        let limit = tenant.value.limits.of(counted)?;
        Some((Account::Tenant(grant.tenant.clone()), limit))
    });
    [client, target, own, tenant]
        .into_iter()
        .flatten()
        .map(|(account, limit)| Budget { account, limit })
        .collect()
}

impl Enclave {
    /// Counts one of something on each account that it is of, or on none.
    pub(crate) fn count(
        &self,
        view: &View,
        counted: Counted,
        grant: &Grant,
        by: Option<(&Client, &TargetName)>,
        now: &Now,
    ) -> Result<(), LimitError> {
        let budgets = budgets(view, counted, grant, by);
        self.meters
            .take(counted, &budgets, 1, 0, now)
            .map(|_at_once| ())
    }

    /// On whose accounts the bytes of a call count, if there is any limit of them.
    pub(crate) fn byte_budgets(
        &self,
        view: &View,
        grant: &Grant,
        by: (&Client, &TargetName),
        now: &Now,
    ) -> Result<Option<ByteBudgets>, LimitError> {
        let budgets = budgets(view, Counted::Bytes, grant, Some(by));
        self.meters.take(Counted::Bytes, &budgets, 0, 0, now)?;
        Ok((!budgets.is_empty()).then(|| ByteBudgets(budgets.into())))
    }

    /// Counts bytes that are about to pass. Gives how long they are to be held back, in milliseconds.
    ///
    /// # Errors
    /// [`LimitError`] if that were longer than [`LONGEST_WAIT_MS`]: they must not pass, and are not counted.
    pub fn spend_bytes(
        &self,
        budgets: &ByteBudgets,
        bytes: u64,
        now: &Now,
    ) -> Result<u64, LimitError> {
        self.meters
            .take(Counted::Bytes, &budgets.0, bytes, LONGEST_WAIT_MS, now)
    }
}

#[cfg(test)]
mod tests;
