//! The root key: random, born in the enclave, from which key-encryption keys are
//! derived by label.

use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::seal::{SealError, SealingKey, derive};

/// The root of all keys that protect stored state. Never stored in clear: see
/// [`envelope`](super::envelope).
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
        let mut key = Zeroizing::new([0; 32]);
        rng.fill(key.as_mut()).map_err(|_| SealError::Failed)?;
        Ok(Self(key))
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

    /// The key under which the system's own records are sealed, tenants' keys
    /// among them.
    pub(crate) fn system_key(&self) -> Result<SealingKey, SealError> {
        let key = derive(self.0.as_ref(), b"", b"tokenkeep/realm/system/v1")?;
        Ok(SealingKey::new(key))
    }
}
