//! Evidence, bundles, manifests, policies and deposits, as a host or a tenant hands them over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ::attestation::manifest::EnclaveKind;
use ::attestation::snp::Report;
use ::attestation::{
    DepositContext, DepositEnvelope, DepositPrivateKey, Endorsements, Evidence, Expected,
    KeyBundle, Manifest, NoncePath, NonceTree, P256PublicKey, Policy, Roots, TokenKey, UnixTime,
    Verdict, appraise, verify,
};
use ring::rand::SystemRandom;

use super::Target;

pub(super) const BUNDLE: Target = Target {
    name: "attestation_bundle",
    run: bundle,
    seeds: bundle_seeds,
};
pub(super) const DEPOSIT: Target = Target {
    name: "attestation_deposit",
    run: deposit,
    seeds: deposit_seeds,
};
pub(super) const EVIDENCE: Target = Target {
    name: "attestation_evidence",
    run: evidence,
    seeds: evidence_seeds,
};
pub(super) const MANIFEST: Target = Target {
    name: "attestation_manifest",
    run: manifest,
    seeds: manifest_seeds,
};
pub(super) const NONCE_PATH: Target = Target {
    name: "attestation_nonce_path",
    run: nonce_path,
    seeds: nonce_path_seeds,
};
pub(super) const POLICY: Target = Target {
    name: "attestation_policy",
    run: policy,
    seeds: policy_seeds,
};
pub(super) const REPORT: Target = Target {
    name: "attestation_report",
    run: report,
    seeds: report_seeds,
};

/// When all the recorded keys are valid.
const AT: UnixTime = UnixTime::from_secs(1_780_000_000);
const SECRET: &[u8] = b"a refresh token";
const NONCE: [u8; 32] = [7; 32];
/// The base point of P-256, uncompressed: some public key.
const POINT: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                     4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

fn crate_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../attestation")
}

