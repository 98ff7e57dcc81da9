//! `policy attestation`: reference values, written from what runs, for review.

use attestation::{Platform, Tier, Verdict};
use clap::Subcommand;
use serde_json::json;
use tokenkeep::Inspection;

use crate::cli::exit::{Exit, manual};
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// Policies for attestation
#[derive(Debug, Subcommand)]
pub(crate) enum AttestationPolicyCommand {
    /// Print a commented policy pinned to the image and manifest signer that run now, for review
    #[command(after_long_help = manual!("  tokenkeep policy attestation init --server https://keep.example:8443 > policy.toml"))]
    Init,
}

pub(crate) fn init(inspection: &Inspection, output: Output) -> Result<(), Failure> {
    let appraisal = inspection.appraisal();
    let pinned = match (inspection.verdict(), appraisal.appraised()) {
        (Verdict::Accept | Verdict::Authentic, Some(appraised)) => match appraisal.platform() {
            Platform::Snp => Ok(attestation::policy::pinned(
                appraised.measurement(),
                appraised.host_data(),
                &tiers(appraised.tier()),
            )),
            Platform::Tdx => match appraised.rtmrs() {
                Some(rtmrs) => Ok(attestation::policy::pinned_tdx(
                    appraised.measurement(),
                    rtmrs,
                    appraised.host_data(),
                    &tiers(appraised.tier()),
                )),
                None => Err("the quote has no run-time measurements"),
            },
        },
        (Verdict::Reject, _) | (_, None) => Err("the evidence is rejected: it pins nothing"),
    };
    let text = pinned.map_err(|why| {
        Failure::new(
            Exit::Refused,
            why,
            "run `tokenkeep verify` to see what was found",
        )
    })?;
    if output.is_json() {
        output.json(&json!({"policy": text}))
    } else {
        output.bytes(text.as_bytes()).map(|_open| ())
    }
}

/// The tier that runs, alone: a lower one is for the reviewer to allow.
fn tiers(tier: Tier) -> [Tier; 1] {
    [tier]
}
