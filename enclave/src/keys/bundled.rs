//! What the enclave speaks with now: its keyring, the key bundle that names its public halves, and the bundles of
//! this boot before it, to which deposits may be sealed that are still on their way.

use std::sync::Arc;

use attestation::{
    DepositPrivateKey, KeyBundle, P256PublicKey, TokenKey as BundledTokenKey, TokenPublicKey,
};
use jose::PublicKey;
use ring::digest::{SHA256, digest};

use super::keyring::{Keyring, KeyringError};
use super::ring::KeyKind;
use crate::boot::BootError;
use crate::config::Config;
use crate::time::Now;

/// The most CAs and log keys beside the current one.
pub(super) const MAX_OTHERS: usize = attestation::MAX_OTHERS;

/// Bundles of this boot that are remembered.
const MAX_BUNDLES: usize = 64;

/// The key bundle of this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Its canonical encoding.
    pub bytes: Vec<u8>,
    /// SHA-256 of that.
    pub digest: [u8; 32],
}

/// A bundle of this boot that another has replaced.
#[derive(Clone)]
struct Before {
    digest: [u8; 32],
    /// What deposits under it are sealed to, while they are still opened, and until when.
    hpke: Option<(Arc<DepositPrivateKey>, u64)>,
}

/// The keyring with its bundle.
#[derive(Clone)]
pub(crate) struct Speaking {
    pub(crate) keys: Arc<Keyring>,
    pub(crate) bundle: Arc<Bundle>,
    boot_identity: [u8; 32],
    /// Newest first.
    before: Vec<Before>,
}

impl std::fmt::Debug for Speaking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speaking")
            .field("bundle", &self.bundle)
            .finish_non_exhaustive()
    }
}

impl Speaking {
    /// At boot.
    pub(crate) fn new(
        config: &Config,
        keys: Keyring,
        boot_identity: [u8; 32],
    ) -> Result<Self, BootError> {
        Ok(Self {
            bundle: Arc::new(bundle(config, &keys, boot_identity)?),
            keys: Arc::new(keys),
            boot_identity,
            before: Vec::new(),
        })
    }

    /// With other keys from now on. `deposit_overlap_s` is for the deposit key, where that is what changes.
    pub(crate) fn with(
        &self,
        config: &Config,
        keys: Keyring,
        deposit_overlap_s: Option<u64>,
        now: &Now,
    ) -> Result<Self, BootError> {
        let overlap_s = deposit_overlap_s.unwrap_or(KeyKind::Deposit.default_overlap_s());
        let until_s = now.lo_s.saturating_add(overlap_s);
        let retired = self.keys.hpke();
        let mut before = self.before.clone();
        before.insert(
            0,
            Before {
                digest: self.bundle.digest,
                hpke: Some((Arc::clone(retired), until_s)),
            },
        );
        before.truncate(MAX_BUNDLES);
        for earlier in &mut before {
            if let Some((key, end_s)) = &mut earlier.hpke {
                if deposit_overlap_s.is_some() && Arc::ptr_eq(key, retired) {
                    *end_s = until_s.min(*end_s);
                }
                if *end_s <= now.lo_s {
                    earlier.hpke = None;
                }
            }
        }
        Ok(Self {
            bundle: Arc::new(bundle(config, &keys, self.boot_identity)?),
            keys: Arc::new(keys),
            boot_identity: self.boot_identity,
            before,
        })
    }

    /// The bundles that deposits may be sealed under, with the keys that open them.
    pub(crate) fn deposit_keys(
        &self,
        now: &Now,
    ) -> impl Iterator<Item = (&[u8; 32], &DepositPrivateKey)> {
        let now_s = now.lo_s;
        let before = self.before.iter().filter_map(move |before| {
            let (key, until_s) = before.hpke.as_ref()?;
            (now_s < *until_s).then_some((&before.digest, &**key))
        });
        std::iter::once((&self.bundle.digest, &**self.keys.hpke())).chain(before)
    }

    /// Whether a bundle is this boot's.
    pub(crate) fn is_own(&self, digest: &[u8; 32]) -> bool {
        self.bundle.digest == *digest || self.before.iter().any(|before| before.digest == *digest)
    }
}

fn bundle(config: &Config, keys: &Keyring, boot_identity: [u8; 32]) -> Result<Bundle, BootError> {
    let damaged = |name| move |_| BootError::Keyring(KeyringError::Damaged(name));
    let token_key = |kid: &str, key: &PublicKey| {
        let key = TokenPublicKey::from_bytes(key.as_bytes());
        Ok::<_, BootError>(BundledTokenKey {
            kid: kid.to_owned(),
            key: key.map_err(|_| BootError::Keyring(KeyringError::Damaged("signing")))?,
        })
    };
    let current = token_key(keys.token().kid(), keys.token().public_key());
    let earlier = keys.earlier_tokens().iter();
    let earlier = earlier.map(|earlier| token_key(earlier.kid(), earlier.public_key()));
    let instance = P256PublicKey::from_point(keys.instance().public_key().as_bytes());
    let mut log_keys = keys.log_publics().map(|key| ed25519_spki(key.as_bytes()));
    let next = keys.next_authority().into_iter();
    let bundle = KeyBundle {
        enclave_ca_der: keys.authority().certificate().to_vec(),
        next_ca_ders: next.map(|ca| ca.certificate().to_vec()).collect(),
        instance_key: instance.map_err(damaged("instance"))?,
        token_keys: std::iter::once(current)
            .chain(earlier)
            .collect::<Result<_, _>>()?,
        hpke_public: *keys.hpke_public(),
        log_key_spki: log_keys.next().unwrap_or_default(),
        earlier_log_keys: log_keys.collect(),
        manifest_digest: config.manifest_digest,
        manifest_signer: config.manifest_signer,
        boot_identity,
        issuer: config.issuer.clone(),
        grpc_origin: config.grpc_origin.clone(),
        public_origin: config.public_origin.clone(),
        gateway_origin: config.gateway_origin.clone(),
    };
    let bytes = bundle
        .encode()
        .map_err(|error| BootError::Bundle(error.to_string()))?;
    let mut digest_bytes = [0; 32];
    for (to, from) in digest_bytes
        .iter_mut()
        .zip(digest(&SHA256, &bytes).as_ref())
    {
        *to = *from;
    }
    Ok(Bundle {
        bytes,
        digest: digest_bytes,
    })
}

/// DER of a SubjectPublicKeyInfo for Ed25519 [RFC 8410 §4].
fn ed25519_spki(key: &[u8]) -> Vec<u8> {
    const PREFIX: [u8; 12] = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    [&PREFIX[..], key].concat()
}
