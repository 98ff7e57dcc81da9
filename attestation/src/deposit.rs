//! The deposit envelope: a secret sealed to the enclave's attested key, for one tenant, app and grant.

use std::convert::Infallible;
use std::fmt;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open,
    single_shot_seal_with_rng,
};
use ring::rand::SecureRandom;
use secrecy::{ExposeSecret, SecretBox, SecretSlice};
use zeroize::{Zeroize, Zeroizing};

use crate::canonical::Writer;

/// The name and version of the envelope: the HPKE info begins with it.
const DOMAIN: &str = "tokenkeep/deposit/v1";

/// The most a deposited secret may have.
pub const MAX_DEPOSIT_BYTES: usize = 16 * 1024;
/// The length of an X25519 key, public or private, and of the encapsulated key.
pub const HPKE_KEY_BYTES: usize = 32;
/// AES-GCM appends a tag.
const TAG_BYTES: usize = 16;
/// The most an id in a context may have.
const MAX_ID_BYTES: usize = 256;

/// HPKE [RFC 9180 §7]: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
type Suite = X25519HkdfSha256;

/// What a deposit is for. Sealed for one context, it opens in no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepositContext<'a> {
    /// The tenant that owns the grant.
    pub tenant: &'a str,
    /// The app at the provider.
    pub app: &'a str,
    /// The grant; empty if the enclave is to make one.
    pub grant: &'a str,
    /// What the secret is, such as `refresh_token` or `client_secret`.
    pub kind: &'a str,
    /// SHA-256 of the key bundle that was verified.
    pub bundle_digest: &'a [u8; 32],
}

/// A sealed secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositEnvelope {
    encapsulated_key: [u8; HPKE_KEY_BYTES],
    ciphertext: Vec<u8>,
}

/// The enclave's private key for deposits.
pub struct DepositPrivateKey {
    key: SecretBox<[u8; HPKE_KEY_BYTES]>,
    public: [u8; HPKE_KEY_BYTES],
}

/// A deposited secret, opened.
pub struct DepositedSecret {
    bytes: SecretSlice<u8>,
}

/// Why a deposit cannot be sealed or opened. None says anything about the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DepositError {
    /// The secret is empty or larger than [`MAX_DEPOSIT_BYTES`].
    #[error("the secret has {found_bytes} bytes, not 1 to {MAX_DEPOSIT_BYTES}")]
    SecretLength {
        /// Its size.
        found_bytes: usize,
    },
    /// The ciphertext is shorter or longer than any sealed secret.
    #[error("the ciphertext has {found_bytes} bytes, which no sealed secret has")]
    CiphertextLength {
        /// Its size.
        found_bytes: usize,
    },
    /// The encapsulated key has not 32 bytes.
    #[error("the encapsulated key has {found_bytes} bytes, not {HPKE_KEY_BYTES}")]
    EncapsulatedKeyLength {
        /// Its size.
        found_bytes: usize,
    },
    /// An id of the context is too long.
    #[error("the {field} of the deposit has more than {MAX_ID_BYTES} bytes")]
    Context {
        /// Which.
        field: &'static str,
    },
    /// The recipient's key is no usable X25519 key.
    #[error("the recipient's key is not usable")]
    Key,
    /// No randomness.
    #[error("no randomness")]
    Random,
    /// The envelope was made for another key or context, or was altered.
    #[error(
        "the deposit does not open: it was sealed for another key, tenant, app or grant, or was altered"
    )]
    Open,
}

impl DepositContext<'_> {
    /// The HPKE info: every part length-prefixed.
    fn info(&self) -> Result<Vec<u8>, DepositError> {
        let Self {
            tenant,
            app,
            grant,
            kind,
            bundle_digest,
        } = self;
        let mut writer = Writer::new(DOMAIN);
        for (field, id) in [
            ("tenant", tenant),
            ("app", app),
            ("grant", grant),
            ("kind", kind),
        ] {
            if id.len() > MAX_ID_BYTES {
                return Err(DepositError::Context { field });
            }
            writer.part(id.as_bytes());
        }
        writer.part(*bundle_digest);
        Ok(writer.finish())
    }
}

