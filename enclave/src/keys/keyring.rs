//! The keys that the enclave speaks with: token signing, CA, HPKE, log, and the
//! instance key of this boot. A keyring does not change: a rotation makes another.

use std::sync::Arc;

use attestation::{DepositContext, DepositEnvelope, DepositPrivateKey};
use jose::jwk::Jwk;
use jose::jws::{self, HeaderMember};
use jose::{Alg, PublicKey, SigningKey};
use ring::rand::SecureRandom;
use thiserror::Error;
use zeroize::Zeroizing;

use super::authority::{Authority, AuthorityError, HostName};
use super::instance::InstanceKey;
pub(crate) use super::log_key::LogKey;
use super::ring::{Earlier, KeyKind, Ring};
use crate::record::RecordError;
use crate::seal::{SealError, length_prefixed};
use crate::time::Now;
use crate::view::Held;

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

/// A stored key: its name and the bytes to seal.
pub(crate) type StoredKey = (String, Zeroizing<Vec<u8>>);

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

    pub(super) fn open(
        pkcs8: &Zeroizing<Vec<u8>>,
        emulated: bool,
        rng: &dyn SecureRandom,
    ) -> Result<Self, KeyringError> {
        let key = SigningKey::from_pkcs8(pkcs8, rng).map_err(|_| damaged(KeyKind::Signing))?;
        let thumbprint = key.public_key().thumbprint();
        let kid = if emulated {
            format!("emulated-{thumbprint}")
        } else {
            thumbprint.to_string()
        };
        Ok(Self {
            kid,
            key,
            #[cfg(test)]
            pkcs8: pkcs8.clone(),
        })
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

/// A key that signed tokens before: they are good until they expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierTokenKey {
    kid: String,
    key: PublicKey,
}

impl EarlierTokenKey {
    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half; the private one is gone.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    pub(super) fn open(earlier: &Earlier) -> Result<Self, KeyringError> {
        let damaged = damaged(KeyKind::Signing);
        let jwk = earlier.jwk.as_deref().ok_or_else(|| damaged.clone())?;
        let jwk = Jwk::from_json(jwk).map_err(|_| damaged.clone())?;
        Ok(Self {
            kid: jwk.kid.ok_or(damaged)?,
            key: jwk.key,
        })
    }
}

/// The keys.
#[derive(Clone, Debug)]
pub struct Keyring {
    pub(super) token: Arc<TokenKey>,
    pub(super) earlier_tokens: Vec<EarlierTokenKey>,
    pub(super) authority: Arc<Authority>,
    pub(super) next_authority: Option<Arc<Authority>>,
    pub(super) hpke: Arc<DepositPrivateKey>,
    pub(super) log: LogKey,
    pub(super) earlier_logs: Vec<LogKey>,
    pub(super) instance: Arc<InstanceKey>,
    pub(super) ring: Held<Ring>,
}

const fn damaged(kind: KeyKind) -> KeyringError {
    KeyringError::Damaged(kind.as_str())
}

/// A new key of a kind, as it is stored.
pub(super) fn generate(
    kind: KeyKind,
    hosts: &[HostName],
    token_alg: Alg,
    now: &Now,
    rng: &dyn SecureRandom,
) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let signing = |alg| SigningKey::generate(alg, rng).map_err(|_| KeyringError::Randomness);
    match kind {
        KeyKind::Signing => signing(token_alg),
        KeyKind::Ca => {
            let (certificate, pkcs8) = Authority::create(hosts, now, rng)?;
            Ok(Zeroizing::new(length_prefixed(&[&certificate, &pkcs8])))
        }
        KeyKind::Deposit => {
            let hpke = DepositPrivateKey::generate(rng).map_err(|_| KeyringError::Randomness)?;
            Ok(Zeroizing::new(hpke.expose_secret().to_vec()))
        }
        KeyKind::Log => signing(Alg::EdDsa),
    }
}

pub(super) fn open_authority(stored: &[u8]) -> Result<Authority, KeyringError> {
    let (certificate, pkcs8) = split_authority(stored).ok_or(damaged(KeyKind::Ca))?;
    Ok(Authority::open(certificate, pkcs8)?)
}

pub(super) fn open_deposit_key(stored: &[u8]) -> Result<DepositPrivateKey, KeyringError> {
    let damaged = damaged(KeyKind::Deposit);
    let bytes = <[u8; 32]>::try_from(stored).map_err(|_| damaged.clone())?;
    DepositPrivateKey::from_bytes(&Zeroizing::new(bytes)).map_err(|_| damaged)
}

