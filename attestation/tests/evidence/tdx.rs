//! Real quotes, each in a folder that says what it must yield, and every recipe of `mutations.json` on them.

use std::fs;
use std::path::Path;

use attestation::tdx::{CollateralProblem, EncodingProblem, QuoteProblem, TdxFault, TdxStep};
use attestation::{
    Appraisal, CheckName, Evidence, Expected, Outcome, Policy, Roots, Tier, UnixTime, Verdict,
    VerifyFault, assess, verify,
};
use serde_json::Value;

use crate::vectors::{folder, text};

pub(crate) struct Vector {
    pub(crate) name: String,
    meta: Value,
    quote: Vec<u8>,
    collateral: Value,
    pub(crate) at: UnixTime,
}

/// Every folder under `vectors/tdx`.
pub(crate) fn all() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = fs::read_dir(folder().join("tdx"))
        .unwrap()
        .map(|entry| read(&entry.unwrap().path()))
        .collect();
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(vectors.len() >= 14, "{}", vectors.len());
    vectors
}

fn read(path: &Path) -> Vector {
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(path.join(name)).unwrap()).unwrap()
    };
    let meta = json("meta.json");
    Vector {
        name: text(&meta, "name").to_owned(),
        quote: fs::read(path.join("quote.bin")).unwrap(),
        collateral: json("collateral.json"),
        at: UnixTime::from_secs(meta["verify_at"].as_u64().unwrap()),
        meta,
    }
}

pub(crate) fn named(name: &str) -> Vector {
    read(&folder().join("tdx").join(name))
}

/// Those that are accepted by the defaults.
fn accepting() -> Vec<Vector> {
    let vectors: Vec<Vector> = all().into_iter().filter(is_accepting).collect();
    assert_eq!(vectors.len(), 5);
    vectors
}

fn is_accepting(vector: &Vector) -> bool {
    vector.meta["dcap_qvl_0_7_1"]["strict_with_cloud_flags"].as_str()
        == Some("strict+cloudflags: OK")
}

impl Vector {
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence::tdx(
            self.quote.clone(),
            Some(serde_json::to_vec(&self.collateral).unwrap()),
        )
    }

    pub(crate) fn with_policy(&self, policy: Option<&Policy>) -> Appraisal {
        assess(
            &self.evidence(),
            &Roots::amd().unwrap(),
            self.at,
            policy,
            &Expected::saved(),
        )
    }

    pub(crate) fn collateral_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.collateral).unwrap()
    }

    fn appraisal(&self) -> Appraisal {
        self.with_policy(None)
    }

    /// The evidence with an edited quote.
    fn quote(&self, edit: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut quote = self.quote.clone();
        edit(&mut quote);
        Self {
            name: self.name.clone(),
            meta: self.meta.clone(),
            quote,
            collateral: self.collateral.clone(),
            at: self.at,
        }
    }

    /// The evidence with an edited collateral.
    fn collateral(&self, edit: impl FnOnce(&mut Value)) -> Self {
        let mut edited = self.quote(|_| {});
        edit(&mut edited.collateral);
        edited
    }

    fn at(&self, at_s: u64) -> Self {
        let mut edited = self.quote(|_| {});
        edited.at = UnixTime::from_secs(at_s);
        edited
    }

    fn faults(&self) -> Vec<TdxFault> {
        let faults = match verify(&self.evidence(), &Roots::amd().unwrap(), self.at) {
            Ok(_) => return Vec::new(),
            Err(error) => error.faults().to_vec(),
        };
        faults
            .into_iter()
            .map(|fault| {
                let VerifyFault::Tdx(fault) = fault else {
                    panic!("{}: {fault}", self.name)
                };
                fault
            })
            .collect()
    }

    /// The steps that failed, without the library's words.
    fn steps(&self) -> Vec<TdxStep> {
        self.faults()
            .into_iter()
            .map(|fault| {
                let TdxFault::Step { step, .. } = fault else {
                    panic!("{}: {fault}", self.name)
                };
                step
            })
            .collect()
    }

    fn evidence_id(&self) -> [u8; 32] {
        verify(&self.evidence(), &Roots::amd().unwrap(), self.at)
            .unwrap()
            .evidence_id()
    }

    fn is_v5(&self) -> bool {
        self.quote[0] == 5
    }

    /// Where the signature data's length lies.
    fn signature_data(&self) -> usize {
        match self.meta["quote"]["body"][1].as_u64() {
            Some(bytes) => 54 + usize::try_from(bytes).unwrap(),
            None => 48 + 584,
        }
    }
}

