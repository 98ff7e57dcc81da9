//! From a raw quote and its collateral to authentic evidence: our own checks, then those of `dcap-qvl`.

use dcap_qvl::policy::{PckCertFlag, QuoteClaims, QuotePolicy};
use dcap_qvl::verify::QuoteVerifier;

use super::collateral;
use super::fault::{TdxFault, TdxStep};
use super::model::PlatformModel;
use super::quote::Quote;
use super::root::{IntelRoot, list_issuer};
use super::sgx_type::SgxType;
use super::status::TcbStatus;
use crate::appraisal::{CheckName, Trail};
use crate::snp::Roots;
use crate::time::UnixTime;

/// Authentic TDX evidence. Only [`verify`] makes it.
#[derive(Debug, Clone)]
pub(crate) struct TdxVerified {
    pub(crate) quote: Quote,
    pub(crate) platform: TdxPlatform,
    pub(crate) emulated: bool,
    pub(crate) at: UnixTime,
}

/// What Intel states about the platform.
#[derive(Debug, Clone)]
pub(crate) struct TdxPlatform {
    pub(crate) status: TcbStatus,
    pub(crate) advisories: Vec<String>,
    pub(crate) evaluation_number: u32,
    pub(crate) issued_at: UnixTime,
    pub(crate) expires_at: UnixTime,
    pub(crate) ppid: Vec<u8>,
    /// Zeros for a platform whose certificate names no instance.
    pub(crate) platform_instance: [u8; 16],
    pub(crate) fmspc: [u8; 6],
    /// None for a number that Intel has not defined.
    pub(crate) sgx_type: Option<SgxType>,
    /// Since when there is something newer than the platform's TCB, if it is out of date.
    pub(crate) platform_outdated_at: Option<UnixTime>,
    /// The same of the quoting enclave.
    pub(crate) qe_outdated_at: Option<UnixTime>,
    pub(crate) root_crl_number: u32,
    pub(crate) pck_crl_number: u32,
    /// True, false, or not stated.
    pub(crate) dynamic_platform: Option<bool>,
    pub(crate) cached_keys: Option<bool>,
    pub(crate) smt_enabled: Option<bool>,
}

struct Verification {
    trail: Trail,
    faults: Vec<TdxFault>,
}

/// Verifies a quote with its collateral at a time, against a set of roots.
///
/// # Errors
/// The faults in the order of the checks, and the trail.
pub(crate) fn verify(
    quote: &[u8],
    collateral: Option<&[u8]>,
    roots: &Roots,
    at: UnixTime,
) -> Result<(TdxVerified, Trail), (Vec<TdxFault>, Trail)> {
    let mut run = Verification {
        trail: Trail::default(),
        faults: Vec::new(),
    };
    let verified = run.all(quote, collateral, roots, at);
    // Also after success: a check that was left out by mistake then caps the verdict.
    run.trail.rest_not_run(
        &CheckName::TDX_VERIFICATION,
        "an earlier check leaves nothing to compare with",
    );
    match verified {
        Some(verified) if run.faults.is_empty() => Ok((verified, run.trail)),
        Some(_) | None => Err((run.faults, run.trail)),
    }
}

impl Verification {
    fn all(
        &mut self,
        quote: &[u8],
        json: Option<&[u8]>,
        roots: &Roots,
        at: UnixTime,
    ) -> Option<TdxVerified> {
        let expected = "a TDX quote of version 4 or 5";
        let quote = match Quote::parse(quote) {
            Ok(quote) => quote,
            Err(problem) => {
                self.fail(CheckName::QuoteForm, expected, problem.into());
                return None;
            }
        };
        let found = format!(
            "version {}, {}",
            quote.version(),
            quote.body_kind().as_str()
        );
        self.trail.pass(CheckName::QuoteForm, expected, found);
        self.encoding(&quote);
        self.attributes(&quote);

        let expected = "Intel's statements about the platform";
        let model = PlatformModel::of_quote(quote.raw());
        if model.is_none() && roots.has_own_collateral() {
            // Written so that only one of two parsers reads it, a chain must not lead around the verifier's store.
            let reason = "the platform's model cannot be read".to_owned();
            self.step_fails(TdxStep::PckCertificate, reason);
            return None;
        }
        let own = model.and_then(|model| roots.own_collateral(&model, json));
        let collateral = match collateral::parse(own.or(json)) {
            Ok(collateral) => collateral,
            Err(problem) => {
                self.fail(CheckName::Collateral, expected, problem.into());
                return None;
            }
        };
        let found = match (own, json) {
            (None, _) => "as it came",
            (Some(_), None) => "the verifier's own",
            (Some(_), Some(_)) => "the verifier's own: it is newer than what came",
        };
        self.trail.pass(CheckName::Collateral, expected, found);
        // The root's own list names the root. It is pinned: what the quote carries as its root is not looked at.
        let expected = "a root of the verifier's own set";
        let root = list_issuer(&collateral.root_ca_crl).and_then(|name| roots.intel(&name));
        let Some(root) = root else {
            self.fail(CheckName::PinnedRoot, expected, TdxFault::RootNotPinned);
            return None;
        };
        let found = if root.emulated {
            "a development root"
        } else {
            "Intel SGX Root CA"
        };
        self.trail.pass(CheckName::PinnedRoot, expected, found);
        let platform = self.by_certificates(&quote, collateral, root, at)?;
        if model.is_some_and(|model| model.fmspc != platform.fmspc) {
            let reason = "the platform's model is not that of its certificate".to_owned();
            self.step_fails(TdxStep::PckCertificate, reason);
            return None;
        }
        Some(TdxVerified {
            quote,
            platform,
            emulated: root.emulated,
            at,
        })
    }