impl DepositEnvelope {
    /// Seals `secret` to the X25519 key `hpke_public` of a verified bundle.
    ///
    /// # Errors
    /// [`DepositError`], for a secret or context out of bounds, an unusable key or no randomness.
    pub fn seal(
        hpke_public: &[u8; HPKE_KEY_BYTES],
        context: &DepositContext<'_>,
        secret: &[u8],
        random: &dyn SecureRandom,
    ) -> Result<Self, DepositError> {
        if secret.is_empty() || secret.len() > MAX_DEPOSIT_BYTES {
            return Err(DepositError::SecretLength {
                found_bytes: secret.len(),
            });
        }
        let info = context.info()?;
        let public =
            <Suite as Kem>::PublicKey::from_bytes(hpke_public).map_err(|_| DepositError::Key)?;
        let mut once = OneDraw::new(random)?;
        let (encapsulated_key, ciphertext) =
            single_shot_seal_with_rng::<AesGcm256, HkdfSha256, Suite>(
                &OpModeS::Base,
                &public,
                &info,
                secret,
                &[],
                &mut once,
            )
            .map_err(|_| DepositError::Key)?;
        if once.exhausted {
            return Err(DepositError::Random);
        }
        Ok(Self {
            encapsulated_key: encapsulated_key.to_bytes().into(),
            ciphertext,
        })
    }

    /// An envelope from its parts, as received.
    ///
    /// # Errors
    /// [`DepositError`] if the parts have lengths that no envelope has.
    pub fn from_parts(encapsulated_key: &[u8], ciphertext: Vec<u8>) -> Result<Self, DepositError> {
        let found_bytes = encapsulated_key.len();
        let encapsulated_key = encapsulated_key
            .try_into()
            .map_err(|_| DepositError::EncapsulatedKeyLength { found_bytes })?;
        let found_bytes = ciphertext.len();
        if found_bytes <= TAG_BYTES || found_bytes.saturating_sub(TAG_BYTES) > MAX_DEPOSIT_BYTES {
            return Err(DepositError::CiphertextLength { found_bytes });
        }
        Ok(Self {
            encapsulated_key,
            ciphertext,
        })
    }

    /// The encapsulated key.
    #[must_use]
    pub const fn encapsulated_key(&self) -> &[u8; HPKE_KEY_BYTES] {
        &self.encapsulated_key
    }

    /// The ciphertext with its tag.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// Opens the envelope for `context`.
    ///
    /// # Errors
    /// [`DepositError::Open`] if it was sealed for another key or context or was altered.
    pub fn open(
        &self,
        private: &DepositPrivateKey,
        context: &DepositContext<'_>,
    ) -> Result<DepositedSecret, DepositError> {
        let info = context.info()?;
        let key = <Suite as Kem>::PrivateKey::from_bytes(private.key.expose_secret())
            .map_err(|_| DepositError::Key)?;
        let encapsulated_key = <Suite as Kem>::EncappedKey::from_bytes(&self.encapsulated_key)
            .map_err(|_| DepositError::Open)?;
        let bytes = single_shot_open::<AesGcm256, HkdfSha256, Suite>(
            &OpModeR::Base,
            &key,
            &encapsulated_key,
            &info,
            &self.ciphertext,
            &[],
        )
        .map_err(|_| DepositError::Open)?;
        Ok(DepositedSecret {
            bytes: bytes.into(),
        })
    }
}

