//! Client certificates for mutual TLS, P-256: self-signed, known to the service by their key's digest, or X.509-SVIDs
//! of a trust domain's authority.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use ring::digest::{SHA256, digest};
use secrecy::SecretString;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The key or the certificate cannot be made.
    #[error("cannot make a certificate")]
    Mint(#[from] rcgen::Error),
    /// The bytes are not one DER certificate.
    #[error("not one DER certificate")]
    NotACertificate,
}

/// A client certificate and its key.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// The certificate, PEM.
    pub pem: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: SecretString,
    /// SHA-256 over the certificate's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
}

/// Makes a self-signed client certificate [RFC 8705 §2.2] for `common_name` with a fresh P-256 key.
///
/// Its life is rcgen's default (1975 to 4096): a self-signed certificate is trusted for its key and
/// ends when the service forgets the key.
///
/// # Errors
/// [`PkiError::Mint`].
pub fn client_certificate(common_name: &str) -> Result<ClientCertificate, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = client_params();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    made(&params.self_signed(&key)?, &key)
}

/// Makes a self-signed certificate of a server on 127.0.0.1 with a fresh P-256 key: its PEM, and the key's.
///
/// # Errors
/// [`PkiError::Mint`].
pub fn loopback_certificate() -> Result<(String, SecretString), PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Some clients hold no address against a certificate.
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let params = CertificateParams::new(names)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), SecretString::from(key.serialize_pem())))
}

/// The authority of a SPIFFE trust domain.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// With a fresh P-256 key.
    ///
    /// # Errors
    /// [`PkiError::Mint`].
    pub fn new(common_name: &str) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self(CertifiedIssuer::self_signed(params, key)?))
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// An X.509-SVID for a workload [X509-SVID §4], with a fresh key.
    ///
    /// # Errors
    /// [`PkiError::Mint`].
    pub fn svid(&self, spiffe_id: &str) -> Result<ClientCertificate, PkiError> {
        let mut params = client_params();
        params.subject_alt_names = vec![SanType::URI(spiffe_id.try_into()?)];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        made(&params.signed_by(&key, &self.0)?, &key)
    }
}

/// A certificate of a server at an address of this machine, self-signed, with its key, both PEM.
///
/// # Errors
/// [`PkiError::Mint`].
pub fn server_certificate(address: IpAddr) -> Result<(String, SecretString), PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(address)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), SecretString::from(key.serialize_pem())))
}

fn client_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn made(certificate: &Certificate, key: &KeyPair) -> Result<ClientCertificate, PkiError> {
    let der = certificate.der().to_vec();
    Ok(ClientCertificate {
        spki_sha256: spki_sha256(&der)?,
        pem: certificate.pem(),
        key_pem: SecretString::from(key.serialize_pem()),
        der,
    })
}

/// SHA-256 over the SubjectPublicKeyInfo of a DER certificate: the name of its key.
///
/// # Errors
/// [`PkiError::NotACertificate`].
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], PkiError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| PkiError::NotACertificate)?;
    if !rest.is_empty() {
        return Err(PkiError::NotACertificate);
    }
    let spki = digest(&SHA256, certificate.public_key().raw);
    spki.as_ref()
        .try_into()
        .map_err(|_| PkiError::NotACertificate)
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn the_digest_is_that_of_the_key() {
        let made = client_certificate("crm").unwrap();
        let key = KeyPair::from_pem(made.key_pem.expose_secret()).unwrap();
        let expected = digest(&SHA256, &key.subject_public_key_info());
        assert_eq!(made.spki_sha256.as_slice(), expected.as_ref());
        assert_eq!(spki_sha256(&made.der).unwrap(), made.spki_sha256);
    }

    #[test]
    fn the_certificate_is_self_signed_and_for_clients() {
        let made = client_certificate("crm").unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(made.pem.as_bytes()).unwrap();
        assert_eq!(pem.contents, made.der);
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().to_string(), "CN=crm");
        assert_eq!(certificate.issuer(), certificate.subject());
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            &certificate.public_key().subject_public_key.data,
        );
        key.verify(
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )
        .unwrap();
    }

    #[test]
    fn two_certificates_have_two_keys() {
        let (a, b) = (
            client_certificate("crm").unwrap(),
            client_certificate("crm").unwrap(),
        );
        assert_ne!(a.spki_sha256, b.spki_sha256);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let made = client_certificate("crm").unwrap();
        let mut longer = made.der.clone();
        longer.push(0);
        for (bytes, name) in [
            (&made.der[1..], "the first byte is missing"),
            (&made.der[..100], "truncated"),
            (&longer[..], "a byte follows"),
            (b"", "empty"),
        ] {
            let refused = matches!(spki_sha256(bytes), Err(PkiError::NotACertificate));
            assert!(refused, "{name}");
        }
    }
}
