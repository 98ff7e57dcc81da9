//! What is said of bundles: a good one, and each thing that is wrong with others.

use attestation::evidence_bundle::part;
use attestation::manifest::{ManifestSignature, manifest_digest, sign_manifest};
use attestation::policy::pinned;
use attestation::{
    EvidenceStatement, NonceTree, Outcome, Policy, Purpose, Roots, Tier, Verdict,
    evidence_statement_message, report_data,
};
use jose::{Alg, SigningKey};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tlog::{Checkpoint, Cosigner, NoteSigner, TreeHead, VerifiedCheckpoint, leaf_hash};

use super::*;
use crate::audit::LogKeys;
use crate::test_enclave::{MEASUREMENT, TestEnclave};
use crate::verification::{Verification, sha256};

const AT_S: u64 = 1_793_500_000;
const NONCE: Nonce = [0xA1; 32];
const HOST: &str = "issuer.test";

/// A service that makes bundles.
struct Service {
    enclave: TestEnclave,
    verification: Verification,
    manifest: Vec<u8>,
    manifest_signature: Vec<u8>,
    log: Ed25519KeyPair,
    witness: Cosigner,
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn spki(pair: &Ed25519KeyPair) -> Vec<u8> {
    let prefix = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    [&prefix[..], pair.public_key().as_ref()].concat()
}

impl Service {
    fn new() -> Self {
        let witness = Cosigner::new("witness.test/w".parse().unwrap(), pair(9)).unwrap();
        let manifest = format!(
            r#"sequence = 3
issuer = "https://127.0.0.1:1"
[origins]
grpc = "https://127.0.0.1:1"
public = "https://127.0.0.1:2"
gateway = "https://127.0.0.1:3"
[[administrators]]
name = "a"
spki_sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
roles = ["operator"]
[witnesses]
quorum = 1
[[witnesses.witness]]
name = "w"
url = "http://127.0.0.1:4"
key = "{}"
"#,
            witness.key()
        )
        .into_bytes();
        let random = SystemRandom::new();
        let key = SigningKey::generate(Alg::Es256, &random).unwrap();
        let signature = sign_manifest(&manifest, &key, &random).unwrap();
        let signer = ManifestSignature::from_json(signature.as_bytes()).unwrap();
        let mut enclave = TestEnclave::new("https://127.0.0.1:1");
        enclave.bundle.manifest_signer = signer.signer();
        enclave.bundle.manifest_digest = manifest_digest(&manifest);
        enclave.bundle.issuer = format!("https://{HOST}");
        let log = pair(5);
        enclave.bundle.log_key_spki = spki(&log);
        let roots = Roots::with_emulated(enclave.platform.root_pem()).unwrap();
        let policy = pinned(&MEASUREMENT, &signer.signer(), &[Tier::Emulated]);
        let policy = Policy::from_toml(policy.as_bytes()).unwrap();
        Self {
            verification: Verification::new(roots, Some(policy)),
            enclave,
            manifest,
            manifest_signature: signature.into_bytes(),
            log,
            witness,
        }
    }

    fn checkpoint(&self, log: &str, cosigned: bool) -> Vec<u8> {
        let origin: tlog::Origin = format!("{HOST}/{log}").parse().unwrap();
        let key = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        assert_eq!(key.public_key().as_ref(), self.log.public_key().as_ref());
        let signer = NoteSigner::new(origin.as_str().parse().unwrap(), key).unwrap();
        let head = TreeHead {
            size: 1,
            root: leaf_hash(b"leaf"),
        };
        let note = Checkpoint::new(origin.clone(), head).unwrap().sign(&signer);
        let note = note.unwrap();
        if !cosigned {
            return note.to_string().into_bytes();
        }
        let public = self.log.public_key().as_ref().try_into().unwrap();
        let keys = LogKeys::new(HOST, public).unwrap();
        let key = keys.verifier_key(&log.parse().unwrap()).unwrap();
        let opened = VerifiedCheckpoint::open(note.to_string().as_bytes(), &origin, &[key]);
        let opened = opened.unwrap();
        let line = self.witness.cosign(&opened, AT_S).unwrap();
        let note = opened.note_with_signatures([line]).unwrap();
        note.to_string().into_bytes()
    }

