//! Every recipe of `mutations.json` on every real report to which it applies.

use std::fs;

use attestation::snp::CertificateRole::{Ask, Vek};
use attestation::snp::{Line, Report, ReportProblem, UnsignedRegion};
use attestation::{
    Endorsements, Evidence, Roots, UnixTime, Verified, VerifyError, VerifyFault, verify,
};
use serde_json::Value;

use crate::vectors::{Vector, accepting, all, folder, text};

const SIGNATURE: usize = 0x2A0;
/// The order of P-384, big endian [SEC 2 §2.5.1].
const ORDER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";

fn run(vector: &Vector, edit: impl FnOnce(&mut Evidence)) -> Result<Verified, VerifyError> {
    let mut evidence = vector.evidence.clone();
    edit(&mut evidence);
    verify(&evidence, &Roots::amd().unwrap(), vector.at)
}

/// The faults of an edited vector; none if it still verifies.
fn faults(vector: &Vector, edit: impl FnOnce(&mut Evidence)) -> Vec<VerifyFault> {
    run(vector, edit)
        .err()
        .map(|error| error.faults().to_vec())
        .unwrap_or_default()
}

fn line(vector: &Vector) -> Line {
    match text(&vector.meta, "generation") {
        "Milan" => Line::Milan,
        "Genoa" => Line::Genoa,
        "Turin" => Line::Turin,
        other => panic!("{other}"),
    }
}

