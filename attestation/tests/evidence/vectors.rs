//! Real reports, each in a folder that says what it must yield: a new folder is a new test.

use std::fs;
use std::path::{Path, PathBuf};

use attestation::snp::Line;
use attestation::{
    Appraisal, CheckName, Endorsements, Evidence, Expected, Outcome, Roots, Tier, UnixTime,
    Verdict, VerifyFault, assess, verify,
};
use serde_json::Value;

/// One folder.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) meta: Value,
    pub(crate) evidence: Evidence,
    pub(crate) at: UnixTime,
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// Every folder under `vectors/snp`.
pub(crate) fn all() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = fs::read_dir(folder().join("snp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| read(&path))
        .collect();
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(vectors.len() >= 16, "{}", vectors.len());
    vectors
}

/// Those with a valid signature and the verdict `accept`.
pub(crate) fn accepting() -> Vec<Vector> {
    let vectors: Vec<Vector> = all()
        .into_iter()
        .filter(|vector| text(&vector.meta, "default_policy") == "accept")
        .collect();
    assert!(vectors.len() >= 12, "{}", vectors.len());
    vectors
}

fn read(path: &Path) -> Vector {
    let meta: Value = serde_json::from_slice(&fs::read(path.join("meta.json")).unwrap()).unwrap();
    let report = fs::read(path.join("report.bin")).unwrap();
    let vek = fs::read(path.join("vek.der")).ok();
    let at = match meta["vek_validity"].as_str() {
        // A month into the key's validity.
        Some(validity) => UnixTime::from_secs(midnight(&validity[..10]) + 30 * 86_400),
        None => UnixTime::from_secs(midnight("2026-11-22")),
    };
    let name = text(&meta, "name").to_owned();
    Vector {
        name,
        meta,
        evidence: Evidence::snp(
            report,
            Endorsements {
                vek,
                ask: None,
                ark: None,
            },
        ),
        at,
    }
}

pub(crate) fn text<'a>(meta: &'a Value, key: &str) -> &'a str {
    meta[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} of {}", meta["name"]))
}

/// Seconds from 1970 to the beginning of a day, `YYYY-MM-DD`.
pub(crate) fn midnight(date: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| date[range].parse::<u64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let lengths = [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let years: u64 = (1970..year)
        .map(|year| if leap(year) { 366 } else { 365 })
        .sum();
    let months: u64 = lengths
        .iter()
        .take(usize::try_from(month - 1).unwrap())
        .sum();
    (years + months + day - 1) * 86_400
}

fn offline(vector: &Vector) -> Appraisal {
    assess(
        &vector.evidence,
        &Roots::amd().unwrap(),
        vector.at,
        None,
        &Expected::saved(),
    )
}

pub(crate) fn failed(appraisal: &Appraisal) -> Vec<CheckName> {
    appraisal
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name)
        .collect()
}

#[test]
fn every_vector_gives_the_verdict_of_its_meta_file() {
    for vector in all() {
        let appraisal = offline(&vector);
        let expected = match text(&vector.meta, "default_policy") {
            // Without reference values nothing is accepted.
            "accept" => Verdict::Authentic,
            "reject" => Verdict::Reject,
            other => panic!("{other}"),
        };
        assert_eq!(
            appraisal.verdict(),
            expected,
            "{}: {:#?}",
            vector.name,
            appraisal.checks()
        );
        let valid = text(&vector.meta, "crypto") == "valid";
        assert_eq!(
            verify(&vector.evidence, &Roots::amd().unwrap(), vector.at).is_ok(),
            valid,
            "{}",
            vector.name
        );
    }
}

