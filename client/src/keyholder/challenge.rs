//! A keyholder's nonces. Giving one out costs no memory: it carries its time under a key of this process. What has served
//! is remembered until it is too old, and only calls that were judged serve.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SecureRandom;

use super::refusal::Refusal;

/// How long a nonce may be used, in seconds.
pub const LIFE_S: u64 = 60;

/// Nonces that are remembered; more appraised calls within [`LIFE_S`] are refused.
const MAX_SPENT: usize = 4_096;

const SIGNED_BYTES: usize = 16;

/// Gives nonces out and takes them back.
#[derive(Debug)]
pub struct Challenges {
    key: hmac::Key,
    spent: Mutex<BTreeMap<[u8; 32], u64>>,
}

impl Challenges {
    /// With a key of its own; none without randomness.
    #[must_use]
    pub fn new(random: &dyn SecureRandom) -> Option<Self> {
        Some(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, random).ok()?,
            spent: Mutex::default(),
        })
    }

    /// A nonce: the time, random bytes, and a code over both. None without randomness.
    pub fn issue(&self, now_s: u64, random: &dyn SecureRandom) -> Option<[u8; 32]> {
        let mut nonce = [0; 32];
        let (signed, code) = nonce.split_at_mut(SIGNED_BYTES);
        let (time, noise) = signed.split_at_mut(8);
        time.copy_from_slice(&now_s.to_be_bytes());
        random.fill(noise).ok()?;
        for (to, from) in code.iter_mut().zip(hmac::sign(&self.key, signed).as_ref()) {
            *to = *from;
        }
        Some(nonce)
    }

    /// Whether a nonce is one of this process, and young enough.
    ///
    /// # Errors
    /// [`Refusal::StaleNonce`].
    pub fn check(&self, nonce: &[u8; 32], now_s: u64) -> Result<(), Refusal> {
        let (signed, code) = nonce.split_at(SIGNED_BYTES);
        let expected = hmac::sign(&self.key, signed);
        let differing = expected.as_ref().iter().zip(code);
        let differing = differing.fold(0, |differing, (a, b)| differing | (a ^ b));
        let time = signed.first_chunk::<8>().copied().unwrap_or_default();
        let age_s = now_s.checked_sub(u64::from_be_bytes(time));
        if differing != 0 || age_s.is_none_or(|age_s| age_s > LIFE_S) {
            return Err(Refusal::StaleNonce);
        }
        Ok(())
    }

    /// Lets a nonce serve, once.
    ///
    /// # Errors
    /// [`Refusal::SpentNonce`], [`Refusal::Busy`].
    pub fn spend(&self, nonce: &[u8; 32], now_s: u64) -> Result<(), Refusal> {
        let mut spent = self.spent.lock();
        spent.retain(|_, at_s| now_s.saturating_sub(*at_s) <= LIFE_S);
        if spent.contains_key(nonce) {
            return Err(Refusal::SpentNonce);
        }
        if spent.len() >= MAX_SPENT {
            return Err(Refusal::Busy);
        }
        spent.insert(*nonce, now_s);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn a_nonce_serves_once_for_a_minute_in_its_own_process() {
        let random = SystemRandom::new();
        let [mine, other] = [(); 2].map(|()| Challenges::new(&random).unwrap());
        let nonce = mine.issue(1_000, &random).unwrap();
        let reason = |result: Result<(), Refusal>| result.err().map(|refusal| refusal.reason());
        assert_eq!(reason(mine.check(&nonce, 1_000)), None);
        assert_eq!(reason(mine.check(&nonce, 1_060)), None);
        assert_eq!(reason(mine.check(&nonce, 1_061)), Some("STALE_NONCE"));
        assert_eq!(reason(mine.check(&nonce, 999)), Some("STALE_NONCE"));
        assert_eq!(reason(other.check(&nonce, 1_000)), Some("STALE_NONCE"));
        for at in 0..nonce.len() {
            let mut changed = nonce;
            changed[at] ^= 1;
            assert_eq!(reason(mine.check(&changed, 1_000)), Some("STALE_NONCE"));
        }
        assert_eq!(reason(mine.spend(&nonce, 1_000)), None);
        assert_eq!(reason(mine.spend(&nonce, 1_060)), Some("SPENT_NONCE"));
    }

    #[test]
    fn what_has_served_is_bounded() {
        let random = SystemRandom::new();
        let challenges = Challenges::new(&random).unwrap();
        for _ in 0..MAX_SPENT {
            let nonce = challenges.issue(5, &random).unwrap();
            challenges.spend(&nonce, 5).unwrap();
        }
        let nonce = challenges.issue(5, &random).unwrap();
        let full = challenges.spend(&nonce, 5).unwrap_err();
        assert_eq!(full.reason(), "BUSY");
        challenges.spend(&nonce, 5 + LIFE_S + 1).unwrap();
    }
}