impl DepositPrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// [`DepositError::Random`] without randomness.
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, DepositError> {
        let mut once = OneDraw::new(random)?;
        let (private, _) = Suite::gen_keypair_with_rng(&mut once);
        if once.exhausted {
            return Err(DepositError::Random);
        }
        let bytes = Zeroizing::new(<[u8; HPKE_KEY_BYTES]>::from(private.to_bytes()));
        Self::from_bytes(&bytes)
    }

    /// A key from its 32 bytes [RFC 9180 §7.1.2], as unsealed.
    ///
    /// # Errors
    /// [`DepositError::Key`] if they are no X25519 private key.
    pub fn from_bytes(bytes: &[u8; HPKE_KEY_BYTES]) -> Result<Self, DepositError> {
        let private =
            <Suite as Kem>::PrivateKey::from_bytes(bytes).map_err(|_| DepositError::Key)?;
        let public = Suite::sk_to_pk(&private).to_bytes().into();
        let key =
            SecretBox::init_with_mut(|key: &mut [u8; HPKE_KEY_BYTES]| key.copy_from_slice(bytes));
        Ok(Self { key, public })
    }

    /// The public key, for the key bundle.
    #[must_use]
    pub const fn public(&self) -> &[u8; HPKE_KEY_BYTES] {
        &self.public
    }

    /// The 32 bytes, to be sealed.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8; HPKE_KEY_BYTES] {
        self.key.expose_secret()
    }
}

impl fmt::Debug for DepositPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DepositPrivateKey(..)")
    }
}

impl DepositedSecret {
    /// The secret.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        self.bytes.expose_secret()
    }
}

impl fmt::Debug for DepositedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DepositedSecret(..)")
    }
}

/// Randomness drawn before it is needed, because drawing can fail and HPKE's generator cannot: it gives out its 32
/// bytes once, and remembers if more was asked for.
struct OneDraw {
    bytes: Zeroizing<[u8; HPKE_KEY_BYTES]>,
    used: bool,
    exhausted: bool,
}

impl OneDraw {
    fn new(random: &dyn SecureRandom) -> Result<Self, DepositError> {
        let mut bytes = Zeroizing::new([0; HPKE_KEY_BYTES]);
        random
            .fill(bytes.as_mut_slice())
            .map_err(|_| DepositError::Random)?;
        Ok(Self {
            bytes,
            used: false,
            exhausted: false,
        })
    }
}

impl TryRng for OneDraw {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.exhausted = true;
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.exhausted = true;
        Ok(0)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        if self.used || out.len() != self.bytes.len() {
            self.exhausted = true;
            out.zeroize();
        } else {
            out.copy_from_slice(self.bytes.as_slice());
            self.used = true;
        }
        Ok(())
    }
}

