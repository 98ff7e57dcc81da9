//! Revocation of signing keys by lists that the verifier holds.

use attestation::{
    CheckName, Expected, Outcome, RevocationError, Roots, Verdict, VerifyFault, assess,
    snp::CertificateRole, verify,
};
use testkit::snp::{DevelopmentKey, Extension, Name, RevocationListSpec, SnpPlatform};

use crate::emulated::{NOW, REPORT_DATA, evidence, fields, platform, policy, roots};
use crate::vectors;

/// The serial number of the emulated ASK.
const ASK_SERIAL: [u8; 3] = [2, 0, 1];

/// A current list that revokes some other key.
fn list(platform: &SnpPlatform) -> RevocationListSpec {
    RevocationListSpec {
        issuer: platform.chain().ark.subject.clone(),
        number: Some(vec![7]),
        this_update: "261101000000Z".to_owned(),
        next_update: Some("261122000000Z".to_owned()),
        revoked: vec![vec![9, 9]],
        extensions: vec![],
    }
}

fn with(platform: &SnpPlatform, list: &RevocationListSpec) -> Roots {
    let mut roots = roots(platform);
    roots
        .add_revocation_list(&list.sign(DevelopmentKey::Ark).unwrap())
        .unwrap();
    roots
}

#[test]
fn a_signing_key_that_no_current_list_names_is_accepted() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    let empty = RevocationListSpec {
        revoked: vec![],
        ..list(&platform)
    };
    // The serial number of every VEK is zero: a list that names zero means something else.
    let zero = RevocationListSpec {
        revoked: vec![vec![0]],
        ..list(&platform)
    };
    for list in [list(&platform), empty, zero] {
        let appraisal = assess(
            &evidence,
            &with(&platform, &list),
            NOW,
            Some(&policy()),
            &Expected::report_data(REPORT_DATA),
        );
        assert_eq!(appraisal.verdict(), Verdict::Accept);
        assert_eq!(
            appraisal
                .check(CheckName::Revocation)
                .map(|check| check.outcome),
            Some(Outcome::Pass)
        );
    }
}

#[test]
fn a_revoked_signing_key_is_refused_also_by_a_list_that_has_ended() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    let revoking = RevocationListSpec {
        revoked: vec![vec![9, 9], ASK_SERIAL.to_vec()],
        ..list(&platform)
    };
    let ended = RevocationListSpec {
        next_update: Some("261121000000Z".to_owned()),
        ..revoking.clone()
    };
    for list in [revoking, ended] {
        let error = verify(&evidence, &with(&platform, &list), NOW).unwrap_err();
        assert_eq!(
            error.faults(),
            [VerifyFault::Revoked {
                certificate: CertificateRole::Ask
            }]
        );
    }
}

#[test]
fn a_list_that_is_not_current_clears_nobody() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    let ended = RevocationListSpec {
        next_update: Some("261121235959Z".to_owned()),
        ..list(&platform)
    };
    let later = RevocationListSpec {
        this_update: "261122000001Z".to_owned(),
        ..list(&platform)
    };
    for list in [ended, later] {
        let appraisal = assess(
            &evidence,
            &with(&platform, &list),
            NOW,
            Some(&policy()),
            &Expected::report_data(REPORT_DATA),
        );
        assert_eq!(appraisal.verdict(), Verdict::Authentic);
        assert_eq!(
            appraisal
                .check(CheckName::Revocation)
                .map(|check| check.outcome),
            Some(Outcome::NotRun)
        );
    }
}

#[test]
fn genuine_evidence_without_a_list_says_that_revocation_was_not_checked() {
    for vector in vectors::accepting() {
        let appraisal = assess(
            &vector.evidence,
            &Roots::amd().unwrap(),
            vector.at,
            Some(&policy()),
            &Expected::saved(),
        );
        assert_eq!(
            appraisal
                .check(CheckName::Revocation)
                .map(|check| check.outcome),
            Some(Outcome::NotRun)
        );
    }
}

#[test]
fn what_is_no_list_of_a_trusted_root_is_not_taken_in() {
    let platform = platform();
    let base = list(&platform);
    let stranger = Name {
        common_name: "ARK-Milan".to_owned(),
        ..base.issuer.clone()
    };
    let partial = Extension {
        oid: "2.5.29.28".to_owned(),
        critical: true,
        value: vec![0x30, 0],
    };
    let signed = |list: RevocationListSpec| list.sign(DevelopmentKey::Ark).unwrap();
    let good = signed(base.clone());
    let mut altered = good.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    let rows = [
        (vec![], RevocationError::Der),
        (platform.certificates().ark.clone(), RevocationError::Der),
        ([good.clone(), vec![0]].concat(), RevocationError::Der),
        (
            vec![0; 65_537],
            RevocationError::TooLarge {
                found_bytes: 65_537,
            },
        ),
        (
            base.sign(DevelopmentKey::Ask).unwrap(),
            RevocationError::Signature,
        ),
        (altered, RevocationError::Signature),
        (
            signed(RevocationListSpec {
                issuer: stranger,
                ..base.clone()
            }),
            RevocationError::UnknownIssuer,
        ),
        (
            signed(RevocationListSpec {
                number: None,
                ..base.clone()
            }),
            RevocationError::Der,
        ),
        (
            signed(RevocationListSpec {
                next_update: None,
                ..base.clone()
            }),
            RevocationError::Der,
        ),
        (
            signed(RevocationListSpec {
                extensions: vec![partial],
                ..base
            }),
            RevocationError::CriticalExtension {
                oid: "2.5.29.28".to_owned(),
            },
        ),
    ];
    for (der, error) in rows {
        assert_eq!(roots(&platform).add_revocation_list(&der), Err(error));
    }
    assert_eq!(roots(&platform).add_revocation_list(&good), Ok(()));
    assert_eq!(
        Roots::amd().unwrap().add_revocation_list(&good),
        Err(RevocationError::UnknownIssuer)
    );
}

#[test]
fn the_number_of_a_list_never_falls() {
    let platform = platform();
    let numbered = |number: &[u8]| {
        let list = RevocationListSpec {
            number: Some(number.to_vec()),
            ..list(&platform)
        };
        list.sign(DevelopmentKey::Ark).unwrap()
    };
    let mut roots = with(
        &platform,
        &RevocationListSpec {
            number: Some(vec![1, 0]),
            ..list(&platform)
        },
    );
    assert_eq!(
        roots.add_revocation_list(&numbered(&[0xFF])),
        Err(RevocationError::Older)
    );
    assert_eq!(roots.add_revocation_list(&numbered(&[1, 0])), Ok(()));
    assert_eq!(roots.add_revocation_list(&numbered(&[1, 1])), Ok(()));
    assert_eq!(
        roots.add_revocation_list(&numbered(&[1, 0])),
        Err(RevocationError::Older)
    );
}
