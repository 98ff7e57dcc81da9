//! The log key: Ed25519, signs the checkpoints of all logs, under the name of
//! each [C2SP tlog-checkpoint].

use std::sync::Arc;

use ring::signature::Ed25519KeyPair;
use tlog::{KeyName, NoteSigner};
use zeroize::Zeroizing;

use super::keyring::KeyringError;

/// The name under which it is stored.
pub(super) const LOG: &str = "log";

/// The key, from which a signer is made for each log.
#[derive(Clone)]
pub(crate) struct LogKey(Arc<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogKey([redacted])")
    }
}

impl LogKey {
    /// From its PKCS#8 document.
    pub(super) fn new(pkcs8: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(pkcs8))
    }

    /// A signer of the notes of one log.
    pub(crate) fn note_signer(&self, name: KeyName) -> Result<NoteSigner, KeyringError> {
        let damaged = KeyringError::Damaged(LOG);
        let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.0) else {
            return Err(damaged);
        };
        NoteSigner::new(name, pair).map_err(|_| damaged)
    }
}