    /// Bytes outside the signature: lengths that fit, padding of zeros.
    fn encoding(&mut self, quote: &Quote) {
        let expected = "exact lengths, certification types 6 and 5, zero padding";
        let problems = quote.encoding_problems();
        if problems.is_empty() {
            self.trail
                .pass(CheckName::QuoteEncoding, expected, "as expected");
        } else {
            let found = list(problems.iter());
            self.trail.fail(CheckName::QuoteEncoding, expected, found);
            self.faults
                .extend(problems.iter().map(|problem| TdxFault::from(*problem)));
        }
    }

    /// What no policy can allow. The library refuses it as well, but as its last step and without the others.
    fn attributes(&mut self, quote: &Quote) {
        let attributes = quote.body().td_attributes;
        let bits = attributes.reserved();
        let found = format!("{:#x}", attributes.bits());
        let rows = [
            (
                CheckName::ReservedAttributes,
                bits == 0,
                "no reserved bits",
                TdxFault::ReservedAttributes { bits },
            ),
            (
                CheckName::SeptVeDisable,
                attributes.sept_ve_disable(),
                "SEPT_VE_DISABLE set",
                TdxFault::SeptVeDisable,
            ),
            (
                CheckName::Migratable,
                !attributes.migratable(),
                "not migratable",
                TdxFault::Migratable,
            ),
        ];
        for (name, holds, expected, fault) in rows {
            self.trail.settle(name, holds, expected, found.clone());
            if !holds {
                self.faults.push(fault);
            }
        }
    }

    /// Root to TCB info, QE identity and PCK; PCK to the quoting enclave; its key to the quote; the TCB level.
    fn by_certificates(
        &mut self,
        quote: &Quote,
        collateral: dcap_qvl::QuoteCollateralV3,
        root: &IntelRoot,
        at: UnixTime,
    ) -> Option<TdxPlatform> {
        let issued_at = collateral::issued_at(&collateral);
        let outcome = QuoteVerifier::new(root.der.clone())
            // Both are checks of our appraisal.
            .allow_debug(true)
            .allow_service_td(true)
            // So is everything that a policy of the library could say.
            .verify_with_policy(
                quote.raw(),
                collateral,
                at.secs(),
                &QuotePolicy::claims_only(at.secs()),
            );
        let platform = match outcome {
            Ok(claims) => match platform(claims, issued_at) {
                Some(platform) => Some(platform),
                None => {
                    let reason = "a date or status that Intel signed has no known form";
                    self.step_fails(TdxStep::TcbLevel, reason.to_owned());
                    return None;
                }
            },
            Err(error) => {
                let reason = format!("{error:#}");
                match failed(&reason) {
                    Failed::Attributes if !self.faults.is_empty() => None,
                    // Our own check did not see it: it must not pass for that.
                    Failed::Attributes => {
                        self.step_fails(TdxStep::TcbLevel, reason);
                        return None;
                    }
                    Failed::Step(step) => {
                        self.step_fails(step, reason);
                        return None;
                    }
                }
            }
        };
        for step in TdxStep::ALL {
            self.trail
                .pass(step.check(), step.expected(), "as expected");
        }
        platform
    }

    fn step_fails(&mut self, step: TdxStep, reason: String) {
        self.trail
            .fail(step.check(), step.expected(), reason.clone());
        self.faults.push(TdxFault::Step { step, reason });
    }

    fn fail(&mut self, name: CheckName, expected: &str, fault: TdxFault) {
        self.trail.fail(name, expected, fault.to_string());
        self.faults.push(fault);
    }
}

