//! The root key and the state key: random, born in the enclave, stored only in the
//! [`envelope`](super::envelope).
//!
//! The root key wraps the state key (in the envelope) and each tenant's key (in the
//! store). It is the one that an erasure replaces: a tenant's key of which only a
//! wrap under a destroyed root is left is gone. The state key stays: frames, names
//! and the system's own records hang from it, so that a new root rewrites wraps and
//! nothing else.

use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::seal::{SealError, SealingKey, derive};

/// The root of the keys that protect stored state.
pub struct RootKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey([redacted])")
    }
}

impl RootKey {
    /// A new random root.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, SealError> {
        random(rng).map(Self)
    }

    pub(super) fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key under which the envelope holds the state key.
    pub(super) fn envelope_key(&self) -> Result<SealingKey, SealError> {
        let key = derive(self.0.as_ref(), b"", b"tokenkeep/root/envelope/v1")?;
        Ok(SealingKey::new(key))
    }

    /// The key under which tenants' keys are wrapped.
    pub(crate) fn wrap_key(&self) -> Result<SealingKey, SealError> {
        let key = derive(self.0.as_ref(), b"", b"tokenkeep/root/wraps/v1")?;
        Ok(SealingKey::new(key))
    }
}

/// What stays when the root is replaced.
pub struct StateKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for StateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateKey([redacted])")
    }
}

impl StateKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, SealError> {
        random(rng).map(Self)
    }

    pub(super) fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key under which the store's frames are sealed.
    ///
    /// # Errors
    /// [`SealError::Failed`], which does not happen for this length.
    pub fn frame_key(&self) -> Result<Zeroizing<[u8; 32]>, SealError> {
        derive(self.0.as_ref(), b"", b"tokenkeep/store/frames/v1")
    }

    /// The key under which the system's own records are sealed, the keys that the
    /// enclave speaks with among them.
    pub(crate) fn system_key(&self) -> Result<SealingKey, SealError> {
        let key = derive(self.0.as_ref(), b"", b"tokenkeep/realm/system/v1")?;
        Ok(SealingKey::new(key))
    }
}

/// Both keys, as an envelope gives them.
#[derive(Debug)]
pub struct Unlocked {
    /// The root.
    pub root: RootKey,
    /// What stays when it is replaced.
    pub state: StateKey,
}

impl Unlocked {
    /// New random keys, for a new state.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, SealError> {
        Ok(Self {
            root: RootKey::generate(rng)?,
            state: StateKey::generate(rng)?,
        })
    }

    /// The same state under a new root.
    ///
    /// # Errors
    /// [`SealError::Failed`] if the system gives no random bytes.
    pub fn under_new_root(&self, rng: &dyn SecureRandom) -> Result<Self, SealError> {
        Ok(Self {
            root: RootKey::generate(rng)?,
            state: StateKey(self.state.0.clone()),
        })
    }
}

fn random(rng: &dyn SecureRandom) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut key = Zeroizing::new([0; 32]);
    rng.fill(key.as_mut()).map_err(|_| SealError::Failed)?;
    Ok(key)
}
