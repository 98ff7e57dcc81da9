//! What a reply with evidence is worth: verified, appraised, and bound to this server.

use attestation::{
    Accepted, Appraisal, BundleError, Endorsements, Evidence, Expected, KeyBundle, Nonce,
    NoncePath, NonceTreeError, Outcome, Policy, Purpose, Roots, Verdict,
};
use proto::v1;
use ring::digest;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::origin::Origin;
use crate::tls;

/// The most certificates that endorse evidence: VEK, ASK, ARK.
const MAX_ENDORSEMENTS: usize = 3;

/// What a relying party verifies with.
#[derive(Debug, Clone)]
pub struct Verification {
    /// The roots it trusts.
    pub roots: Roots,
    /// Its reference values; without them the verdict is `authentic` at best.
    pub policy: Option<Policy>,
}

impl Verification {
    /// Roots and reference values.
    #[must_use]
    pub const fn new(roots: Roots, policy: Option<Policy>) -> Self {
        Self { roots, policy }
    }
}

/// A question for evidence: a fresh nonce and a purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Challenge {
    pub(crate) nonce: Nonce,
    pub(crate) purpose: Purpose,
}

/// Why a reply is not even evidence that could be appraised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// There is no evidence in it.
    #[error("the reply has no evidence")]
    NoEvidence,
    /// The platform is one that this program does not know.
    #[error("the evidence is of an unknown platform, number {found}")]
    Platform {
        /// The number.
        found: i32,
    },
    /// More certificates than endorse a report.
    #[error("the evidence has {found} certificates, at most {MAX_ENDORSEMENTS} are read")]
    Certificates {
        /// How many.
        found: usize,
    },
    /// The evidence is for another purpose than asked for.
    #[error("the evidence is for purpose {found}, not {expected}")]
    Purpose {
        /// What was asked for, a number of the contract.
        expected: i32,
        /// What the reply says.
        found: i32,
    },
    /// There is no path from the nonce to the root.
    #[error("the reply has no nonce path")]
    NoNoncePath,
    /// A hash in the path has not 32 bytes.
    #[error("a hash of the nonce path has {found_bytes} bytes, not 32")]
    NonceSibling {
        /// How many it has.
        found_bytes: usize,
    },
    /// No tree has such a path.
    #[error("the nonce path is impossible")]
    NoncePath(#[from] NonceTreeError),
    /// The key bundle cannot be read.
    #[error("the key bundle cannot be read")]
    Bundle(#[from] BundleError),
}

/// Evidence with its appraisal, whatever the verdict: for those who look before they trust.
#[derive(Debug, Clone)]
pub struct Inspection {
    appraisal: Appraisal,
    evidence: Evidence,
    bundle: KeyBundle,
    bundle_digest: [u8; 32],
    bindings: Vec<Binding>,
}

/// A check that ties the evidence to the server that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// `grpc_origin`, `server_certificate` or `bundle_manifest_signer`.
    pub name: &'static str,
    /// How it ended: pass or fail.
    pub outcome: Outcome,
    /// What it looked for.
    pub expected: String,
    /// What it found.
    pub found: String,
}

impl Inspection {
    /// The verdict: that of the appraisal, or `reject` if the evidence is not that of the server asked.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let failed = |binding: &Binding| binding.outcome != Outcome::Pass;
        if self.bindings.iter().any(failed) {
            Verdict::Reject
        } else {
            self.appraisal.verdict()
        }
    }

    /// The appraisal with its checks.
    #[must_use]
    pub const fn appraisal(&self) -> &Appraisal {
        &self.appraisal
    }

    /// The checks that tie the evidence to the server that was asked.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The evidence as it came.
    #[must_use]
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The keys that the enclave says it speaks with. They may be trusted if the verdict is `accept`.
    #[must_use]
    pub const fn bundle(&self) -> &KeyBundle {
        &self.bundle
    }

    /// SHA-256 of the bundle as it came.
    #[must_use]
    pub const fn bundle_digest(&self) -> &[u8; 32] {
        &self.bundle_digest
    }

    /// What deposits and tokens need: for the verdict `accept` only.
    #[must_use]
    pub fn accepted(&self) -> Option<Accepted> {
        match self.verdict() {
            Verdict::Accept => self.appraisal.accepted(),
            Verdict::Authentic | Verdict::Reject => None,
        }
    }
}

impl Challenge {
    /// The request that asks it.
    pub(crate) fn request(&self) -> v1::GetEvidenceRequest {
        v1::GetEvidenceRequest {
            nonce: self.nonce.to_vec(),
            purpose: self.wire_purpose().into(),
        }
    }

