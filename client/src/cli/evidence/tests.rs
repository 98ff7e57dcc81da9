//! `evidence verify` over the public vectors, and over what their recipes make of them.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "dates and offsets of known files"
)]

use std::fs;

use tempfile::TempDir;

use super::*;

/// A month into the validity of a key.
const MONTH_S: u64 = 30 * 86_400;

struct Case {
    folder: PathBuf,
    meta: Value,
    at_s: u64,
    accepts: bool,
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../attestation/tests/vectors")
}

fn cases(platform: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = fs::read_dir(vectors().join(platform))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("meta.json").is_file())
        .map(|folder| {
            let meta: Value =
                serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
            let (at_s, accepts) = if platform == "snp" {
                // The day of collection where no certificate was published.
                let from = meta["vek_validity"].as_str().unwrap_or("2026-11-22");
                (
                    midnight_s(&from[..10]) + MONTH_S,
                    meta["default_policy"] == "accept",
                )
            } else {
                let strict = meta["dcap_qvl_0_7_1"]["strict_with_cloud_flags"].as_str();
                (
                    meta["verify_at"].as_u64().unwrap(),
                    strict.unwrap().ends_with(": OK"),
                )
            };
            Case {
                folder,
                meta,
                at_s,
                accepts,
            }
        })
        .collect();
    cases.sort_by(|a, b| a.folder.cmp(&b.folder));
    assert!(cases.len() >= 14, "{}", cases.len());
    cases
}

/// Seconds from 1970 to the beginning of a day, `YYYY-MM-DD`.
fn midnight_s(date: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| date[range].parse::<u64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Days since 0000-03-01, so that a leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    (days - 719_468) * 86_400
}

fn found(path: &Path, at_s: u64) -> Finding {
    let verification = Verification::new(attestation::Roots::amd().unwrap(), None);
    judge(path, &verification, at_s).unwrap_or_else(|failure| panic!("{failure:?}"))
}

fn failed(finding: &Finding) -> Vec<&str> {
    let rows = finding.checks.iter();
    rows.filter(|row| row.outcome == Outcome::Fail)
        .map(|row| row.name.as_str())
        .collect()
}

/// What a meta file says besides verdicts and provenance: these are the fields.
fn stated(meta: &Value) -> Vec<(String, Value)> {
    const OTHER: [&str; 10] = [
        "name",
        "crypto",
        "default_policy",
        "reject_reasons",
        "findings",
        "source",
        "sha256",
        "verify_at",
        "verify_at_iso",
        "dcap_qvl_0_7_1",
    ];
    let mut rows: Vec<(String, Value)> = meta
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !OTHER.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (_, value) in &mut rows {
        if let Some(members) = value.as_object_mut() {
            // The name of the vector, not a field of the quote.
            members.remove("file");
        }
    }
    rows
}

#[test]
fn every_vector_gives_verdict_exit_code_and_fields_of_its_meta_file() {
    for case in cases("snp").into_iter().chain(cases("tdx")) {
        let finding = found(&case.folder, case.at_s);
        let (verdict, code) = if case.accepts {
            (Verdict::Authentic, 3)
        } else {
            (Verdict::Reject, 1)
        };
        let name = case.folder.display();
        assert_eq!(finding.verdict, verdict, "{name}: {:?}", failed(&finding));
        assert_eq!(exit_of(finding.verdict).number(), code);
        let object = finding.to_json();
        for (field, expected) in stated(&case.meta) {
            assert_eq!(object["fields"][&field], expected, "{name} {field}");
        }
        for check in object["checks"].as_array().unwrap() {
            let outcome = check["outcome"].as_str().unwrap();
            assert!(
                ["pass", "fail", "not_applicable", "not_run"].contains(&outcome),
                "{outcome}"
            );
        }
    }
}

#[test]
fn a_missing_revocation_list_of_amd_is_not_run() {
    for case in cases("snp").into_iter().filter(|case| case.accepts) {
        let finding = found(&case.folder, case.at_s);
        let row = finding.checks.iter().find(|row| row.name == "revocation");
        assert_eq!(row.unwrap().outcome, Outcome::NotRun);
    }
}

/// A folder with the parts of a vector, to change.
fn copy_of(case: &Case) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["report.bin", "vek.der", "quote.bin", "collateral.json"] {
        let from = case.folder.join(name);
        if from.is_file() {
            fs::copy(from, folder.path().join(name)).unwrap();
        }
    }
    folder
}

