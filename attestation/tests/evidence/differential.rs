//! Our verifier against that of `sev`, on real reports and changes of them: every disagreement is of a known kind.

use std::fs;

use attestation::{Roots, VerifyFault, verify};
use sev::certs::snp::{Certificate, Chain, Verifiable, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

use crate::vectors::{Vector, all, folder, text};

const SIGNATURE: usize = 0x2A0;

fn root(vector: &Vector, kind: &str) -> Vec<u8> {
    let line = text(&vector.meta, "generation").to_lowercase();
    fs::read(format!(
        "{}/roots/amd_{line}_{kind}.der",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

/// What `sev` says about a report under a certificate.
fn oracle(vek: &Certificate, report: &[u8]) -> bool {
    AttestationReport::from_bytes(report).is_ok_and(|report| (vek, &report).verify().is_ok())
}

fn faults(vector: &Vector, report: &[u8]) -> Vec<VerifyFault> {
    let mut evidence = vector.evidence.clone();
    evidence.report = report.to_vec();
    verify(&evidence, &Roots::amd().unwrap(), vector.at)
        .err()
        .map(|error| error.faults().to_vec())
        .unwrap_or_default()
}

/// Bytes of a TCB version that mean nothing on this line: `sev` drops them when it writes the report again.
fn is_reserved_tcb(vector: &Vector, byte: usize) -> bool {
    let ranges = if text(&vector.meta, "generation") == "Turin" {
        [0x3C..0x3F, 0x184..0x187, 0x1E4..0x1E7, 0x1F4..0x1F7]
    } else {
        [0x3A..0x3E, 0x182..0x186, 0x1E2..0x1E6, 0x1F2..0x1F6]
    };
    ranges.iter().any(|range| range.contains(&byte))
}

/// Where two bytes of a report may differ for a disagreement of the kinds S01 to S04: reserved TCB bytes, the unused
/// bytes of r and s, the padding.
fn is_known_kind(vector: &Vector, byte: usize) -> bool {
    let unused_r = SIGNATURE + 48..SIGNATURE + 72;
    let unused_s = SIGNATURE + 72 + 48..1184;
    is_reserved_tcb(vector, byte) || unused_r.contains(&byte) || unused_s.contains(&byte)
}

#[test]
fn on_real_chains_both_verifiers_agree() {
    let mut compared = 0;
    for vector in all() {
        let Some(vek) = vector.evidence.endorsements.vek.as_deref() else {
            continue;
        };
        let kind = if text(&vector.meta, "vek_cn") == "SEV-VLEK" {
            "asvk"
        } else {
            "ask"
        };
        let chain = Chain {
            ca: ca::Chain::from_der(&root(&vector, "ark"), &root(&vector, kind)).unwrap(),
            vek: Certificate::from_der(vek).unwrap(),
        };
        let report = AttestationReport::from_bytes(&vector.evidence.report);
        let theirs = report.is_ok_and(|report| (&chain, &report).verify().is_ok());
        let ours = faults(&vector, &vector.evidence.report).is_empty();
        assert_eq!(ours, theirs, "{}", vector.name);
        compared += 1;
    }
    assert!(compared >= 15, "{compared}");
}

/// S10: the oracle takes whatever chain it is handed.
#[test]
fn a_forged_chain_convinces_the_oracle_and_not_us() {
    let file =
        |name: &str| fs::read(folder().join("synthetic/forged-amd-root").join(name)).unwrap();
    let chain = Chain {
        ca: ca::Chain::from_der(&file("ark.der"), &file("ask.der")).unwrap(),
        vek: Certificate::from_der(&file("vcek.der")).unwrap(),
    };
    let report = AttestationReport::from_bytes(&file("report.bin")).unwrap();
    assert!((&chain, &report).verify().is_ok());
    // That we refuse it is `vectors::a_forged_chain_with_amds_names_is_refused`.
}

/// A few thousand; 100,000 when `TOKENKEEP_SOAK` is `full`.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a test runs is the runner's to say"
)]
fn rounds() -> u32 {
    match std::env::var("TOKENKEEP_SOAK").as_deref() {
        Ok("full") => 100_000,
        Ok(_) | Err(_) => 3_000,
    }
}

#[test]
fn on_changed_reports_the_verifiers_disagree_in_the_known_ways_only() {
    let vectors: Vec<(Vector, Certificate)> = all()
        .into_iter()
        .filter_map(|vector| {
            let vek = Certificate::from_der(vector.evidence.endorsements.vek.as_deref()?).unwrap();
            Some((vector, vek))
        })
        // Those that neither takes as they are say nothing about a change.
        .filter(|(vector, vek)| {
            let report = &vector.evidence.report;
            faults(vector, report).is_empty() && oracle(vek, report)
        })
        .collect();
    assert!(vectors.len() >= 13, "{}", vectors.len());
    // xorshift64, from a fixed seed: a failure is the same in each run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| -> usize {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let (mut disagreements, mut refused) = (0u32, 0u32);
    for round in 0..rounds() {
        let (vector, vek) = &vectors[random(vectors.len())];
        let mut report = vector.evidence.report.clone();
        let mut changed = Vec::new();
        for _ in 0..=random(3) {
            let byte = random(report.len());
            report[byte] ^= u8::try_from(1 + random(255)).unwrap();
            changed.push(byte);
        }
        // Now and then another length.
        if random(16) == 0 {
            let bytes = random(1_300);
            report.resize(bytes, 0);
            changed.extend(bytes.min(1_184)..1_184);
        }
        if report == vector.evidence.report {
            continue;
        }
        let ours = faults(vector, &report).is_empty();
        let theirs = oracle(vek, &report);
        // No byte of a report may be changed but in r and s, where a change that verifies is the other s.
        assert!(!ours, "{} {round}: {changed:x?}", vector.name);
        refused += 1;
        if theirs {
            disagreements += 1;
            let known = changed.iter().all(|byte| {
                is_known_kind(vector, *byte)
                    || report.get(*byte) == vector.evidence.report.get(*byte)
            });
            assert!(known, "{} {round}: {changed:x?}", vector.name);
        }
    }
    assert!(
        disagreements > 0 && refused > disagreements,
        "{disagreements} of {refused}"
    );
}
