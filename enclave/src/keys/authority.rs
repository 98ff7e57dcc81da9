//! The enclave CA: a small certificate authority born in the enclave, name-
//! constrained to the service's own origins. It issues the listeners' leaves.

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::time::Now;

/// Days that the CA's certificate lasts.
pub const CA_DAYS: i64 = 3_650;

/// Days that a listener's certificate lasts; it is renewed well before.
pub const LEAF_DAYS: i64 = 30;

/// Why the CA could not do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// An origin's host can't be put into a certificate.
    #[error("a host name can't be put into a certificate")]
    Name,
    /// The time is out of range for a certificate.
    #[error("the time can't be put into a certificate")]
    Time,
    /// Making or signing failed.
    #[error("the certificate could not be made")]
    Failed,
}

/// The host of an origin, as a certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Address(std::net::IpAddr),
}

impl HostName {
    fn subtree(&self) -> GeneralSubtree {
        match self {
            Self::Dns(name) => GeneralSubtree::DnsName(name.clone()),
            Self::Address(std::net::IpAddr::V4(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix((*address).into(), 32))
            }
            Self::Address(std::net::IpAddr::V6(address)) => {
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix((*address).into(), 128))
            }
        }
    }

    fn san(&self) -> Result<SanType, AuthorityError> {
        Ok(match self {
            Self::Dns(name) => {
                SanType::DnsName(name.as_str().try_into().map_err(|_| AuthorityError::Name)?)
            }
            Self::Address(address) => SanType::IpAddress(*address),
        })
    }
}

/// The CA: its certificate and key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority([redacted])")
    }
}

/// A listener's certificate with its key.
pub struct ServerLeaf {
    /// The chain: the leaf, then the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivatePkcs8KeyDer<'static>,
}

impl std::fmt::Debug for ServerLeaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerLeaf([redacted])")
    }
}

/// A new CA, as it is stored: the certificate's DER and the key's PKCS#8.
pub(super) type StoredAuthority = (Vec<u8>, Zeroizing<Vec<u8>>);

fn moment(unix_s: u64) -> Result<OffsetDateTime, AuthorityError> {
    let seconds = i64::try_from(unix_s).map_err(|_| AuthorityError::Time)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| AuthorityError::Time)
}

/// Begins a little before `lo_s`, for verifiers whose clocks are behind.
pub(super) fn validity(
    now: &Now,
    days: i64,
) -> Result<(OffsetDateTime, OffsetDateTime), AuthorityError> {
    let from = moment(now.lo_s.saturating_sub(300))?;
    let to = moment(now.lo_s)?
        .checked_add(Duration::days(days))
        .ok_or(AuthorityError::Time)?;
    Ok((from, to))
}

pub(super) fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        DnValue::Utf8String(common_name.to_owned()),
    );
    name
}

pub(super) fn serial(rng: &dyn SecureRandom) -> Result<rcgen::SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes).map_err(|_| AuthorityError::Failed)?;
    // Positive, as X.509 wants it.
    if let Some(first) = bytes.first_mut() {
        *first &= 0x7f;
        *first |= 0x40;
    }
    Ok(rcgen::SerialNumber::from_slice(&bytes))
}

pub(super) fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| AuthorityError::Failed)
}

impl Authority {
    /// Makes a CA for these hosts.
    pub(super) fn create(
        hosts: &[HostName],
        now: &Now,
        rng: &dyn SecureRandom,
    ) -> Result<StoredAuthority, AuthorityError> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = validity(now, CA_DAYS)?;
        params.serial_number = Some(serial(rng)?);
        params.distinguished_name = named("Tokenkeep enclave CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: hosts.iter().map(HostName::subtree).collect(),
            excluded_subtrees: Vec::new(),
        });
        let certificate = params
            .self_signed(&key)
            .map_err(|_| AuthorityError::Failed)?;
        let pkcs8 = Zeroizing::new(key.serialize_der());
        Ok((certificate.der().to_vec(), pkcs8))
    }

    /// The CA from what is stored.
    pub(super) fn open(certificate: &[u8], pkcs8: &[u8]) -> Result<Self, AuthorityError> {
        let failed = |_| AuthorityError::Failed;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map_err(failed)?;
        let certificate = CertificateDer::from(certificate.to_vec());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(failed)?;
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Issues a listener's certificate with a new key.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn issue(
        &self,
        hosts: &[HostName],
        now: &Now,
        rng: &dyn SecureRandom,
    ) -> Result<ServerLeaf, AuthorityError> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = validity(now, LEAF_DAYS)?;
        params.serial_number = Some(serial(rng)?);
        params.distinguished_name = named("Tokenkeep");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = hosts.iter().map(HostName::san).collect::<Result<_, _>>()?;
        let leaf = params
            .signed_by(&key, &self.issuer)
            .map_err(|_| AuthorityError::Failed)?;
        Ok(ServerLeaf {
            chain: vec![leaf.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }
}