fn failed(appraisal: &Appraisal) -> Vec<CheckName> {
    appraisal
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name)
        .collect()
}

#[test]
fn each_real_quote_gets_the_verdict_of_its_folder() {
    for vector in all() {
        let expected: &[CheckName] = match vector.name.as_str() {
            name if is_accepting(&vector) => {
                assert!(!name.is_empty());
                &[]
            }
            "sgx-v3-not-tdx" => &[CheckName::QuoteForm],
            "v4-debug" => &[CheckName::Debug],
            "v4-debug-2026" => &[CheckName::Debug, CheckName::TcbStatus],
            "v4-no-sept-ve-disable-azure" => &[CheckName::SeptVeDisable],
            "v4-padded8000-google-2026" | "v4-platform-outofdate-module-uptodate" => {
                &[CheckName::TcbStatus]
            }
            "v4-trailing39-nomatch-google" => &[
                CheckName::QuoteEncoding,
                CheckName::TcbLevel,
                CheckName::SeptVeDisable,
            ],
            "v5-nomatch-dcapqvl" => &[CheckName::TcbLevel],
            "v5-servicetd-alibaba" => &[CheckName::ServiceTd, CheckName::TcbStatus],
            other => panic!("{other} has no row"),
        };
        let appraisal = vector.appraisal();
        assert_eq!(failed(&appraisal), expected, "{}", vector.name);
        let verdict = if is_accepting(&vector) {
            Verdict::Authentic
        } else {
            Verdict::Reject
        };
        assert_eq!(appraisal.verdict(), verdict, "{}", vector.name);
        assert_eq!(
            appraisal.appraised().is_some(),
            verdict == Verdict::Authentic
        );
        if verdict == Verdict::Authentic {
            assert_eq!(appraisal.tier(), Some(Tier::Hardware));
        }
    }
}

#[test]
fn status_and_advisories_are_those_of_the_folder() {
    let mut compared = 0;
    for vector in all() {
        let measured = &vector.meta["dcap_qvl_0_7_1"];
        let line = measured["default"].as_str().unwrap();
        let line = if line.contains(": OK ") {
            line
        } else {
            let open = ["with_allow_debug", "with_allow_service_td"];
            match open.iter().find_map(|key| measured[key][0].as_str()) {
                Some(line) => line,
                None => continue,
            }
        };
        let Some(check) = vector
            .appraisal()
            .check(CheckName::TcbStatus)
            .cloned()
            .filter(|check| check.outcome != Outcome::NotRun)
        else {
            continue;
        };
        let (status, advisories) = line
            .strip_prefix("verify: OK status=")
            .unwrap()
            .split_once(" adv=")
            .unwrap();
        let advisories: Vec<String> = serde_json::from_str(advisories).unwrap();
        let expected = if advisories.is_empty() {
            status.to_owned()
        } else {
            format!("{status}: {}", advisories.join(", "))
        };
        assert_eq!(check.found, expected, "{}", vector.name);
        compared += 1;
    }
    assert_eq!(compared, 10);
}

