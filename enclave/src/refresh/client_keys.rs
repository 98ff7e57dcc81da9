//! The keys of clients that a grant's upstream tokens are bound to: how many, so that whoever may ask for tokens of a
//! grant can't spread them over as many keys as it likes.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::RefreshError;
use crate::ids::GrantId;
use crate::time::Now;

/// So many keys of clients may have a token of one grant that has not ended.
pub const MAX_CLIENT_KEYS_PER_GRANT: usize = 16;

/// With so many grants, those are dropped whose tokens have all ended.
const PRUNE_AT: usize = 1_024;

/// When the last token of each key of each grant ends, on the monotonic clock. Memory of this boot.
#[derive(Debug, Default)]
pub(crate) struct ClientKeys(Mutex<HashMap<GrantId, HashMap<String, u64>>>);

impl ClientKeys {
    /// Whether a key may have a token of a grant.
    pub(super) fn admits(&self, grant: &GrantId, jkt: &str, now: &Now) -> Result<(), RefreshError> {
        let mut grants = self.0.lock();
        let Some(keys) = grants.get_mut(grant) else {
            return Ok(());
        };
        keys.retain(|_, ends_ms| now.mono_ms < *ends_ms);
        if keys.len() < MAX_CLIENT_KEYS_PER_GRANT || keys.contains_key(jkt) {
            return Ok(());
        }
        let first_ms = keys.values().min().copied().unwrap_or(now.mono_ms);
        Err(RefreshError::TooManyKeys {
            retry_after_s: first_ms.saturating_sub(now.mono_ms).div_ceil(1_000),
        })
    }

    /// Notes that a key has a token of a grant, until then.
    pub(super) fn has_token(&self, grant: &GrantId, jkt: &str, ends_ms: u64, now: &Now) {
        let mut grants = self.0.lock();
        if grants.len() >= PRUNE_AT && !grants.contains_key(grant) {
            grants.retain(|_, keys| keys.values().any(|ends_ms| now.mono_ms < *ends_ms));
        }
        let keys = grants.entry(grant.clone()).or_default();
        let known_ms = keys.entry(jkt.to_owned()).or_default();
        *known_ms = ends_ms.max(*known_ms);
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 0,
            hi_s: 0,
            mono_ms,
        }
    }

    fn grant(name: &str) -> GrantId {
        GrantId::parse(name).unwrap()
    }

    #[test]
    fn a_grant_has_so_many_keys_and_no_more_until_a_token_ends() {
        let (keys, one) = (ClientKeys::default(), grant("one"));
        for number in 0..MAX_CLIENT_KEYS_PER_GRANT {
            let jkt = number.to_string();
            assert_eq!(keys.admits(&one, &jkt, &at(0)), Ok(()));
            let ends_ms = 10_000 + 1_000 * u64::try_from(number).unwrap();
            keys.has_token(&one, &jkt, ends_ms, &at(0));
        }
        let full = |retry_after_s| Err(RefreshError::TooManyKeys { retry_after_s });
        assert_eq!(keys.admits(&one, "new", &at(1)), full(10));
        assert_eq!(keys.admits(&one, "new", &at(9_999)), full(1));
        // One that has a token may have another, and another grant has keys of its own.
        assert_eq!(keys.admits(&one, "3", &at(1)), Ok(()));
        assert_eq!(keys.admits(&grant("two"), "new", &at(1)), Ok(()));
        // A shorter token does not end the longer one.
        keys.has_token(&one, "0", 1, &at(1));
        assert_eq!(keys.admits(&one, "new", &at(9_999)), full(1));
        assert_eq!(keys.admits(&one, "new", &at(10_000)), Ok(()));
    }

    #[test]
    fn grants_whose_tokens_have_ended_are_dropped() {
        let keys = ClientKeys::default();
        for number in 0..PRUNE_AT {
            let ends_ms = if number == 7 { 100 } else { 10 };
            keys.has_token(&grant(&number.to_string()), "k", ends_ms, &at(0));
        }
        keys.has_token(&grant("new"), "k", 100, &at(10));
        assert_eq!(keys.0.lock().len(), 2);
    }
}
