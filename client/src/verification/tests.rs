//! Tests of verification: what a reply with evidence is worth.

use super::*;
use crate::test_enclave::{SIGNER, TestEnclave};
use attestation::{CheckName, Tier};
use rcgen::{CertificateParams, KeyPair};
use testkit::snp::ReportFields;

const ORIGIN: &str = "https://keep.test:8443";
/// When the tests judge; the development certificates are valid then.
const AT_S: u64 = 1_795_000_000;

fn challenge() -> Challenge {
    Challenge {
        nonce: [0xC4; 32],
        purpose: Purpose::Server,
    }
}

fn judge(enclave: &TestEnclave, reply: v1::GetEvidenceResponse) -> Result<Inspection, ReplyError> {
    let origin = Origin::parse(ORIGIN).unwrap();
    challenge().judge(reply, &origin, None, &enclave.verification(), AT_S)
}

fn failed(inspection: &Inspection) -> Vec<&str> {
    let checks = inspection.appraisal().checks().iter();
    let checks = checks.map(|check| (check.name.as_str(), check.outcome));
    let bindings = inspection.bindings().iter();
    let bindings = bindings.map(|binding| (binding.name, binding.outcome));
    let all = checks.chain(bindings);
    all.filter(|(_, outcome)| *outcome == Outcome::Fail)
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn honest_evidence_under_its_policy_is_accepted() {
    let enclave = TestEnclave::new(ORIGIN);
    let inspection = judge(&enclave, enclave.reply(&challenge().request())).unwrap();
    assert_eq!(
        inspection.verdict(),
        Verdict::Accept,
        "{:?}",
        failed(&inspection)
    );
    assert_eq!(inspection.appraisal().tier(), Some(Tier::Emulated));
    assert!(inspection.accepted().is_some());
    assert_eq!(inspection.bundle(), &enclave.bundle);
    assert_eq!(Ok(*inspection.bundle_digest()), enclave.bundle.digest());
}

#[test]
fn without_reference_values_evidence_is_authentic_and_not_accepted() {
    let enclave = TestEnclave::new(ORIGIN);
    let mut verification = enclave.verification();
    verification.policy = None;
    let reply = enclave.reply(&challenge().request());
    let origin = Origin::parse(ORIGIN).unwrap();
    let inspection = challenge()
        .judge(reply, &origin, None, &verification, AT_S)
        .unwrap();
    assert_eq!(inspection.verdict(), Verdict::Authentic);
    assert!(inspection.accepted().is_none());
}

#[test]
fn without_the_development_root_an_emulated_enclave_is_rejected() {
    let enclave = TestEnclave::new(ORIGIN);
    let mut verification = enclave.verification();
    verification.roots = Roots::amd().unwrap();
    let reply = enclave.reply(&challenge().request());
    let origin = Origin::parse(ORIGIN).unwrap();
    let inspection = challenge()
        .judge(reply, &origin, None, &verification, AT_S)
        .unwrap();
    assert_eq!(inspection.verdict(), Verdict::Reject);
    assert_eq!(inspection.appraisal().tier(), None);
    assert!(inspection.accepted().is_none());
    let check = inspection.appraisal().check(CheckName::PinnedRoot).unwrap();
    assert_eq!(check.outcome, Outcome::Fail);
}

#[test]
fn each_reply_that_is_no_evidence_is_refused() {
    type Change = fn(&mut v1::GetEvidenceResponse);
    let rows: [(Change, ReplyError); 12] = [
        (|r| r.evidence = None, ReplyError::NoEvidence),
        (
            |r| r.evidence.as_mut().unwrap().platform = 0,
            ReplyError::Platform { found: 0 },
        ),
        (
            |r| r.evidence.as_mut().unwrap().platform = 99,
            ReplyError::Platform { found: 99 },
        ),
        (
            |r| r.evidence.as_mut().unwrap().certificates.push(vec![1]),
            ReplyError::Certificates { found: 4 },
        ),
        (
            |r| r.purpose = 2,
            ReplyError::Purpose {
                expected: 1,
                found: 2,
            },
        ),
        (
            |r| r.purpose = 0,
            ReplyError::Purpose {
                expected: 1,
                found: 0,
            },
        ),
        (|r| r.nonce_path = None, ReplyError::NoNoncePath),
        (
            |r| r.nonce_path.as_mut().unwrap().siblings = vec![vec![0; 31]],
            ReplyError::NonceSibling { found_bytes: 31 },
        ),
        (
            |r| r.nonce_path.as_mut().unwrap().siblings.clear(),
            ReplyError::NoncePath(NonceTreeError::PathLength {
                found: 0,
                expected: 1,
            }),
        ),
        (
            |r| r.nonce_path.as_mut().unwrap().index = 2,
            ReplyError::NoncePath(NonceTreeError::Index {
                index: 2,
                tree_size: 2,
            }),
        ),
        (
            |r| r.nonce_path.as_mut().unwrap().size = u32::MAX,
            ReplyError::NoncePath(NonceTreeError::Count {
                found: 4_294_967_295,
            }),
        ),
        (
            |r| r.key_bundle.push(0),
            ReplyError::Bundle(BundleError::Encoding {
                field: "end",
                error: attestation::CanonicalError::Trailing { count_bytes: 1 },
            }),
        ),
    ];
    let enclave = TestEnclave::new(ORIGIN);
    for (change, error) in rows {
        let mut reply = enclave.reply(&challenge().request());
        change(&mut reply);
        assert_eq!(judge(&enclave, reply).unwrap_err(), error);
    }
}

#[test]
fn each_report_that_is_not_about_this_question_is_rejected_by_its_check() {
    type Change = fn(&mut ReportFields);
    let rows: [(Change, &[&str]); 5] = [
        (|f| f.report_data[0] ^= 1, &["report_data"]),
        (|f| f.measurement[0] ^= 1, &["measurement"]),
        // The manifest's signer in the bundle is compared once the report passed.
        (|f| f.host_data[0] ^= 1, &["manifest_signer"]),
        (|f| f.policy |= 1 << 19, &["debug", "policy_forbidden"]),
        (|f| f.vmpl = 1, &["vmpl"]),
    ];
    let enclave = TestEnclave::new(ORIGIN);
    for (change, names) in rows {
        let reply = enclave.reply_with(&challenge().request(), change);
        let inspection = judge(&enclave, reply).unwrap();
        assert_eq!(inspection.verdict(), Verdict::Reject);
        assert_eq!(failed(&inspection), names);
        assert!(inspection.accepted().is_none());
    }
}

#[test]
fn evidence_for_another_nonce_purpose_or_bundle_is_rejected() {
    let enclave = TestEnclave::new(ORIGIN);
    let other_nonce = Challenge {
        nonce: [0xC5; 32],
        ..challenge()
    };
    let stale = enclave.reply(&other_nonce.request());
    let deposit = Challenge {
        purpose: Purpose::Deposit,
        ..challenge()
    };
    let mut relabelled = enclave.reply(&deposit.request());
    relabelled.purpose = v1::Purpose::Server.into();
    let mut swapped = enclave.reply(&challenge().request());
    swapped.key_bundle = TestEnclave::new(ORIGIN).bundle.encode().unwrap();
    for reply in [stale, relabelled, swapped] {
        let inspection = judge(&enclave, reply).unwrap();
        assert_eq!(inspection.verdict(), Verdict::Reject);
        assert_eq!(failed(&inspection), ["report_data"]);
    }
}

#[test]
fn evidence_of_another_server_is_rejected_although_it_is_good() {
    let enclave = TestEnclave::new("https://other.test:8443");
    let inspection = judge(&enclave, enclave.reply(&challenge().request())).unwrap();
    assert_eq!(inspection.appraisal().verdict(), Verdict::Accept);
    assert_eq!(inspection.verdict(), Verdict::Reject);
    assert_eq!(failed(&inspection), ["grpc_origin"]);
    assert!(inspection.accepted().is_none());
}

#[test]
fn a_bundle_with_another_manifest_signer_than_was_launched_is_rejected() {
    let mut enclave = TestEnclave::new(ORIGIN);
    assert_eq!(enclave.bundle.manifest_signer, SIGNER);
    enclave.bundle.manifest_signer = [0; 32];
    let inspection = judge(&enclave, enclave.reply(&challenge().request())).unwrap();
    assert_eq!(inspection.verdict(), Verdict::Reject);
    assert_eq!(failed(&inspection), ["bundle_manifest_signer"]);
}

#[test]
fn a_connection_that_ends_elsewhere_is_rejected() {
    let enclave = TestEnclave::new(ORIGIN);
    let stranger = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["keep.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    };
    let origin = Origin::parse(ORIGIN).unwrap();
    for chain in [vec![stranger], Vec::new()] {
        let reply = enclave.reply(&challenge().request());
        let inspection = challenge()
            .judge(reply, &origin, Some(&chain), &enclave.verification(), AT_S)
            .unwrap();
        assert_eq!(inspection.verdict(), Verdict::Reject);
        assert_eq!(failed(&inspection), ["server_certificate"]);
    }
}