/// Takes over what the library verified.
fn platform(claims: QuoteClaims, issued_at: Option<UnixTime>) -> Option<TdxPlatform> {
    let flag = |flag: PckCertFlag| match flag {
        PckCertFlag::True => Some(true),
        PckCertFlag::False => Some(false),
        PckCertFlag::Undefined => None,
    };
    let status = TcbStatus::from_dcap(claims.tcb.status)?;
    let level = &claims.platform.tcb_level;
    // A relaunch that is advised means that what runs now is no longer out of date.
    let platform_outdated =
        TcbStatus::from_dcap(level.tcb_status)?.is_out_of_date() && !status.is_relaunch_advised();
    let platform_outdated_at =
        platform_outdated.then(|| UnixTime::from_secs(claims.platform.tcb_date_tag));
    let qe_level = &claims.qe.tcb_level;
    let qe_outdated_at = if TcbStatus::from_dcap(qe_level.tcb_status)?.is_out_of_date() {
        Some(collateral::utc(&qe_level.tcb_date)?)
    } else {
        None
    };
    let pck = claims.platform.pck;
    let mut advisories = claims.tcb.advisory_ids;
    // A TDX 1.5 body has a second TCB, the current one, with advisories of its own.
    if let Some(current) = claims.platform.current_tcb_level {
        for advisory in current.advisory_ids {
            if !advisories.contains(&advisory) {
                advisories.push(advisory);
            }
        }
    }
    Some(TdxPlatform {
        status,
        advisories,
        evaluation_number: claims.tcb.eval_data_number,
        issued_at: issued_at?,
        expires_at: UnixTime::from_secs(claims.earliest_expiration_date),
        ppid: pck.ppid,
        platform_instance: pck.platform_instance_id.unwrap_or_default(),
        fmspc: pck.fmspc,
        sgx_type: SgxType::from_number(pck.sgx_type),
        platform_outdated_at,
        qe_outdated_at,
        root_crl_number: claims.platform.root_ca_crl_num,
        pck_crl_number: claims.platform.pck_crl_num,
        dynamic_platform: flag(pck.dynamic_platform),
        cached_keys: flag(pck.cached_keys),
        smt_enabled: flag(pck.smt_enabled),
    })
}

/// Where the library stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Step(TdxStep),
    /// Its last step: all others passed.
    Attributes,
}

/// Its errors are text. The version is pinned exactly, and tests hold every row to what it says; a text without a row
/// counts as an invalid quote signature, with the text in the reason.
fn failed(reason: &str) -> Failed {
    const STEPS: [(&str, Failed); 37] = [
        ("Reserved bits in TD attributes", Failed::Attributes),
        ("TD migration is enabled", Failed::Attributes),
        ("SEPT_VE_DISABLE is not enabled", Failed::Attributes),
        ("SERVTD_EXT is enabled", Failed::Attributes),
        ("CertExpired", Failed::Step(TdxStep::Validity)),
        ("CertNotValidYet", Failed::Step(TdxStep::Validity)),
        ("CertRevoked", Failed::Step(TdxStep::Revocation)),
        ("CrlExpired", Failed::Step(TdxStep::Revocation)),
        ("UnknownRevocationStatus", Failed::Step(TdxStep::Revocation)),
        ("CRL", Failed::Step(TdxStep::Revocation)),
        (
            "Failed to verify certificate chain",
            Failed::Step(TdxStep::Certificates),
        ),
        (
            "Too many intermediate certificates",
            Failed::Step(TdxStep::Certificates),
        ),
        ("Fmspc mismatch", Failed::Step(TdxStep::TcbLevel)),
        ("TCB FMSPC", Failed::Step(TdxStep::TcbLevel)),
        ("non-TDX TCB info", Failed::Step(TdxStep::TcbLevel)),
        ("No matching TCB level", Failed::Step(TdxStep::TcbLevel)),
        ("TDX module", Failed::Step(TdxStep::TcbLevel)),
        ("TDX TCB", Failed::Step(TdxStep::TcbLevel)),
        ("TCB status", Failed::Step(TdxStep::TcbLevel)),
        ("TCBInfo", Failed::Step(TdxStep::TcbInfo)),
        ("TcbInfo", Failed::Step(TdxStep::TcbInfo)),
        ("TCB Info", Failed::Step(TdxStep::TcbInfo)),
        ("tcb_info", Failed::Step(TdxStep::TcbInfo)),
        ("qe_report", Failed::Step(TdxStep::QeReport)),
        ("QE report", Failed::Step(TdxStep::QeReport)),
        ("QE auth data", Failed::Step(TdxStep::QeReport)),
        ("QE ISVSVN", Failed::Step(TdxStep::QeReport)),
        ("QE MRSIGNER", Failed::Step(TdxStep::QeReport)),
        ("QE ISVPRODID", Failed::Step(TdxStep::QeReport)),
        ("QE MISCSELECT", Failed::Step(TdxStep::QeReport)),
        ("QE ATTRIBUTES", Failed::Step(TdxStep::QeReport)),
        ("QE Identity", Failed::Step(TdxStep::QeIdentity)),
        ("QeIdentity", Failed::Step(TdxStep::QeIdentity)),
        ("qe_identity", Failed::Step(TdxStep::QeIdentity)),
        ("PCK", Failed::Step(TdxStep::PckCertificate)),
        ("in quote", Failed::Step(TdxStep::PckCertificate)),
        ("Intel extension", Failed::Step(TdxStep::PckCertificate)),
    ];
    STEPS
        .iter()
        .find(|(text, _)| reason.contains(text))
        .map_or(Failed::Step(TdxStep::QuoteSignature), |(_, failed)| *failed)
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
