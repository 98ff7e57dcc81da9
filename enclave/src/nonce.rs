//! Server nonces for DPoP [RFC 9449 §8]: they are the clock of freshness.
//!
//! A nonce is made from a secret of this boot and the monotonic clock, so
//! freshness does not hang on the host's wall clock, and a restart ends all
//! older proofs. It names its role and its boot, lasts one step, and is accepted
//! for [`ACCEPTED_STEPS`].

use base64ct::{Base64UrlUnpadded, Encoding};
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SecureRandom;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::seal::SealError;
use crate::time::Now;

/// Milliseconds that one nonce is handed out for.
pub const STEP_MS: u64 = 60_000;

/// How many steps, the current one included, are accepted.
pub const ACCEPTED_STEPS: u64 = 6;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + 1 + 8 + 8;
const NONCE_BYTES: usize = HEAD_BYTES + MAC_BYTES;
const NONCE_CHARS: usize = (NONCE_BYTES * 4).div_ceil(3);

/// Who asks for proofs; a nonce of one role is void for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The token service.
    Token,
    /// The token endpoint.
    TokenEndpoint,
    /// The gateway.
    Gateway,
}

impl Role {
    fn byte(self) -> u8 {
        match self {
            Self::Token => 1,
            Self::Gateway => 2,
            Self::TokenEndpoint => 3,
        }
    }
}

/// Why a nonce was not accepted. Each is answered by `use_dpop_nonce` and a
/// fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NonceError {
    /// The proof has none.
    #[error("the proof has no nonce")]
    Missing,
    /// It is not one of this boot and role.
    #[error("the nonce is not one of this server's")]
    Foreign,
    /// It is too old.
    #[error("the nonce is too old")]
    Stale,
}

/// A step that an accepted nonce was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub(crate) u64);

impl Step {
    pub(crate) fn of(now: &Now) -> Self {
        Self(now.mono_ms / STEP_MS)
    }

    /// Whether a nonce of this step may still be accepted.
    pub(crate) fn is_live(self, now: &Now) -> bool {
        Self::of(now).0.saturating_sub(self.0) < ACCEPTED_STEPS
    }
}

/// Makes and checks nonces.
pub struct Nonces {
    key: hmac::Key,
    boot: [u8; 8],
    /// What was handed out last, of each role: it stands for its step.
    handed: [Mutex<Option<(Step, String)>>; 3],
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces([redacted])")
    }
}

