//! Keys that tokens are bound to, and what signs with them.

use std::path::Path;

use jose::dpop::ProofParams;
use jose::signing_key::{MAX_PEM_BYTES, SigningKeyError, to_pkcs8_pem};
use jose::{Alg, SigningKey, Thumbprint};
use ring::rand::SystemRandom;

use crate::private_file::{self, FileError};

/// Makes DPoP proofs [RFC 9449 §4.2] with a key of its own. A key that cannot leave its device implements
/// this; [`DpopKey`] is the one in memory.
pub trait Signer: Send + Sync {
    /// The thumbprint of the public key, to which tokens are bound.
    fn jkt(&self) -> Thumbprint;

    /// Signs one proof. Each attempt at a request asks for its own.
    ///
    /// # Errors
    /// [`SignerError`].
    fn proof(&self, params: &ProofParams<'_>) -> Result<String, SignerError>;
}

/// Why a proof was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The key in memory could not sign.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// The device that holds the key did not.
    #[error("the device that holds the DPoP key did not sign")]
    Device(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum DpopKeyError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not text.
    #[error("the file is not a PEM private key")]
    NotText,
    /// It holds no key that signs proofs.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
}

/// A DPoP key in memory. `Debug` shows its thumbprint only.
#[derive(Debug)]
pub struct DpopKey {
    key: SigningKey,
}

impl DpopKey {
    /// A new ES256 key that lives in memory only.
    ///
    /// # Errors
    /// [`DpopKeyError::Key`] without randomness.
    pub fn generate() -> Result<Self, DpopKeyError> {
        let random = SystemRandom::new();
        let der = SigningKey::generate(Alg::Es256, &random)?;
        Self::from_pkcs8(&der)
    }

    /// A new ES256 key, written to a new file of mode 0600 as PEM of its PKCS#8.
    ///
    /// # Errors
    /// [`DpopKeyError`]; an existing file is not overwritten.
    pub fn create_file(path: &Path) -> Result<Self, DpopKeyError> {
        let random = SystemRandom::new();
        let der = SigningKey::generate(Alg::Es256, &random)?;
        let key = Self::from_pkcs8(&der)?;
        private_file::create_private(path, to_pkcs8_pem(&der).as_bytes())?;
        Ok(key)
    }

    /// Reads a key file: PEM of PKCS#8, ES256 or EdDSA. A file that group or world can reach is refused.
    ///
    /// # Errors
    /// [`DpopKeyError`].
    pub fn from_file(path: &Path) -> Result<Self, DpopKeyError> {
        let bytes = private_file::read_private(path, MAX_PEM_BYTES)?;
        let pem = std::str::from_utf8(&bytes).map_err(|_| DpopKeyError::NotText)?;
        let key = SigningKey::from_pkcs8_pem(pem, &SystemRandom::new())?;
        Ok(Self { key })
    }

    /// A key from PKCS#8 in DER.
    ///
    /// # Errors
    /// [`DpopKeyError::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, DpopKeyError> {
        let key = SigningKey::from_pkcs8(der, &SystemRandom::new())?;
        Ok(Self { key })
    }
}

impl Signer for DpopKey {
    fn jkt(&self) -> Thumbprint {
        self.key.public_key().thumbprint()
    }

    fn proof(&self, params: &ProofParams<'_>) -> Result<String, SignerError> {
        Ok(params.sign(&self.key, &SystemRandom::new())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_file_is_private_and_comes_back_as_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dpop.key");
        let made = DpopKey::create_file(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(DpopKey::from_file(&path).unwrap().jkt(), made.jkt());
        let shown = format!("{made:?}");
        assert!(shown.contains(&made.jkt().to_string()), "{shown}");
    }

    #[test]
    fn each_file_that_is_no_private_key_of_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dpop.key");
        DpopKey::create_file(&path).unwrap();
        assert!(matches!(
            DpopKey::create_file(&path),
            Err(DpopKeyError::File(FileError::Exists { .. }))
        ));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            DpopKey::from_file(&path),
            Err(DpopKeyError::File(FileError::Exposed { mode: 0o640, .. }))
        ));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(
            DpopKey::from_file(&path),
            Err(DpopKeyError::Key(SigningKeyError::NotPem))
        ));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(
            DpopKey::from_file(&path),
            Err(DpopKeyError::NotText)
        ));
    }
}