#[test]
fn every_field_is_that_of_the_folder() {
    for vector in all() {
        let quote = &vector.meta["quote"];
        assert_eq!(
            Some(vector.quote.len()),
            quote["len"].as_u64().map(|len| len as usize)
        );
        if vector.name == "sgx-v3-not-tdx" {
            continue;
        }
        let parsed = attestation::tdx::Quote::parse(&vector.quote).unwrap();
        let claims = parsed.claims_for_display();
        let claim = |name: &str| -> String {
            let found = claims.iter().find(|(claim, _)| *claim == name);
            found.unwrap_or_else(|| panic!("{name}")).1.clone()
        };
        assert_eq!(Some(u64::from(parsed.version())), quote["v"].as_u64());
        let prefix = |name: &str, expected: &Value| {
            let expected = expected.as_str().unwrap();
            assert!(
                claim(name).starts_with(expected),
                "{} {name} {} {expected}",
                vector.name,
                claim(name)
            );
        };
        for (name, key) in [
            ("tee_tcb_svn", "tee_tcb_svn"),
            ("mr_seam", "mrseam"),
            ("seam_attributes", "seamattr"),
            ("mrtd", "mrtd"),
            ("mr_config_id", "mrconfigid"),
            ("mr_owner", "mrowner"),
            ("report_data", "report_data"),
        ] {
            prefix(name, &quote[key]);
        }
        for (number, name) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].iter().enumerate() {
            prefix(name, &quote["rtmr"][number]);
        }
        for (name, key) in [("td_attributes", "td_attr"), ("xfam", "xfam")] {
            let bytes: [u8; 8] = hex::decode(quote[key].as_str().unwrap())
                .unwrap()
                .try_into()
                .unwrap();
            let expected = format!("{:#x}", u64::from_le_bytes(bytes));
            assert_eq!(claim(name).split(' ').next(), Some(expected.as_str()));
        }
        if let Some(svn2) = quote["tee_tcb_svn2"].as_str() {
            assert_eq!(claim("tee_tcb_svn2"), svn2);
            prefix("mr_service_td", &quote["mrservicetd"]);
        }
        assert_eq!(quote.get("body").is_some(), vector.is_v5());
    }
}

#[test]
fn the_same_quote_is_up_to_date_in_2025_and_out_of_date_in_2026() {
    let before = named("v4-padded8000-google-2025");
    let after = named("v4-padded8000-google-2026");
    assert_eq!(before.quote, after.quote);
    let found = |vector: &Vector| {
        let appraisal = vector.appraisal();
        appraisal.check(CheckName::TcbStatus).unwrap().found.clone()
    };
    assert_eq!(found(&before), "UpToDate");
    assert!(found(&after).starts_with("OutOfDate: INTEL-SA-01010"));
}

#[test]
fn each_listed_check_of_an_authentic_quote_ran_or_says_why_not() {
    for vector in accepting() {
        let appraisal = vector.appraisal();
        let not_run: Vec<CheckName> = appraisal
            .checks()
            .iter()
            .filter(|check| check.outcome == Outcome::NotRun)
            .map(|check| check.name)
            .collect();
        assert_eq!(
            not_run,
            [
                CheckName::Platform,
                CheckName::ReportData,
                CheckName::AttributesRequired,
                CheckName::AttributesForbidden,
                CheckName::XfamRequired,
                CheckName::XfamForbidden,
                CheckName::TcbAge,
                CheckName::Advisories,
                CheckName::EvaluationNumber,
                CheckName::CollateralAge,
                CheckName::CrlNumbers,
                CheckName::SgxType,
                CheckName::Rtmrs,
                CheckName::Owner,
                CheckName::OwnerConfig,
                CheckName::Measurement,
                CheckName::ManifestSigner,
                CheckName::AllowedChip,
                CheckName::AllowedInstance,
            ],
            "{}",
            vector.name
        );
        for check in appraisal.checks() {
            assert_eq!(
                check.reason.is_some(),
                matches!(check.outcome, Outcome::NotRun | Outcome::NotApplicable)
            );
        }
    }
}

#[test]
fn every_tdx_recipe_is_known_here() {
    let recipes: Value =
        serde_json::from_slice(&fs::read(folder().join("mutations.json")).unwrap()).unwrap();
    let ids: Vec<&str> = recipes["tdx"]
        .as_array()
        .unwrap()
        .iter()
        .map(|recipe| recipe["id"].as_str().unwrap())
        .collect();
    // One test below for each, with the id in its name.
    let known: Vec<String> = (1..=19).map(|number| format!("T{number:02}")).collect();
    assert_eq!(ids, known);
}

#[test]
fn t01_t02_bytes_after_the_quote_are_zeros_and_no_part_of_its_name() {
    for vector in accepting() {
        let id = vector.evidence_id();
        for count in [1, 70, 3_000] {
            let longer = vector.quote(|quote| quote.resize(quote.len() + count, 0));
            assert_eq!(longer.evidence_id(), id, "{}", vector.name);
            let filled = vector.quote(|quote| quote.resize(quote.len() + count, 0xA5));
            assert_eq!(
                filled.faults(),
                [TdxFault::Encoding(EncodingProblem::Padding)]
            );
        }
        if vector.quote.last() == Some(&0) && !vector.is_v5() {
            let edited = vector.quote(|quote| *quote.last_mut().unwrap() = 1);
            assert_eq!(
                edited.faults(),
                [TdxFault::Encoding(EncodingProblem::Padding)]
            );
        }
    }
}

