//! Whether a call is an enclave's that may have what it asks for: by the keyholder's own reference values first, and then
//! by what the manifest's signer allows.

use attestation::keyholder::{Call, Operation};
use attestation::manifest::{EnclaveKind, Manifest};
use attestation::{Appraised, Expected, Outcome, Roots, Tier, UnixTime};

use super::refusal::Refusal;
use super::state::Deployment;

/// What was appraised.
#[derive(Debug)]
pub struct Asking {
    /// The launch measurement.
    pub measurement: [u8; 48],
    /// The one name of the evidence.
    pub evidence_id: [u8; 32],
    /// The assurance.
    pub tier: Tier,
    /// The manifest's sequence number.
    pub sequence: u64,
}

/// Judges a call whose nonce is good.
///
/// # Errors
/// [`Refusal::Evidence`], [`Refusal::Manifest`], [`Refusal::ManifestLower`], [`Refusal::Image`], [`Refusal::State`].
pub fn judge(
    call: &Call,
    deployment: &Deployment,
    roots: &Roots,
    now_s: u64,
) -> Result<Asking, Refusal> {
    let Call {
        nonce,
        request,
        evidence,
        manifest,
        manifest_signature,
    } = call;
    let data = request
        .report_data(nonce)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    let policy = deployment.policy()?;
    let appraisal = attestation::assess(
        evidence,
        roots,
        UnixTime::from_secs(now_s),
        Some(&policy),
        &Expected::report_data(data),
    );
    let Some(accepted) = appraisal.accepted() else {
        let failed = appraisal.checks().iter();
        let failed: Vec<&str> = failed
            .filter(|check| check.outcome == Outcome::Fail)
            .map(|check| check.name.as_str())
            .collect();
        return Err(Refusal::Evidence(if failed.is_empty() {
            appraisal.verdict().as_str().to_owned()
        } else {
            failed.join(", ")
        }));
    };
    let appraised = accepted.appraised();
    let kind = match appraised.tier() {
        Tier::Emulated => EnclaveKind::Emulated,
        Tier::Hardware | Tier::Reduced => EnclaveKind::Hardware,
    };
    // The signer is the one bound at launch, which the policy pins.
    let manifest = Manifest::open(
        manifest.as_bytes(),
        manifest_signature.as_bytes(),
        appraised.host_data(),
        kind,
    )
    .map_err(|error| Refusal::Manifest(error.to_string()))?;
    if manifest.digest() != &request.manifest {
        return Err(Refusal::Manifest("it is not the one of the request".into()));
    }
    if manifest.issuer().as_str() != request.issuer {
        return Err(Refusal::Manifest("it is of another issuer".into()));
    }
    // One that a new manifest no longer names still gives back what it holds, and destroys it.
    let named = manifest
        .keyholders()
        .is_some_and(|table| table.keyholders.iter().any(|k| k.key == request.keyholder));
    match request.operation {
        Operation::Enrol | Operation::Recover if !named => {
            return Err(Refusal::Manifest("it does not name this keyholder".into()));
        }
        Operation::Enrol | Operation::Recover | Operation::Release | Operation::Destroy => {}
    }
    let (found, seen) = (manifest.sequence(), deployment.sequence()?);
    if found < seen {
        return Err(Refusal::ManifestLower { found, seen });
    }
    image(&manifest, appraised)?;
    Ok(Asking {
        measurement: *appraised.measurement(),
        evidence_id: appraised.evidence_id(),
        tier: appraised.tier(),
        sequence: found,
    })
}

/// The manifest's images, where it has that table.
fn image(manifest: &Manifest, appraised: &Appraised) -> Result<(), Refusal> {
    let Some(images) = manifest.images() else {
        return Ok(());
    };
    if !images.measurements.contains(appraised.measurement()) {
        return Err(Refusal::Image("its measurement is not named".into()));
    }
    let guest_svn = appraised.report().map(attestation::snp::Report::guest_svn);
    if guest_svn.is_some_and(|found| found < images.min_guest_svn) {
        return Err(Refusal::Image(format!(
            "its guest SVN is below {}",
            images.min_guest_svn
        )));
    }
    Ok(())
}
