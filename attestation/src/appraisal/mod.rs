//! What verification and appraisal yield: values that nothing else can make.

mod check;
mod snp;
mod tier;

use serde::Serialize;

pub(crate) use check::Trail;
pub use check::{Check, CheckName, Outcome};
pub use tier::{Tier, UnknownTier};

use crate::evidence::{Evidence, Platform};
use crate::policy::Policy;
use crate::snp::{Line, Report, Roots, SnpVerified, VerifyFault};
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
///     verified.report().report_data()
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Verified {
    inner: SnpVerified,
    trail: Trail,
}

impl Verified {
    /// The hardware.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        Platform::Snp
    }

    /// The report, without the fields that a relying party binds to.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.inner.report
    }

    /// The product line of the chip, by its certificates.
    #[must_use]
    pub const fn line(&self) -> Line {
        self.inner.line
    }

    /// Whether the chain ends in a development root.
    #[must_use]
    pub const fn is_emulated(&self) -> bool {
        self.inner.emulated
    }

    /// The time of the verification.
    #[must_use]
    pub const fn verified_at(&self) -> UnixTime {
        self.inner.at
    }
}

/// Evidence that is not authentic, with every fault found and the outcome of every check.
#[derive(Debug, Clone, thiserror::Error)]
#[error("evidence refused: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct VerifyError {
    faults: Vec<VerifyFault>,
    checks: Vec<Check>,
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
        platform: Platform::Snp,
        report,
        endorsements,
    } = evidence;
    match crate::snp::verify(report, endorsements, roots, at) {
        Ok((inner, trail)) => Ok(Verified { inner, trail }),
        Err((faults, trail)) => Err(VerifyError {
            faults,
            checks: trail.finish(),
        }),
    }
}

/// What the relying party expects of this one piece of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    report_data: Option<[u8; 64]>,
}

impl Expected {
    /// The report data that the relying party computed from its own nonce and the keys it was shown: see
    /// [`crate::report_data`].
    #[must_use]
    pub const fn report_data(report_data: [u8; 64]) -> Self {
        Self {
            report_data: Some(report_data),
        }
    }

    /// Nothing, for saved evidence: freshness and keys are not checked, and the verdict is `authentic` at best.
    #[must_use]
    pub const fn saved() -> Self {
        Self { report_data: None }
    }
}

/// The result of an appraisal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Authentic, fresh, and equal to the reference values of a policy.
    Accept,
    /// All that was checked holds, but something that acceptance needs was not given: reference values, a nonce, a
    /// revocation list.
    Authentic,
    /// A check failed.
    Reject,
}

impl Verdict {
    /// The name in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Authentic => "authentic",
            Self::Reject => "reject",
        }
    }
}

/// An appraisal: verdict, tier, and every check with its outcome. It serialises to an object with these members.
#[derive(Debug, Clone, Serialize)]
pub struct Appraisal {
    platform: Platform,
    verdict: Verdict,
    tier: Option<Tier>,
    checks: Vec<Check>,
    #[serde(skip)]
    appraised: Option<Appraised>,
}

impl Appraisal {
    /// The hardware.
    #[must_use]
    pub const fn platform(&self) -> Platform {
        self.platform
    }

    /// The verdict.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The tier; none if the evidence is not authentic.
    #[must_use]
    pub const fn tier(&self) -> Option<Tier> {
        self.tier
    }

    /// Every check, in a fixed order.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The check of this name.
    #[must_use]
    pub fn check(&self, name: CheckName) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// What the evidence says, if the verdict is `accept` or `authentic`.
    #[must_use]
    pub const fn appraised(&self) -> Option<&Appraised> {
        self.appraised.as_ref()
    }

    /// What deposits and tokens need: exists for the verdict `accept` only.
    #[must_use]
    pub fn accepted(&self) -> Option<Accepted> {
        match self.verdict {
            Verdict::Accept => self
                .appraised
                .clone()
                .map(|appraised| Accepted { appraised }),
            Verdict::Authentic | Verdict::Reject => None,
        }
    }
}

