//! What one SEV-SNP report with its chain costs, beside the signatures in it alone: one P-384, two RSA-4096. Both are
//! measured in turns, in one process; the least of many rounds counts, because noise only adds.
//!
//! `cargo bench --bench snp_report -- FILE` writes the row to a file, too.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bench reads the clock and prints, and ends at the first surprise"
)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use attestation::{Endorsements, Evidence, Roots, UnixTime, verify};
use ring::signature::{
    ECDSA_P384_SHA384_FIXED, RSA_PSS_2048_8192_SHA384, RsaPublicKeyComponents, UnparsedPublicKey,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// The cost of a verification, in the cost of its signatures.
const BAR: f64 = 1.2;
const ROUNDS: u32 = 300;
/// Verifications of each kind in a round.
const BATCH: u32 = 5;
/// Within the validity of the recorded key: 2026-06-01.
const AT: UnixTime = UnixTime::from_secs(1_780_272_000);

/// A signed certificate and the key that signed it.
struct Link {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Link {
    fn new(certificate: &[u8], issuer: &[u8]) -> Self {
        let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
        let (_, issuer) = X509Certificate::from_der(issuer).unwrap();
        let PublicKey::RSA(key) = issuer.public_key().parsed().unwrap() else {
            unreachable!("AMD's authorities have RSA keys");
        };
        let start = key.modulus.iter().position(|byte| *byte != 0).unwrap();
        Self {
            modulus: key.modulus[start..].to_vec(),
            exponent: key.exponent.to_vec(),
            signed: certificate.tbs_certificate.as_ref().to_vec(),
            signature: certificate.signature_value.data.to_vec(),
        }
    }

    fn verify(&self) {
        let key = RsaPublicKeyComponents {
            n: &self.modulus,
            e: &self.exponent,
        };
        key.verify(&RSA_PSS_2048_8192_SHA384, &self.signed, &self.signature)
            .unwrap();
    }
}

fn least(best: Duration, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..BATCH {
        work();
    }
    best.min(start.elapsed())
}

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vector = here.join("tests/vectors/snp/genoa-v3-aci");
    let report = fs::read(vector.join("report.bin")).unwrap();
    let vek = fs::read(vector.join("vek.der")).unwrap();
    let ask = fs::read(here.join("roots/amd_genoa_ask.der")).unwrap();
    let ark = fs::read(here.join("roots/amd_genoa_ark.der")).unwrap();

    let links = [Link::new(&vek, &ask), Link::new(&ask, &ark)];
    let (_, certificate) = X509Certificate::from_der(&vek).unwrap();
    let point = certificate.public_key().subject_public_key.data.to_vec();
    let part = |start: usize| report[start..start + 48].iter().rev().copied();
    let signature: Vec<u8> = part(0x2A0).chain(part(0x2A0 + 72)).collect();
    let signatures = || {
        links.iter().for_each(Link::verify);
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point)
            .verify(&report[..0x2A0], &signature)
            .unwrap();
    };
    let roots = Roots::amd().unwrap();
    let evidence = Evidence::snp(
        report.clone(),
        Endorsements {
            vek: Some(vek.clone()),
            ask: Some(ask),
            ark: Some(ark),
        },
    );
    let whole = || {
        black_box(verify(black_box(&evidence), &roots, AT).unwrap());
    };
    let (mut bare, mut ours) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        bare = least(bare, signatures);
        ours = least(ours, whole);
    }
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    let us = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(BATCH);
    let met = ratio <= BAR;
    println!(
        "snp_report_over_signatures = {ratio:.3} (bar <= {BAR}): {:.0} µs with everything, {:.0} µs for one P-384 and two RSA-4096 signatures: {}",
        us(ours),
        us(bare),
        if met { "met" } else { "NOT MET" }
    );
    let rows = serde_json::json!([{
        "name": "snp_report_over_signatures",
        "value": (ratio * 1000.0).round() / 1000.0,
        "unit": "ratio",
        "bar": format!("<= {BAR}"),
        "met": met,
        "runs": ROUNDS,
    }]);
    if let Some(file) = std::env::args().skip(1).find(|word| !word.starts_with('-')) {
        let file = Path::new(&file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
    }
    if !met {
        std::process::exit(1);
    }
}