fn with(file: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    edit(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// An edit of bytes and the checks that must fail for it.
type Recipe = (&'static str, fn(&mut Vec<u8>), &'static [&'static str]);

#[test]
fn recipes_for_reports_fail_the_checks_they_are_about() {
    let recipes: [Recipe; 12] = [
        (
            "S01",
            |report| report[0x185] ^= 1,
            &["report_signature", "vek_tcb"],
        ),
        (
            "S02",
            |report| report[0x2A0 + 50] = 1,
            &["signature_encoding"],
        ),
        (
            "S03",
            |report| report[0x2A0 + 72 + 60] = 1,
            &["signature_encoding"],
        ),
        (
            "S04",
            |report| report[0x2A0 + 200] = 1,
            &["signature_encoding"],
        ),
        ("S06", |report| report.push(0), &["report_form"]),
        ("S07", |report| report[0] = 6, &["report_form"]),
        ("S08", |report| report[0x4C] ^= 1, &["report_signature"]),
        ("S09", |report| report[0x90] ^= 1, &["report_signature"]),
        ("S14", |report| report.truncate(1183), &["report_form"]),
        ("S14", Vec::clear, &["report_form"]),
        (
            "S15",
            |report| report[0x2A0..0x2A0 + 48].fill(0),
            &["report_signature"],
        ),
        (
            "S15",
            |report| report[0x2A0 + 72..0x2A0 + 120].fill(0xFF),
            &["report_signature"],
        ),
    ];
    for case in cases("snp").into_iter().filter(|case| case.accepts) {
        for (id, edit, expected) in recipes {
            let folder = copy_of(&case);
            with(&folder.path().join("report.bin"), edit);
            let finding = found(folder.path(), case.at_s);
            let failed = failed(&finding);
            assert_eq!(finding.verdict, Verdict::Reject, "{id}");
            let first = expected.first().unwrap();
            assert!(failed.contains(first), "{id} {:?}: {failed:?}", case.folder);
            assert!(
                failed.iter().all(|name| expected.contains(name)),
                "{id} {:?}: {failed:?}",
                case.folder
            );
        }
        for (at_s, id) in [(0, "S13 before"), (4_000_000_000, "S13 after")] {
            let finding = found(&case.folder, at_s);
            assert_eq!(failed(&finding), ["certificate_validity"], "{id}");
        }
    }
}

#[test]
fn recipes_for_quotes_fail_the_checks_they_are_about() {
    let recipes: [Recipe; 7] = [
        ("T01", |quote| quote.push(1), &["quote_encoding"]),
        ("T06", |quote| quote[48 + 120] ^= 1, &[]),
        ("T07", |quote| quote[8] ^= 1, &[]),
        ("T16", |quote| quote.truncate(47), &["quote_form"]),
        ("T16", |quote| quote.truncate(700), &["quote_form"]),
        ("T16", Vec::clear, &["quote_form"]),
        ("SGX", |quote| quote[4] = 0, &["quote_form"]),
    ];
    for case in cases("tdx").into_iter().filter(|case| case.accepts) {
        for (id, edit, expected) in recipes {
            let folder = copy_of(&case);
            with(&folder.path().join("quote.bin"), edit);
            let finding = found(folder.path(), case.at_s);
            assert_eq!(finding.verdict, Verdict::Reject, "{id}");
            if !expected.is_empty() {
                assert_eq!(failed(&finding), expected, "{id} {:?}", case.folder);
            }
        }
        for at_s in [1, case.at_s + 400 * 86_400] {
            assert_eq!(found(&case.folder, at_s).verdict, Verdict::Reject, "T12");
        }
    }
}

#[test]
fn a_folder_that_lacks_what_vouches_for_it_is_rejected() {
    for (platform, part, check) in [
        ("snp", "vek.der", "vek"),
        ("tdx", "collateral.json", "collateral"),
    ] {
        let case = cases(platform)
            .into_iter()
            .find(|case| case.accepts)
            .unwrap();
        let folder = copy_of(&case);
        let file = folder.path().join(part);
        for edit in [
            |bytes: &mut Vec<u8>| bytes.truncate(100),
            |bytes: &mut Vec<u8>| *bytes = vec![b'x'; 200_000],
            |bytes: &mut Vec<u8>| bytes.clear(),
        ] {
            with(&file, edit);
            assert_eq!(found(folder.path(), case.at_s).verdict, Verdict::Reject);
        }
        fs::remove_file(&file).unwrap();
        let finding = found(folder.path(), case.at_s);
        assert_eq!(finding.verdict, Verdict::Reject);
        assert_eq!(failed(&finding), [check]);
    }
}

#[test]
fn a_forged_chain_with_amds_names_is_rejected() {
    let forged = vectors().join("synthetic/forged-amd-root");
    let folder = TempDir::new().unwrap();
    for (from, to) in [("report.bin", "report.bin"), ("vcek.der", "vek.der")] {
        fs::copy(forged.join(from), folder.path().join(to)).unwrap();
    }
    let at_s = midnight_s("2026-11-22");
    assert_eq!(
        failed(&found(folder.path(), at_s)),
        ["certificate_signatures"]
    );
    for name in ["ask.der", "ark.der"] {
        fs::copy(forged.join(name), folder.path().join(name)).unwrap();
    }
    let finding = found(folder.path(), at_s);
    assert_eq!(finding.verdict, Verdict::Reject);
    assert!(failed(&finding).contains(&"pinned_root"));
}

#[test]
fn one_quote_is_up_to_date_in_2025_and_out_of_date_in_2026() {
    let status = |name: &str| {
        let case = cases("tdx")
            .into_iter()
            .find(|case| case.meta["name"] == name)
            .unwrap();
        let finding = found(&case.folder, case.at_s);
        let row = finding.checks.iter().find(|row| row.name == "tcb_status");
        (finding.verdict, row.unwrap().found.clone())
    };
    let (verdict, found) = status("v4-padded8000-google-2025");
    assert_eq!((verdict, found.as_str()), (Verdict::Authentic, "UpToDate"));
    let (verdict, found) = status("v4-padded8000-google-2026");
    assert_eq!(verdict, Verdict::Reject);
    assert!(found.starts_with("OutOfDate: INTEL-SA-01010"), "{found}");
}

#[test]
fn evidence_that_was_saved_is_judged_as_its_folder_is() {
    for case in [cases("snp"), cases("tdx")].into_iter().flatten() {
        let Found::Evidence(evidence) = read(&case.folder).unwrap() else {
            panic!("{:?}", case.folder);
        };
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("evidence.json");
        fs::write(&file, evidence.to_json().unwrap()).unwrap();
        assert_eq!(
            found(&file, case.at_s).to_json(),
            found(&case.folder, case.at_s).to_json()
        );
    }
}

/// PEM of DER.
fn pem(der: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};
    let text = Base64::encode_string(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[test]
fn certificates_are_read_in_each_writing_that_occurs() {
    let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../attestation/roots");
    let case = cases("snp")
        .into_iter()
        .find(|case| case.meta["name"] == "genoa-v3-aci")
        .unwrap();
    let vek = fs::read(case.folder.join("vek.der")).unwrap();
    let ask = fs::read(roots.join("amd_genoa_ask.der")).unwrap();
    let ark = fs::read(roots.join("amd_genoa_ark.der")).unwrap();
    let other = fs::read(roots.join("amd_milan_ark.der")).unwrap();
    let whole = format!("{}{}{}", pem(&vek), pem(&ask), pem(&ark));
    let chain = format!("{}{}", pem(&ask), pem(&ark));
    let strange = format!("{}{}", pem(&ask), pem(&other));
    type Row = (Vec<(&'static str, Vec<u8>)>, &'static [&'static str]);
    let rows: Vec<Row> = vec![
        (vec![("vek.der", pem(&vek).into_bytes())], &[]),
        (vec![("vek.pem", pem(&vek).into_bytes())], &[]),
        (vec![("vcek.der", vek.clone())], &[]),
        (vec![("vek.der", whole.clone().into_bytes())], &[]),
        (
            vec![("vek.der", vek.clone()), ("cert_chain.pem", chain.into())],
            &[],
        ),
        (
            vec![("vek.der", vek.clone()), ("ask.pem", pem(&ask).into())],
            &[],
        ),
        // What a bundle names as its root is compared with the pinned one.
        (
            vec![("vek.der", vek.clone()), ("cert_chain.pem", strange.into())],
            &["pinned_root"],
        ),
        (vec![("README", b"not evidence".to_vec())], &["vek"]),
        (vec![("vek.der", b"-----BEGIN".to_vec())], &["vek"]),
    ];
    for (files, expected) in rows {
        let folder = TempDir::new().unwrap();
        fs::copy(
            case.folder.join("report.bin"),
            folder.path().join("report.bin"),
        )
        .unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        for (name, bytes) in &files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let finding = found(folder.path(), case.at_s);
        assert_eq!(failed(&finding), expected, "{names:?}");
        let verdict = if expected.is_empty() {
            Verdict::Authentic
        } else {
            Verdict::Reject
        };
        assert_eq!(finding.verdict, verdict, "{names:?}");
    }
}

#[test]
fn a_path_that_holds_no_evidence_is_unreadable_or_rejected() {
    let verification = Verification::new(attestation::Roots::amd().unwrap(), None);
    let empty = TempDir::new().unwrap();
    // Folders of the vectors that are laid out in other ways, too.
    for path in [
        empty.path().to_owned(),
        empty.path().join("absent.json"),
        vectors().join("eventlog"),
        vectors().join("measurement"),
        vectors().join("synthetic"),
    ] {
        let failure = judge(&path, &verification, 0).err().unwrap();
        assert_eq!(failure.exit(), Exit::Usage, "{}", path.display());
    }
    // A file that can be read and is no saved evidence is a verdict.
    for path in [
        vectors().join("eventlog/gcp_cos113_cos-113-tdx-quote.dat"),
        vectors().join("mutations.json"),
        vectors().join("snp/milan-v3-aci/report.bin"),
    ] {
        let finding = found(&path, 0);
        assert_eq!(finding.verdict, Verdict::Reject);
        assert_eq!(failed(&finding), ["evidence_form"]);
        assert_eq!(finding.to_json()["fields"], json!({}));
    }
}

/// Recipes of quotes and collateral that need more than one edit of bytes.
#[test]
fn recipes_for_collateral_fail_the_checks_they_are_about() {
    type Edit = fn(&mut Value);
    let recipes: [(&str, Edit, &[&str]); 5] = [
        (
            "T08",
            |json| {
                let list = json["root_ca_crl"].take();
                json["root_ca_crl"] = json["pck_crl"].take();
                json["pck_crl"] = list;
            },
            &["pinned_root", "revocation"],
        ),
        (
            "T08",
            |json| json["pck_crl"] = json["root_ca_crl"].clone(),
            &["revocation"],
        ),
        (
            "T09",
            |json| {
                let text = json["tcb_info"].as_str().unwrap();
                json["tcb_info"] = json!(text.replacen("UpToDate", "OutOfDate", 1));
            },
            &["tcb_info"],
        ),
        (
            "T10",
            |json| json["tcb_info_issuer_chain"] = json["pck_crl_issuer_chain"].clone(),
            &["tcb_info", "certificate_signatures"],
        ),
        (
            "T14",
            |json| {
                let text = json["qe_identity"].as_str().unwrap();
                json["qe_identity"] = json!(text.replace("TD_QE", "QE"));
            },
            &["qe_identity"],
        ),
    ];
    for case in cases("tdx").into_iter().filter(|case| case.accepts) {
        for (id, edit, expected) in recipes {
            let folder = copy_of(&case);
            with(&folder.path().join("collateral.json"), |bytes| {
                let mut json: Value = serde_json::from_slice(bytes).unwrap();
                edit(&mut json);
                *bytes = serde_json::to_vec(&json).unwrap();
            });
            let finding = found(folder.path(), case.at_s);
            assert_eq!(finding.verdict, Verdict::Reject, "{id} {:?}", case.folder);
            let failed = failed(&finding);
            assert!(
                failed.iter().all(|name| expected.contains(name)) && !failed.is_empty(),
                "{id} {:?}: {failed:?}",
                case.folder
            );
        }
    }
}

/// What must come out as it went in: padding dropped, line breaks in the chain of certificates changed.
#[test]
fn recipes_that_change_no_signed_byte_change_no_verdict() {
    for case in cases("tdx").into_iter().filter(|case| case.accepts) {
        let folder = copy_of(&case);
        let quote = folder.path().join("quote.bin");
        let before = found(&case.folder, case.at_s).to_json();
        with(&quote, |bytes| {
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            // One zero may belong to the end of the chain.
            bytes.truncate((used + 1).min(bytes.len()));
        });
        let after = found(folder.path(), case.at_s).to_json();
        assert_eq!(after["verdict"], before["verdict"], "T16 {:?}", case.folder);
        let id = |finding: &Value| finding["fields"]["evidence_id"].clone();
        assert_eq!(id(&after), id(&before));
    }
}
