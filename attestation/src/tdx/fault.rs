//! The reasons why TDX evidence is not authentic.

use super::collateral::CollateralProblem;
use super::quote::{EncodingProblem, QuoteProblem};
use crate::appraisal::CheckName;

/// One reason why TDX evidence is not authentic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TdxFault {
    /// The bytes are no TDX quote.
    #[error(transparent)]
    Quote(#[from] QuoteProblem),
    /// The quote is not in the one encoding that is allowed.
    #[error(transparent)]
    Encoding(#[from] EncodingProblem),
    /// The collateral cannot be read.
    #[error(transparent)]
    Collateral(#[from] CollateralProblem),
    /// The issuer of the root's revocation list is no root of the verifier's set.
    #[error("the root of the collateral is not trusted")]
    RootNotPinned,
    /// Attribute bits are set that must be zero.
    #[error("the reserved attribute bits {bits:#x} are set")]
    ReservedAttributes {
        /// Which.
        bits: u64,
    },
    /// The host can make the TD take exceptions at pages of its choice.
    #[error("SEPT_VE_DISABLE is not set")]
    SeptVeDisable,
    /// The TD may be moved to another machine.
    #[error("the TD is migratable")]
    Migratable,
    /// A step of the verification by certificates failed.
    #[error("{step}: {reason}")]
    Step {
        /// Which.
        step: TdxStep,
        /// The verification library's words.
        reason: String,
    },
}

/// The steps of the verification by certificates. It ends with the first that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TdxStep {
    /// Revocation lists, and that no certificate is on them.
    Revocation,
    /// Signatures of the certificate chains.
    Certificates,
    /// Dates of the certificates.
    Validity,
    /// TCB info: form, dates, signer, signature.
    TcbInfo,
    /// QE identity: form, dates, signer, signature.
    QeIdentity,
    /// The PCK certificate and Intel's extensions in it.
    PckCertificate,
    /// The quoting enclave's report: signature, key, identity.
    QeReport,
    /// The signature of the quote.
    QuoteSignature,
    /// The TCB level of platform, module and quoting enclave.
    TcbLevel,
}

impl TdxStep {
    /// All, in their order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Revocation,
        Self::Certificates,
        Self::Validity,
        Self::TcbInfo,
        Self::QeIdentity,
        Self::PckCertificate,
        Self::QeReport,
        Self::QuoteSignature,
        Self::TcbLevel,
    ];

    /// The check that it decides.
    #[must_use]
    pub const fn check(self) -> CheckName {
        match self {
            Self::Revocation => CheckName::Revocation,
            Self::Certificates => CheckName::CertificateSignatures,
            Self::Validity => CheckName::CertificateValidity,
            Self::TcbInfo => CheckName::TcbInfo,
            Self::QeIdentity => CheckName::QeIdentity,
            Self::PckCertificate => CheckName::PckCertificate,
            Self::QeReport => CheckName::QeReport,
            Self::QuoteSignature => CheckName::QuoteSignature,
            Self::TcbLevel => CheckName::TcbLevel,
        }
    }

    /// What it looks for.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Revocation => "current lists signed under the root, nothing on them",
            Self::Certificates => "chains of TCB info, QE identity and PCK under the root",
            Self::Validity => "every certificate valid at this time",
            Self::TcbInfo => "for TDX, current, signed directly under the root",
            Self::QeIdentity => {
                "of the TD quoting enclave, current, signed directly under the root"
            }
            Self::PckCertificate => "a PCK certificate with Intel's extensions",
            Self::QeReport => "signed by the PCK, naming the attestation key, of the QE's identity",
            Self::QuoteSignature => "the attestation key's signature over header and body",
            Self::TcbLevel => "a level of this platform and module, not revoked",
        }
    }
}

impl std::fmt::Display for TdxStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.check().as_str())
    }
}