/// The order of P-256, big endian [SEC 2 §2.4.2].
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// s := n - s, big endian.
fn negate(s: &mut [u8]) {
    let order = hex::decode(ORDER).unwrap();
    let mut borrow = 0i16;
    for (byte, n) in s.iter_mut().zip(order).rev() {
        let difference = i16::from(n) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = difference.rem_euclid(256).try_into().unwrap();
    }
    assert_eq!(borrow, 0);
}

#[test]
fn t03_t04_the_other_s_verifies_and_has_the_same_evidence_id() {
    for vector in accepting() {
        let from = vector.signature_data() + 4;
        for at in [from + 32, from + 128 + 6 + 384 + 32] {
            let negated = vector.quote(|quote| negate(&mut quote[at..at + 32]));
            assert_ne!(negated.quote, vector.quote);
            assert_eq!(
                negated.evidence_id(),
                vector.evidence_id(),
                "{}",
                vector.name
            );
        }
    }
}

#[test]
fn t05_the_type_of_the_certification_data_is_checked() {
    for vector in accepting() {
        let outer = vector.signature_data() + 4 + 128;
        for found in [0u16, 1, 3, 5, 7, 0xFFFF] {
            let edited =
                vector.quote(|quote| quote[outer..outer + 2].copy_from_slice(&found.to_le_bytes()));
            assert_eq!(
                edited.faults(),
                [TdxFault::Encoding(EncodingProblem::OuterCertification {
                    found
                })]
            );
        }
        let inner = outer + 6 + 384 + 64 + 2 + 32;
        let edited = vector.quote(|quote| quote[inner] = 4);
        assert_eq!(
            edited.faults().first(),
            Some(&TdxFault::Encoding(EncodingProblem::InnerCertification {
                found: 4
            }))
        );
    }
}

#[test]
fn t06_t07_every_byte_of_header_and_body_is_under_the_signature() {
    for vector in accepting() {
        for byte in 0..vector.signature_data() {
            let edited = vector.quote(|quote| quote[byte] ^= 1 << (byte % 8));
            let faults = edited.faults();
            assert!(!faults.is_empty(), "{} {byte}", vector.name);
            let is_form = matches!(faults.as_slice(), [TdxFault::Quote(_)]);
            let is_signature = faults.iter().any(|fault| {
                matches!(fault, TdxFault::Step { step, .. } if *step == TdxStep::QuoteSignature)
            });
            assert!(
                is_signature || is_form && (byte < 8 || vector.is_v5() && byte < 54),
                "{} {byte}: {faults:?}",
                vector.name
            );
        }
    }
}

#[test]
fn t08_revocation_lists_in_each_others_place_are_refused() {
    for vector in accepting() {
        let swapped = vector.collateral(|collateral| {
            let root = collateral["root_ca_crl"].clone();
            collateral["root_ca_crl"] = collateral["pck_crl"].clone();
            collateral["pck_crl"] = root;
        });
        assert_eq!(swapped.faults(), [TdxFault::RootNotPinned]);
        let twice = vector.collateral(|collateral| {
            collateral["pck_crl"] = collateral["root_ca_crl"].clone();
        });
        assert_eq!(twice.steps(), [TdxStep::Revocation], "{:?}", twice.faults());
    }
}

#[test]
fn t09_an_edited_tcb_info_is_refused() {
    for vector in accepting() {
        let edited = vector.collateral(|collateral| {
            let text = collateral["tcb_info"].as_str().unwrap();
            collateral["tcb_info"] = text.replacen("UpToDate", "OutOfDate", 1).into();
        });
        assert_eq!(edited.steps(), [TdxStep::TcbInfo], "{:?}", edited.faults());
        let edited = vector.collateral(|collateral| {
            let text = collateral["qe_identity"].as_str().unwrap();
            collateral["qe_identity"] = text.replacen("UpToDate", "OutOfDate", 1).into();
        });
        assert_eq!(
            edited.steps(),
            [TdxStep::QeIdentity],
            "{:?}",
            edited.faults()
        );
    }
}

