//! AMD SEV-SNP: report, certificates, roots and verification over the raw bytes.

mod bits;
mod certificate;
mod claims;
mod endorsement;
mod fault;
mod kds;
mod overview;
mod product;
mod report;
mod revocation;
mod roots;
mod tcb;
mod verify;

pub(crate) use bits::describe as describe_bits;
pub use bits::{GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
pub use certificate::{CertificateProblem, CertificateRole};
pub(crate) use endorsement::Holder;
pub use endorsement::{ExtensionProblem, VekKind};
pub use fault::{UnsignedRegion, VerifyFault};
pub use kds::{AMD_KDS, MAX_KDS_ANSWER_BYTES, crl_path, vcek_path};
pub(crate) use overview::overview;
pub use product::{Cpuid, Line, Product};
pub use report::{FirmwareVersion, REPORT_BYTES, Report, ReportProblem, SIGNED_BYTES};
pub use revocation::{RevocationError, RevocationSummary};
pub use roots::{Roots, RootsError};
pub use tcb::{Tcb, TcbParts};
pub(crate) use verify::{SnpVerified, verify};
