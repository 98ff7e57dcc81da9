//! What verification and appraisal yield: values that nothing else can make.

mod check;
mod snp;
mod tdx;
mod tier;
mod verified;

use serde::Serialize;

pub(crate) use check::Trail;
pub use check::{Check, CheckName, Outcome};
pub use tier::{Tier, UnknownTier};
pub use verified::{Verified, VerifyError, verify};

use crate::evidence::{Evidence, Platform};
use crate::policy::Policy;
use crate::snp::{Line, Report, Roots, SnpVerified};
use crate::tdx::{Quote, TdxVerified};
use crate::time::UnixTime;
use verified::Inner;

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
        let VerifyError {
            platform,
            faults: _,
            checks,
        } = error;
        let mut trail = Trail::default();
        trail.rest_not_run(
            CheckName::appraisal(platform),
            "the evidence is not authentic",
        );
        let checks = checks.into_iter().chain(trail.finish()).collect();
        Self {
            platform,
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
/// let appraised = attestation::Appraised { attested: todo!(), tier: todo!(), at: todo!() };
/// ```
#[derive(Debug, Clone)]
pub struct Appraised {
    attested: Attested,
    tier: Tier,
    at: UnixTime,
}

#[derive(Debug, Clone)]
enum Attested {
    Snp {
        report: Box<Report>,
        line: Line,
    },
    Tdx {
        quote: Box<Quote>,
        manifest_signer: [u8; 32],
        collateral_expires_at: UnixTime,
    },
}

impl Appraised {
    /// The 64 bytes that the enclave bound.
    #[must_use]
    pub fn report_data(&self) -> &[u8; 64] {
        match &self.attested {
            Attested::Snp { report, .. } => report.report_data(),
            Attested::Tdx { quote, .. } => &quote.body().report_data,
        }
    }

    /// The launch measurement: for TDX, MRTD.
    #[must_use]
    pub fn measurement(&self) -> &[u8; 48] {
        match &self.attested {
            Attested::Snp { report, .. } => report.measurement(),
            Attested::Tdx { quote, .. } => &quote.body().mrtd,
        }
    }

    /// The run-time measurements of a TD, RTMR0 to RTMR3.
    #[must_use]
    pub fn rtmrs(&self) -> Option<&[[u8; 48]; 4]> {
        match &self.attested {
            Attested::Snp { .. } => None,
            Attested::Tdx { quote, .. } => Some(&quote.body().rtmrs),
        }
    }

    /// What the host bound at launch: the digest of the manifest signer, from HOST_DATA, or from an MRCONFIGID whose
    /// last 16 bytes are zero. An MRCONFIGID of another form binds no signer and reads as zeros.
    #[must_use]
    pub fn host_data(&self) -> &[u8; 32] {
        match &self.attested {
            Attested::Snp { report, .. } => report.host_data(),
            Attested::Tdx {
                manifest_signer, ..
            } => manifest_signer,
        }
    }

    /// The SEV-SNP report.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        match &self.attested {
            Attested::Snp { report, .. } => Some(report),
            Attested::Tdx { .. } => None,
        }
    }

    /// The TDX quote.
    #[must_use]
    pub fn quote(&self) -> Option<&Quote> {
        match &self.attested {
            Attested::Snp { .. } => None,
            Attested::Tdx { quote, .. } => Some(quote),
        }
    }

    /// The product line of an AMD chip.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        match &self.attested {
            Attested::Snp { line, .. } => Some(*line),
            Attested::Tdx { .. } => None,
        }
    }

    /// The first end among all collateral of a TDX quote.
    #[must_use]
    pub fn collateral_expires_at(&self) -> Option<UnixTime> {
        match &self.attested {
            Attested::Snp { .. } => None,
            Attested::Tdx {
                collateral_expires_at,
                ..
            } => Some(*collateral_expires_at),
        }
    }

    /// What the report or quote says, field by field as text, for a person to look at.
    #[must_use]
    pub fn claims_for_display(&self) -> Vec<(&'static str, String)> {
        match &self.attested {
            Attested::Snp { report, line } => report.claims_for_display(Some(*line)),
            Attested::Tdx { quote, .. } => quote.claims_for_display(),
        }
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
        match &self.attested {
            Attested::Snp { report, .. } => report.evidence_id(),
            Attested::Tdx { quote, .. } => quote.evidence_id(),
        }
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
    let platform = verified.platform();
    let Verified { inner, mut trail } = verified;
    let Expected { report_data } = expected;
    let tier = match &inner {
        Inner::Snp(snp) => snp::appraise(snp, policy, report_data.as_ref(), &mut trail),
        Inner::Tdx(tdx) => tdx::appraise(tdx, policy, report_data.as_ref(), &mut trail),
    };
    settle_tier(tier, policy, &mut trail);
    let unasked = if policy.is_some() {
        "the policy has no part for this platform"
    } else {
        "no policy was given"
    };
    trail.rest_not_run(CheckName::appraisal(platform), unasked);
    let verdict = if trail.any(Outcome::Fail) {
        Verdict::Reject
    } else if policy.is_none() || trail.any(Outcome::NotRun) {
        // Without a policy the reference values were not compared, so the first condition implies the second. It
        // stands here so that acceptance without a policy cannot come from a change elsewhere.
        Verdict::Authentic
    } else {
        Verdict::Accept
    };
    let (attested, at) = match inner {
        Inner::Snp(snp) => {
            let SnpVerified {
                report,
                line,
                holder: _,
                emulated: _,
                at,
            } = *snp;
            let report = Box::new(report);
            (Attested::Snp { report, line }, at)
        }
        Inner::Tdx(tdx) => {
            let TdxVerified {
                quote,
                platform,
                emulated: _,
                at,
            } = *tdx;
            let attested = Attested::Tdx {
                manifest_signer: quote.body().manifest_signer(),
                collateral_expires_at: platform.expires_at,
                quote: Box::new(quote),
            };
            (attested, at)
        }
    };
    let appraised = match verdict {
        Verdict::Accept | Verdict::Authentic => Some(Appraised { attested, tier, at }),
        Verdict::Reject => None,
    };
    Appraisal {
        platform,
        verdict,
        tier: Some(tier),
        checks: trail.finish(),
        appraised,
    }
}