impl Keyring {
    /// Makes the long-lived keys, for the first boot.
    pub(crate) fn create(
        hosts: &[HostName],
        token_alg: Alg,
        now: &Now,
        rng: &dyn SecureRandom,
    ) -> Result<Vec<StoredKey>, KeyringError> {
        let made = KeyKind::ALL.into_iter().map(|kind| {
            let key = generate(kind, hosts, token_alg, now, rng)?;
            Ok((kind.record(1), key))
        });
        made.collect()
    }

    /// Opens the long-lived keys, given by the names of their records, and makes the instance key.
    pub(crate) fn open(
        stored: &[StoredKey],
        ring: Held<Ring>,
        emulated: bool,
        rng: &dyn SecureRandom,
    ) -> Result<Self, KeyringError> {
        let find = |kind: KeyKind, number| {
            let name = kind.record(number);
            let found = stored.iter().find(|(of, _)| *of == name);
            found
                .map(|(_, bytes)| bytes)
                .ok_or(KeyringError::Absent(kind.as_str()))
        };
        let current = |kind| find(kind, ring.value.slot(kind).number);
        let earlier = |kind| ring.value.slot(kind).earlier.iter();
        let next = ring.value.slot(KeyKind::Ca).next.as_ref();
        let next_authority = next.map(|next| {
            let stored = find(KeyKind::Ca, next.number)?;
            open_authority(stored).map(Arc::new)
        });
        let earlier_logs = earlier(KeyKind::Log)
            .map(|earlier| LogKey::open(find(KeyKind::Log, earlier.number)?.clone(), rng));
        let instance = InstanceKey::generate(rng).map_err(|_| KeyringError::Randomness)?;
        Ok(Self {
            token: Arc::new(TokenKey::open(current(KeyKind::Signing)?, emulated, rng)?),
            earlier_tokens: earlier(KeyKind::Signing)
                .map(EarlierTokenKey::open)
                .collect::<Result<_, _>>()?,
            authority: Arc::new(open_authority(current(KeyKind::Ca)?)?),
            next_authority: next_authority.transpose()?,
            hpke: Arc::new(open_deposit_key(current(KeyKind::Deposit)?)?),
            log: LogKey::open(current(KeyKind::Log)?.clone(), rng)?,
            earlier_logs: earlier_logs.collect::<Result<_, _>>()?,
            instance: Arc::new(instance),
            ring,
        })
    }

    /// The key that signs tokens.
    #[must_use]
    pub fn token(&self) -> &TokenKey {
        &self.token
    }

    /// The keys that signed tokens which may still be good, newest first.
    #[must_use]
    pub fn earlier_tokens(&self) -> &[EarlierTokenKey] {
        &self.earlier_tokens
    }

    /// The public key that tokens of this `kid` are verified by.
    #[must_use]
    pub fn token_public(&self, kid: &str) -> Option<&PublicKey> {
        if self.token.kid() == kid {
            return Some(self.token.public_key());
        }
        let earlier = self.earlier_tokens.iter();
        let mut found = earlier.filter(|earlier| earlier.kid == kid);
        found.next().map(EarlierTokenKey::public_key)
    }

    /// The enclave CA.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The CA that is to take its place.
    #[must_use]
    pub fn next_authority(&self) -> Option<&Authority> {
        self.next_authority.as_deref()
    }

    /// The public key that deposits are sealed to.
    #[must_use]
    pub fn hpke_public(&self) -> &[u8; 32] {
        self.hpke.public()
    }

    /// The public half of the key that signs checkpoints of the logs.
    #[must_use]
    pub fn log_public(&self) -> &PublicKey {
        self.log.public()
    }

    /// The public halves of all keys that sign checkpoints, the current one first.
    pub fn log_publics(&self) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(&self.log)
            .chain(&self.earlier_logs)
            .map(LogKey::public)
    }

    /// The keys that sign checkpoints of the logs, the current one first.
    pub(crate) fn log_keys(&self) -> Vec<LogKey> {
        std::iter::once(&self.log)
            .chain(&self.earlier_logs)
            .cloned()
            .collect()
    }

    /// The key of this boot, which proves connections.
    #[must_use]
    pub fn instance(&self) -> &InstanceKey {
        &self.instance
    }

    pub(crate) fn hpke(&self) -> &Arc<DepositPrivateKey> {
        &self.hpke
    }
}

/// Opens a deposit: encapsulated key, then ciphertext.
pub(crate) fn open_deposit(
    key: &DepositPrivateKey,
    context: &DepositContext<'_>,
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (encapsulated, ciphertext) = sealed.split_first_chunk::<32>()?;
    let envelope = DepositEnvelope::from_parts(encapsulated, ciphertext.to_vec()).ok()?;
    let secret = envelope.open(key, context).ok()?;
    Some(Zeroizing::new(secret.expose_secret().to_vec()))
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
