//! X.509-SVIDs: certificates by which workloads of a SPIFFE trust domain are known
//! [X509-SVID §5].

use attestation::manifest::TrustDomain;
use enclave::spiffe::SpiffeId;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::fmt;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// A workload's certificate that a trust domain's authorities vouch for. Only
/// [`TrustDomains::svid`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svid {
    id: SpiffeId,
    expires_at_s: u64,
}

impl Svid {
    /// The workload.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When the certificate expires, Unix time in seconds.
    #[must_use]
    pub fn expires_at_s(&self) -> u64 {
        self.expires_at_s
    }
}

/// The trust domains of the manifest, to check certificates by.
#[derive(Clone, Default)]
pub struct TrustDomains(Vec<Domain>);

#[derive(Clone)]
struct Domain {
    name: String,
    anchors: Vec<TrustAnchor<'static>>,
}

impl TrustDomains {
    /// With the bundles of the manifest, whose check has parsed them. A certificate
    /// that is no trust anchor vouches for nobody.
    #[must_use]
    pub fn new(domains: &[TrustDomain]) -> Self {
        let domain = |domain: &TrustDomain| Domain {
            name: domain.name.clone(),
            anchors: domain
                .bundle
                .iter()
                .filter_map(|der| Some(anchor_from_trusted_cert(der).ok()?.to_owned()))
                .collect(),
        };
        Self(domains.iter().map(domain).collect())
    }

    /// The first certificate of a chain as an SVID; `None` if it is not one of these
    /// trust domains. Whether it is one does not matter for other certificates, so
    /// there is no error: they are known by their keys or not at all.
    #[must_use]
    pub fn svid(&self, chain: &[CertificateDer<'_>], now_s: u64) -> Option<Svid> {
        if self.0.is_empty() {
            return None;
        }
        let (leaf, intermediates) = chain.split_first()?;
        let (id, expires_at_s) = leaf_of_workload(leaf)?;
        let domain = self.0.iter().find(|of| of.name == id.trust_domain())?;
        let certificate = EndEntityCert::try_from(leaf).ok()?;
        let algorithms = default_provider().signature_verification_algorithms;
        certificate
            .verify_for_usage(
                algorithms.all,
                &domain.anchors,
                intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(now_s)),
                KeyUsage::client_auth(),
                None,
                None,
            )
            .ok()?;
        Some(Svid { id, expires_at_s })
    }
}

impl fmt::Debug for TrustDomains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|domain| &domain.name))
            .finish()
    }
}

