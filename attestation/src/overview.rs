//! What evidence states, field by field as JSON, verified or not.

use serde_json::{Map, Value};
use x509_parser::certificate::Validity;
use x509_parser::time::ASN1Time;

use crate::evidence::{Evidence, Platform};
use crate::{snp, tdx};

/// What evidence states, field by field, for a person to look at and for tests to compare. It is *not* verified, and
/// no program should decide anything by it. The names are those of `docs/attestation.md`; empty if nothing can be
/// read.
#[must_use]
pub fn overview(evidence: &Evidence) -> Map<String, Value> {
    let Evidence {
        platform,
        report,
        endorsements,
        collateral,
    } = evidence;
    match platform {
        Platform::Snp => snp::overview(report, endorsements.vek.as_deref()),
        Platform::Tdx => tdx::overview(report, collateral.as_deref()),
    }
}

/// `YYYY-MM-DD..YYYY-MM-DD`.
pub(crate) fn validity(validity: &Validity) -> String {
    format!(
        "{}..{}",
        date(&validity.not_before),
        date(&validity.not_after)
    )
}

fn date(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}",
        time.year(),
        u8::from(time.month()),
        time.day()
    )
}

/// `YYYY-MM-DDThh:mm:ssZ`.
pub(crate) fn date_time(time: &ASN1Time) -> String {
    let day = date(time);
    let time = time.to_datetime();
    format!(
        "{day}T{:02}:{:02}:{:02}Z",
        time.hour(),
        time.minute(),
        time.second()
    )
}
