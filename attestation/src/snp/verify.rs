//! From raw SEV-SNP evidence to authentic evidence: every check runs, every outcome is written down.

use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::bits::SigningKey;
use super::certificate::{Certificate, CertificateRole, PublicKey};
use super::endorsement::{Endorsed, Holder, VekKind};
use super::fault::{UnsignedRegion, VerifyFault};
use super::product::Line;
use super::report::{ECDSA_P384_SHA384, Report};
use super::revocation::Standing;
use super::roots::{PinnedRoot, Roots, issued_kind};
use crate::appraisal::{CheckName, Trail};
use crate::evidence::Endorsements;
use crate::time::UnixTime;

/// Authentic SEV-SNP evidence. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub(crate) struct SnpVerified {
    pub(crate) report: Report,
    pub(crate) line: Line,
    pub(crate) holder: Holder,
    pub(crate) emulated: bool,
    pub(crate) at: UnixTime,
}

/// What the checks of one evidence gather.
struct Verification {
    trail: Trail,
    faults: Vec<VerifyFault>,
}

/// Verifies evidence at a time, against a set of roots. All checks that can run do, so that each fault is named.
///
/// # Errors
/// The faults in the order of the checks, and the trail.
pub(crate) fn verify(
    report: &[u8],
    endorsements: &Endorsements,
    roots: &Roots,
    at: UnixTime,
) -> Result<(SnpVerified, Trail), (Vec<VerifyFault>, Trail)> {
    let mut run = Verification {
        trail: Trail::default(),
        faults: Vec::new(),
    };
    let verified = run.all(report, endorsements, roots, at);
    // Also after success: a check that was left out by mistake then caps the verdict.
    run.trail.rest_not_run(
        &CheckName::VERIFICATION,
        "an earlier check leaves nothing to compare with",
    );
    match verified {
        Some(verified) if run.faults.is_empty() => Ok((verified, run.trail)),
        Some(_) | None => Err((run.faults, run.trail)),
    }
}

impl Verification {
    /// Runs the checks in order. `None` when so much is missing that the later ones have no input.
    fn all(
        &mut self,
        report: &[u8],
        endorsements: &Endorsements,
        roots: &Roots,
        at: UnixTime,
    ) -> Option<SnpVerified> {
        // Named one by one, so that nothing that evidence carries is left unread.
        let Endorsements { vek, ask, ark } = endorsements;
        let report = self.form(report)?;
        self.encoding(&report);
        let vek = self.vek(vek.as_deref())?;
        let point = self.report_signature(&report, &vek);
        let (root, ask) = self.chain(&vek, ask.as_deref(), ark.as_deref(), roots)?;
        self.certificate_signatures(root, &ask, &vek);
        let kind = self.constraints(root, &ask, &vek);
        self.validity(
            [
                (CertificateRole::Ark, &root.certificate),
                (CertificateRole::Ask, &ask),
                (CertificateRole::Vek, &vek),
            ],
            at,
        );
        self.revocation(root, &ask, roots, at);
        self.product(&report, root.line);
        let kind = kind?;
        self.key_kind(&report, kind);
        let endorsed = self.extensions(&vek, kind, root.line)?;
        self.chip_id(&report, &endorsed.holder);
        self.reported_tcb(&report, endorsed.tcb, root.line);
        point?;
        let Endorsed { tcb: _, holder } = endorsed;
        Some(SnpVerified {
            report,
            line: root.line,
            holder,
            emulated: root.emulated,
            at,
        })
    }

    /// Writes down one check: passed if it brought no fault.
    fn settle(
        &mut self,
        name: CheckName,
        expected: impl Into<String>,
        found: impl Into<String>,
        faults: Vec<VerifyFault>,
    ) {
        if faults.is_empty() {
            self.trail.pass(name, expected, found);
        } else {
            let found = faults
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            self.trail.fail(name, expected, found);
            self.faults.extend(faults);
        }
    }

    /// Length and version.
    fn form(&mut self, bytes: &[u8]) -> Option<Report> {
        let expected = "1184 bytes of version 2, 3, 4 or 5";
        match Report::parse(bytes) {
            Ok(report) => {
                self.settle(
                    CheckName::ReportForm,
                    expected,
                    format!("version {}", report.version()),
                    Vec::new(),
                );
                Some(report)
            }
            Err(problem) => {
                self.settle(CheckName::ReportForm, expected, "", vec![problem.into()]);
                None
            }
        }
    }

