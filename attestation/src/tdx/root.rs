//! Intel's root: the one pinned here, and on demand a development root.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// Intel SGX Root CA. Provenance: `attestation/roots/PROVENANCE.md`.
const INTEL_SGX_ROOT_CA: &[u8] = include_bytes!("../../roots/intel_sgx_root_ca.der");
/// The common name of Intel's root, and of a development root in its place.
const COMMON_NAME: &str = "Intel SGX Root CA";
/// The most a root may have; Intel's has 659 bytes.
const MAX_ROOT_BYTES: usize = 4 * 1024;

/// A trusted root of Intel's hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct IntelRoot {
    pub(crate) der: Vec<u8>,
    /// DER of its name.
    pub(crate) subject: Vec<u8>,
    /// Whether it is a development root: everything under it has the emulated tier.
    pub(crate) emulated: bool,
}

impl IntelRoot {
    /// The pinned one; none only if this build is broken.
    pub(crate) fn pinned() -> Option<Self> {
        Self::read(INTEL_SGX_ROOT_CA, false)
    }

    /// A development root: self-signed, a certificate authority, with Intel's common name.
    pub(crate) fn emulated(der: &[u8]) -> Option<Self> {
        Self::read(der, true)
    }

    fn read(der: &[u8], emulated: bool) -> Option<Self> {
        let certificate = certificate(der)?;
        let tbs = &certificate.tbs_certificate;
        let key = UnparsedPublicKey::new(
            &ECDSA_P256_SHA256_ASN1,
            tbs.public_key().subject_public_key.data.as_ref(),
        );
        let self_signed = key
            .verify(tbs.as_ref(), &certificate.signature_value.data)
            .is_ok();
        let is_root = is_named(&certificate)
            && tbs.subject.as_raw() == tbs.issuer.as_raw()
            && tbs.is_ca()
            && self_signed;
        is_root.then(|| Self {
            der: der.to_vec(),
            subject: tbs.subject.as_raw().to_vec(),
            emulated,
        })
    }

    /// How its organisation is named.
    pub(crate) fn organization(&self) -> Option<String> {
        let certificate = certificate(&self.der)?;
        let name = certificate
            .tbs_certificate
            .subject
            .iter_organization()
            .next()?;
        name.as_str().ok().map(str::to_owned)
    }
}

fn certificate(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    (rest.is_empty() && der.len() <= MAX_ROOT_BYTES).then_some(certificate)
}

fn is_named(certificate: &X509Certificate<'_>) -> bool {
    let mut names = certificate.tbs_certificate.subject.iter_common_name();
    let first = names.next().and_then(|name| name.as_str().ok());
    first == Some(COMMON_NAME) && names.next().is_none()
}

/// Whether a certificate has the name of Intel's root.
pub(crate) fn is_intel_root(der: &[u8]) -> bool {
    certificate(der).is_some_and(|certificate| is_named(&certificate))
}

/// DER of the name of a revocation list's issuer.
pub(super) fn list_issuer(der: &[u8]) -> Option<Vec<u8>> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    Some(list.tbs_cert_list.issuer.as_raw().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::sha256;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    #[test]
    fn the_embedded_root_is_intels() {
        assert_eq!(
            hex::encode(sha256(INTEL_SGX_ROOT_CA)),
            "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
        );
        let root = IntelRoot::pinned().unwrap();
        assert!(!root.emulated);
        assert_eq!(root.organization().as_deref(), Some("Intel Corporation"));
    }

    /// A certificate with these names, DER, signed by its own key or by another one.
    fn made(subject: &str, issuer: &str, is_ca: bool, own_key: bool) -> Vec<u8> {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            if is_ca {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            params
        };
        let key = KeyPair::generate().unwrap();
        let other = KeyPair::generate().unwrap();
        let signer = if own_key { &key } else { &other };
        let issuer = Issuer::new(params(issuer), signer);
        let certificate = params(subject).signed_by(&key, &issuer).unwrap();
        certificate.der().to_vec()
    }

    #[test]
    fn a_root_is_named_as_intels_signed_by_itself_and_an_authority() {
        let is_root = |der: &[u8]| IntelRoot::emulated(der).is_some();
        assert!(is_root(&made(COMMON_NAME, COMMON_NAME, true, true)));
        for der in [
            made("Root CA", "Root CA", true, true),
            made(COMMON_NAME, "Another CA", true, true),
            made(COMMON_NAME, COMMON_NAME, false, true),
            made(COMMON_NAME, COMMON_NAME, true, false),
        ] {
            assert!(!is_root(&der));
        }
        let good = made(COMMON_NAME, COMMON_NAME, true, true);
        assert!(is_intel_root(&good));
        assert!(!is_intel_root(&[&good[..], &[0]].concat()));
        // A signature is shorter by a byte or two now and then, so one length of the name is tried until it fits.
        let near = made(COMMON_NAME, &"x".repeat(3_400), true, true).len();
        let name = "x".repeat(3_400 + MAX_ROOT_BYTES - near);
        let mut tried = (0..1_000).map(|_| made(COMMON_NAME, &name, true, true));
        let just = tried.find(|der| der.len() == MAX_ROOT_BYTES);
        assert!(is_intel_root(&just.unwrap()));
        let long = made(COMMON_NAME, &"x".repeat(MAX_ROOT_BYTES), true, true);
        assert!(long.len() > MAX_ROOT_BYTES && !is_intel_root(&long));
    }
}