#[test]
fn t10_tcb_info_signed_by_the_ca_of_platforms_is_refused() {
    for vector in accepting() {
        for (chain, step) in [
            ("tcb_info_issuer_chain", TdxStep::TcbInfo),
            ("qe_identity_issuer_chain", TdxStep::QeIdentity),
        ] {
            let edited = vector.collateral(|collateral| {
                collateral[chain] = collateral["pck_crl_issuer_chain"].clone();
            });
            // A certificate authority in the place of a signer is seen before its signature.
            let steps = edited.steps();
            assert!(
                steps == [step] || steps == [TdxStep::Certificates],
                "{:?}",
                edited.faults()
            );
        }
    }
}

#[test]
fn t11_old_collateral_is_refused() {
    let old = named("v4-padded8000-google-2025");
    let new = named("v4-padded8000-google-2026");
    let whole = old.at(new.at.secs());
    assert_eq!(whole.steps(), [TdxStep::Revocation], "{:?}", whole.faults());
    let part = new.collateral(|collateral| {
        for member in ["tcb_info", "tcb_info_signature", "tcb_info_issuer_chain"] {
            collateral[member] = old.collateral[member].clone();
        }
    });
    assert_eq!(part.steps(), [TdxStep::TcbInfo], "{:?}", part.faults());
}

#[test]
fn t12_outside_the_window_of_the_collateral_nothing_is_valid() {
    for vector in accepting() {
        let day = |key: &str| {
            let text = vector.meta["collateral"][key].as_str().unwrap();
            crate::vectors::midnight(&text[..10])
        };
        for at_s in [
            day("valid_from") - 86_400,
            day("valid_to") + 2 * 86_400,
            0,
            u64::MAX / 2,
        ] {
            let faults = vector.at(at_s).faults();
            assert!(
                matches!(
                    faults.as_slice(),
                    [TdxFault::Step {
                        step: TdxStep::TcbInfo
                            | TdxStep::QeIdentity
                            | TdxStep::Revocation
                            | TdxStep::Validity,
                        ..
                    }]
                ),
                "{} {at_s}: {faults:?}",
                vector.name
            );
        }
    }
}

#[test]
fn t13_tcb_info_of_another_model_is_refused() {
    let vector = named("v5-td15-svn2-google");
    let other = named("v4-debug-2026");
    let edited = vector.collateral(|collateral| {
        for member in ["tcb_info", "tcb_info_signature", "tcb_info_issuer_chain"] {
            collateral[member] = other.collateral[member].clone();
        }
    });
    let edited = edited.at(other.at.secs());
    assert_eq!(
        edited.faults(),
        [TdxFault::Step {
            step: TdxStep::TcbLevel,
            reason: "Fmspc mismatch".to_owned()
        }]
    );
}

#[test]
fn t14_the_identity_of_the_sgx_quoting_enclave_is_refused() {
    let vector = named("v4-uptodate-dcapqvl");
    let sgx = named("sgx-v3-not-tdx");
    let edited = vector.collateral(|collateral| {
        for member in [
            "qe_identity",
            "qe_identity_signature",
            "qe_identity_issuer_chain",
        ] {
            collateral[member] = sgx.collateral[member].clone();
        }
    });
    let edited = edited.at(sgx.at.secs());
    assert_eq!(
        edited.steps(),
        [TdxStep::QeIdentity],
        "{:?}",
        edited.faults()
    );
}

#[test]
fn t15_collateral_below_the_floor_of_the_policy_is_refused() {
    let vector = named("v4-padded8000-google-2025");
    for (floor, outcome) in [
        (17, Outcome::Pass),
        (18, Outcome::Fail),
        (20, Outcome::Fail),
    ] {
        let text = format!("version = 1\n[tdx]\nminimum_evaluation_number = {floor}\n");
        let policy = Policy::from_toml(text.as_bytes()).unwrap();
        let appraisal = vector.with_policy(Some(&policy));
        let check = appraisal.check(CheckName::EvaluationNumber).unwrap();
        assert_eq!((check.outcome, check.found.as_str()), (outcome, "17"));
        let expected: &[CheckName] = match outcome {
            Outcome::Fail => &[CheckName::EvaluationNumber],
            Outcome::Pass | Outcome::NotApplicable | Outcome::NotRun => &[],
        };
        assert_eq!(failed(&appraisal), expected);
    }
}

