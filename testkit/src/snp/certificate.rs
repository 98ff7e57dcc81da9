//! Certificates of AMD's shapes: every part can be set, right or wrong, before they are signed.

use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA384, RsaKeyPair};

use super::der::{
    bit_string, boolean, element, explicit, integer, null, octet_string, oid, sequence, set,
};
use super::platform::SnpError;

const AMD_ARC: &str = "1.3.6.1.4.1.3704.1";
/// The length of the salt in AMD's signatures.
pub(super) const SALT_BYTES: u8 = 48;

/// A certificate before it is signed.
#[derive(Debug, Clone)]
pub struct CertificateSpec {
    /// Big endian.
    pub serial: Vec<u8>,
    /// Who it is for.
    pub subject: Name,
    /// Who issues it.
    pub issuer: Name,
    /// UTCTime, as in `220126153437Z`.
    pub not_before: String,
    /// UTCTime.
    pub not_after: String,
    /// The certified key.
    pub key: PublicKey,
    /// In this order.
    pub extensions: Vec<Extension>,
    /// The number in the certificate: 2 for version 3.
    pub version: u8,
    /// The salt length that the signed part names, in bytes; the signature's is 48 always.
    pub stated_salt_bytes: u8,
}

/// A distinguished name of AMD's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Organisation.
    pub organization: String,
    /// Common name.
    pub common_name: String,
}

/// A certified key.
#[derive(Debug, Clone)]
pub enum PublicKey {
    /// DER of an RSAPublicKey.
    Rsa(Vec<u8>),
    /// An uncompressed P-384 point.
    P384(Vec<u8>),
    /// An uncompressed P-256 point: AMD has none.
    P256(Vec<u8>),
}

/// One extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Dotted.
    pub oid: String,
    /// Whether a verifier that does not know it must refuse.
    pub critical: bool,
    /// The content of `extnValue`.
    pub value: Vec<u8>,
}

/// AMD's own extensions [AMD 57230].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AmdExtension {
    /// `.1`
    StructVersion(u8),
    /// `.2`
    ProductName(String),
    /// `.3.N`: a patch level, by its number in the arc.
    PatchLevel(u8, u8),
    /// `.4`, raw.
    HardwareId(Vec<u8>),
    /// `.4`, in an OCTET STRING.
    WrappedHardwareId(Vec<u8>),
    /// `.5`
    CspId(String),
}

impl AmdExtension {
    /// The extension as it stands in a certificate.
    #[must_use]
    pub fn encode(&self) -> Extension {
        let (arc, value) = match self {
            Self::StructVersion(version) => ("1".to_owned(), integer(&[*version])),
            Self::ProductName(name) => ("2".to_owned(), element(0x16, name.as_bytes())),
            Self::PatchLevel(number, level) => (format!("3.{number}"), integer(&[*level])),
            Self::HardwareId(id) => ("4".to_owned(), id.clone()),
            Self::WrappedHardwareId(id) => ("4".to_owned(), octet_string(id)),
            Self::CspId(id) => ("5".to_owned(), element(0x16, id.as_bytes())),
        };
        Extension {
            oid: format!("{AMD_ARC}.{arc}"),
            critical: false,
            value,
        }
    }
}

impl Extension {
    fn to_der(&self) -> Vec<u8> {
        let Self {
            oid: name,
            critical,
            value,
        } = self;
        let mut parts = vec![oid(name)];
        if *critical {
            parts.push(boolean(true));
        }
        parts.push(octet_string(value));
        sequence(&parts)
    }

    /// Basic constraints.
    #[must_use]
    pub fn basic_constraints(ca: bool, path_length: Option<u8>) -> Self {
        let mut parts = Vec::new();
        if ca {
            parts.push(boolean(true));
        }
        parts.extend(path_length.map(|length| integer(&[length])));
        Self {
            oid: "2.5.29.19".to_owned(),
            critical: true,
            value: sequence(&parts),
        }
    }

    /// Key usage of a certificate authority: signs certificates, and the root also revocation lists.
    #[must_use]
    pub fn key_usage(certificate_sign: bool, crl_sign: bool) -> Self {
        // keyCertSign is bit 5, cRLSign bit 6, from the highest.
        let bits = (u8::from(certificate_sign) << 2) | (u8::from(crl_sign) << 1);
        let unused = u8::try_from(bits.trailing_zeros().min(7)).unwrap_or(7);
        Self {
            oid: "2.5.29.15".to_owned(),
            critical: true,
            value: element(0x03, &[unused, bits]),
        }
    }
}

impl Name {
    /// The RDNs in AMD's order.
    fn encode(&self) -> Vec<u8> {
        let attribute = |kind: &str, tag: u8, value: &str| {
            set(&[sequence(&[oid(kind), element(tag, value.as_bytes())])])
        };
        sequence(&[
            attribute("2.5.4.11", 0x0C, "Engineering"),
            attribute("2.5.4.6", 0x13, "US"),
            attribute("2.5.4.7", 0x0C, "Santa Clara"),
            attribute("2.5.4.8", 0x0C, "CA"),
            attribute("2.5.4.10", 0x0C, &self.organization),
            attribute("2.5.4.3", 0x0C, &self.common_name),
        ])
    }
}