#[test]
fn every_rejected_vector_fails_for_the_reasons_of_its_meta_file_and_no_others() {
    for vector in all() {
        let reasons: Vec<&str> = vector.meta["reject_reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| reason.as_str().unwrap())
            .collect();
        let expected: Vec<CheckName> = match reasons.as_slice() {
            [] => vec![],
            ["policy_debug"] => vec![CheckName::Debug],
            ["vmpl_1"] => vec![CheckName::Vmpl],
            // Nothing is appraised that is not authentic, so the VMPL is not looked at.
            ["no_vek_published", "vmpl_2"] => vec![CheckName::Vek],
            ["report_signature_invalid_for_given_vek", "chip_id_mismatch"] => {
                vec![CheckName::ChipId, CheckName::ReportSignature]
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(failed(&offline(&vector)), expected, "{}", vector.name);
    }
}

#[test]
fn tiers_are_those_of_the_hardware() {
    for vector in all() {
        let appraisal = offline(&vector);
        let expected = match (
            text(&vector.meta, "crypto"),
            text(&vector.meta, "generation"),
        ) {
            ("valid", "Milan") => Some(Tier::Reduced),
            ("valid", "Genoa" | "Turin") => Some(Tier::Hardware),
            ("valid", other) => panic!("{other}"),
            _ => None,
        };
        assert_eq!(appraisal.tier(), expected, "{}", vector.name);
    }
}

#[test]
fn every_field_of_every_vector_is_the_one_in_its_meta_file() {
    for vector in all() {
        let meta = &vector.meta;
        let report = attestation::snp::Report::parse(&vector.evidence.report).unwrap();
        let line = match text(meta, "generation") {
            "Milan" => Line::Milan,
            "Genoa" => Line::Genoa,
            "Turin" => Line::Turin,
            other => panic!("{other}"),
        };
        let claims = report.claims_for_display(Some(line));
        let claim = |name: &str| {
            claims
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.as_str())
                .unwrap_or_else(|| panic!("{name}"))
        };
        for key in [
            "family_id",
            "image_id",
            "report_data",
            "measurement",
            "host_data",
            "id_key_digest",
            "author_key_digest",
            "chip_id",
        ] {
            assert_eq!(claim(key), text(meta, key), "{} {key}", vector.name);
        }
        for key in ["current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"] {
            let tcb = &meta[key];
            let fmc = tcb
                .get("fmc")
                .map(|fmc| format!("fmc {fmc} "))
                .unwrap_or_default();
            let expected = format!(
                "{fmc}bootloader {} tee {} snp {} microcode {}",
                tcb["bl"], tcb["tee"], tcb["snp"], tcb["uc"]
            );
            assert_eq!(claim(key), expected, "{} {key}", vector.name);
        }
        let shown = attestation::overview(&vector.evidence);
        assert_eq!(shown["generation"], meta["generation"], "{}", vector.name);
        assert_eq!(claim("version"), meta["report_version"].to_string());
        assert_eq!(claim("guest_svn"), meta["guest_svn"].to_string());
        assert_eq!(claim("vmpl"), meta["vmpl"].to_string());
        assert_eq!(
            format!("{:#x}", report.policy().bits()),
            text(meta, "policy")
        );
        assert_eq!(
            format!("{:#x}", report.platform_info().bits()),
            text(meta, "platform_info")
        );
        let key_info = report.key_info();
        let expected = format!(
            "auth{} mask{} sk{}",
            u8::from(key_info.author_key_enabled()),
            u8::from(key_info.mask_chip_key()),
            (key_info.bits() >> 2) & 7
        );
        assert_eq!(expected, text(meta, "key_info"));
        let cpuid = report
            .cpuid()
            .map_or([0; 3], |cpuid| [cpuid.family, cpuid.model, cpuid.stepping]);
        assert_eq!(hex::encode(cpuid), text(meta, "cpuid_fms"));
        let firmware = format!(
            "cur {} com {}",
            claim("current_firmware"),
            claim("committed_firmware")
        );
        assert_eq!(firmware, text(meta, "firmware"));
        let (launch, current) = report.mitigations().unwrap_or((0, 0));
        let mitigations = [launch.to_le_bytes(), current.to_le_bytes()].concat();
        assert_eq!(
            hex::encode(mitigations),
            text(meta, "mitigation_vectors_hex")
        );
    }
}

#[test]
fn the_files_are_those_that_the_meta_file_hashes() {
    for vector in all() {
        let hash = |bytes: &[u8]| hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes));
        assert_eq!(
            hash(&vector.evidence.report),
            text(&vector.meta["sha256"], "report")
        );
        if let Some(vek) = &vector.evidence.endorsements.vek {
            assert_eq!(hash(vek), text(&vector.meta["sha256"], "vek"));
        }
    }
}

#[test]
fn a_second_issuance_of_the_same_key_verifies_the_same_report() {
    let mut vector = all()
        .into_iter()
        .find(|vector| vector.name == "milan-v3-aci")
        .unwrap();
    let other = fs::read(folder().join("snp/milan-v3-aci/vek_other_issuance.der")).unwrap();
    assert_ne!(vector.evidence.endorsements.vek.as_ref(), Some(&other));
    vector.evidence.endorsements.vek = Some(other);
    // The second one was issued earlier or later than the first: take the end of 2026.
    vector.at = UnixTime::from_secs(midnight("2026-11-22"));
    assert_eq!(
        offline(&vector).verdict(),
        Verdict::Authentic,
        "{:#?}",
        offline(&vector).checks()
    );
}

