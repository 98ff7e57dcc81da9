//! Verification: from raw evidence to what is authentic.

use super::check::{Check, Trail};
use crate::evidence::{Evidence, Platform};
use crate::snp::{Line, Report, Roots, SnpVerified, VerifyFault};
use crate::tdx::{Quote, TdxVerified};
use crate::time::UnixTime;

/// Authentic evidence: made by the hardware it names, at a time when its certificates are valid.
///
/// Only [`verify`] makes it. It does not yet say anything that a relying party may act on: measurement and report
/// data can be read after appraisal only.
///
/// ```compile_fail,E0451
/// // Nobody can claim that evidence was verified.
/// let verified = attestation::Verified { inner: todo!(), trail: todo!() };
/// ```
/// ```compile_fail,E0599
/// fn peek(verified: &attestation::Verified) -> &[u8; 48] {
///     verified.measurement()
/// }
/// ```
/// ```compile_fail,E0624
/// fn peek(verified: &attestation::Verified) -> &[u8; 64] {
///     verified.report().unwrap().report_data()
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Verified {
    pub(super) inner: Inner,
    pub(super) trail: Trail,
}

#[derive(Debug, Clone)]
pub(super) enum Inner {
    Snp(Box<SnpVerified>),
    Tdx(Box<TdxVerified>),
}

impl Verified {
    /// The hardware.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        match &self.inner {
            Inner::Snp(_) => Platform::Snp,
            Inner::Tdx(_) => Platform::Tdx,
        }
    }

    /// The SEV-SNP report, without the fields that a relying party binds to.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        match &self.inner {
            Inner::Snp(snp) => Some(&snp.report),
            Inner::Tdx(_) => None,
        }
    }

    /// The TDX quote, without the fields that a relying party binds to.
    #[must_use]
    pub fn quote(&self) -> Option<&Quote> {
        match &self.inner {
            Inner::Snp(_) => None,
            Inner::Tdx(tdx) => Some(&tdx.quote),
        }
    }

    /// The product line of an AMD chip, by its certificates.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        match &self.inner {
            Inner::Snp(snp) => Some(snp.line),
            Inner::Tdx(_) => None,
        }
    }

    /// SHA-256 of the signed bytes: the one name of this evidence.
    #[must_use]
    pub fn evidence_id(&self) -> [u8; 32] {
        match &self.inner {
            Inner::Snp(snp) => snp.report.evidence_id(),
            Inner::Tdx(tdx) => tdx.quote.evidence_id(),
        }
    }

    /// Whether the chain ends in a development root.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        match &self.inner {
            Inner::Snp(snp) => snp.emulated,
            Inner::Tdx(tdx) => tdx.emulated,
        }
    }

    /// The time of the verification.
    #[must_use]
    pub fn verified_at(&self) -> UnixTime {
        match &self.inner {
            Inner::Snp(snp) => snp.at,
            Inner::Tdx(tdx) => tdx.at,
        }
    }
}

/// Evidence that is not authentic, with every fault found and the outcome of every check.
#[derive(Debug, Clone, thiserror::Error)]
#[error("evidence refused: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct VerifyError {
    pub(super) platform: Platform,
    pub(super) faults: Vec<VerifyFault>,
    pub(super) checks: Vec<Check>,
}

impl VerifyError {
    /// The faults, in the order in which they were found.
    #[must_use]
    pub fn faults(&self) -> &[VerifyFault] {
        &self.faults
    }

    /// Every check of the verification.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }
}

/// Verifies evidence against a root set at a time: form, chain, dates, extensions, signature. What the evidence
/// supplies is never trusted as a root.
///
/// # Errors
/// [`VerifyError`] with every fault.
pub fn verify(evidence: &Evidence, roots: &Roots, at: UnixTime) -> Result<Verified, VerifyError> {
    let Evidence {
        platform,
        report,
        endorsements,
        collateral,
    } = evidence;
    let outcome = match platform {
        Platform::Snp => crate::snp::verify(report, endorsements, roots, at)
            .map(|(snp, trail)| (Inner::Snp(Box::new(snp)), trail)),
        Platform::Tdx => crate::tdx::verify(report, collateral.as_deref(), roots, at)
            .map(|(tdx, trail)| (Inner::Tdx(Box::new(tdx)), trail))
            .map_err(|(faults, trail)| {
                (faults.into_iter().map(VerifyFault::from).collect(), trail)
            }),
    };
    match outcome {
        Ok((inner, trail)) => Ok(Verified { inner, trail }),
        Err((faults, trail)) => Err(VerifyError {
            platform: *platform,
            faults,
            checks: trail.finish(),
        }),
    }
}
