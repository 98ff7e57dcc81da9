//! An X.509 certificate of AMD's hierarchy, parsed once into what verification needs; signatures over the raw bytes.

use ring::signature::{RSA_PSS_2048_8192_SHA384, RsaPublicKeyComponents};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name, X509Version};

use super::endorsement::{AmdExtensions, ExtensionProblem};
use crate::time::UnixTime;

/// The most a certificate may have; AMD's have about 1,700 bytes.
const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;

/// DER of the parameters that AMD's certificates name for RSASSA-PSS: SHA-384, MGF1 with SHA-384, salt of 48 bytes.
/// The trailer field may be written out although it is the default.
const PSS_SHA384: &[u8] = &[
    0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2,
    0x03, 0x02, 0x01, 0x30,
];
/// The default trailer field, written out.
const PSS_TRAILER: &[u8] = &[0xa3, 0x03, 0x02, 0x01, 0x01];

const OID_RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
const OID_RSASSA_PSS_DER: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a,
];
const OID_RSA: &str = "1.2.840.113549.1.1.1";
const OID_EC: &str = "1.2.840.10045.2.1";
const OID_P384: &str = "1.3.132.0.34";

/// The place of a certificate in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateRole {
    /// AMD root key.
    Ark,
    /// AMD SEV signing key, or the VLEK signing key.
    Ask,
    /// The key that signs reports.
    Vek,
}

impl CertificateRole {
    /// The name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ark => "ARK",
            Self::Ask => "ASK",
            Self::Vek => "VEK",
        }
    }
}

impl std::fmt::Display for CertificateRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why bytes are no certificate that could belong to AMD's hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// Larger than 8 KiB.
    #[error("the certificate has {found_bytes} bytes, at most 8192 are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// Not one DER certificate and nothing else.
    #[error("not a DER certificate")]
    Der,
    /// Not X.509 version 3.
    #[error("not an X.509 version 3 certificate")]
    Version,
    /// Not signed by RSASSA-PSS with SHA-384, MGF1-SHA-384 and a salt of 48 bytes, in both places that say so.
    #[error("the signature algorithm is not RSASSA-PSS with SHA-384")]
    SignatureAlgorithm,
    /// The subject has not exactly one common name.
    #[error("the subject has not exactly one common name")]
    CommonName,
    /// The key is neither RSA-4096 nor P-384.
    #[error("the public key is neither RSA-4096 nor P-384")]
    KeyType,
    /// An extension occurs twice.
    #[error("the extension {oid} occurs twice")]
    DuplicateExtension {
        /// Which.
        oid: String,
    },
    /// A critical extension has no meaning to this verifier [RFC 5280 §4.2].
    #[error("the critical extension {oid} is unknown")]
    CriticalExtension {
        /// Which.
        oid: String,
    },
    /// One of AMD's own extensions is malformed.
    #[error("an extension of AMD's is malformed")]
    Extension(#[source] ExtensionProblem),
}

/// A public key of AMD's hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// RSA with a modulus of 4096 bits, big endian without leading zeros.
    Rsa4096 { modulus: Vec<u8>, exponent: Vec<u8> },
    /// An uncompressed point.
    P384([u8; 97]),
}

/// A certificate, parsed and owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The signed bytes, as they came.
    tbs: Vec<u8>,
    signature: Vec<u8>,
    /// Big endian without leading zeros.
    pub(crate) serial: Vec<u8>,
    /// DER of the subject.
    pub(crate) subject: Vec<u8>,
    /// DER of the issuer.
    pub(crate) issuer: Vec<u8>,
    pub(crate) common_name: String,
    pub(crate) organization: Option<String>,
    not_before_s: i64,
    not_after_s: i64,
    pub(crate) key: PublicKey,
    pub(crate) authority: Authority,
    pub(crate) amd: AmdExtensions,
}

/// What a certificate may do, by basic constraints and key usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Authority {
    /// `cA` of basic constraints.
    pub(crate) ca: bool,
    /// `pathLenConstraint`.
    pub(crate) path_length: Option<u32>,
    /// `keyCertSign`; absent key usage does not count as permission.
    pub(crate) certificate_sign: bool,
}

