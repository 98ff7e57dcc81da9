//! Evidence, bundles, manifests, policies and deposits, as a host or a tenant hands them over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ::attestation::eventlog::{EventLog, ReplayError};
use ::attestation::manifest::EnclaveKind;
use ::attestation::platform::CertificateTable;
use ::attestation::snp::Report;
use ::attestation::tdx::{Answer, Answers, PlatformModel, Quote};
use ::attestation::{
    DepositContext, DepositEnvelope, DepositPrivateKey, Endorsements, Evidence, Expected,
    KeyBundle, Manifest, NoncePath, NonceTree, P256PublicKey, Policy, Roots, TokenKey,
    TokenPublicKey, UnixTime, Verdict, appraise, verify,
};
use ring::rand::SystemRandom;

use super::Target;

pub(super) const BUNDLE: Target = Target {
    name: "attestation_bundle",
    run: bundle,
    seeds: bundle_seeds,
};
pub(super) const CERTIFICATE_TABLE: Target = Target {
    name: "attestation_certificate_table",
    run: certificate_table,
    seeds: certificate_table_seeds,
};
pub(super) const COLLATERAL: Target = Target {
    name: "attestation_collateral",
    run: collateral,
    seeds: collateral_seeds,
};
pub(super) const EVENT_LOG: Target = Target {
    name: "attestation_event_log",
    run: event_log,
    seeds: event_log_seeds,
};
pub(super) const PCS: Target = Target {
    name: "attestation_pcs",
    run: pcs,
    seeds: pcs_seeds,
};
pub(super) const QUOTE: Target = Target {
    name: "attestation_quote",
    run: quote,
    seeds: quote_seeds,
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
/// `63da758d-e664-4564-adc5-f4b93be8accd`
const VCEK: [u8; 16] = *b"\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
/// `4ab7b379-bbac-4fe4-a02f-05aef327c782`
const ASK: [u8; 16] = *b"\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82";
/// `c0b406a4-a803-4952-9743-3fb6014cd0ae`
const ARK: [u8; 16] = *b"\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae";
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

/// The recorded quotes with their collateral and the times at which that was valid.
type RecordedQuote = (Vec<u8>, Vec<u8>, UnixTime);
static QUOTES: LazyLock<Vec<RecordedQuote>> = LazyLock::new(|| {
    let mut dirs: Vec<PathBuf> = fs::read_dir(crate_dir().join("tests/vectors/tdx"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("quote.bin").is_file())
        .collect();
    dirs.sort();
    dirs.iter()
        .map(|dir| {
            let read = |name: &str| fs::read(dir.join(name)).unwrap();
            let meta: serde_json::Value = serde_json::from_slice(&read("meta.json")).unwrap();
            let at = UnixTime::from_secs(meta["verify_at"].as_u64().unwrap());
            (read("quote.bin"), read("collateral.json"), at)
        })
        .collect()
});

fn quote(input: &[u8]) -> bool {
    let model = PlatformModel::of_quote(input);
    if let Some(model) = model {
        assert_eq!(PlatformModel::named(&model.name()), Some(model));
    }
    let Ok(quote) = Quote::parse(input) else {
        return false;
    };
    assert_eq!(quote.raw(), input, "every byte is accounted for");
    assert!(input.starts_with(quote.signed_body()));
    true
}

fn quote_seeds() -> Vec<Vec<u8>> {
    QUOTES
        .iter()
        .map(|(quote, _, _)| quote.clone())
        .filter(|quote| Quote::parse(quote).is_ok())
        .collect()
}

/// Beside a genuine quote: whatever the collateral says, only what Intel signed is believed.
fn collateral(input: &[u8]) -> bool {
    static GENUINE: LazyLock<BTreeSet<(u32, u64)>> = LazyLock::new(|| {
        QUOTES
            .iter()
            .filter_map(|(_, json, _)| ROOTS.read_collateral(json).ok())
            .map(|stated| (stated.tcb_evaluation_number, stated.tcb_issued_at.secs()))
            .collect()
    });
    let (quote, _, at) = &QUOTES[0];
    let evidence = Evidence::tdx(quote.clone(), Some(input.to_vec()));
    let verified = verify(&evidence, &ROOTS, *at);
    let Ok(stated) = ROOTS.read_collateral(input) else {
        return false;
    };
    let said = (stated.tcb_evaluation_number, stated.tcb_issued_at.secs());
    assert!(
        GENUINE.contains(&said),
        "statements that Intel never signed"
    );
    drop(verified);
    true
}

fn collateral_seeds() -> Vec<Vec<u8>> {
    QUOTES
        .iter()
        .map(|(_, json, _)| json.clone())
        .filter(|json| ROOTS.read_collateral(json).is_ok())
        .collect()
}

/// An answer about TCB info with its chain, between a good answer about everything else.
fn pcs(input: &[u8]) -> bool {
    let (chain, body) = match input.iter().position(|byte| *byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[][..]),
    };
    let chain = String::from_utf8_lossy(chain).into_owned();
    let answer = |body: &[u8]| Answer {
        body: body.to_vec(),
        chain: chain.clone(),
    };
    let answers = Answers {
        tcb_info: answer(body),
        qe_identity: answer(b"{\"enclaveIdentity\":{},\"signature\":\"00\"}"),
        pck_crl: answer(b"3080"),
        root_crl: b"3080".to_vec(),
    };
    let Ok(json) = answers.collateral() else {
        return false;
    };
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let text = json["tcb_info"].as_str().unwrap();
    let signed = String::from_utf8_lossy(body);
    assert!(signed.contains(text), "the text was written again");
    true
}

fn pcs_seeds() -> Vec<Vec<u8>> {
    let chain = "-----BEGIN%20CERTIFICATE-----%0AQUJD%2B%0A-----END%20CERTIFICATE-----%0A";
    let body = "{\"tcbInfo\":{\"id\":\"TDX\"},\"signature\":\"0102\"}";
    vec![[chain, "\0", body].concat().into_bytes()]
}

fn event_log(input: &[u8]) -> bool {
    let Ok(log) = EventLog::parse(input) else {
        return false;
    };
    assert!(log.events().len() <= input.len());
    let registers = log.registers();
    // What it yields is what it is of, unless an event says something else than was measured.
    let replayed = log.replay(&registers);
    assert!(
        matches!(replayed, Ok(_) | Err(ReplayError::Payload { .. })),
        "a log that does not yield what it yields"
    );
    true
}

fn event_log_seeds() -> Vec<Vec<u8>> {
    let folder = crate_dir().join("tests/vectors/eventlog");
    let log = fs::read(folder.join("gcp_cos113_ccel_data.dat")).unwrap();
    // The area is padded: the events alone make the better seed.
    let used = log.iter().rposition(|byte| *byte != 0xFF && *byte != 0);
    vec![log[..used.map_or(log.len(), |used| used + 1)].to_vec()]
}

fn certificate_table(input: &[u8]) -> bool {
    let Ok(table) = CertificateTable::parse(input) else {
        return false;
    };
    let CertificateTable {
        vcek,
        vlek,
        ask,
        ark,
    } = table;
    for der in [vcek, vlek, ask, ark].into_iter().flatten() {
        let found = input.windows(der.len()).any(|window| window == der);
        assert!(found, "a certificate that is not in the table");
    }
    true
}

/// VCEK, ASK and ARK of a recorded report, as a host lays them out.
fn certificate_table_seeds() -> Vec<Vec<u8>> {
    let vcek = fs::read(crate_dir().join("tests/vectors/snp/milan-v3-aci/vek.der")).unwrap();
    let root = |name: &str| fs::read(crate_dir().join("roots").join(name)).unwrap();
    let entries = [
        (VCEK, vcek),
        (ASK, root("amd_milan_ask.der")),
        (ARK, root("amd_milan_ark.der")),
    ];
    let mut offset = 24 * 4;
    let (mut list, mut certificates) = (Vec::new(), Vec::new());
    for (guid, der) in entries {
        list.extend(guid);
        list.extend(u32::try_from(offset).unwrap().to_le_bytes());
        list.extend(u32::try_from(der.len()).unwrap().to_le_bytes());
        offset += der.len();
        certificates.extend(der);
    }
    list.extend([0; 24]);
    list.extend(certificates);
    vec![list]
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

pub(super) fn bundle_seeds() -> Vec<Vec<u8>> {
    let point: Vec<u8> = (0..65)
        .map(|at| u8::from_str_radix(&POINT[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let key = P256PublicKey::from_point(&point).unwrap();
    let token_key = |kid: &str, key| TokenKey {
        kid: kid.to_owned(),
        key,
    };
    let bundle = KeyBundle {
        enclave_ca_der: vec![0x30; 300],
        next_ca_ders: vec![vec![0x30; 200]],
        instance_key: key,
        token_keys: vec![
            token_key("k-1", key.into()),
            token_key("k-2", TokenPublicKey::Ed25519([7; 32])),
        ],
        hpke_public: [3; 32],
        log_key_spki: vec![0x30; 44],
        earlier_log_keys: vec![vec![0x30; 43]],
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
