//! What is accepted, and what is only authentic.

use attestation::{
    CheckName, Expected, NonceTree, Outcome, Policy, Purpose, Tier, Verdict, appraise, assess,
    policy, report_data, verify,
};
use testkit::snp::{Product, ReportFields, VekKind};

use crate::emulated::{
    MEASUREMENT, NOW, REPORT_DATA, SIGNER, evidence, fields, platform, platform_of, policy,
    policy_with, roots,
};

#[test]
fn fresh_evidence_of_the_pinned_image_is_accepted() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    let verified = verify(&evidence, &roots(&platform), NOW).unwrap();
    assert!(verified.is_emulated());
    let appraisal = appraise(
        verified,
        Some(&policy()),
        &Expected::report_data(REPORT_DATA),
    );
    assert_eq!(
        appraisal.verdict(),
        Verdict::Accept,
        "{:#?}",
        appraisal.checks()
    );
    assert_eq!(appraisal.tier(), Some(Tier::Emulated));
    let accepted = appraisal.accepted().unwrap();
    assert_eq!(accepted.appraised().measurement(), &MEASUREMENT);
    assert_eq!(accepted.appraised().host_data(), &SIGNER);
    assert_eq!(accepted.appraised().report_data(), &REPORT_DATA);
    assert_eq!(accepted.appraised().appraised_at(), NOW);
}

#[test]
fn every_version_product_and_key_kind_is_verified() {
    for product in [
        Product::Milan,
        Product::Genoa,
        Product::Bergamo,
        Product::Turin,
    ] {
        for kind in [VekKind::Vcek, VekKind::Vlek] {
            let platform = platform_of(product, kind);
            let roots = roots(&platform);
            for version in 2..=5 {
                let evidence = evidence(
                    &platform,
                    &ReportFields {
                        version,
                        ..fields(&platform)
                    },
                );
                let appraisal = assess(
                    &evidence,
                    &roots,
                    NOW,
                    Some(&policy()),
                    &Expected::report_data(REPORT_DATA),
                );
                assert_eq!(
                    appraisal.verdict(),
                    Verdict::Accept,
                    "{product:?} {kind:?} {version}: {:#?}",
                    appraisal.checks()
                );
            }
        }
    }
}

#[test]
fn what_acceptance_needs_and_is_not_given_makes_evidence_authentic_at_best() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    let roots = roots(&platform);
    let fresh = Expected::report_data(REPORT_DATA);
    let measurement_only = format!(
        "version = 1\ntiers = [\"emulated\"]\n[snp]\nmeasurements = [\"{}\"]\n",
        hex::encode(MEASUREMENT)
    );
    let signer_only = format!(
        "version = 1\ntiers = [\"emulated\"]\n[snp]\nmanifest_signers = [\"{}\"]\n",
        hex::encode(SIGNER)
    );
    let read = |text: &str| Policy::from_toml(text.as_bytes()).unwrap();
    let rows = [
        (None, fresh, CheckName::Measurement),
        (
            Some(read(&measurement_only)),
            fresh,
            CheckName::ManifestSigner,
        ),
        (Some(read(&signer_only)), fresh, CheckName::Measurement),
        (Some(policy()), Expected::saved(), CheckName::ReportData),
    ];
    for (policy, expected, missing) in rows {
        let appraisal = assess(&evidence, &roots, NOW, policy.as_ref(), &expected);
        assert_eq!(appraisal.verdict(), Verdict::Authentic);
        assert_eq!(
            appraisal.check(missing).map(|check| check.outcome),
            Some(Outcome::NotRun)
        );
        assert!(appraisal.accepted().is_none());
        assert!(appraisal.appraised().is_some());
    }
}

#[test]
fn every_check_is_listed_once_with_a_reason_where_it_did_not_decide() {
    let platform = platform();
    let good = evidence(&platform, &fields(&platform));
    let mut bad = good.clone();
    bad.report[0x90] ^= 1;
    for (evidence, policy) in [
        (&good, Some(policy())),
        (&good, None),
        (&bad, Some(policy())),
    ] {
        let appraisal = assess(
            evidence,
            &roots(&platform),
            NOW,
            policy.as_ref(),
            &Expected::report_data(REPORT_DATA),
        );
        let names: Vec<CheckName> = appraisal.checks().iter().map(|check| check.name).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert_eq!(names.len(), 46);
        for check in appraisal.checks() {
            let decided = matches!(check.outcome, Outcome::Pass | Outcome::Fail);
            assert_eq!(check.reason.is_none(), decided, "{check:?}");
        }
    }
}

