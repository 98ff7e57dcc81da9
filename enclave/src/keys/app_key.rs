//! The key of an app at its provider: born in the enclave, with a certificate of its own for whoever registers it.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::authority::{AuthorityError, named, new_key, serial, validity};
use crate::boot::Randomness;
use crate::secret::AppPrivateKey;
use crate::time::Now;

/// Days that the certificate lasts. A provider that is given the certificate holds the key against it, not a name: it
/// ends late.
const CERTIFICATE_DAYS: i64 = 3_650;

/// A new key as it is stored.
pub(crate) struct NewAppKey {
    /// PKCS#8, DER.
    pub(crate) pkcs8: Zeroizing<Vec<u8>>,
    /// The certificate, DER.
    pub(crate) certificate: Vec<u8>,
}

/// Makes a P-256 key and a self-signed certificate of it.
pub(crate) fn make(
    name: &str,
    now: &Now,
    rng: &dyn SecureRandom,
) -> Result<NewAppKey, AuthorityError> {
    let key = new_key()?;
    let certificate = certificate_of(&key, name, now, rng)?;
    Ok(NewAppKey {
        pkcs8: Zeroizing::new(key.serialize_der()),
        certificate,
    })
}

fn certificate_of(
    key: &KeyPair,
    name: &str,
    now: &Now,
    rng: &dyn SecureRandom,
) -> Result<Vec<u8>, AuthorityError> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(now, CERTIFICATE_DAYS)?;
    params.serial_number = Some(serial(rng)?);
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params
        .self_signed(key)
        .map_err(|_| AuthorityError::Failed)?;
    Ok(certificate.der().to_vec())
}

/// A client certificate for one connection to a provider [RFC 8705 §2]. Its key signs the handshake and is not given
/// out.
pub struct ClientCertificate {
    certificate: CertificateDer<'static>,
    key: EcdsaKeyPair,
    rng: Randomness,
}

impl ClientCertificate {
    /// From what is stored; `None` if the key is none.
    pub(crate) fn new(certificate: Vec<u8>, key: &AppPrivateKey, rng: &Randomness) -> Option<Self> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.expose(), &**rng).ok()?;
        Some(Self {
            certificate: CertificateDer::from(certificate),
            key: pair,
            rng: Arc::clone(rng),
        })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a message by ECDSA over P-256 with SHA-256, DER: `ecdsa_secp256r1_sha256` of TLS [RFC 8446 §4.2.3].
    /// `None` without random bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.key.sign(&*self.rng, message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate([redacted])")
    }
}