impl Nonces {
    /// With a new secret, for one boot.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub fn new(rng: &dyn SecureRandom) -> Result<Self, SealError> {
        let mut secret = Zeroizing::new([0; 32]);
        let mut boot = [0; 8];
        rng.fill(secret.as_mut()).map_err(|_| SealError::Failed)?;
        rng.fill(&mut boot).map_err(|_| SealError::Failed)?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()),
            boot,
            handed: Default::default(),
        })
    }

    /// The nonce to hand out now: 46 base64url characters.
    #[must_use]
    pub fn current(&self, role: Role, now: &Now) -> String {
        let step = Step::of(now);
        let [token, gateway, token_endpoint] = &self.handed;
        let mut handed = match role {
            Role::Token => token,
            Role::Gateway => gateway,
            Role::TokenEndpoint => token_endpoint,
        }
        .lock();
        match &*handed {
            Some((of, nonce)) if *of == step => nonce.clone(),
            Some(_) | None => {
                let nonce = self.of_step(role, step);
                *handed = Some((step, nonce.clone()));
                nonce
            }
        }
    }

    fn of_step(&self, role: Role, step: Step) -> String {
        let mut bytes = Vec::with_capacity(NONCE_BYTES);
        bytes.extend_from_slice(&[VERSION, role.byte()]);
        bytes.extend_from_slice(&self.boot);
        bytes.extend_from_slice(&step.0.to_be_bytes());
        let mac = hmac::sign(&self.key, &bytes);
        bytes.extend(mac.as_ref().iter().take(MAC_BYTES));
        Base64UrlUnpadded::encode_string(&bytes)
    }

    /// Checks a proof's nonce.
    ///
    /// # Errors
    /// [`NonceError`] says why it is not accepted.
    pub fn check(&self, role: Role, nonce: Option<&str>, now: &Now) -> Result<Step, NonceError> {
        let nonce = nonce.ok_or(NonceError::Missing)?;
        if nonce.len() != NONCE_CHARS {
            return Err(NonceError::Foreign);
        }
        let mut bytes = [0; NONCE_BYTES];
        Base64UrlUnpadded::decode(nonce, &mut bytes).map_err(|_| NonceError::Foreign)?;
        let (head, mac) = bytes
            .split_at_checked(HEAD_BYTES)
            .ok_or(NonceError::Foreign)?;
        let expected = hmac::sign(&self.key, head);
        let expected = expected.as_ref().get(..MAC_BYTES).unwrap_or_default();
        if !bool::from(subtle::ConstantTimeEq::ct_eq(expected, mac)) {
            return Err(NonceError::Foreign);
        }
        // The MAC holds, so the head is one that this boot made.
        if head.get(1) != Some(&role.byte()) {
            return Err(NonceError::Foreign);
        }
        let step = head.last_chunk::<8>().ok_or(NonceError::Foreign)?;
        let step = Step(u64::from_be_bytes(*step));
        if !step.is_live(now) {
            return Err(NonceError::Stale);
        }
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 0,
            hi_s: 0,
            mono_ms,
        }
    }

    #[test]
    fn lasts_its_steps_and_no_longer() {
        let nonces = Nonces::new(&SystemRandom::new()).unwrap();
        let start = 10 * STEP_MS;
        let nonce = nonces.current(Role::Token, &at(start));
        for ms in [start, start + STEP_MS, start + ACCEPTED_STEPS * STEP_MS - 1] {
            let found = nonces.check(Role::Token, Some(&nonce), &at(ms));
            assert_eq!(found, Ok(Step(10)), "{ms}");
        }
        let late = at(start + ACCEPTED_STEPS * STEP_MS);
        let found = nonces.check(Role::Token, Some(&nonce), &late);
        assert_eq!(found, Err(NonceError::Stale));
    }

    #[test]
    fn each_boot_has_a_name_of_its_own() {
        let boot = || {
            let nonces = Nonces::new(&SystemRandom::new()).unwrap();
            let nonce = nonces.current(Role::Token, &at(0));
            Base64UrlUnpadded::decode_vec(&nonce).unwrap()[2..10].to_vec()
        };
        assert_ne!(boot(), boot());
    }

    #[test]
    fn a_nonce_without_its_last_byte_is_another_one_even_if_that_is_zero() {
        let now = at(0);
        // One secret in 256 makes such a nonce.
        let (nonces, nonce) = (0..100_000)
            .find_map(|_| {
                let nonces = Nonces::new(&SystemRandom::new()).unwrap();
                let nonce = nonces.current(Role::Token, &now);
                let bytes = Base64UrlUnpadded::decode_vec(&nonce).unwrap();
                (bytes.last() == Some(&0)).then_some((nonces, nonce))
            })
            .unwrap();
        assert!(nonces.check(Role::Token, Some(&nonce), &now).is_ok());
        let mut bytes = Base64UrlUnpadded::decode_vec(&nonce).unwrap();
        bytes.pop();
        let short = Base64UrlUnpadded::encode_string(&bytes);
        let found = nonces.check(Role::Token, Some(&short), &now);
        assert_eq!(found, Err(NonceError::Foreign));
    }

    #[test]
    fn each_foreign_nonce_is_refused() {
        let nonces = Nonces::new(&SystemRandom::new()).unwrap();
        let other_boot = Nonces::new(&SystemRandom::new()).unwrap();
        let now = at(0);
        let own = nonces.current(Role::Token, &now);
        assert_eq!(own.len(), NONCE_CHARS);
        let check = |nonce: Option<&str>| nonces.check(Role::Token, nonce, &now);
        assert_eq!(check(None), Err(NonceError::Missing));
        let long = "A".repeat(100_000);
        let foreign = [
            String::new(),
            long,
            nonces.current(Role::Gateway, &now),
            nonces.current(Role::TokenEndpoint, &now),
            other_boot.current(Role::Token, &now),
            format!("{own}A"),
            own[1..].to_owned(),
            "!".repeat(NONCE_CHARS),
        ];
        for nonce in &foreign {
            assert_eq!(check(Some(nonce)), Err(NonceError::Foreign), "{nonce:.60}");
        }
        for at in 0..own.len() {
            let mut flipped = own.clone().into_bytes();
            flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(flipped).unwrap();
            assert_eq!(
                check(Some(&flipped)),
                Err(NonceError::Foreign),
                "character {at}"
            );
        }
    }
}