impl TryCryptoRng for OneDraw {}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    const SECRET: &[u8] = b"refresh-token-canary-3141";

    fn context(bundle_digest: &[u8; 32]) -> DepositContext<'_> {
        DepositContext {
            tenant: "bank",
            app: "crm",
            grant: "g1",
            kind: "refresh_token",
            bundle_digest,
        }
    }

    fn sealed() -> (DepositPrivateKey, DepositEnvelope) {
        let random = SystemRandom::new();
        let key = DepositPrivateKey::generate(&random).unwrap();
        let envelope =
            DepositEnvelope::seal(key.public(), &context(&[7; 32]), SECRET, &random).unwrap();
        (key, envelope)
    }

    #[test]
    fn a_deposit_opens_with_its_key_in_its_context() {
        let (key, envelope) = sealed();
        let received = DepositEnvelope::from_parts(
            envelope.encapsulated_key(),
            envelope.ciphertext().to_vec(),
        )
        .unwrap();
        let again = DepositPrivateKey::from_bytes(key.expose_secret()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(
            received
                .open(&again, &context(&[7; 32]))
                .unwrap()
                .expose_secret(),
            SECRET
        );
    }

    #[test]
    fn a_deposit_opens_in_no_other_context_and_with_no_other_key() {
        let (key, envelope) = sealed();
        let base = context(&[7; 32]);
        let contexts = [
            DepositContext {
                tenant: "bank2",
                ..base
            },
            DepositContext {
                app: "crm2",
                ..base
            },
            DepositContext { grant: "", ..base },
            DepositContext {
                kind: "client_secret",
                ..base
            },
            DepositContext {
                bundle_digest: &[8; 32],
                ..base
            },
            DepositContext {
                tenant: "ban",
                app: "kcrm",
                ..base
            },
        ];
        for context in contexts {
            assert_eq!(
                envelope.open(&key, &context).err(),
                Some(DepositError::Open),
                "{context:?}"
            );
        }
        let other = DepositPrivateKey::generate(&SystemRandom::new()).unwrap();
        assert_eq!(envelope.open(&other, &base).err(), Some(DepositError::Open));
    }

    #[test]
    fn an_altered_deposit_does_not_open() {
        let (key, envelope) = sealed();
        for i in 0..envelope.ciphertext.len() {
            let mut altered = envelope.clone();
            altered.ciphertext[i] ^= 1;
            assert_eq!(
                altered.open(&key, &context(&[7; 32])).err(),
                Some(DepositError::Open),
                "{i}"
            );
        }
        let low_order = DepositEnvelope {
            encapsulated_key: [0; 32],
            ..envelope
        };
        assert_eq!(
            low_order.open(&key, &context(&[7; 32])).err(),
            Some(DepositError::Open)
        );
    }

    #[test]
    fn sizes_are_bounded() {
        let random = SystemRandom::new();
        let key = DepositPrivateKey::generate(&random).unwrap();
        let seal = |secret: &[u8]| {
            DepositEnvelope::seal(key.public(), &context(&[7; 32]), secret, &random).err()
        };
        assert_eq!(
            seal(&[]),
            Some(DepositError::SecretLength { found_bytes: 0 })
        );
        let found_bytes = MAX_DEPOSIT_BYTES + 1;
        assert_eq!(
            seal(&vec![1; found_bytes]),
            Some(DepositError::SecretLength { found_bytes })
        );
        assert_eq!(seal(&vec![1; MAX_DEPOSIT_BYTES]), None);
        for found_bytes in [0, TAG_BYTES, MAX_DEPOSIT_BYTES + TAG_BYTES + 1] {
            assert_eq!(
                DepositEnvelope::from_parts(&[0; 32], vec![0; found_bytes]),
                Err(DepositError::CiphertextLength { found_bytes })
            );
        }
        assert_eq!(
            DepositEnvelope::from_parts(&[0; 31], vec![0; 17]),
            Err(DepositError::EncapsulatedKeyLength { found_bytes: 31 })
        );
        let long = "x".repeat(MAX_ID_BYTES + 1);
        let context = DepositContext {
            tenant: &long,
            ..context(&[7; 32])
        };
        assert_eq!(
            DepositEnvelope::seal(key.public(), &context, SECRET, &random).err(),
            Some(DepositError::Context { field: "tenant" })
        );
    }

    #[test]
    fn a_key_on_which_nothing_can_be_agreed_is_refused() {
        let random = SystemRandom::new();
        assert_eq!(
            DepositEnvelope::seal(&[0; 32], &context(&[7; 32]), SECRET, &random).err(),
            Some(DepositError::Key)
        );
    }

    #[test]
    fn two_deposits_of_one_secret_differ() {
        let random = SystemRandom::new();
        let key = DepositPrivateKey::generate(&random).unwrap();
        let seal =
            || DepositEnvelope::seal(key.public(), &context(&[7; 32]), SECRET, &random).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn debug_shows_no_secret() {
        let (key, envelope) = sealed();
        let opened = envelope.open(&key, &context(&[7; 32])).unwrap();
        assert_eq!(
            format!("{key:?} {opened:?}"),
            "DepositPrivateKey(..) DepositedSecret(..)"
        );
        assert!(!format!("{envelope:?}").contains("canary"));
    }
}