/// The SPIFFE ID and expiry of a certificate with the form of a workload's: exactly
/// one URI among its names [X509-SVID §2, §5.2], no CA, signs, and signs neither
/// certificates nor revocation lists [§4.1, §4.3].
fn leaf_of_workload(der: &CertificateDer<'_>) -> Option<(SpiffeId, u64)> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    // Each is an error if the certificate has it twice.
    let names = certificate.subject_alternative_name().ok()??;
    let constraints = certificate.basic_constraints().ok()?;
    let usage = certificate.key_usage().ok()??.value;
    if constraints.is_some_and(|constraints| constraints.value.ca)
        || usage.key_cert_sign()
        || usage.crl_sign()
        || !usage.digital_signature()
    {
        return None;
    }
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some(*uri)
            } else {
                None
            }
        })
        .collect();
    let [uri] = uris.as_slice() else {
        return None;
    };
    let id = SpiffeId::parse(uri).ok()?;
    let expires_at_s = certificate.validity().not_after.timestamp();
    Some((id, u64::try_from(expires_at_s).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa,
        KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
    };

    const NOW_S: u64 = 1_800_000_000;
    const ID: &str = "spiffe://workloads.test/sync";

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority_params(path_len: Option<u8>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(path_len.map_or(
            BasicConstraints::Unconstrained,
            BasicConstraints::Constrained,
        ));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2036, 1, 1);
        params
    }

    fn authority(path_len: Option<u8>) -> Authority {
        let key = KeyPair::generate().unwrap();
        CertifiedIssuer::self_signed(authority_params(path_len), key).unwrap()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn leaf(
        by: &Authority,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(ID)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.not_before = date_time_ymd(2027, 1, 1);
        params.not_after = date_time_ymd(2028, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, by).unwrap().der().clone()
    }

    fn trust_domain(by: &Authority) -> TrustDomain {
        TrustDomain {
            name: "workloads.test".into(),
            vendor: "crm-sync".into(),
            bundle: vec![by.der().clone()],
        }
    }

    #[test]
    fn a_workload_is_known_by_its_svid() {
        let root = authority(None);
        let domains = TrustDomains::new(&[trust_domain(&root)]);
        let svid = domains.svid(&[leaf(&root, |_| {})], NOW_S).unwrap();
        assert_eq!(svid.id().as_str(), ID);
        // 2028-01-01
        assert_eq!(svid.expires_at_s(), 1_830_297_600);

        // Through an intermediate that the workload sends, and with no EKU.
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(authority_params(Some(0)), key, &root).unwrap();
        let leaf = leaf(&issuer, |params| {
            params.extended_key_usages.clear();
            params
                .subject_alt_names
                .push(SanType::DnsName("sync.test".try_into().unwrap()));
        });
        let chain = [leaf, issuer.der().clone()];
        assert_eq!(domains.svid(&chain, NOW_S).unwrap().id().as_str(), ID);
        // Without it there is no path.
        assert_eq!(domains.svid(&chain[..1], NOW_S), None);
    }

    #[test]
    fn each_certificate_that_is_no_svid_of_the_domain_is_refused() {
        type Change = fn(&mut CertificateParams);
        let root = authority(None);
        let domains = TrustDomains::new(&[trust_domain(&root)]);
        let rows: [(&str, Change); 12] = [
            ("no URI", |p| p.subject_alt_names.clear()),
            ("two URIs", |p| {
                p.subject_alt_names
                    .push(uri("spiffe://workloads.test/other"))
            }),
            ("two URIs, one no SPIFFE ID", |p| {
                p.subject_alt_names.push(uri("https://a.test"))
            }),
            ("another scheme", |p| {
                p.subject_alt_names = vec![uri("https://workloads.test/sync")]
            }),
            ("no path", |p| {
                p.subject_alt_names = vec![uri("spiffe://workloads.test")]
            }),
            ("another trust domain", |p| {
                p.subject_alt_names = vec![uri("spiffe://other.test/sync")]
            }),
            ("a CA", |p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
            }),
            ("no key usage", |p| p.key_usages.clear()),
            ("signs certificates", |p| {
                p.key_usages.push(KeyUsagePurpose::KeyCertSign)
            }),
            ("signs revocation lists", |p| {
                p.key_usages.push(KeyUsagePurpose::CrlSign)
            }),
            ("for servers alone", |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            ("expired", |p| p.not_after = date_time_ymd(2027, 1, 2)),
        ];
        for (what, change) in rows {
            let chain = [leaf(&root, change)];
            assert_eq!(domains.svid(&chain, NOW_S), None, "{what}");
        }
        let good = leaf(&root, |_| {});
        // 2026-12-31, a day before its first.
        assert_eq!(
            domains.svid(std::slice::from_ref(&good), 1_798_675_200),
            None
        );
        let stranger = authority(None);
        assert_eq!(domains.svid(&[leaf(&stranger, |_| {})], NOW_S), None);
        assert_eq!(TrustDomains::default().svid(&[good], NOW_S), None);
        assert_eq!(domains.svid(&[], NOW_S), None);
        assert_eq!(
            domains.svid(&[CertificateDer::from(vec![0x30, 0])], NOW_S),
            None
        );

        // An authority below the bundle's that may not make others does not make one by sending it, and a workload
        // is no authority at all.
        let below = |params: CertificateParams, by: &Authority| {
            CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), by).unwrap()
        };
        let narrow = below(authority_params(Some(0)), &root);
        let second = below(authority_params(None), &narrow);
        let chain = [&second, &narrow].map(|of| of.der().clone());
        let chain = [&[leaf(&second, |_| {})], &chain[..]].concat();
        assert_eq!(domains.svid(&chain, NOW_S), None);
        let mut no_authority = authority_params(None);
        no_authority.is_ca = IsCa::ExplicitNoCa;
        let workload = below(no_authority, &root);
        let chain = [leaf(&workload, |_| {}), workload.der().clone()];
        assert_eq!(domains.svid(&chain, NOW_S), None);
    }
}