#[test]
fn t16_every_truncation_of_the_quote_is_refused() {
    for vector in accepting() {
        let start = vector.signature_data();
        let length = &vector.quote[start..start + 4];
        let end = start + 4 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        for bytes in 0..end {
            let cut = vector.quote(|quote| quote.truncate(bytes));
            assert!(
                matches!(
                    cut.faults().as_slice(),
                    [TdxFault::Quote(QuoteProblem::Truncated { .. })]
                ),
                "{} {bytes}",
                vector.name
            );
        }
        // Less padding is the same quote.
        let bare = vector.quote(|quote| quote.truncate(end));
        assert_eq!(bare.evidence_id(), vector.evidence_id());
    }
}

#[test]
fn t17_t19_every_length_fits_exactly() {
    for vector in accepting() {
        let signature_data = vector.signature_data();
        let outer = signature_data + 4 + 130;
        let qe_auth = outer + 4 + 384 + 64;
        let inner = qe_auth + 2 + 32 + 2;
        let wide = |at: usize, change: &dyn Fn(u32) -> u32| {
            let edited = vector.quote(|quote| {
                let old = u32::from_le_bytes(quote[at..at + 4].try_into().unwrap());
                quote[at..at + 4].copy_from_slice(&change(old).to_le_bytes());
            });
            edited.faults()
        };
        for at in [signature_data, outer, inner] {
            for change in [&|_| u32::MAX, &|_| 0, &|old: u32| old + 1, &|old: u32| {
                old - 1
            }] as [&dyn Fn(u32) -> u32; 4]
            {
                let faults = wide(at, change);
                let seen = faults.iter().any(|fault| {
                    matches!(
                        fault,
                        TdxFault::Quote(QuoteProblem::Truncated { .. })
                            | TdxFault::Encoding(EncodingProblem::Length { .. })
                    )
                });
                assert!(seen, "{} {at}: {faults:?}", vector.name);
            }
        }
        for length in [0u16, 31, 33, 0xFFFF] {
            let edited = vector.quote(|quote| {
                quote[qe_auth..qe_auth + 2].copy_from_slice(&length.to_le_bytes());
            });
            assert!(!edited.faults().is_empty(), "{} {length}", vector.name);
        }
    }
}

#[test]
fn t18_the_writing_of_the_certificates_is_no_part_of_the_name() {
    for vector in accepting() {
        let chain = vector.signature_data() + 4 + 130 + 4 + 384 + 64 + 2 + 32 + 6;
        let line_break = chain + "-----BEGIN CERTIFICATE-----\n".len() + 64;
        assert_eq!(vector.quote[line_break], b'\n');
        let edited = vector.quote(|quote| quote[line_break] = b' ');
        if verify(&edited.evidence(), &Roots::amd().unwrap(), edited.at).is_ok() {
            assert_eq!(edited.evidence_id(), vector.evidence_id());
        }
        // The third certificate is the root that the quote brings: never looked at.
        let text = String::from_utf8_lossy(&vector.quote[chain..]).into_owned();
        let third = text.match_indices("BEGIN").nth(2).unwrap().0 + chain;
        let edited = vector.quote(|quote| {
            let byte = &mut quote[third + 200];
            *byte = if *byte == b'A' { b'B' } else { b'A' };
        });
        assert_eq!(edited.evidence_id(), vector.evidence_id());
    }
}

#[test]
fn collateral_that_is_missing_or_none_is_refused() {
    let vector = named("v4-uptodate-dcapqvl");
    let rows = [
        (None, CollateralProblem::Missing),
        (Some(Vec::new()), CollateralProblem::Json),
        (Some(b"{}".to_vec()), CollateralProblem::Json),
        (
            Some(vec![b' '; 128 * 1024 + 1]),
            CollateralProblem::TooLarge {
                found_bytes: 131_073,
            },
        ),
    ];
    for (collateral, problem) in rows {
        let evidence = Evidence::tdx(vector.quote.clone(), collateral);
        let error = verify(&evidence, &Roots::amd().unwrap(), vector.at).unwrap_err();
        assert_eq!(
            error.faults(),
            [VerifyFault::Tdx(TdxFault::Collateral(problem))]
        );
    }
}

