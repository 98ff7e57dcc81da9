//! The keys that the enclave speaks with: token signing, CA, HPKE, log, and the
//! instance key of this boot.

use attestation::{DepositContext, DepositEnvelope, DepositPrivateKey};
use jose::jws::{self, HeaderMember};
use jose::{Alg, PublicKey, SigningKey};
use ring::rand::SecureRandom;
use thiserror::Error;
use zeroize::Zeroizing;

use super::authority::{Authority, AuthorityError, HostName};
use super::instance::InstanceKey;
use super::log_key::LOG;
pub(crate) use super::log_key::LogKey;
use crate::record::RecordError;
use crate::seal::{SealError, length_prefixed};
use crate::time::Now;

/// Why the keys could not be made or opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyringError {
    /// The stored keys can't be read.
    #[error("the stored keys can't be read: {0}")]
    Record(#[from] RecordError),
    /// A stored key is absent although others are there.
    #[error("the stored key {0:?} is absent")]
    Absent(&'static str),
    /// A stored key does not parse.
    #[error("the stored key {0:?} is damaged")]
    Damaged(&'static str),
    /// The CA could not be made or opened.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Randomness,
}

/// The names under which the long-lived keys are stored.
pub(crate) const STORED: [&str; 4] = [TOKEN, AUTHORITY, HPKE, LOG];

const TOKEN: &str = "token";
const AUTHORITY: &str = "authority";
const HPKE: &str = "hpke";

/// A stored key: its name and the bytes to seal.
pub(crate) type StoredKey = (&'static str, Zeroizing<Vec<u8>>);

/// The key that signs tokens.
#[derive(Debug)]
pub struct TokenKey {
    kid: String,
    key: SigningKey,
    /// For tests that forge tokens.
    #[cfg(test)]
    pkcs8: Zeroizing<Vec<u8>>,
}

impl TokenKey {
    /// The key's id: its thumbprint, behind `emulated-` if there is no hardware.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    #[cfg(test)]
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(crate) fn sign(
        &self,
        typ: &str,
        payload: &[u8],
        rng: &dyn SecureRandom,
    ) -> Result<String, SealError> {
        let members = [HeaderMember::Typ(typ), HeaderMember::Kid(&self.kid)];
        jws::sign(&members, payload, &self.key, rng).map_err(|_| SealError::Failed)
    }
}

/// The keys.
#[derive(Debug)]
pub struct Keyring {
    token: TokenKey,
    authority: Authority,
    hpke: DepositPrivateKey,
    log: SigningKey,
    log_key: LogKey,
    instance: InstanceKey,
}

impl Keyring {
    /// Makes the long-lived keys, for the first boot.
    pub(crate) fn create(
        hosts: &[HostName],
        token_alg: Alg,
        now: &Now,
        rng: &dyn SecureRandom,
    ) -> Result<Vec<StoredKey>, KeyringError> {
        let generate = |alg| SigningKey::generate(alg, rng).map_err(|_| KeyringError::Randomness);
        let (certificate, pkcs8) = Authority::create(hosts, now, rng)?;
        let hpke = DepositPrivateKey::generate(rng).map_err(|_| KeyringError::Randomness)?;
        Ok(vec![
            (TOKEN, generate(token_alg)?),
            (
                AUTHORITY,
                Zeroizing::new(length_prefixed(&[&certificate, &pkcs8])),
            ),
            (HPKE, Zeroizing::new(hpke.expose_secret().to_vec())),
            (LOG, generate(Alg::EdDsa)?),
        ])
    }

    /// Opens the long-lived keys, given by name, and makes the instance key.
    pub(crate) fn open(
        stored: &[StoredKey],
        emulated: bool,
        rng: &dyn SecureRandom,
    ) -> Result<Self, KeyringError> {
        let find = |name: &'static str| {
            stored
                .iter()
                .find(|(of, _)| *of == name)
                .map(|(_, bytes)| bytes)
                .ok_or(KeyringError::Absent(name))
        };
        let signing = |name| {
            SigningKey::from_pkcs8(find(name)?, rng).map_err(|_| KeyringError::Damaged(name))
        };
        let key = signing(TOKEN)?;
        let thumbprint = key.public_key().thumbprint();
        let kid = if emulated {
            format!("emulated-{thumbprint}")
        } else {
            thumbprint.to_string()
        };
        let (certificate, pkcs8) =
            split_authority(find(AUTHORITY)?).ok_or(KeyringError::Damaged(AUTHORITY))?;
        let hpke = find(HPKE)?;
        let hpke = Zeroizing::new(
            <[u8; 32]>::try_from(hpke.as_slice()).map_err(|_| KeyringError::Damaged(HPKE))?,
        );
        let instance = InstanceKey::generate(rng).map_err(|_| KeyringError::Randomness)?;
        Ok(Self {
            token: TokenKey {
                kid,
                key,
                #[cfg(test)]
                pkcs8: find(TOKEN)?.clone(),
            },
            authority: Authority::open(certificate, pkcs8)?,
            hpke: DepositPrivateKey::from_bytes(&hpke).map_err(|_| KeyringError::Damaged(HPKE))?,
            log: signing(LOG)?,
            log_key: LogKey::new(find(LOG)?.clone()),
            instance,
        })
    }

    /// The key that signs tokens.
    #[must_use]
    pub fn token(&self) -> &TokenKey {
        &self.token
    }

    /// The enclave CA.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The public key that deposits are sealed to.
    #[must_use]
    pub fn hpke_public(&self) -> &[u8; 32] {
        self.hpke.public()
    }

    /// The public half of the key that signs checkpoints of the logs.
    #[must_use]
    pub fn log_public(&self) -> &PublicKey {
        self.log.public_key()
    }

    /// The key that signs checkpoints of the logs.
    pub(crate) fn log_key(&self) -> LogKey {
        self.log_key.clone()
    }

    /// The key of this boot, which proves connections.
    #[must_use]
    pub fn instance(&self) -> &InstanceKey {
        &self.instance
    }

    /// Opens a deposit: encapsulated key, then ciphertext.
    pub(crate) fn open_deposit(
        &self,
        context: &DepositContext<'_>,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (encapsulated, ciphertext) = sealed.split_first_chunk::<32>()?;
        let envelope = DepositEnvelope::from_parts(encapsulated, ciphertext.to_vec()).ok()?;
        let secret = envelope.open(&self.hpke, context).ok()?;
        Some(Zeroizing::new(secret.expose_secret().to_vec()))
    }
}

fn split_authority(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, rest) = split_part(bytes)?;
    let (pkcs8, rest) = split_part(rest)?;
    rest.is_empty().then_some((certificate, pkcs8))
}

fn split_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}