impl Certificate {
    /// Reads one DER certificate.
    ///
    /// # Errors
    /// [`CertificateProblem`], by what is wrong with it.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, CertificateProblem> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateProblem::TooLarge {
                found_bytes: der.len(),
            });
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateProblem::Der)?;
        if !rest.is_empty() || certificate.signature_value.unused_bits != 0 {
            return Err(CertificateProblem::Der);
        }
        let tbs = &certificate.tbs_certificate;
        if tbs.version != X509Version::V3 {
            return Err(CertificateProblem::Version);
        }
        if !is_pss_sha384(&certificate.signature_algorithm) || !is_pss_sha384(&tbs.signature) {
            return Err(CertificateProblem::SignatureAlgorithm);
        }
        if !has_one_encoding(der, tbs.as_ref(), &certificate.signature_value.data) {
            return Err(CertificateProblem::Der);
        }
        let (authority, amd) = extensions(&certificate)?;
        Ok(Self {
            tbs: tbs.as_ref().to_vec(),
            signature: certificate.signature_value.data.to_vec(),
            serial: tbs.serial.to_bytes_be(),
            subject: tbs.subject.as_raw().to_vec(),
            issuer: tbs.issuer.as_raw().to_vec(),
            common_name: common_name(&tbs.subject)?,
            organization: organization(&tbs.subject),
            not_before_s: tbs.validity.not_before.timestamp(),
            not_after_s: tbs.validity.not_after.timestamp(),
            key: public_key(&tbs.subject_pki)?,
            authority,
            amd,
        })
    }

    /// Whether `issuer`'s key made the signature over the raw signed bytes.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> bool {
        issuer.key.has_signed(&self.tbs, &self.signature)
    }

    /// Whether `at` is before the validity begins; both ends are inclusive [RFC 5280 §4.1.2.5].
    pub(crate) fn is_not_yet_valid(&self, at: UnixTime) -> bool {
        i64::try_from(at.secs()).unwrap_or(i64::MAX) < self.not_before_s
    }

    /// Whether `at` is after the validity ends.
    pub(crate) fn is_expired(&self, at: UnixTime) -> bool {
        i64::try_from(at.secs()).unwrap_or(i64::MAX) > self.not_after_s
    }

    /// First and last second of the validity.
    pub(crate) const fn validity(&self) -> (i64, i64) {
        (self.not_before_s, self.not_after_s)
    }
}

impl PublicKey {
    /// Whether this key made an RSASSA-PSS signature with SHA-384 over `message`.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa4096 { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PSS_2048_8192_SHA384, message, signature)
            .is_ok(),
            Self::P384(_) => false,
        }
    }
}

pub(crate) fn is_pss_sha384(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    let Some(parameters) = &algorithm.parameters else {
        return false;
    };
    let parameters = parameters.data;
    algorithm.algorithm.to_id_string() == OID_RSASSA_PSS
        && (parameters == PSS_SHA384 || parameters.strip_prefix(PSS_SHA384) == Some(PSS_TRAILER))
}

/// Whether the unsigned frame around the signed bytes is the one that DER gives it. The X.509 parser is lenient about
/// tags there, and a certificate that can be rewritten has many names.
fn has_one_encoding(der: &[u8], tbs: &[u8], signature: &[u8]) -> bool {
    let frame = |parameters: &[u8]| {
        let parameters = element(0x30, parameters);
        let algorithm = element(0x30, &[OID_RSASSA_PSS_DER, &parameters].concat());
        let signature = element(0x03, &[&[0], signature].concat());
        element(0x30, &[tbs, &algorithm, &signature].concat())
    };
    der == frame(PSS_SHA384) || der == frame(&[PSS_SHA384, PSS_TRAILER].concat())
}

/// One DER element of less than 64 KiB [X.690 §8.1]; certificates are bounded well below.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let header = match (high, low) {
        (0, 0..=0x7F) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        (_, _) => vec![tag, 0x82, high, low],
    };
    [&header, content].concat()
}

fn common_name(name: &X509Name<'_>) -> Result<String, CertificateProblem> {
    let mut names = name.iter_common_name();
    match (names.next(), names.next()) {
        (Some(only), None) => only
            .as_str()
            .map(str::to_owned)
            .map_err(|_| CertificateProblem::CommonName),
        (None, _) | (Some(_), Some(_)) => Err(CertificateProblem::CommonName),
    }
}

fn organization(name: &X509Name<'_>) -> Option<String> {
    name.iter_organization()
        .next()
        .and_then(|name| name.as_str().ok())
        .map(str::to_owned)
}