    /// The unsigned tail has one encoding only.
    fn encoding(&mut self, report: &Report) {
        let mut faults = Vec::new();
        let found = report.signature_algorithm();
        if found != ECDSA_P384_SHA384 {
            faults.push(VerifyFault::SignatureAlgorithm { found });
        }
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let [r, s] = match report.signature_parts() {
            Some([(_, above_r), (_, above_s)]) => [is_zero(above_r), is_zero(above_s)],
            None => [false, false],
        };
        let regions = [
            (UnsignedRegion::R, r),
            (UnsignedRegion::S, s),
            (UnsignedRegion::Padding, is_zero(report.signature_padding())),
        ];
        for (region, zero) in regions {
            if !zero {
                faults.push(VerifyFault::SignatureEncoding { region });
            }
        }
        self.settle(
            CheckName::SignatureEncoding,
            "ECDSA P-384 with SHA-384, zero padding",
            "as expected",
            faults,
        );
    }

    /// The VEK certificate is there and can be read.
    fn vek(&mut self, der: Option<&[u8]>) -> Option<Certificate> {
        let expected = "a VEK certificate";
        let fault = match der.filter(|der| !der.is_empty()).map(Certificate::parse) {
            Some(Ok(certificate)) => {
                self.settle(
                    CheckName::Vek,
                    expected,
                    certificate.common_name.clone(),
                    Vec::new(),
                );
                return Some(certificate);
            }
            Some(Err(problem)) => VerifyFault::Certificate {
                certificate: CertificateRole::Vek,
                problem,
            },
            None => VerifyFault::VekMissing,
        };
        self.settle(CheckName::Vek, expected, "", vec![fault]);
        None
    }

    /// The P-384 signature over the raw signed bytes. No rule about the size of s: about half of AMD's are high.
    fn report_signature(&mut self, report: &Report, vek: &Certificate) -> Option<()> {
        let expected = "the VEK's signature over bytes 0 to 0x2a0";
        let (PublicKey::P384(point), Some([(r, _), (s, _)])) = (&vek.key, report.signature_parts())
        else {
            let fault = VerifyFault::KeyType {
                certificate: CertificateRole::Vek,
            };
            self.settle(CheckName::ReportSignature, expected, "", vec![fault]);
            return None;
        };
        // The report has r and s little endian, 48 bytes each; ring wants them big endian, joined.
        let signature: Vec<u8> = r.iter().rev().chain(s.iter().rev()).copied().collect();
        let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
        let valid = key.verify(report.signed_body(), &signature).is_ok();
        let faults = if valid {
            Vec::new()
        } else {
            vec![VerifyFault::ReportSignature]
        };
        self.settle(CheckName::ReportSignature, expected, "valid", faults);
        Some(())
    }

