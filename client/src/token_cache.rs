//! Tokens at hand: which are good, which are due for renewal, and who renews.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::access_token::AccessToken;
use crate::token_client::TokenRequest;

/// The most tokens that are kept.
pub(crate) const MAX_TOKENS: usize = 1024;

/// A token is renewed at this share of its life, so that no call has to wait for one that has just expired.
const RENEW_AT_PERCENT: u64 = 80;

/// A token and its dates on the monotonic clock.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) token: Arc<AccessToken>,
    renew_at_ms: u64,
    expires_at_ms: u64,
}

impl Held {
    /// A token whose life began at the latest when it was asked for.
    pub(crate) fn new(token: AccessToken, asked_at_ms: u64) -> Self {
        let life_ms = u64::from(token.expires_in_s()).saturating_mul(1000);
        let renew_after_ms = (life_ms / 100).saturating_mul(RENEW_AT_PERCENT);
        Self {
            token: Arc::new(token),
            renew_at_ms: asked_at_ms.saturating_add(renew_after_ms),
            expires_at_ms: asked_at_ms.saturating_add(life_ms),
        }
    }

    /// Whether it is to be handed out as it is.
    pub(crate) const fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.renew_at_ms
    }

    /// Whether it may still be used.
    pub(crate) const fn is_usable(&self, now_ms: u64) -> bool {
        now_ms < self.expires_at_ms
    }
}

/// Where the token of one request is kept. The asynchronous lock is held by the one who renews.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) renewing: tokio::sync::Mutex<()>,
    held: Mutex<Option<Held>>,
}

impl Slot {
    pub(crate) fn held(&self) -> Option<Held> {
        self.held.lock().clone()
    }

    pub(crate) fn put(&self, held: Held) {
        *self.held.lock() = Some(held);
    }
}

/// Slots by request.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    slots: Mutex<HashMap<TokenRequest, Arc<Slot>>>,
}

impl TokenCache {
    /// The slot of a request. When all are taken, those with no usable token and nobody waiting go; if there
    /// are none, the new one is not kept, so that the cache never grows beyond its bound.
    pub(crate) fn slot(&self, request: &TokenRequest, now_ms: u64) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(request) {
            return slot.clone();
        }
        if slots.len() >= MAX_TOKENS {
            slots.retain(|_request, slot| {
                Arc::strong_count(slot) > 1
                    || slot.held().is_some_and(|held| held.is_usable(now_ms))
            });
        }
        let slot = Arc::new(Slot::default());
        if slots.len() < MAX_TOKENS {
            slots.insert(request.clone(), slot.clone());
        }
        slot
    }

    /// Forgets the token of a request: a server has refused it.
    pub(crate) fn forget(&self, request: &TokenRequest) {
        self.slots.lock().remove(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_token::tests::answer;

    fn held(expires_in_s: u32, asked_at_ms: u64) -> Held {
        let token = AccessToken::from_answer(
            answer("t", expires_in_s),
            "https://api.example",
            proto::v1::TokenMode::Minted,
        );
        Held::new(token.unwrap(), asked_at_ms)
    }

    #[test]
    fn a_token_is_renewed_at_80_percent_of_its_life() {
        let held = held(300, 1_000);
        for (now_ms, fresh, usable) in [
            (1_000, true, true),
            (240_999, true, true),
            (241_000, false, true),
            (300_999, false, true),
            (301_000, false, false),
            (u64::MAX, false, false),
        ] {
            assert_eq!(
                (held.is_fresh(now_ms), held.is_usable(now_ms)),
                (fresh, usable),
                "{now_ms}"
            );
        }
    }

    #[test]
    fn a_token_without_a_life_is_never_kept_for_another() {
        let held = held(0, 5);
        assert!(!held.is_fresh(5) && !held.is_usable(5));
    }

    #[test]
    fn the_cache_is_bounded_and_makes_room_from_what_expired() {
        let cache = TokenCache::default();
        let request = |i: usize| TokenRequest::new(format!("g{i}"), "https://api.example");
        for i in 0..MAX_TOKENS {
            cache.slot(&request(i), 0).put(held(100, 0));
        }
        let unkept = cache.slot(&request(MAX_TOKENS), 99_999);
        unkept.put(held(100, 0));
        assert!(cache.slot(&request(MAX_TOKENS), 99_999).held().is_none());
        assert!(cache.slot(&request(0), 99_999).held().is_some());
        cache
            .slot(&request(MAX_TOKENS), 100_000)
            .put(held(100, 100_000));
        assert!(cache.slot(&request(MAX_TOKENS), 100_000).held().is_some());
        assert!(cache.slots.lock().len() <= MAX_TOKENS);
        assert!(cache.slot(&request(0), 100_000).held().is_none());
    }
}