#[test]
fn a_forged_chain_with_amds_names_is_refused() {
    let file =
        |name: &str| fs::read(folder().join("synthetic/forged-amd-root").join(name)).unwrap();
    let at = UnixTime::from_secs(midnight("2026-11-22"));
    let with = |ask: Option<Vec<u8>>, ark: Option<Vec<u8>>| {
        let endorsements = Endorsements {
            vek: Some(file("vcek.der")),
            ask,
            ark,
        };
        let evidence = Evidence::snp(file("report.bin"), endorsements);
        verify(&evidence, &Roots::amd().unwrap(), at)
            .unwrap_err()
            .faults()
            .to_vec()
    };
    use attestation::snp::CertificateRole::{Ask, Vek};
    let not_signed = VerifyFault::CertificateSignature { certificate: Ask };
    // The forged one also lacks AMD's key usage.
    let not_an_authority = VerifyFault::NotAnAuthority { certificate: Ask };
    // All three supplied: the root is not AMD's, and AMD's did not sign the ASK.
    assert_eq!(
        with(Some(file("ask.der")), Some(file("ark.der"))),
        [
            VerifyFault::RootNotPinned,
            not_signed.clone(),
            not_an_authority.clone()
        ]
    );
    assert_eq!(
        with(Some(file("ask.der")), None),
        [not_signed, not_an_authority]
    );
    // Without an ASK AMD's own is taken, which did not sign the VCEK.
    assert_eq!(
        with(None, None),
        [VerifyFault::CertificateSignature { certificate: Vek }]
    );
}

#[test]
fn both_encodings_of_the_hardware_id_are_read_from_real_certificates() {
    // Their signatures are deliberately wrong, so that is what is refused, and the extensions are not.
    let report = all()
        .into_iter()
        .find(|vector| vector.name == "milan-v3-aci")
        .unwrap()
        .evidence
        .report;
    for name in [
        "milan_vcek_hwid_encoding_legacy_badsig.der",
        "milan_vcek_hwid_encoding_new_badsig.der",
    ] {
        let vek = fs::read(folder().join("snp").join(name)).unwrap();
        let evidence = Evidence::snp(
            report.clone(),
            Endorsements {
                vek: Some(vek),
                ask: None,
                ark: None,
            },
        );
        let error = verify(
            &evidence,
            &Roots::amd().unwrap(),
            UnixTime::from_secs(midnight("2026-11-22")),
        )
        .unwrap_err();
        let check = |name| {
            error
                .checks()
                .iter()
                .find(|check| check.name == name)
                .unwrap()
        };
        assert_eq!(
            check(CheckName::CertificateSignatures).outcome,
            Outcome::Fail,
            "{name}: {:#?}",
            error.checks()
        );
        assert_eq!(
            check(CheckName::VekExtensions).outcome,
            Outcome::Pass,
            "{name}: {:#?}",
            error.checks()
        );
        assert_eq!(
            check(CheckName::ChipId).expected.get(..8),
            Some("00010203"),
            "{name}: {:#?}",
            error.checks()
        );
    }
}

#[test]
fn a_vcek_of_turin_has_all_its_extensions() {
    let vek = fs::read(folder().join("snp/turin_vcek_only_virtee.der")).unwrap();
    let report = all()
        .into_iter()
        .find(|vector| vector.name == "turin-v5-aci")
        .unwrap()
        .evidence
        .report;
    let evidence = Evidence::snp(
        report,
        Endorsements {
            vek: Some(vek),
            ask: None,
            ark: None,
        },
    );
    let error = verify(
        &evidence,
        &Roots::amd().unwrap(),
        UnixTime::from_secs(midnight("2026-11-22")),
    )
    .unwrap_err();
    assert_eq!(
        error.faults(),
        [
            VerifyFault::ReportSignature,
            VerifyFault::ChipId,
            VerifyFault::ReportedTcb {
                report: [1, 1, 1, 4, 0, 0, 0, 81],
                certificate: [0, 0, 0, 0, 0, 0, 0, 9]
            },
        ]
    );
}
