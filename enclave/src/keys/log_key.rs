//! The log key: Ed25519, signs the checkpoints of all logs, under the name of
//! each [C2SP tlog-checkpoint].

use std::sync::Arc;

use jose::{PublicKey, SigningKey};
use ring::rand::SecureRandom;
use ring::signature::Ed25519KeyPair;
use tlog::{KeyName, NoteSigner};
use zeroize::Zeroizing;

use super::keyring::KeyringError;

const DAMAGED: KeyringError = KeyringError::Damaged("log");

/// The key, from which a signer is made for each log.
#[derive(Clone)]
pub(crate) struct LogKey {
    pkcs8: Arc<Zeroizing<Vec<u8>>>,
    public: PublicKey,
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogKey([redacted])")
    }
}

impl LogKey {
    /// From its PKCS#8 document.
    pub(super) fn open(
        pkcs8: Zeroizing<Vec<u8>>,
        rng: &dyn SecureRandom,
    ) -> Result<Self, KeyringError> {
        let key = SigningKey::from_pkcs8(&pkcs8, rng).map_err(|_| DAMAGED)?;
        Ok(Self {
            public: *key.public_key(),
            pkcs8: Arc::new(pkcs8),
        })
    }

    /// The public half.
    pub(crate) const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signer of the notes of one log.
    pub(crate) fn note_signer(&self, name: KeyName) -> Result<NoteSigner, KeyringError> {
        let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.pkcs8) else {
            return Err(DAMAGED);
        };
        NoteSigner::new(name, pair).map_err(|_| DAMAGED)
    }
}