#[test]
fn headers_of_no_tdx_quote_are_refused() {
    let vector = named("v5-td15-svn2-google");
    let rows: [(usize, u8, QuoteProblem); 5] = [
        (0, 3, QuoteProblem::Version { found: 3 }),
        (2, 3, QuoteProblem::AttestationKeyType { found: 3 }),
        (4, 0, QuoteProblem::TeeType { found: 0 }),
        (48, 1, QuoteProblem::BodyType { found: 1 }),
        (50, 1, QuoteProblem::BodySize { found_bytes: 0x201 }),
    ];
    for (at, byte, problem) in rows {
        let edited = vector.quote(|quote| quote[at] = byte);
        assert_eq!(edited.faults(), [TdxFault::Quote(problem)]);
    }
    let long = vector.quote(|quote| quote.resize(16 * 1024 + 1, 0));
    assert_eq!(
        long.faults(),
        [TdxFault::Quote(QuoteProblem::TooLarge {
            found_bytes: 16_385
        })]
    );
}

#[test]
fn a_policy_for_amd_alone_admits_no_intel() {
    let vector = named("v4-uptodate-dcapqvl");
    let policy = Policy::from_toml(b"version = 1\n[snp]\n").unwrap();
    let appraisal = vector.with_policy(Some(&policy));
    assert_eq!(failed(&appraisal), [CheckName::Platform]);
    assert_eq!(appraisal.verdict(), Verdict::Reject);
}

