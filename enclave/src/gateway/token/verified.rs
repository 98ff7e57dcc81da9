//! Tokens of ours whose signature was verified before: a client shows the same one with each call, and its signature is
//! as good the second time.
//!
//! A token is known by its SHA-256, so that it is not kept, and only as long as the key that signed it is still ours.
//! Whether it has expired or was revoked is looked at each time.

use std::num::NonZeroUsize;
use std::sync::Arc;

use jose::PublicKey;
use lru::LruCache;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use crate::keys::keyring::Keyring;
use crate::mint::Claims;

/// Tokens that are remembered: those that were shown last.
const MOST: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();

/// Longer ones are verified each time.
const MAX_TOKEN_BYTES: usize = 4 * 1024;

type Sha256 = [u8; 32];

/// What verified tokens say.
pub(crate) struct VerifiedTokens(Mutex<LruCache<Sha256, Verified>>);

struct Verified {
    kid: String,
    key: PublicKey,
    claims: Arc<Claims>,
}

/// A token that is not remembered yet.
pub(super) struct NewlyVerified {
    name: Sha256,
    verified: Verified,
}

impl NewlyVerified {
    /// One that was verified by a key.
    pub(super) fn new(name: Sha256, kid: String, key: PublicKey, claims: &Arc<Claims>) -> Self {
        let claims = Arc::clone(claims);
        let verified = Verified { kid, key, claims };
        Self { name, verified }
    }
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl VerifiedTokens {
    /// By what a token is remembered, if one of its length is.
    pub(super) fn name(token: &str) -> Option<Sha256> {
        let name = || digest(&SHA256, token.as_bytes()).as_ref().try_into().ok();
        (token.len() <= MAX_TOKEN_BYTES).then(name).flatten()
    }

    /// What a token says that was verified by a key that is still ours.
    pub(super) fn find(&self, name: &Sha256, keys: &Keyring) -> Option<Arc<Claims>> {
        let mut tokens = self.0.lock();
        let found = tokens.get(name)?;
        let is_ours = keys.token_public(&found.kid) == Some(&found.key);
        is_ours.then(|| Arc::clone(&found.claims))
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Remembers a token.
    pub(super) fn keep(&self, NewlyVerified { name, verified }: NewlyVerified) {
        self.0.lock().put(name, verified);
    }
}
