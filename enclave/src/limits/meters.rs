//! The counts of all accounts: shards of buckets, bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;

use super::{Account, Budget, Counted, LONGEST_WAIT_MS, Limit, LimitError};
use crate::time::Now;

/// How many locks the counts hang on.
const SHARDS: usize = 64;

/// The most buckets of a shard: a million in all.
const MAX_BUCKETS: usize = 16_384;

/// How often a full shard is looked through at most, in milliseconds.
const SWEEP_EVERY_MS: u64 = 1_000;

/// The counts.
#[derive(Debug)]
pub(crate) struct Meters {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    buckets: HashMap<(Account, Counted), Bucket>,
    /// When it may be looked through again.
    sweep_at_ms: u64,
}

/// What an account holds: the moment at which it has run out, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    out_at_ns: u64,
}

impl Bucket {
    /// As it is under this limit: it holds no more than that lets it, so that a limit that was made wider is wider at
    /// once.
    fn under(self, limit: Limit, counted: Counted, now: &Now) -> Self {
        let owed_ms = match counted {
            Counted::Bytes => LONGEST_WAIT_MS,
            Counted::Tokens | Counted::Calls | Counted::Exchanges => 0,
        };
        let most_ns = limit
            .lasts_ns(limit.burst)
            .saturating_add(owed_ms.saturating_mul(NS_PER_MS));
        let now_ns = now_ns(now);
        let out_at_ns = self.out_at_ns.min(now_ns.saturating_add(most_ns));
        Self {
            out_at_ns: out_at_ns.max(now_ns),
        }
    }

    /// With so much more.
    fn with(self, limit: Limit, amount: u64) -> Self {
        Self {
            out_at_ns: self.out_at_ns.saturating_add(limit.lasts_ns(amount)),
        }
    }

    fn without(self, limit: Limit, amount: u64) -> Self {
        Self {
            out_at_ns: self.out_at_ns.saturating_sub(limit.lasts_ns(amount)),
        }
    }

    /// How long it holds more than it should, in milliseconds.
    fn over_ms(self, limit: Limit, now: &Now) -> u64 {
        let ahead_ns = self.out_at_ns.saturating_sub(now_ns(now));
        let over_ns = ahead_ns.saturating_sub(limit.lasts_ns(limit.burst));
        over_ns.div_ceil(NS_PER_MS)
    }

    fn is_empty(self, now: &Now) -> bool {
        self.out_at_ns <= now_ns(now)
    }
}

const NS_PER_MS: u64 = 1_000_000;

fn now_ns(now: &Now) -> u64 {
    now.mono_ms.saturating_mul(NS_PER_MS)
}

impl Shard {
    /// Whether one more bucket fits.
    fn has_room(&mut self, max_buckets: usize, now: &Now) -> bool {
        if self.buckets.len() >= max_buckets && now.mono_ms >= self.sweep_at_ms {
            self.sweep_at_ms = now.mono_ms.saturating_add(SWEEP_EVERY_MS);
            self.buckets.retain(|_, bucket| !bucket.is_empty(now));
        }
        self.buckets.len() < max_buckets
    }
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Takes an amount out of each budget, or nothing out of any. Gives how long it is to be held back, in
    /// milliseconds: no longer than `patience_ms`. An amount of 0 takes nothing, and passes if anything could be taken.
    pub(super) fn take(
        &self,
        counted: Counted,
        budgets: &[Budget],
        amount: u64,
        patience_ms: u64,
        now: &Now,
    ) -> Result<u64, LimitError> {
        let mut longest_ms = 0;
        for (taken, budget) in budgets.iter().enumerate() {
            match self.take_one(counted, budget, amount, patience_ms, now) {
                Ok(wait_ms) => longest_ms = wait_ms.max(longest_ms),
                Err(error) => {
                    for budget in budgets.iter().take(taken) {
                        self.give_back(counted, budget, amount);
                    }
                    return Err(error);
                }
            }
        }
        Ok(longest_ms)
    }