    /// Judges the reply of the server at `origin`, which showed `chain` on its connection; no chain if the
    /// connection trusts the enclave's CA alone, so that TLS has checked it already.
    ///
    /// # Errors
    /// [`ReplyError`] if the reply cannot be appraised at all.
    pub(crate) fn judge(
        &self,
        reply: v1::GetEvidenceResponse,
        origin: &Origin,
        chain: Option<&[CertificateDer<'_>]>,
        verification: &Verification,
        at_s: u64,
    ) -> Result<Inspection, ReplyError> {
        let v1::GetEvidenceResponse {
            evidence,
            key_bundle,
            nonce_path,
            purpose: found,
        } = reply;
        let expected = self.wire_purpose().into();
        if found != expected {
            return Err(ReplyError::Purpose { expected, found });
        }
        let evidence = evidence_of(evidence.ok_or(ReplyError::NoEvidence)?)?;
        let path = path_of(nonce_path.ok_or(ReplyError::NoNoncePath)?)?;
        let bundle = KeyBundle::decode(&key_bundle)?;
        let bundle_digest = sha256(&key_bundle);

        let Verification { roots, policy } = verification;
        let report_data =
            attestation::report_data(self.purpose, &path.root(&self.nonce), &bundle_digest);
        let appraisal = attestation::assess(
            &evidence,
            roots,
            attestation::UnixTime::from_secs(at_s),
            policy.as_ref(),
            &Expected::report_data(report_data),
        );

        let mut bindings = vec![origin_binding(&bundle, origin)];
        bindings.extend(chain.map(|chain| certificate_binding(&bundle, origin, chain, at_s)));
        bindings.extend(
            appraisal
                .appraised()
                .map(|appraised| signer_binding(&bundle, appraised.host_data())),
        );
        Ok(Inspection {
            appraisal,
            evidence,
            bundle,
            bundle_digest,
            bindings,
        })
    }

    const fn wire_purpose(&self) -> v1::Purpose {
        match self.purpose {
            Purpose::Server => v1::Purpose::Server,
            Purpose::Deposit => v1::Purpose::Deposit,
            // Nobody but enclaves asks for these, and not over this contract.
            Purpose::Peer | Purpose::Keyholder => v1::Purpose::Unspecified,
        }
    }
}

fn evidence_of(evidence: v1::Evidence) -> Result<Evidence, ReplyError> {
    let v1::Evidence {
        platform,
        report,
        certificates,
        collateral,
    } = evidence;
    match v1::Platform::try_from(platform) {
        Ok(v1::Platform::SevSnp) => {}
        Ok(v1::Platform::Tdx) => {
            let collateral = (!collateral.is_empty()).then_some(collateral);
            return Ok(Evidence::tdx(report, collateral));
        }
        Ok(v1::Platform::Unspecified) | Err(_) => {
            return Err(ReplyError::Platform { found: platform });
        }
    }
    let found = certificates.len();
    if found > MAX_ENDORSEMENTS {
        return Err(ReplyError::Certificates { found });
    }
    let mut certificates = certificates.into_iter();
    let endorsements = Endorsements {
        vek: certificates.next(),
        ask: certificates.next(),
        ark: certificates.next(),
    };
    Ok(Evidence::snp(report, endorsements))
}

fn path_of(path: v1::NoncePath) -> Result<NoncePath, ReplyError> {
    let v1::NoncePath {
        index,
        size,
        siblings,
    } = path;
    let siblings = siblings
        .into_iter()
        .map(|sibling| {
            let found_bytes = sibling.len();
            <[u8; 32]>::try_from(sibling).map_err(|_| ReplyError::NonceSibling { found_bytes })
        })
        .collect::<Result<_, _>>()?;
    Ok(NoncePath::new(index, size, siblings)?)
}

/// The bundle names the origin that was asked for, so that another enclave's evidence does not pass for it.
fn origin_binding(bundle: &KeyBundle, origin: &Origin) -> Binding {
    let holds = Origin::parse(&bundle.grpc_origin).as_ref() == Ok(origin);
    let found = bundle.grpc_origin.clone();
    binding("grpc_origin", holds, origin.to_string(), found)
}

/// The connection over which evidence came ends at a certificate of the enclave's CA: nobody is in between.
fn certificate_binding(
    bundle: &KeyBundle,
    origin: &Origin,
    chain: &[CertificateDer<'_>],
    at_s: u64,
) -> Binding {
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at_s));
    let authorities: Vec<&[u8]> = bundle.authorities().collect();
    let problem = match origin.server_name() {
        Some(name) => tls::check_issued(&authorities, chain, &name, at)
            .err()
            .map(|error| with_cause(&error)),
        None => Some("the host is no server name".to_owned()),
    };
    let found = chain.first().map_or_else(
        || "no certificate".to_owned(),
        |own| format!("SHA-256 {}", hex::encode(sha256(own))),
    );
    let expected = format!("issued by the enclave's CA for {origin}");
    match problem {
        None => binding("server_certificate", true, expected, found),
        Some(problem) => binding(
            "server_certificate",
            false,
            expected,
            format!("{found}: {problem}"),
        ),
    }
}

/// The signer of the manifest that the enclave runs under is the one bound at launch.
pub(crate) fn signer_binding(bundle: &KeyBundle, host_data: &[u8; 32]) -> Binding {
    let found = &bundle.manifest_signer;
    let holds = found == host_data;
    binding(
        "bundle_manifest_signer",
        holds,
        hex::encode(host_data),
        hex::encode(found),
    )
}

fn binding(name: &'static str, holds: bool, expected: String, found: String) -> Binding {
    Binding {
        name,
        outcome: if holds { Outcome::Pass } else { Outcome::Fail },
        expected,
        found,
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    // SHA-256 yields 32 bytes: the two slices have the same length.
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests;