fn public_key(spki: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, CertificateProblem> {
    let bits = &spki.subject_public_key;
    if bits.unused_bits != 0 {
        return Err(CertificateProblem::KeyType);
    }
    match spki.algorithm.algorithm.to_id_string().as_str() {
        OID_EC => {
            let curve = spki
                .algorithm
                .parameters
                .as_ref()
                .and_then(|parameters| parameters.as_oid().ok());
            if curve.map(|oid| oid.to_id_string()).as_deref() != Some(OID_P384) {
                return Err(CertificateProblem::KeyType);
            }
            let point: [u8; 97] = bits
                .data
                .as_ref()
                .try_into()
                .map_err(|_| CertificateProblem::KeyType)?;
            match point.first() {
                Some(4) => Ok(PublicKey::P384(point)),
                Some(_) | None => Err(CertificateProblem::KeyType),
            }
        }
        OID_RSA => rsa_4096(bits.data.as_ref()),
        _ => Err(CertificateProblem::KeyType),
    }
}

fn rsa_4096(der: &[u8]) -> Result<PublicKey, CertificateProblem> {
    let (rest, key) = x509_parser::public_key::RSAPublicKey::from_der(der)
        .map_err(|_| CertificateProblem::KeyType)?;
    // INTEGER of a modulus with its top bit set: one zero byte before 512 others.
    let modulus = match key.modulus.split_first() {
        Some((0, modulus)) if modulus.len() == 512 => modulus,
        Some(_) | None => return Err(CertificateProblem::KeyType),
    };
    let top_bit = modulus.first().is_some_and(|byte| byte & 0x80 != 0);
    let exponent = key.exponent;
    if !rest.is_empty() || !top_bit || exponent.is_empty() || exponent.first() == Some(&0) {
        return Err(CertificateProblem::KeyType);
    }
    Ok(PublicKey::Rsa4096 {
        modulus: modulus.to_vec(),
        exponent: exponent.to_vec(),
    })
}

/// Reads the extensions: none twice, none critical that is not understood.
fn extensions(
    certificate: &X509Certificate<'_>,
) -> Result<(Authority, AmdExtensions), CertificateProblem> {
    let mut authority = Authority::default();
    let mut amd = AmdExtensions::default();
    let mut seen: Vec<&Oid<'_>> = Vec::new();
    for extension in certificate.extensions() {
        let oid = || extension.oid.to_id_string();
        if seen.contains(&&extension.oid) {
            return Err(CertificateProblem::DuplicateExtension { oid: oid() });
        }
        seen.push(&extension.oid);
        let parsed = extension.parsed_extension();
        if let ParsedExtension::BasicConstraints(constraints) = parsed {
            authority.ca = constraints.ca;
            authority.path_length = constraints.path_len_constraint;
        } else if let ParsedExtension::KeyUsage(usage) = parsed {
            authority.certificate_sign = usage.key_cert_sign();
        } else if let ParsedExtension::ParseError { .. } = parsed {
            return Err(CertificateProblem::Der);
        } else {
            let known = amd
                .read(&oid(), extension.value)
                .map_err(CertificateProblem::Extension)?;
            if extension.critical && !known {
                return Err(CertificateProblem::CriticalExtension { oid: oid() });
            }
        }
    }
    Ok((authority, amd))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OID and parameters of P-384, P-256 and RSA.
    const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
    const P256: &[u8] =
        b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

    fn key(algorithm: &[u8], unused_bits: u8, key: &[u8]) -> Result<PublicKey, CertificateProblem> {
        let bits = element(0x03, &[&[unused_bits], key].concat());
        let der = element(0x30, &[element(0x30, algorithm), bits].concat());
        let (rest, spki) = SubjectPublicKeyInfo::from_der(&der).unwrap();
        assert!(rest.is_empty());
        public_key(&spki)
    }

    fn rsa(modulus: &[u8], exponent: &[u8], rest: &[u8]) -> Vec<u8> {
        let key = [element(0x02, modulus), element(0x02, exponent)].concat();
        [&element(0x30, &key), rest].concat()
    }

    #[test]
    fn a_key_is_p384_in_full_or_rsa_of_4096_bits_in_its_one_form() {
        let point = [&[4][..], &[8; 96]].concat();
        assert!(key(P384, 0, &point).is_ok());
        // A zero byte, then 512 of which the first has its top bit.
        let mut modulus = vec![0; 513];
        modulus[1] = 0x80;
        let exponent = [1, 0, 1];
        assert!(key(RSA, 0, &rsa(&modulus, &exponent, &[])).is_ok());

        let mut short = modulus.clone();
        short[1] = 0x7F;
        let compressed = [&[2][..], &[8; 48]].concat();
        let hybrid = [&[6][..], &[8; 96]].concat();
        for (algorithm, unused_bits, bits) in [
            (P384, 1, point.clone()),
            (P256, 0, point),
            (P384, 0, compressed),
            (P384, 0, hybrid),
            (RSA, 0, rsa(&short, &exponent, &[])),
            (RSA, 0, rsa(&modulus[1..], &exponent, &[])),
            (RSA, 0, rsa(&modulus, &[], &[])),
            (RSA, 0, rsa(&modulus, &[0, 1, 0, 1], &[])),
            (RSA, 0, rsa(&modulus, &exponent, &[0])),
        ] {
            let found = key(algorithm, unused_bits, &bits);
            assert_eq!(found.err(), Some(CertificateProblem::KeyType), "{bits:?}");
        }
    }
}