/// What the quote of `vector` says, as the image and signer of a policy.
pub(crate) fn pinned(vector: &Vector, lines: &str, image: &str) -> Policy {
    let parsed = attestation::tdx::Quote::parse(&vector.quote).unwrap();
    let claims = parsed.claims_for_display();
    let claim = |name: &str| {
        let found = claims.iter().find(|(claim, _)| *claim == name);
        found.unwrap().1.clone()
    };
    let values: String = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"]
        .iter()
        .map(|name| format!("{name} = \"{}\"\n", claim(name)))
        .collect();
    let text = format!("version = 1\n[tdx]\n{lines}\n[[tdx.images]]\n{values}{image}\n");
    Policy::from_toml(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_authentic_quote_that_the_policy_does_not_want_is_refused_by_one_check() {
    let vector = named("v5-td15-svn2-google");
    let other = "11".repeat(48);
    let list = |key: &str, bytes: usize| format!("{key} = [\"{}\"]", "11".repeat(bytes));
    let rows: Vec<(String, String, Option<CheckName>)> = vec![
        (String::new(), String::new(), None),
        (
            "attributes_required = [\"pks\"]".into(),
            String::new(),
            Some(CheckName::AttributesRequired),
        ),
        (
            "attributes_forbidden = [\"sept_ve_disable\"]".into(),
            String::new(),
            Some(CheckName::AttributesForbidden),
        ),
        (
            "xfam_required = [\"pt\"]".into(),
            String::new(),
            Some(CheckName::XfamRequired),
        ),
        (
            "xfam_forbidden = [\"sse\"]".into(),
            String::new(),
            Some(CheckName::XfamForbidden),
        ),
        (
            "statuses = [\"OutOfDate\"]".into(),
            String::new(),
            Some(CheckName::TcbStatus),
        ),
        (
            "minimum_evaluation_number = 19".into(),
            String::new(),
            Some(CheckName::EvaluationNumber),
        ),
        (
            "maximum_collateral_age_s = 3600".into(),
            String::new(),
            Some(CheckName::CollateralAge),
        ),
        (
            "allow_smt = false".into(),
            String::new(),
            Some(CheckName::PlatformFlags),
        ),
        (
            list("mr_seams", 48),
            String::new(),
            Some(CheckName::TdxModule),
        ),
        (list("owners", 48), String::new(), Some(CheckName::Owner)),
        (
            list("owner_configs", 48),
            String::new(),
            Some(CheckName::OwnerConfig),
        ),
        (
            list("ppids", 16),
            String::new(),
            Some(CheckName::AllowedChip),
        ),
        (
            list("piids", 16),
            String::new(),
            Some(CheckName::AllowedInstance),
        ),
        (
            "minimum_root_crl_number = 1000".into(),
            String::new(),
            Some(CheckName::CrlNumbers),
        ),
        (
            "minimum_root_crl_number = 1\nminimum_pck_crl_number = 1000".into(),
            String::new(),
            Some(CheckName::CrlNumbers),
        ),
        (
            "sgx_types = [\"standard\"]".into(),
            String::new(),
            Some(CheckName::SgxType),
        ),
        (
            "sgx_types = [\"scalable\", \"scalable-with-integrity\"]".into(),
            String::new(),
            None,
        ),
        // Up to date: nothing to be patient with.
        (
            "platform_grace_s = 0\nqe_grace_s = 0".into(),
            String::new(),
            None,
        ),
        (
            list("manifest_signers", 32),
            String::new(),
            Some(CheckName::ManifestSigner),
        ),
        // An MRCONFIGID of zeros names nobody, not even the signer whose digest would be zeros.
        (
            format!("manifest_signers = [\"{}\"]", "00".repeat(32)),
            String::new(),
            Some(CheckName::ManifestSigner),
        ),
    ];
    for (lines, image, expected) in rows {
        let appraisal = vector.with_policy(Some(&pinned(&vector, &lines, &image)));
        assert_eq!(
            failed(&appraisal),
            expected.into_iter().collect::<Vec<_>>(),
            "{lines}"
        );
    }
    // Another firmware, or a window that is over, leaves no image to compare the registers with.
    let ended = pinned(&vector, "", "not_after = 1");
    assert_eq!(
        failed(&vector.with_policy(Some(&ended))),
        [CheckName::Rtmrs, CheckName::Measurement]
    );
    let text = format!(
        "version = 1\n[tdx]\n[[tdx.images]]\nmrtd = \"{}\"\nrtmr1 = \"{other}\"\nrtmr2 = \"{other}\"\n",
        "7348651a34b2d2d3".to_owned() + &hex::encode(&vector.quote[54 + 136 + 8..54 + 136 + 48])
    );
    let loaded = Policy::from_toml(text.as_bytes()).unwrap();
    assert_eq!(
        failed(&vector.with_policy(Some(&loaded))),
        [CheckName::Rtmrs]
    );
}

#[test]
fn a_platform_that_is_out_of_date_has_as_long_as_the_policy_gives_it() {
    let vector = named("v4-padded8000-google-2026");
    let statuses = "statuses = [\"OutOfDate\"]\n";
    // Some years after the date of its level; whoever asks for days refuses it.
    for (grace, expected) in [
        (String::new(), vec![]),
        ("platform_grace_s = 315_360_000".to_owned(), vec![]),
        (
            "platform_grace_s = 864_000".to_owned(),
            vec![CheckName::TcbAge],
        ),
    ] {
        let lines = format!("{statuses}{grace}");
        let appraisal = vector.with_policy(Some(&pinned(&vector, &lines, "")));
        assert_eq!(failed(&appraisal), expected, "{lines}");
    }
}

#[test]
fn a_service_td_is_allowed_only_by_its_hash() {
    let vector = named("v5-servicetd-alibaba");
    let parsed = attestation::tdx::Quote::parse(&vector.quote).unwrap();
    let claims = parsed.claims_for_display();
    let hash = &claims
        .iter()
        .find(|(name, _)| *name == "mr_service_td")
        .unwrap()
        .1;
    let statuses = "statuses = [\"OutOfDate\"]\n";
    for (lines, expected) in [
        (format!("{statuses}service_tds = [\"{hash}\"]"), vec![]),
        (
            format!("{statuses}service_tds = [\"{}\"]", "11".repeat(48)),
            vec![CheckName::ServiceTd],
        ),
        (statuses.to_owned(), vec![CheckName::ServiceTd]),
    ] {
        let appraisal = vector.with_policy(Some(&pinned(&vector, &lines, "")));
        assert_eq!(failed(&appraisal), expected, "{lines}");
    }
}