    /// Finds the signing key and the pinned root above the VEK. A supplied ARK is only compared with the pinned one.
    fn chain<'r>(
        &mut self,
        vek: &Certificate,
        ask: Option<&[u8]>,
        ark: Option<&[u8]>,
        roots: &'r Roots,
    ) -> Option<(&'r PinnedRoot, Certificate)> {
        let ask = match ask {
            Some(der) => Certificate::parse(der).map_err(|problem| VerifyFault::Certificate {
                certificate: CertificateRole::Ask,
                problem,
            }),
            None => roots
                .signing_key(&vek.issuer)
                .cloned()
                .ok_or(VerifyFault::AskMissing),
        };
        let ask = match ask {
            Ok(ask) => {
                self.settle(
                    CheckName::Ask,
                    "a certificate for the VEK's issuer",
                    ask.common_name.clone(),
                    Vec::new(),
                );
                ask
            }
            Err(fault) => {
                self.settle(
                    CheckName::Ask,
                    "a certificate for the VEK's issuer",
                    "",
                    vec![fault],
                );
                return None;
            }
        };
        let expected = "a root of the verifier's own set";
        let Some(root) = roots.named(&ask.issuer) else {
            self.settle(
                CheckName::PinnedRoot,
                expected,
                "",
                vec![VerifyFault::RootNotPinned],
            );
            return None;
        };
        let fault = match ark.map(Certificate::parse) {
            None => None,
            Some(Ok(ark)) => {
                let same =
                    ark.key == root.certificate.key && ark.subject == root.certificate.subject;
                (!same).then_some(VerifyFault::RootNotPinned)
            }
            Some(Err(problem)) => Some(VerifyFault::Certificate {
                certificate: CertificateRole::Ark,
                problem,
            }),
        };
        let found = format!(
            "{}, key {}",
            root.certificate.common_name,
            root.key_fingerprint()
        );
        self.settle(
            CheckName::PinnedRoot,
            expected,
            found,
            fault.into_iter().collect(),
        );
        Some((root, ask))
    }

    /// ARK over ASK, ASK over VEK: names as they lie there, signatures over the raw bytes.
    fn certificate_signatures(&mut self, root: &PinnedRoot, ask: &Certificate, vek: &Certificate) {
        let mut faults = Vec::new();
        let links = [
            (CertificateRole::Ask, ask, &root.certificate),
            (CertificateRole::Vek, vek, ask),
        ];
        for (role, certificate, issuer) in links {
            if certificate.issuer != issuer.subject {
                faults.push(VerifyFault::IssuerMismatch { certificate: role });
            }
            if !certificate.is_signed_by(issuer) {
                faults.push(VerifyFault::CertificateSignature { certificate: role });
            }
        }
        self.settle(
            CheckName::CertificateSignatures,
            "ARK signed ASK, ASK signed VEK",
            "valid",
            faults,
        );
    }

    /// Who may issue what, by flags and names. Yields the kind of the VEK.
    fn constraints(
        &mut self,
        root: &PinnedRoot,
        ask: &Certificate,
        vek: &Certificate,
    ) -> Option<VekKind> {
        let mut faults = Vec::new();
        let ark = &root.certificate;
        let may_issue = |certificate: &Certificate, least_path: u32| {
            let authority = certificate.authority;
            authority.ca
                && authority.certificate_sign
                && authority
                    .path_length
                    .is_none_or(|length| length >= least_path)
        };
        if !may_issue(ark, 1) {
            faults.push(VerifyFault::NotAnAuthority {
                certificate: CertificateRole::Ark,
            });
        }
        if !may_issue(ask, 0) {
            faults.push(VerifyFault::NotAnAuthority {
                certificate: CertificateRole::Ask,
            });
        }
        if vek.authority.ca || vek.authority.certificate_sign {
            faults.push(VerifyFault::VekIsAuthority);
        }
        if !matches!(ask.key, PublicKey::Rsa4096 { .. }) {
            faults.push(VerifyFault::KeyType {
                certificate: CertificateRole::Ask,
            });
        }
        let kind = issued_kind(&ask.common_name, root.line);
        match kind {
            None => faults.push(VerifyFault::CommonName {
                certificate: CertificateRole::Ask,
                found: ask.common_name.clone(),
            }),
            Some(kind) if vek.common_name != kind.common_name() => {
                faults.push(VerifyFault::CommonName {
                    certificate: CertificateRole::Vek,
                    found: vek.common_name.clone(),
                })
            }
            Some(_) => {}
        }
        let found = format!("{} under {}", vek.common_name, ask.common_name);
        self.settle(
            CheckName::CertificateConstraints,
            "AMD's names, key types and authority flags",
            found,
            faults,
        );
        kind
    }

    /// All three certificates are valid now.
    fn validity(&mut self, chain: [(CertificateRole, &Certificate); 3], at: UnixTime) {
        let mut faults = Vec::new();
        let mut until_s = i64::MAX;
        for (role, certificate) in chain {
            if certificate.is_not_yet_valid(at) {
                faults.push(VerifyFault::NotYetValid { certificate: role });
            }
            if certificate.is_expired(at) {
                faults.push(VerifyFault::Expired { certificate: role });
            }
            let (_, not_after_s) = certificate.validity();
            until_s = until_s.min(not_after_s);
        }
        let found = format!("the chain is valid until unix time {until_s}");
        self.settle(
            CheckName::CertificateValidity,
            format!("valid at {at}"),
            found,
            faults,
        );
    }

    /// Revocation of signing keys, by the list of the root that the verifier holds.
    fn revocation(&mut self, root: &PinnedRoot, ask: &Certificate, roots: &Roots, at: UnixTime) {
        let name = CheckName::Revocation;
        let expected = "the signing key is not on the root's current revocation list";
        let Some(list) = roots.revocation_of(&root.certificate.subject) else {
            if root.emulated {
                self.trail.not_applicable(
                    name,
                    expected,
                    "no revocation list of the development root was given",
                );
            } else {
                self.trail.not_run(
                    name,
                    expected,
                    "no revocation list was given to the verifier",
                );
            }
            return;
        };
        match list.standing(ask, at) {
            Standing::Good => {
                let found = format!(
                    "not listed, the list is current until unix time {}",
                    list.next_update_s()
                );
                self.settle(name, expected, found, Vec::new());
            }
            Standing::Revoked => {
                let fault = VerifyFault::Revoked {
                    certificate: CertificateRole::Ask,
                };
                self.settle(name, expected, "", vec![fault]);
            }
            Standing::NotYetCurrent => {
                self.trail
                    .not_run(name, expected, "the revocation list has not begun")
            }
            Standing::Ended => self
                .trail
                .not_run(name, expected, "the revocation list has ended"),
        }
    }

    /// The processor belongs to the line of the certificates.
    fn product(&mut self, report: &Report, line: Line) {
        let expected = format!("a processor of the line {line}");
        let Some(cpuid) = report.cpuid() else {
            let reason =
                "version 2 does not name the processor; the line is that of the certificates";
            self.trail
                .not_applicable(CheckName::Product, expected, reason);
            return;
        };
        let faults = match cpuid.product() {
            None => vec![VerifyFault::UnknownProduct { cpuid }],
            Some(product) if product.line() != line => {
                vec![VerifyFault::ProductMismatch { product, line }]
            }
            Some(_) => Vec::new(),
        };
        self.settle(CheckName::Product, expected, cpuid.to_string(), faults);
    }

    /// The kind of key in the report is the kind of the certificate.
    fn key_kind(&mut self, report: &Report, certificate: VekKind) {
        let signing = report.key_info().signing_key();
        let same = match (signing, certificate) {
            (SigningKey::Vcek, VekKind::Vcek) | (SigningKey::Vlek, VekKind::Vlek) => true,
            (SigningKey::Vcek, VekKind::Vlek)
            | (SigningKey::Vlek, VekKind::Vcek)
            | (SigningKey::None | SigningKey::Reserved(_), VekKind::Vcek | VekKind::Vlek) => false,
        };
        let faults = if same {
            Vec::new()
        } else {
            vec![VerifyFault::KeyKind {
                report: signing,
                certificate,
            }]
        };
        self.settle(
            CheckName::KeyKind,
            certificate.as_str(),
            certificate.as_str(),
            faults,
        );
    }

    /// AMD's extensions are all there, and none that does not belong.
    fn extensions(&mut self, vek: &Certificate, kind: VekKind, line: Line) -> Option<Endorsed> {
        let expected = "AMD's extensions, complete";
        match vek.amd.endorsed(kind, line) {
            Ok(endorsed) => {
                self.settle(CheckName::VekExtensions, expected, "complete", Vec::new());
                Some(endorsed)
            }
            Err(problem) => {
                self.settle(
                    CheckName::VekExtensions,
                    format!("{expected}: {problem}"),
                    "",
                    vec![problem.into()],
                );
                None
            }
        }
    }

    /// The chip in the report is the chip of the VCEK. A masked id, all zero, identifies no chip and is refused.
    fn chip_id(&mut self, report: &Report, holder: &Holder) {
        match holder {
            Holder::Chip(id) => {
                let (start, rest) = report
                    .chip_id()
                    .split_at_checked(id.len())
                    .unwrap_or((&[], &[1]));
                let same = start == id.as_slice() && rest.iter().all(|byte| *byte == 0);
                let masked = start.iter().all(|byte| *byte == 0);
                let faults = if same && !masked {
                    Vec::new()
                } else {
                    vec![VerifyFault::ChipId]
                };
                self.settle(
                    CheckName::ChipId,
                    hex::encode(id),
                    hex::encode(start),
                    faults,
                );
            }
            Holder::Provider(provider) => self.trail.not_applicable(
                CheckName::ChipId,
                "the chip of the certificate",
                &format!("a VLEK names the provider {provider}, not a chip"),
            ),
        }
    }

    /// The reported TCB is the one that the VEK was derived for, all eight bytes.
    fn reported_tcb(&mut self, report: &Report, certificate: [u8; 8], line: Line) {
        let tcb = report.reported_tcb(line);
        let faults = if tcb.raw() == certificate {
            Vec::new()
        } else {
            vec![VerifyFault::ReportedTcb {
                report: tcb.raw(),
                certificate,
            }]
        };
        let expected = super::tcb::Tcb::new(certificate, line).parts().to_string();
        self.settle(CheckName::VekTcb, expected, tcb.parts().to_string(), faults);
    }
}
