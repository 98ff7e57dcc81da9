//! One valid piece of emulated evidence, from which every test changes what matters to it.

use attestation::{Endorsements, Evidence, Policy, Roots, UnixTime};
use testkit::snp::{Certificates, Product, ReportFields, SnpPlatform, VekKind};

/// A time at which all development certificates are valid: 2026-11-22.
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_795_305_600);
/// What the image measures to.
pub(crate) const MEASUREMENT: [u8; 48] = [0x4D; 48];
/// The digest of the manifest signer.
pub(crate) const SIGNER: [u8; 32] = [0x51; 32];
/// What the enclave bound.
pub(crate) const REPORT_DATA: [u8; 64] = [0x44; 64];

pub(crate) fn platform() -> SnpPlatform {
    SnpPlatform::development([7; 32]).unwrap()
}

pub(crate) fn platform_of(product: Product, kind: VekKind) -> SnpPlatform {
    SnpPlatform::new(product, kind, [7; 32]).unwrap()
}

pub(crate) fn fields(platform: &SnpPlatform) -> ReportFields {
    ReportFields {
        report_data: REPORT_DATA,
        measurement: MEASUREMENT,
        host_data: SIGNER,
        ..platform.fields()
    }
}

pub(crate) fn endorsements(certificates: &Certificates) -> Endorsements {
    let Certificates { ark, ask, vek } = certificates.clone();
    Endorsements {
        vek: Some(vek),
        ask: Some(ask),
        ark: Some(ark),
    }
}

pub(crate) fn evidence(platform: &SnpPlatform, fields: &ReportFields) -> Evidence {
    Evidence::snp(
        platform.report(fields).unwrap(),
        endorsements(platform.certificates()),
    )
}

pub(crate) fn roots(platform: &SnpPlatform) -> Roots {
    Roots::with_emulated(platform.root_pem()).unwrap()
}

/// The policy that accepts the valid evidence, with further lines in its `[snp]` part.
pub(crate) fn policy_with(lines: &str) -> Policy {
    let text = format!(
        "version = 1\ntiers = [\"emulated\"]\n[snp]\nmeasurements = [\"{}\"]\nmanifest_signers = [\"{}\"]\n{lines}\n",
        hex::encode(MEASUREMENT),
        hex::encode(SIGNER)
    );
    Policy::from_toml(text.as_bytes()).unwrap()
}

pub(crate) fn policy() -> Policy {
    policy_with("")
}
