//! The reasons why evidence is not authentic.

use super::bits::SigningKey;
use super::certificate::{CertificateProblem, CertificateRole};
use super::endorsement::{ExtensionProblem, VekKind};
use super::product::{Cpuid, Line, Product};
use super::report::ReportProblem;
use crate::tdx::TdxFault;

/// One reason why evidence is not authentic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyFault {
    /// The bytes are no report.
    #[error(transparent)]
    Report(#[from] ReportProblem),
    /// The report names another algorithm than ECDSA P-384 with SHA-384.
    #[error("signature algorithm {found} is not ECDSA P-384 with SHA-384")]
    SignatureAlgorithm {
        /// The number in the report.
        found: u32,
    },
    /// Unsigned bytes that must be zero are not: the same report would have many encodings.
    #[error("unsigned bytes in {region} are not zero")]
    SignatureEncoding {
        /// Where.
        region: UnsignedRegion,
    },
    /// The evidence has no VEK certificate.
    #[error("the VEK certificate is missing")]
    VekMissing,
    /// The evidence has no signing key certificate and none of AMD's has the name of the VEK's issuer.
    #[error("the ASK certificate is missing")]
    AskMissing,
    /// A certificate cannot be read.
    #[error("the {certificate} certificate cannot be used")]
    Certificate {
        /// Which.
        certificate: CertificateRole,
        /// Why.
        #[source]
        problem: CertificateProblem,
    },
    /// The root is not in the verifier's set: not by name, or not by key.
    #[error("the root of the chain is not trusted")]
    RootNotPinned,
    /// A certificate names another issuer than the one that stands above it.
    #[error("the {certificate} was not issued by the certificate above it")]
    IssuerMismatch {
        /// Which.
        certificate: CertificateRole,
    },
    /// A certificate's signature does not verify.
    #[error("the signature of the {certificate} certificate is invalid")]
    CertificateSignature {
        /// Which.
        certificate: CertificateRole,
    },
    /// A certificate authority's certificate is not one, or may not have the chain below it.
    #[error("the {certificate} certificate may not issue what is below it")]
    NotAnAuthority {
        /// Which.
        certificate: CertificateRole,
    },
    /// The VEK's certificate is that of a certificate authority.
    #[error("the VEK certificate is a certificate authority")]
    VekIsAuthority,
    /// The names of the chain are not those of AMD's hierarchy for this line.
    #[error("the {certificate} has the common name {found:?}")]
    CommonName {
        /// Which.
        certificate: CertificateRole,
        /// Its common name.
        found: String,
    },
    /// The key of a certificate is of the wrong type for its place.
    #[error("the key of the {certificate} is of the wrong type")]
    KeyType {
        /// Which.
        certificate: CertificateRole,
    },
    /// A certificate's validity has not begun.
    #[error("the {certificate} certificate is not yet valid")]
    NotYetValid {
        /// Which.
        certificate: CertificateRole,
    },
    /// A certificate's validity is over.
    #[error("the {certificate} certificate has expired")]
    Expired {
        /// Which.
        certificate: CertificateRole,
    },
    /// The root has revoked a signing key.
    #[error("the {certificate} certificate is revoked")]
    Revoked {
        /// Which.
        certificate: CertificateRole,
    },
    /// The report names a processor that this verifier does not know.
    #[error("the processor {cpuid} is unknown")]
    UnknownProduct {
        /// The processor.
        cpuid: Cpuid,
    },
    /// The report's processor belongs to another line than its certificates.
    #[error("the processor is a {product:?}, its certificates are of the line {line}")]
    ProductMismatch {
        /// By the report.
        product: Product,
        /// By the certificates.
        line: Line,
    },
    /// The report says that it was signed by another kind of key than its certificate is for.
    #[error("the report was signed by {report:?}, the certificate is a {}", .certificate.as_str())]
    KeyKind {
        /// By the report.
        report: SigningKey,
        /// By the certificate.
        certificate: VekKind,
    },
    /// AMD's extensions of the VEK are not what they must be.
    #[error("the extensions of the VEK are not valid")]
    Extension(#[from] ExtensionProblem),
    /// The chip of the report is not the chip of the certificate.
    #[error("the chip id is not the hardware id of the VCEK")]
    ChipId,
    /// The TCB that the report states is not the one the key was derived for.
    #[error("the reported TCB {report:02x?} is not that of the VEK {certificate:02x?}")]
    ReportedTcb {
        /// By the report.
        report: [u8; 8],
        /// By the certificate.
        certificate: [u8; 8],
    },
    /// The signature over the report does not verify.
    #[error("the signature of the report is invalid")]
    ReportSignature,
    /// A fault of TDX evidence.
    #[error(transparent)]
    Tdx(#[from] TdxFault),
}

/// The parts of the unsigned tail that must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnsignedRegion {
    /// The 24 bytes above r.
    R,
    /// The 24 bytes above s.
    S,
    /// The 368 bytes after the signature.
    Padding,
}

impl std::fmt::Display for UnsignedRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::R => "the part of r above 48 bytes",
            Self::S => "the part of s above 48 bytes",
            Self::Padding => "the padding after the signature",
        })
    }
}