/// The recorded reports with their VEKs.
static RECORDED: LazyLock<Vec<Evidence>> = LazyLock::new(|| {
    let mut dirs: Vec<PathBuf> = fs::read_dir(crate_dir().join("tests/vectors/snp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    dirs.sort();
    dirs.iter()
        .map(|dir| {
            let report = fs::read(dir.join("report.bin")).unwrap();
            let vek = fs::read(dir.join("vek.der")).ok();
            let endorsements = Endorsements {
                vek,
                ..Endorsements::default()
            };
            Evidence::snp(report, endorsements)
        })
        .collect()
});
static ROOTS: LazyLock<Roots> = LazyLock::new(|| Roots::amd().unwrap());
static ANY_POLICY: LazyLock<Policy> =
    LazyLock::new(|| Policy::from_toml(&policy_seeds()[0]).unwrap());

fn report(input: &[u8]) -> bool {
    let Ok(report) = Report::parse(input) else {
        return false;
    };
    assert_eq!(report.raw(), input, "every byte is accounted for");
    assert!(input.starts_with(report.signed_body()));
    true
}

fn report_seeds() -> Vec<Vec<u8>> {
    RECORDED
        .iter()
        .map(|evidence| evidence.report.clone())
        .collect()
}

fn evidence(input: &[u8]) -> bool {
    static GENUINE: LazyLock<BTreeSet<Vec<u8>>> = LazyLock::new(|| {
        RECORDED
            .iter()
            .map(|evidence| {
                let report = Report::parse(&evidence.report).unwrap();
                report.signed_body().to_vec()
            })
            .collect()
    });
    let Ok(evidence) = Evidence::from_json(input) else {
        return false;
    };
    let again = Evidence::from_json(evidence.to_json().unwrap().as_bytes()).unwrap();
    assert_eq!(again, evidence);
    let Ok(verified) = verify(&evidence, &ROOTS, AT) else {
        return false;
    };
    let body = verified.report().unwrap().signed_body();
    assert!(GENUINE.contains(body), "a report that AMD never signed");
    assert!(!verified.is_emulated());
    let appraisal = appraise(verified, Some(&ANY_POLICY), &Expected::saved());
    // No recorded guest has the measurement of the sample.
    assert!(!matches!(appraisal.verdict(), Verdict::Accept));
    true
}

fn evidence_seeds() -> Vec<Vec<u8>> {
    RECORDED
        .iter()
        .filter(|evidence| verify(evidence, &ROOTS, AT).is_ok())
        .map(|evidence| evidence.to_json().unwrap().into_bytes())
        .collect()
}

fn policy(input: &[u8]) -> bool {
    Policy::from_toml(input).is_ok()
}

fn policy_seeds() -> Vec<Vec<u8>> {
    vec![fs::read(crate_dir().join("samples/policy.toml")).unwrap()]
}

fn manifest(input: &[u8]) -> bool {
    // Unsigned bytes open nothing, whatever they say: the file is its own signature here.
    let opened = Manifest::open(input, input, &[0; 32], EnclaveKind::Emulated);
    assert!(opened.is_err());
    let hardware = Manifest::check(input, EnclaveKind::Hardware);
    let emulated = Manifest::check(input, EnclaveKind::Emulated);
    for faults in [&hardware, &emulated] {
        assert_ne!(*faults, Err(Vec::new()), "refused without a fault");
    }
    hardware.is_ok() || emulated.is_ok()
}

fn manifest_seeds() -> Vec<Vec<u8>> {
    vec![fs::read(crate_dir().join("samples/manifest.toml")).unwrap()]
}

fn bundle(input: &[u8]) -> bool {
    let Ok(bundle) = KeyBundle::decode(input) else {
        return false;
    };
    assert_eq!(bundle.encode().unwrap(), input, "one encoding only");
    true
}

fn bundle_seeds() -> Vec<Vec<u8>> {
    let point: Vec<u8> = (0..65)
        .map(|at| u8::from_str_radix(&POINT[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let key = P256PublicKey::from_point(&point).unwrap();
    let token_key = |kid: &str| TokenKey {
        kid: kid.to_owned(),
        key,
    };
    let bundle = KeyBundle {
        enclave_ca_der: vec![0x30; 300],
        instance_key: key,
        token_keys: vec![token_key("k-1"), token_key("k-2")],
        hpke_public: [3; 32],
        log_key_spki: vec![0x30; 44],
        manifest_digest: [4; 32],
        manifest_signer: [5; 32],
        boot_identity: [6; 32],
        issuer: "https://issuer.test".to_owned(),
        grpc_origin: "https://grpc.test:8443".to_owned(),
        public_origin: "https://issuer.test".to_owned(),
        gateway_origin: "https://gateway.test".to_owned(),
    };
    vec![bundle.encode().unwrap()]
}

const CONTEXT: DepositContext<'static> = DepositContext {
    tenant: "t-1",
    app: "crm",
    grant: "t-1-crm",
    kind: "refresh_token",
    bundle_digest: &[9; 32],
};

fn deposit_key() -> DepositPrivateKey {
    DepositPrivateKey::from_bytes(&[7; 32]).unwrap()
}

fn deposit(input: &[u8]) -> bool {
    let (key, ciphertext) = input.split_at(input.len().min(32));
    let Ok(envelope) = DepositEnvelope::from_parts(key, ciphertext.to_vec()) else {
        return false;
    };
    assert_eq!(
        [envelope.encapsulated_key(), envelope.ciphertext()].concat(),
        input
    );
    let Ok(secret) = envelope.open(&deposit_key(), &CONTEXT) else {
        return false;
    };
    assert!(
        secret.expose_secret() == SECRET,
        "another secret than was sealed"
    );
    true
}

fn deposit_seeds() -> Vec<Vec<u8>> {
    let envelope = DepositEnvelope::seal(
        deposit_key().public(),
        &CONTEXT,
        SECRET,
        &SystemRandom::new(),
    )
    .unwrap();
    vec![[envelope.encapsulated_key(), envelope.ciphertext()].concat()]
}

/// Index and size of four bytes each, then siblings of 32.
fn nonce_path(input: &[u8]) -> bool {
    let (Some((index, rest)), tree) = (input.split_first_chunk::<4>(), nonce_tree()) else {
        return false;
    };
    let Some((size, rest)) = rest.split_first_chunk::<4>() else {
        return false;
    };
    let siblings: Vec<[u8; 32]> = rest.as_chunks::<32>().0.to_vec();
    let (index, size) = (u32::from_be_bytes(*index), u32::from_be_bytes(*size));
    let Ok(path) = NoncePath::new(index, size, siblings) else {
        return false;
    };
    if path.root(&NONCE) != tree.root() {
        return false;
    }
    let genuine = tree.path(5).unwrap();
    assert_eq!(
        path.siblings(),
        genuine.siblings(),
        "another path to the same root"
    );
    true
}

fn nonce_tree() -> NonceTree {
    let nonces: Vec<[u8; 32]> = (2..13).map(|byte| [byte; 32]).collect();
    NonceTree::new(&nonces).unwrap()
}

fn nonce_path_seeds() -> Vec<Vec<u8>> {
    let path = nonce_tree().path(5).unwrap();
    let mut bytes = path.index().to_be_bytes().to_vec();
    bytes.extend(path.tree_size().to_be_bytes());
    bytes.extend(path.siblings().concat());
    vec![bytes]
}