    /// The parts of a good bundle.
    fn parts(&self) -> Vec<BundlePart> {
        let named = |name: &str, bytes: Vec<u8>| BundlePart {
            name: name.to_owned(),
            bytes,
        };
        let policy = b"permit (principal, action, resource);".to_vec();
        let inventory = json!({
            "format": "tokenkeep/inventory/v1",
            "tenant": "acme",
            "policy": {"sequence": 1, "sha256": hex::encode(sha256(&policy))},
            "freezes": [{"subject": "client/sync"}],
            "grants": [
                {"id": "crm", "state": "active", "frozen": false},
                {"id": "mail", "state": "active", "frozen": true},
                {"id": "old", "state": "revoked", "frozen": false},
            ],
        });
        let sbom = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6",
            "metadata": {"component": {"name": "tokenkeepd"}},
            "components": [{"name": "ring"}, {"name": "rustls"}],
        });
        let boot = format!("log/issuance/{}", "0a".repeat(32));
        vec![
            named(part::EVIDENCE, Vec::new()),
            named(part::KEY_BUNDLE, self.enclave.bundle.encode().unwrap()),
            named(part::MANIFEST, self.manifest.clone()),
            named(part::MANIFEST_SIGNATURE, self.manifest_signature.clone()),
            named(part::INVENTORY, inventory.to_string().into_bytes()),
            named(part::POLICY, policy),
            named(part::SBOM, sbom.to_string().into_bytes()),
            named(
                "checkpoint/log/control",
                self.checkpoint("log/control", true),
            ),
            named(&format!("checkpoint/{boot}"), self.checkpoint(&boot, false)),
        ]
    }

    /// Signs parts, with evidence over the key bundle in them; `change` is done to the statement before.
    fn sign(
        &self,
        mut parts: Vec<BundlePart>,
        change: impl FnOnce(&mut EvidenceStatement),
    ) -> EvidenceBundle {
        let tree = NonceTree::new(&[[0xEE; 32], NONCE]).unwrap();
        let bundle = parts.iter().find(|one| one.name == part::KEY_BUNDLE);
        let digest = sha256(&bundle.unwrap().bytes);
        let mut fields = self.enclave.platform.fields();
        fields.measurement = MEASUREMENT;
        fields.host_data = self.enclave.bundle.manifest_signer;
        fields.report_data = report_data(Purpose::Server, &tree.root(), &digest);
        let certificates = self.enclave.platform.certificates();
        let evidence = attestation::Evidence::snp(
            self.enclave.platform.report(&fields).unwrap(),
            attestation::Endorsements {
                vek: Some(certificates.vek.clone()),
                ask: Some(certificates.ask.clone()),
                ark: Some(certificates.ark.clone()),
            },
        );
        for one in &mut parts {
            if one.name == part::EVIDENCE && one.bytes.is_empty() {
                one.bytes = evidence.to_json().unwrap().into_bytes();
            }
        }
        let mut statement = EvidenceStatement {
            made_at_s: AT_S,
            nonce: NONCE,
            nonce_path: tree.path(1).unwrap(),
            key_bundle_sha256: digest,
            tenant: "acme".to_owned(),
            asked_by: "acme-auditor".to_owned(),
            parts: parts.iter().map(BundlePart::digest).collect(),
        };
        change(&mut statement);
        let text = statement.to_json().unwrap();
        let message = evidence_statement_message(&statement.key_bundle_sha256, text.as_bytes());
        EvidenceBundle::assemble(text, &self.enclave.sign(&message), parts).unwrap()
    }

    fn check(&self, bundle: &EvidenceBundle) -> BundleFindings {
        check(bundle, &self.verification, Some(&NONCE), AT_S)
    }
}

fn failed(findings: &BundleFindings) -> Vec<&str> {
    let failed = findings.checks.iter();
    failed
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name.as_str())
        .collect()
}

#[test]
fn a_good_bundle_is_accepted_and_says_what_is_in_it() {
    let service = Service::new();
    let bundle = service.sign(service.parts(), |_| {});
    // As it is in a file.
    let file = bundle.to_json().unwrap();
    let bundle = EvidenceBundle::from_json(file.as_bytes()).unwrap();
    let findings = service.check(&bundle);
    assert_eq!(failed(&findings), Vec::<&str>::new());
    assert_eq!(findings.verdict, Verdict::Accept);
    assert_eq!(findings.tier, Some(Tier::Emulated));
    let contents = findings.contents;
    assert_eq!(contents.issuer.as_deref(), Some("https://issuer.test"));
    assert_eq!(contents.manifest_sequence, Some(3));
    assert_eq!((contents.grants, contents.usable_grants), (3, 1));
    assert_eq!((contents.freezes, contents.components), (1, 2));
    let heads: Vec<_> = contents.logs.iter().collect();
    assert_eq!(heads[0].origin, "issuer.test/log/control");
    assert_eq!(heads[0].cosigned_by, ["witness.test/w"]);
    assert_eq!((heads.len(), heads[1].size), (2, 1));
    // Without reference values nothing is accepted, and nothing failed.
    let without = Verification::new(service.verification.roots.clone(), None);
    let found = check(&bundle, &without, None, AT_S);
    assert_eq!(found.verdict, Verdict::Authentic);
    // Without the development root nobody vouches for it.
    let hardware = Verification::new(Roots::amd().unwrap(), service.verification.policy.clone());
    let found = check(&bundle, &hardware, None, AT_S);
    assert_eq!(found.verdict, Verdict::Reject);
    assert_eq!(found.tier, None);
}