impl PublicKey {
    fn encode(&self) -> Vec<u8> {
        let (algorithm, bits) = match self {
            Self::Rsa(der) => (sequence(&[oid("1.2.840.113549.1.1.1"), null()]), der),
            Self::P384(point) => (
                sequence(&[oid("1.2.840.10045.2.1"), oid("1.3.132.0.34")]),
                point,
            ),
            Self::P256(point) => (
                sequence(&[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")]),
                point,
            ),
        };
        sequence(&[algorithm, bit_string(bits)])
    }
}

impl CertificateSpec {
    /// Signs the certificate as AMD does: RSASSA-PSS, SHA-384, salt of 48 bytes.
    ///
    /// # Errors
    /// [`SnpError::Sign`] if the key does not sign.
    pub fn sign(&self, issuer: &RsaKeyPair) -> Result<Vec<u8>, SnpError> {
        let Self {
            serial,
            subject,
            issuer: issuer_name,
            not_before,
            not_after,
            key,
            extensions,
            version,
            stated_salt_bytes,
        } = self;
        let extensions: Vec<Vec<u8>> = extensions.iter().map(Extension::to_der).collect();
        let tbs = sequence(&[
            explicit(0, &integer(&[*version])),
            integer(serial),
            pss_sha384(*stated_salt_bytes),
            issuer_name.encode(),
            sequence(&[
                element(0x17, not_before.as_bytes()),
                element(0x17, not_after.as_bytes()),
            ]),
            subject.encode(),
            key.encode(),
            explicit(3, &sequence(&extensions)),
        ]);
        sign(&tbs, issuer)
    }
}

/// A revocation list before it is signed.
#[derive(Debug, Clone)]
pub struct RevocationListSpec {
    /// The root.
    pub issuer: Name,
    /// Rises with every list; big endian. Without one the list is malformed.
    pub number: Option<Vec<u8>>,
    /// UTCTime.
    pub this_update: String,
    /// UTCTime. Without one the list has no end.
    pub next_update: Option<String>,
    /// Serial numbers, big endian.
    pub revoked: Vec<Vec<u8>>,
    /// Further extensions of the list.
    pub extensions: Vec<Extension>,
}

impl RevocationListSpec {
    /// Signs the list as AMD's root signs.
    ///
    /// # Errors
    /// [`SnpError`] if the key cannot be read or does not sign.
    pub fn sign(&self, issuer: super::DevelopmentKey) -> Result<Vec<u8>, SnpError> {
        let Self {
            issuer: name,
            number,
            this_update,
            next_update,
            revoked,
            extensions,
        } = self;
        let time = |text: &str| element(0x17, text.as_bytes());
        let number = number.as_ref().map(|number| Extension {
            oid: "2.5.29.20".to_owned(),
            critical: false,
            value: integer(number),
        });
        let extensions: Vec<Vec<u8>> = number
            .iter()
            .chain(extensions)
            .map(Extension::to_der)
            .collect();
        let entries: Vec<Vec<u8>> = revoked
            .iter()
            .map(|serial| sequence(&[integer(serial), time(this_update)]))
            .collect();
        let mut parts = vec![
            integer(&[1]),
            pss_sha384(SALT_BYTES),
            name.encode(),
            time(this_update),
        ];
        parts.extend(next_update.as_deref().map(time));
        if !entries.is_empty() {
            parts.push(sequence(&entries));
        }
        parts.push(explicit(0, &sequence(&extensions)));
        sign(&sequence(&parts), &issuer.load()?)
    }
}

/// The signed form of certificates and lists: what is signed, the algorithm, the signature.
fn sign(tbs: &[u8], issuer: &RsaKeyPair) -> Result<Vec<u8>, SnpError> {
    let mut signature = vec![0; issuer.public().modulus_len()];
    issuer
        .sign(&RSA_PSS_SHA384, &SystemRandom::new(), tbs, &mut signature)
        .map_err(|_| SnpError::Sign)?;
    Ok(sequence(&[
        tbs.to_vec(),
        pss_sha384(SALT_BYTES),
        bit_string(&signature),
    ]))
}

/// The algorithm identifier, with the default trailer field written out as AMD does.
fn pss_sha384(salt_bytes: u8) -> Vec<u8> {
    let sha384 = sequence(&[oid("2.16.840.1.101.3.4.2.2"), null()]);
    let mgf1 = sequence(&[oid("1.2.840.113549.1.1.8"), sha384.clone()]);
    let parameters = sequence(&[
        explicit(0, &sha384),
        explicit(1, &mgf1),
        explicit(2, &integer(&[salt_bytes])),
        explicit(3, &integer(&[1])),
    ]);
    sequence(&[oid("1.2.840.113549.1.1.10"), parameters])
}