    fn take_one(
        &self,
        counted: Counted,
        budget: &Budget,
        amount: u64,
        patience_ms: u64,
        now: &Now,
    ) -> Result<u64, LimitError> {
        let Budget { account, limit } = budget;
        let key = (account.clone(), counted);
        let Some(shard) = self.shard(&key) else {
            return Err(LimitError::Full);
        };
        let mut shard = shard.lock();
        let held = shard.buckets.get(&key).copied();
        let before = held.unwrap_or_default().under(*limit, counted, now);
        let after = before.with(*limit, amount.max(1));
        let over_ms = after.over_ms(*limit, now);
        let passes = over_ms <= patience_ms;
        if passes && amount > 0 {
            if held.is_none() && !shard.has_room(MAX_BUCKETS, now) {
                return Err(LimitError::Full);
            }
            shard.buckets.insert(key, after);
        } else if held.is_some() {
            shard.buckets.insert(key, before);
        }
        if passes {
            Ok(over_ms)
        } else {
            Err(LimitError::Reached {
                of: account.kind(),
                counted,
                retry_after_ms: over_ms,
            })
        }
    }

    fn give_back(&self, counted: Counted, budget: &Budget, amount: u64) {
        let key = (budget.account.clone(), counted);
        let Some(shard) = self.shard(&key) else {
            return;
        };
        if let Some(bucket) = shard.lock().buckets.get_mut(&key) {
            *bucket = bucket.without(budget.limit, amount);
        }
    }

