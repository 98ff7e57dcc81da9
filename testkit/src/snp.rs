//! An emulated AMD SEV-SNP platform: byte-true reports under a development root, and a chip-derived key.
//!
//! It depends on nothing of the product and has layout constants of its own, so that a verifier that reads a field at
//! the wrong place disagrees with it.

mod certificate;
mod chain;
mod der;
mod platform;
mod report;

pub use certificate::{
    AmdExtension, CertificateSpec, Extension, Name, PublicKey, RevocationListSpec,
};
pub use chain::{Certificates, Chain, DevelopmentKey, VekKind};
pub use platform::{Product, SnpError, SnpPlatform};
pub use report::{Firmware, REPORT_BYTES, ReportFields, SIGNATURE_OFFSET};