impl From<VerifyError> for Appraisal {
    /// The appraisal of evidence that is not authentic.
    fn from(error: VerifyError) -> Self {
        let VerifyError { faults: _, checks } = error;
        let mut trail = Trail::default();
        trail.rest_not_run(&CheckName::APPRAISAL, "the evidence is not authentic");
        let checks = checks.into_iter().chain(trail.finish()).collect();
        Self {
            platform: Platform::Snp,
            verdict: Verdict::Reject,
            tier: None,
            checks,
            appraised: None,
        }
    }
}

/// Appraised evidence: what it says may be used.
///
/// ```compile_fail,E0451
/// // Appraised evidence comes from an appraisal, not from a literal.
/// let appraised = attestation::Appraised { report: todo!(), tier: todo!(), line: todo!(), at: todo!() };
/// ```
#[derive(Debug, Clone)]
pub struct Appraised {
    report: Report,
    line: Line,
    tier: Tier,
    at: UnixTime,
}

impl Appraised {
    /// The 64 bytes that the enclave bound.
    #[must_use]
    pub const fn report_data(&self) -> &[u8; 64] {
        self.report.report_data()
    }

    /// The launch measurement.
    #[must_use]
    pub const fn measurement(&self) -> &[u8; 48] {
        self.report.measurement()
    }

    /// What the host bound at launch: the digest of the manifest signer.
    #[must_use]
    pub const fn host_data(&self) -> &[u8; 32] {
        self.report.host_data()
    }

    /// The rest of the report.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The product line of the chip.
    #[must_use]
    pub const fn line(&self) -> Line {
        self.line
    }

    /// The tier.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// The time for which all of this holds.
    #[must_use]
    pub const fn appraised_at(&self) -> UnixTime {
        self.at
    }

    /// SHA-256 of the signed bytes: the one name of this evidence.
    #[must_use]
    pub fn evidence_id(&self) -> [u8; 32] {
        self.report.evidence_id()
    }
}

/// Accepted evidence: a policy's reference values matched, the nonce was fresh, nothing was left out.
///
/// ```compile_fail,E0308
/// // Authentic evidence is not accepted evidence.
/// fn deposit(_to: attestation::Accepted) {}
/// fn try_it(appraisal: &attestation::Appraisal) {
///     deposit(appraisal.appraised().unwrap().clone());
/// }
/// ```
/// ```compile_fail,E0451
/// let accepted = attestation::Accepted { appraised: todo!() };
/// ```
#[derive(Debug, Clone)]
pub struct Accepted {
    appraised: Appraised,
}

impl Accepted {
    /// What the evidence says.
    #[must_use]
    pub const fn appraised(&self) -> &Appraised {
        &self.appraised
    }
}

/// Compares authentic evidence with what the relying party expects and with a policy's reference values.
#[must_use]
pub fn appraise(verified: Verified, policy: Option<&Policy>, expected: &Expected) -> Appraisal {
    let Verified { inner, mut trail } = verified;
    let Expected { report_data } = expected;
    let tier = snp::appraise(&inner, policy, report_data.as_ref(), &mut trail);
    trail.rest_not_run(&CheckName::APPRAISAL, "no policy was given");
    let verdict = if trail.any(Outcome::Fail) {
        Verdict::Reject
    } else if policy.is_none() || trail.any(Outcome::NotRun) {
        // Without a policy the reference values were not compared, so the first condition implies the second. It
        // stands here so that acceptance without a policy cannot come from a change elsewhere.
        Verdict::Authentic
    } else {
        Verdict::Accept
    };
    let SnpVerified {
        report,
        line,
        holder: _,
        emulated: _,
        at,
    } = inner;
    let appraised = match verdict {
        Verdict::Accept | Verdict::Authentic => Some(Appraised {
            report,
            line,
            tier,
            at,
        }),
        Verdict::Reject => None,
    };
    Appraisal {
        platform: Platform::Snp,
        verdict,
        tier: Some(tier),
        checks: trail.finish(),
        appraised,
    }
}

/// Verification and appraisal in one step, for those who show the result rather than branch on the error.
#[must_use]
pub fn assess(
    evidence: &Evidence,
    roots: &Roots,
    at: UnixTime,
    policy: Option<&Policy>,
    expected: &Expected,
) -> Appraisal {
    match verify(evidence, roots, at) {
        Ok(verified) => appraise(verified, policy, expected),
        Err(error) => error.into(),
    }
}