#[test]
fn a_checkpoint_by_an_earlier_log_key_of_the_bundle_holds_and_by_another_does_not() {
    let mut service = Service::new();
    service.enclave.bundle.log_key_spki = spki(&pair(6));
    let bundle = service.sign(service.parts(), |_| {});
    let findings = service.check(&bundle);
    assert_eq!(failed(&findings), ["bundle_checkpoints"]);
    service.enclave.bundle.earlier_log_keys = vec![spki(&pair(7)), spki(&service.log)];
    let bundle = service.sign(service.parts(), |_| {});
    let findings = service.check(&bundle);
    assert_eq!(failed(&findings), Vec::<&str>::new());
    assert_eq!(findings.contents.logs.len(), 2);
}

/// Each row changes one thing of what was signed, so that it is the checks that find it, not the digests.
#[test]
fn each_check_finds_what_it_is_for() {
    type Edit = fn(&mut Vec<BundlePart>, &Service);
    fn one<'a>(parts: &'a mut [BundlePart], name: &str) -> &'a mut BundlePart {
        parts.iter_mut().find(|one| one.name == name).unwrap()
    }
    fn json_of(part: &mut BundlePart, edit: impl FnOnce(&mut Value)) {
        let mut json: Value = serde_json::from_slice(&part.bytes).unwrap();
        edit(&mut json);
        part.bytes = json.to_string().into_bytes();
    }
    fn without(parts: &mut Vec<BundlePart>, name: &str) {
        parts.retain(|one| one.name != name);
    }
    let rows: [(Edit, &[&str]); 17] = [
        (|parts, _| without(parts, part::EVIDENCE), &["bundle_part"]),
        (
            |parts, _| one(parts, part::EVIDENCE).bytes = b"{}".to_vec(),
            &["evidence_form"],
        ),
        (|parts, _| without(parts, part::MANIFEST), &["bundle_part"]),
        (
            |parts, _| one(parts, part::MANIFEST).bytes.push(b'\n'),
            &["bundle_manifest"],
        ),
        (
            |parts, _| one(parts, part::MANIFEST_SIGNATURE).bytes = b"{}".to_vec(),
            &["bundle_manifest"],
        ),
        (
            |parts, _| without(parts, "checkpoint/log/control"),
            &["bundle_checkpoints"],
        ),
        (
            |parts, _| {
                let note = &mut one(parts, "checkpoint/log/control").bytes;
                let at = note.iter().position(|byte| *byte == b'1').unwrap();
                note[at] = b'2';
            },
            &["bundle_checkpoints"],
        ),
        (
            // The checkpoint of one log under another's name.
            |parts, service| {
                one(parts, "checkpoint/log/control").bytes =
                    service.checkpoint(&format!("log/issuance/{}", "0b".repeat(32)), false);
            },
            &["bundle_checkpoints"],
        ),
        (
            |parts, _| one(parts, "checkpoint/log/control").name = "checkpoint/log/other".into(),
            &["bundle_checkpoints"],
        ),
        (
            |parts, service| {
                one(parts, "checkpoint/log/control").bytes =
                    service.checkpoint("log/control", false);
            },
            &["bundle_cosignatures"],
        ),
        (
            |parts, _| one(parts, part::POLICY).bytes.push(b'\n'),
            &["bundle_inventory"],
        ),
        (
            |parts, _| without(parts, part::POLICY),
            &["bundle_inventory"],
        ),
        (
            |parts, _| {
                json_of(one(parts, part::INVENTORY), |json| {
                    json["tenant"] = json!("other")
                })
            },
            &["bundle_inventory"],
        ),
        (
            |parts, _| {
                json_of(one(parts, part::INVENTORY), |json| {
                    json["grants"] = json!(3)
                })
            },
            &["bundle_inventory"],
        ),
        (
            |parts, _| {
                json_of(one(parts, part::INVENTORY), |json| {
                    json["format"] = json!("v2")
                })
            },
            &["bundle_inventory"],
        ),
        (
            |parts, _| {
                json_of(one(parts, part::SBOM), |json| {
                    json["specVersion"] = json!("1.5")
                })
            },
            &["bundle_sbom"],
        ),
        (|parts, _| without(parts, part::SBOM), &["bundle_part"]),
    ];
    let service = Service::new();
    for (number, (edit, expected)) in rows.into_iter().enumerate() {
        let mut parts = service.parts();
        edit(&mut parts, &service);
        let findings = service.check(&service.sign(parts, |_| {}));
        assert_eq!(findings.verdict, Verdict::Reject, "row {number}");
        assert_eq!(failed(&findings), expected, "row {number}: {findings:?}");
    }
}