#[test]
fn a_report_serves_each_verifier_of_its_batch() {
    let platform = platform();
    let nonces = [[1; 32], [2; 32], [3; 32]];
    let tree = NonceTree::new(&nonces).unwrap();
    let bundle = [9; 32];
    let data = report_data(Purpose::Server, &tree.root(), &bundle);
    let evidence = evidence(
        &platform,
        &ReportFields {
            report_data: data,
            ..fields(&platform)
        },
    );
    let roots = roots(&platform);
    for (i, nonce) in (0u32..).zip(&nonces) {
        let root = tree.path(i).unwrap().root(nonce);
        let expected = Expected::report_data(report_data(Purpose::Server, &root, &bundle));
        let verdict = assess(&evidence, &roots, NOW, Some(&policy()), &expected).verdict();
        assert_eq!(verdict, Verdict::Accept);
        let other = Expected::report_data(report_data(Purpose::Deposit, &root, &bundle));
        assert_eq!(
            assess(&evidence, &roots, NOW, Some(&policy()), &other).verdict(),
            Verdict::Reject
        );
    }
}

#[test]
fn a_policy_written_for_what_runs_accepts_it() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    let text = policy::pinned(&MEASUREMENT, &SIGNER, &[Tier::Emulated]);
    let policy = Policy::from_toml(text.as_bytes()).unwrap();
    let verdict = assess(
        &evidence,
        &roots(&platform),
        NOW,
        Some(&policy),
        &Expected::report_data(REPORT_DATA),
    );
    assert_eq!(verdict.verdict(), Verdict::Accept);
}

#[test]
fn a_policy_may_ask_for_everything_at_once() {
    let platform = platform();
    let fields = ReportFields {
        guest_svn: 4,
        family_id: [0xFA; 16],
        image_id: [0x1A; 16],
        id_key_digest: [0x1D; 48],
        author_key_digest: [0xAA; 48],
        key_info: 1,
        ..fields(&platform)
    };
    let evidence = evidence(&platform, &fields);
    let policy = policy_with(&format!(
        r#"
vmpl = 0
policy_required = ["smt_allowed"]
policy_forbidden = ["debug", "migrate_ma", "cxl_allowed"]
platform_required = ["alias_check_complete", "ecc_enabled"]
platform_forbidden = ["tsme_enabled"]
products = ["genoa"]
minimum_report_version = 5
minimum_guest_svn = 4
minimum_firmware = "1.55.39"
minimum_policy_abi = "0.31"
refuse_provisional_firmware = true
report_ids = ["{}"]
report_ids_ma = ["{}"]
mitigations_required = 0x3f
family_ids = ["{}"]
image_ids = ["{}"]
id_keys = ["{}"]
author_keys = ["{}"]
chip_ids = ["{}"]
[[snp.tcb]]
family = 0x19
model_first = 0x10
model_last = 0x1f
reported = {{ bootloader = 10, tee = 0, snp = 25, microcode = 84 }}
committed = {{ bootloader = 10, snp = 25, microcode = 84 }}
launch = {{ snp = 25 }}
"#,
        hex::encode(fields.report_id),
        hex::encode(fields.report_id_ma),
        hex::encode([0xFA; 16]),
        hex::encode([0x1A; 16]),
        hex::encode([0x1D; 48]),
        hex::encode([0xAA; 48]),
        hex::encode(fields.chip_id),
    ));
    let appraisal = assess(
        &evidence,
        &roots(&platform),
        NOW,
        Some(&policy),
        &Expected::report_data(REPORT_DATA),
    );
    assert_eq!(
        appraisal.verdict(),
        Verdict::Accept,
        "{:#?}",
        appraisal.checks()
    );
    let undecided: Vec<CheckName> = appraisal
        .checks()
        .iter()
        .filter(|check| check.outcome != Outcome::Pass)
        .map(|check| check.name)
        .collect();
    // A development root has no revocation list; a VCEK names no provider.
    assert_eq!(undecided, [CheckName::Revocation, CheckName::CspId]);
}

#[test]
fn an_appraisal_is_written_as_json_without_what_may_not_be_read() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    let appraisal = assess(&evidence, &roots(&platform), NOW, None, &Expected::saved());
    let json = serde_json::to_value(&appraisal).unwrap();
    let mut members: Vec<&str> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    assert_eq!(members, ["checks", "platform", "tier", "verdict"]);
    assert_eq!(json["verdict"], "authentic");
    assert_eq!(json["tier"], "emulated");
    assert_eq!(json["platform"], "snp");
    let checks = json["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(
        check("vmpl"),
        &serde_json::json!({"name": "vmpl", "outcome": "pass", "expected": "0", "found": "0"})
    );
    assert_eq!(check("measurement")["outcome"], "not_run");
    assert_eq!(check("revocation")["outcome"], "not_applicable");
}

#[test]
fn a_field_is_read_only_in_the_versions_that_have_it() {
    let platform = platform();
    for version in 2..=5 {
        let evidence = evidence(
            &platform,
            &ReportFields {
                version,
                ..fields(&platform)
            },
        );
        let verified = verify(&evidence, &roots(&platform), NOW).unwrap();
        assert_eq!(verified.report().unwrap().cpuid().is_some(), version >= 3);
        assert_eq!(
            verified.report().unwrap().mitigations(),
            (version >= 5).then_some((0x3F, 0x3F))
        );
    }
}