    fn shard(&self, key: &(Account, Counted)) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(key);
        let shards = u64::try_from(self.shards.len()).ok()?;
        let at = usize::try_from(hash.checked_rem(shards)?).ok()?;
        self.shards.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LimitOf;
    use super::*;
    use crate::testing::id;

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 0,
            hi_s: 0,
            mono_ms,
        }
    }

    fn limit(amount: u64, period_s: u32, burst: u64) -> Limit {
        Limit {
            amount,
            period_s,
            burst,
        }
    }

    fn grant(name: &str, limit: Limit) -> Budget {
        let account = Account::Grant(id(name));
        Budget { account, limit }
    }

    fn tenant(limit: Limit) -> Budget {
        let account = Account::Tenant(id("acme"));
        Budget { account, limit }
    }

    fn reached(budget: &Budget, retry_after_ms: u64) -> Result<u64, LimitError> {
        Err(LimitError::Reached {
            of: budget.account.kind(),
            counted: Counted::Calls,
            retry_after_ms,
        })
    }

    fn calls(meters: &Meters, budgets: &[Budget], mono_ms: u64) -> Result<u64, LimitError> {
        meters.take(Counted::Calls, budgets, 1, 0, &at(mono_ms))
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_for_each_account_alone() {
        let meters = Meters::new();
        let (one, other) = ([grant("a", limit(10, 1, 3))], [grant("b", limit(10, 1, 3))]);
        for _ in 0..3 {
            assert_eq!(calls(&meters, &one, 0), Ok(0));
        }
        assert_eq!(calls(&meters, &one, 0), reached(&one[0], 100));
        assert_eq!(calls(&meters, &other, 0), Ok(0));
        assert_eq!(calls(&meters, &one, 100), Ok(0));
        assert_eq!(calls(&meters, &one, 100), reached(&one[0], 100));
        let passed = (0..10_000_u64)
            .filter(|ms| calls(&meters, &one, 100 + ms).is_ok())
            .count();
        assert!((99..=100).contains(&passed), "{passed}");
        // What is counted of one thing is not counted of another.
        let tokens = meters.take(Counted::Tokens, &one, 1, 0, &at(0));
        assert_eq!(tokens, Ok(0));
    }

    #[test]
    fn whoever_is_refused_takes_nothing_of_what_others_share() {
        let meters = Meters::new();
        let small = grant("a", limit(1, 86_400, 1));
        let sum = tenant(limit(1, 86_400, 3));
        let both = [small.clone(), sum.clone()];
        assert_eq!(calls(&meters, &both, 0), Ok(0));
        for _ in 0..100 {
            assert_eq!(calls(&meters, &both, 0), reached(&small, 86_400_000));
        }
        // Nor does the sum, when it refuses, take anything of the narrower account.
        let [b, c] = ["b", "c"].map(|name| [grant(name, limit(1, 86_400, 5)), sum.clone()]);
        assert_eq!(calls(&meters, &b, 0), Ok(0));
        assert_eq!(calls(&meters, &c, 0), Ok(0));
        for _ in 0..100 {
            assert_eq!(calls(&meters, &b, 0), reached(&sum, 86_400_000));
        }
        for _ in 0..4 {
            assert_eq!(calls(&meters, &b[..1], 0), Ok(0));
        }
        assert_eq!(calls(&meters, &b[..1], 0), reached(&b[0], 86_400_000));
    }

    #[test]
    fn bytes_are_held_back_and_then_cut() {
        let meters = Meters::new();
        let budget = [grant("a", limit(1_000, 1, 2_000))];
        let spend = |bytes, mono_ms| {
            meters.take(
                Counted::Bytes,
                &budget,
                bytes,
                LONGEST_WAIT_MS,
                &at(mono_ms),
            )
        };
        assert_eq!(spend(2_000, 0), Ok(0));
        assert_eq!(spend(1_000, 0), Ok(1_000));
        assert_eq!(spend(9_000, 0), Ok(10_000));
        let cut = |retry_after_ms| {
            Err(LimitError::Reached {
                of: LimitOf::Grant,
                counted: Counted::Bytes,
                retry_after_ms,
            })
        };
        // What is cut is not counted.
        assert_eq!(spend(1_000, 0), cut(11_000));
        assert_eq!(spend(1_000, 0), cut(11_000));
        // Nothing new begins while something is owed, and a look takes nothing.
        let begin = |mono_ms| meters.take(Counted::Bytes, &budget, 0, 0, &at(mono_ms));
        assert_eq!(begin(0), cut(10_001));
        assert_eq!(begin(10_000), cut(1));
        assert_eq!(begin(10_001), Ok(0));
        assert_eq!(begin(10_001), Ok(0));
        assert_eq!(spend(1_000, 1_000), Ok(10_000));
    }

    #[test]
    fn a_wider_limit_is_wider_at_once() {
        let meters = Meters::new();
        let narrow = [grant("a", limit(1, 86_400, 2))];
        assert_eq!(calls(&meters, &narrow, 0), Ok(0));
        assert_eq!(calls(&meters, &narrow, 0), Ok(0));
        assert_eq!(calls(&meters, &narrow, 0), reached(&narrow[0], 86_400_000));
        let wide = [grant("a", limit(100, 1, 100))];
        assert_eq!(calls(&meters, &wide, 0), reached(&wide[0], 10));
        assert_eq!(calls(&meters, &wide, 10), Ok(0));
    }

    #[test]
    fn a_shard_is_bounded_and_forgets_only_whom_it_may() {
        let mut shard = Shard::default();
        let key = |n: usize| (Account::Grant(id(&format!("g{n}"))), Counted::Calls);
        let hour = limit(1, 3_600, 1);
        for n in 0..3 {
            assert!(shard.has_room(3, &at(0)), "{n}");
            let limit = if n == 0 { limit(1, 1, 1) } else { hour };
            shard
                .buckets
                .insert(key(n), Bucket::default().with(limit, 1));
        }
        // All of them are counted still.
        assert!(!shard.has_room(3, &at(0)));
        // One is not any more, but a full shard is looked through once a second only.
        assert!(!shard.has_room(3, &at(999)));
        assert!(shard.has_room(3, &at(1_000)));
        assert_eq!(shard.buckets.len(), 2);
        assert!(shard.buckets.contains_key(&key(1)) && shard.buckets.contains_key(&key(2)));
    }

    #[test]
    fn an_account_that_is_not_counted_yet_is_refused_when_no_more_fit() {
        let meters = Meters::new();
        let hour = limit(1, 3_600, 1);
        for shard in &meters.shards {
            let mut shard = shard.lock();
            for n in 0..MAX_BUCKETS {
                let key = (Account::Grant(id(&format!("x{n}"))), Counted::Calls);
                shard.buckets.insert(key, Bucket::default().with(hour, 1));
            }
        }
        let new = [grant("new", hour)];
        assert_eq!(calls(&meters, &new, 1), Err(LimitError::Full));
        assert_eq!(calls(&meters, &new, 3_600_000), Ok(0));
    }
}