fn asvk(vector: &Vector) -> Vec<u8> {
    let name = format!(
        "roots/amd_{}_asvk.der",
        text(&vector.meta, "generation").to_lowercase()
    );
    fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_recipe_is_known_here() {
    let recipes: Value =
        serde_json::from_slice(&fs::read(folder().join("mutations.json")).unwrap()).unwrap();
    let ids: Vec<&str> = recipes["snp"]
        .as_array()
        .unwrap()
        .iter()
        .map(|recipe| recipe["id"].as_str().unwrap())
        .collect();
    // One test below for each, with the id in its name.
    let known: Vec<String> = (1..=15).map(|number| format!("S{number:02}")).collect();
    assert_eq!(ids, known);
}

#[test]
fn s01_reserved_tcb_bits_are_under_the_signature() {
    for vector in accepting() {
        let bytes: Vec<usize> = match line(&vector) {
            Line::Milan | Line::Genoa => [0x3A..0x3E, 0x182..0x186, 0x1E2..0x1E6, 0x1F2..0x1F6]
                .into_iter()
                .flatten()
                .collect(),
            Line::Turin => [0x3C..0x3F, 0x184..0x187, 0x1E4..0x1E7, 0x1F4..0x1F7]
                .into_iter()
                .flatten()
                .collect(),
        };
        for byte in bytes {
            for bit in 0..8 {
                let faults = faults(&vector, |evidence| evidence.report[byte] ^= 1 << bit);
                assert_eq!(
                    faults.first(),
                    Some(&VerifyFault::ReportSignature),
                    "{} {byte:#x} {bit}",
                    vector.name
                );
                // In the reported TCB the change is also seen against the certificate.
                assert_eq!(
                    faults.len(),
                    if (0x180..0x188).contains(&byte) { 2 } else { 1 }
                );
            }
        }
    }
}

#[test]
fn s02_s03_s04_the_unsigned_tail_has_one_encoding() {
    let rows = [
        (50, UnsignedRegion::R),
        (48, UnsignedRegion::R),
        (71, UnsignedRegion::R),
        (72 + 60, UnsignedRegion::S),
        (72 + 48, UnsignedRegion::S),
        (143, UnsignedRegion::S),
        (200, UnsignedRegion::Padding),
        (144, UnsignedRegion::Padding),
        (511, UnsignedRegion::Padding),
    ];
    for vector in accepting() {
        for (offset, region) in rows {
            let faults = faults(&vector, |evidence| evidence.report[SIGNATURE + offset] = 1);
            assert_eq!(
                faults,
                [VerifyFault::SignatureEncoding { region }],
                "{} {offset}",
                vector.name
            );
        }
    }
}

#[test]
fn s05_the_other_s_verifies_and_has_the_same_evidence_id() {
    let mut high = 0;
    for vector in accepting() {
        let original = run(&vector, |_| {}).unwrap().evidence_id();
        let negated = run(&vector, |evidence| negate_s(&mut evidence.report)).unwrap();
        assert_eq!(negated.evidence_id(), original, "{}", vector.name);
        assert_ne!(negated.report().unwrap().raw(), vector.evidence.report);
        high += usize::from(vector.meta["s_is_high"].as_bool().unwrap());
    }
    // A rule for a low s would refuse genuine reports.
    assert!(high > 0);
}

/// s := n - s, little endian at 0x2A0 + 72.
fn negate_s(report: &mut [u8]) {
    let order: Vec<u8> = hex::decode(ORDER).unwrap().into_iter().rev().collect();
    let s = &mut report[SIGNATURE + 72..SIGNATURE + 72 + 48];
    let mut borrow = 0i16;
    for (byte, n) in s.iter_mut().zip(order) {
        let difference = i16::from(n) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = difference.rem_euclid(256).try_into().unwrap();
    }
    assert_eq!(borrow, 0);
}

#[test]
fn s06_an_appended_byte_is_refused() {
    for vector in accepting() {
        let faults = faults(&vector, |evidence| evidence.report.push(0));
        assert_eq!(
            faults,
            [VerifyFault::Report(ReportProblem::Length {
                found_bytes: 1185
            })]
        );
    }
}

#[test]
fn s07_an_unknown_version_is_refused_before_anything_else() {
    for vector in accepting() {
        for version in [0, 1, 6, 7, 255] {
            let faults = faults(&vector, |evidence| evidence.report[0] = version);
            assert_eq!(
                faults,
                [VerifyFault::Report(ReportProblem::Version {
                    found: version.into()
                })]
            );
        }
    }
}

#[test]
fn s08_reserved_bytes_are_under_the_signature() {
    for vector in accepting() {
        let faults = faults(&vector, |evidence| evidence.report[0x4C] ^= 1);
        assert_eq!(faults, [VerifyFault::ReportSignature], "{}", vector.name);
    }
}

#[test]
fn s09_a_flipped_bit_in_every_signed_byte_is_refused() {
    for vector in accepting() {
        for byte in 0..SIGNATURE {
            sweep(&vector, byte, byte % 8);
        }
    }
}

#[test]
#[ignore = "takes minutes: 75,000 verifications"]
fn s09_every_flipped_signed_bit_is_refused() {
    for vector in accepting() {
        for byte in 0..SIGNATURE {
            for bit in 0..8 {
                sweep(&vector, byte, bit);
            }
        }
    }
}

fn sweep(vector: &Vector, byte: usize, bit: usize) {
    let faults = faults(vector, |evidence| evidence.report[byte] ^= 1 << bit);
    let version_is_unknown = matches!(
        faults.as_slice(),
        [VerifyFault::Report(ReportProblem::Version { .. })]
    );
    let signature_is_seen = faults.contains(&VerifyFault::ReportSignature);
    assert!(
        version_is_unknown && byte < 4 || signature_is_seen,
        "{} {byte:#x} {bit}: {faults:?}",
        vector.name
    );
}

// S10 is `vectors::a_forged_chain_with_amds_names_is_refused`.

#[test]
fn s11_the_key_of_another_chip_is_refused_by_signature_and_by_chip() {
    let vectors = accepting();
    let mut pairs = 0;
    for vector in &vectors {
        let others = vectors.iter().filter(|other| {
            line(other) == line(vector)
                && text(&other.meta, "chip_id") != text(&vector.meta, "chip_id")
        });
        for other in others {
            let faults = faults(
                &Vector {
                    at: vector.at.max(other.at),
                    ..clone(vector)
                },
                |evidence| {
                    evidence
                        .endorsements
                        .vek
                        .clone_from(&other.evidence.endorsements.vek)
                },
            );
            assert!(
                faults.contains(&VerifyFault::ReportSignature),
                "{} {}: {faults:?}",
                vector.name,
                other.name
            );
            assert!(
                faults.contains(&VerifyFault::ChipId),
                "{} {}: {faults:?}",
                vector.name,
                other.name
            );
            pairs += 1;
        }
    }
    assert!(pairs >= 40, "{pairs}");
}

fn clone(vector: &Vector) -> Vector {
    Vector {
        name: vector.name.clone(),
        meta: vector.meta.clone(),
        evidence: vector.evidence.clone(),
        at: vector.at,
    }
}

#[test]
fn s12_the_signing_key_of_the_other_kind_is_refused() {
    let mut kinds = 0;
    for vector in all()
        .into_iter()
        .filter(|vector| text(&vector.meta, "crypto") == "valid")
    {
        let vlek = text(&vector.meta, "vek_cn") == "SEV-VLEK";
        let other = if vlek {
            let name = format!(
                "roots/amd_{}_ask.der",
                text(&vector.meta, "generation").to_lowercase()
            );
            fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
        } else {
            asvk(&vector)
        };
        let found = text(&vector.meta, "vek_cn").to_owned();
        let faults = faults(&vector, |evidence| evidence.endorsements.ask = Some(other));
        assert_eq!(
            faults.get(..3),
            Some(
                [
                    VerifyFault::IssuerMismatch { certificate: Vek },
                    VerifyFault::CertificateSignature { certificate: Vek },
                    VerifyFault::CommonName {
                        certificate: Vek,
                        found
                    },
                ]
                .as_slice()
            ),
            "{}: {faults:?}",
            vector.name
        );
        kinds |= if vlek { 1 } else { 2 };
    }
    assert_eq!(kinds, 3);
}

#[test]
fn s13_outside_the_validity_of_the_key_nothing_is_valid() {
    for vector in all()
        .into_iter()
        .filter(|vector| text(&vector.meta, "crypto") == "valid")
    {
        let before = Vector {
            at: UnixTime::from_secs(vector.at.secs() - 60 * 86_400),
            ..clone(&vector)
        };
        assert_eq!(
            faults(&before, |_| {}),
            [VerifyFault::NotYetValid { certificate: Vek }],
            "{}",
            vector.name
        );
        let years = if text(&vector.meta, "vek_cn") == "SEV-VLEK" {
            1
        } else {
            7
        };
        let after = Vector {
            at: UnixTime::from_secs(vector.at.secs() + years * 366 * 86_400),
            ..clone(&vector)
        };
        assert_eq!(
            faults(&after, |_| {}),
            [VerifyFault::Expired { certificate: Vek }],
            "{}",
            vector.name
        );
        let never = Vector {
            at: UnixTime::from_secs(u64::MAX),
            ..clone(&vector)
        };
        let all_expired = faults(&never, |_| {});
        assert!(
            all_expired.contains(&VerifyFault::Expired { certificate: Ask }),
            "{all_expired:?}"
        );
    }
}

#[test]
fn s14_every_truncation_is_refused() {
    for vector in accepting() {
        for found_bytes in 0..1184 {
            let faults = faults(&vector, |evidence| evidence.report.truncate(found_bytes));
            assert_eq!(
                faults,
                [VerifyFault::Report(ReportProblem::Length { found_bytes })]
            );
        }
    }
}

#[test]
fn s15_degenerate_signatures_are_refused() {
    let order: Vec<u8> = hex::decode(ORDER).unwrap().into_iter().rev().collect();
    let (zero, full) = (vec![0; 48], vec![0xFF; 48]);
    for vector in accepting() {
        let r = vector.evidence.report[SIGNATURE..SIGNATURE + 48].to_vec();
        let s = vector.evidence.report[SIGNATURE + 72..SIGNATURE + 120].to_vec();
        let rows = [
            (&zero, &s),
            (&r, &zero),
            (&zero, &zero),
            (&order, &s),
            (&r, &order),
            (&order, &order),
            (&full, &full),
            (&s, &r),
        ];
        for (r, s) in rows {
            let faults = faults(&vector, |evidence| {
                evidence.report[SIGNATURE..SIGNATURE + 48].copy_from_slice(r);
                evidence.report[SIGNATURE + 72..SIGNATURE + 120].copy_from_slice(s);
            });
            assert_eq!(faults, [VerifyFault::ReportSignature], "{}", vector.name);
        }
    }
}

#[test]
fn the_evidence_id_is_of_the_signed_bytes_alone() {
    for vector in accepting() {
        let report = Report::parse(&vector.evidence.report).unwrap();
        let expected =
            ring::digest::digest(&ring::digest::SHA256, &vector.evidence.report[..SIGNATURE]);
        assert_eq!(report.evidence_id().as_slice(), expected.as_ref());
    }
}

#[test]
fn a_missing_key_is_refused() {
    for vector in accepting() {
        for vek in [None, Some(vec![])] {
            let faults = faults(&vector, |evidence| {
                evidence.endorsements = Endorsements {
                    vek,
                    ask: None,
                    ark: None,
                }
            });
            assert_eq!(faults, [VerifyFault::VekMissing]);
        }
    }
}