/// Whether the policy admits the tier; without one, every tier is admitted and named.
fn settle_tier(tier: Tier, policy: Option<&Policy>, trail: &mut Trail) {
    match policy {
        Some(policy) => {
            let expected = policy
                .tiers()
                .iter()
                .map(|tier| tier.as_str())
                .collect::<Vec<_>>()
                .join(" or ");
            let holds = policy.tiers().contains(&tier);
            trail.settle(CheckName::Tier, holds, expected, tier.as_str());
        }
        None => trail.pass(CheckName::Tier, "any, named", tier.as_str()),
    }
}

/// Whether the policy has a part for this platform: what it does not name, it does not admit.
fn settle_platform(platform: Platform, named: bool, trail: &mut Trail) {
    let expected = "a platform that the policy names";
    trail.settle(CheckName::Platform, named, expected, platform.as_str());
}

/// Whether the evidence says what the relying party computed.
fn settle_report_data(expected: Option<&[u8; 64]>, found: &[u8; 64], trail: &mut Trail) {
    match expected {
        Some(expected) => trail.settle(
            CheckName::ReportData,
            found == expected,
            hex::encode(expected),
            hex::encode(found),
        ),
        None => trail.not_run(
            CheckName::ReportData,
            "",
            "saved evidence: no nonce and no keys to compare with",
        ),
    }
}

const NOT_ASKED: &str = "the policy does not ask for it";

fn one_of<const N: usize>(
    name: CheckName,
    allowed: &[[u8; N]],
    found: &[u8; N],
    trail: &mut Trail,
) {
    if allowed.is_empty() {
        trail.not_applicable(name, "", NOT_ASKED);
    } else {
        let expected = allowed
            .iter()
            .map(hex::encode)
            .collect::<Vec<_>>()
            .join(" or ");
        trail.settle(name, allowed.contains(found), expected, hex::encode(found));
    }
}

fn at_least(name: CheckName, floor: Option<u32>, found: u32, trail: &mut Trail) {
    match floor {
        Some(floor) => trail.settle(
            name,
            found >= floor,
            format!("at least {floor}"),
            found.to_string(),
        ),
        None => trail.not_applicable(name, "", NOT_ASKED),
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