#[test]
fn a_statement_is_of_its_key_bundle_key_time_and_nonce() {
    let service = Service::new();
    let signed = |change: fn(&mut EvidenceStatement)| service.sign(service.parts(), change);
    let rows: [(EvidenceBundle, &[&str]); 4] = [
        // The key bundle that the statement names is not the one in the file, which the evidence binds.
        (
            signed(|statement| statement.key_bundle_sha256 = [1; 32]),
            &["bundle_key_bundle", "bundle_signature"],
        ),
        (
            signed(|statement| statement.made_at_s = AT_S + 301),
            &["bundle_time"],
        ),
        // Somebody else's nonce: the evidence is not over it, and it is not the one that was asked for.
        (
            signed(|statement| statement.nonce = [2; 32]),
            &["report_data", "bundle_nonce"],
        ),
        // The instance key of another enclave.
        (
            {
                let other = Service::new();
                let bundle = service.sign(service.parts(), |_| {});
                let text = bundle.statement().to_json().unwrap();
                let digest = &bundle.statement().key_bundle_sha256;
                let message = evidence_statement_message(digest, text.as_bytes());
                let signature = other.enclave.sign(&message);
                EvidenceBundle::assemble(text, &signature, bundle.parts().to_vec()).unwrap()
            },
            &["bundle_signature"],
        ),
    ];
    for (number, (bundle, expected)) in rows.into_iter().enumerate() {
        let findings = service.check(&bundle);
        assert_eq!(findings.verdict, Verdict::Reject, "row {number}");
        assert_eq!(failed(&findings), expected, "row {number}: {findings:?}");
    }
    // Whoever names no nonce of its own takes the requester's word for it.
    let bundle = service.sign(service.parts(), |_| {});
    let found = check(&bundle, &service.verification, None, AT_S);
    assert_eq!(found.verdict, Verdict::Accept);
    let found = check(&bundle, &service.verification, Some(&[3; 32]), AT_S);
    assert_eq!(failed(&found), ["bundle_nonce"]);
}

#[test]
fn an_answer_is_one_statement_and_then_parts() {
    let statement = || v1::MakeEvidenceBundleResponse {
        what: Some(What::Statement(v1::EvidenceStatement::default())),
    };
    let piece = |name: &str, data: &[u8]| v1::MakeEvidenceBundleResponse {
        what: Some(What::Part(v1::EvidencePart {
            name: name.to_owned(),
            data: data.to_vec(),
        })),
    };
    let nothing = v1::MakeEvidenceBundleResponse { what: None };
    for messages in [
        vec![piece("a", b"")],
        vec![statement(), statement()],
        vec![nothing],
    ] {
        let mut collected = Collected::default();
        let ended: Result<Vec<()>, FetchError> = messages
            .into_iter()
            .map(|message| collected.take(message))
            .collect();
        assert!(matches!(ended, Err(FetchError::Order)), "{ended:?}");
    }
    assert!(matches!(
        Collected::default().finish(),
        Err(FetchError::Order)
    ));

    // Pieces of one name are one part.
    let service = Service::new();
    let bundle = service.sign(service.parts(), |_| {});
    let text = bundle.statement().to_json().unwrap();
    let message =
        evidence_statement_message(&bundle.statement().key_bundle_sha256, text.as_bytes());
    let signature = service.enclave.sign(&message);
    let mut collected = Collected::default();
    let first = v1::EvidenceStatement { text, signature };
    let what = Some(What::Statement(first));
    collected
        .take(v1::MakeEvidenceBundleResponse { what })
        .unwrap();
    for part in bundle.parts() {
        for data in part.bytes.chunks(7) {
            collected.take(piece(&part.name, data)).unwrap();
        }
    }
    let found = collected.finish().unwrap();
    assert_eq!(found.parts(), bundle.parts());

    // Bounds hold while it comes.
    let mut collected = Collected::default();
    collected.take(statement()).unwrap();
    let full = vec![0; MAX_BUNDLE_PARTS_BYTES];
    collected.take(piece("a", &full)).unwrap();
    let error = collected.take(piece("a", &[0])).unwrap_err();
    assert!(matches!(
        error,
        FetchError::Bundle(EvidenceBundleError::PartsTooLarge)
    ));
    let mut collected = Collected::default();
    collected.take(statement()).unwrap();
    let refused = (0..=MAX_BUNDLE_PARTS).find_map(|number| {
        let name = format!("p{number}");
        collected.take(piece(&name, b"")).err()
    });
    let found = MAX_BUNDLE_PARTS + 1;
    assert!(
        matches!(refused, Some(FetchError::Bundle(EvidenceBundleError::Parts { found: too_many })) if too_many == found)
    );
}
