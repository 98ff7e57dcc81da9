//! Evidence bundles: what is read, and each way in which one is refused.

use serde_json::{Value, json};

use super::*;
use crate::nonces::NonceTree;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

struct Signer {
    pair: EcdsaKeyPair,
    key: P256PublicKey,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref(), &random).unwrap();
        let key = P256PublicKey::from_point(pair.public_key().as_ref()).unwrap();
        Self { pair, key }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    }
}

fn parts() -> Vec<BundlePart> {
    let part = |name: &str, bytes: &[u8]| BundlePart {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    };
    vec![
        part(part::EVIDENCE, b"{}"),
        part(part::KEY_BUNDLE, &[0xff, 0, 7]),
        part("checkpoint/log/control", b"note\n"),
    ]
}

fn statement(parts: &[BundlePart]) -> EvidenceStatement {
    let nonces = [[1; 32], [2; 32], [3; 32]];
    EvidenceStatement {
        made_at_s: 1_793_491_200,
        nonce: nonces[1],
        nonce_path: NonceTree::new(&nonces).unwrap().path(1).unwrap(),
        key_bundle_sha256: [7; 32],
        tenant: "acme".to_owned(),
        asked_by: "acme-auditor".to_owned(),
        parts: parts.iter().map(BundlePart::digest).collect(),
    }
}

fn bundle(signer: &Signer) -> EvidenceBundle {
    let parts = parts();
    let text = statement(&parts).to_json().unwrap();
    let signature = signer.sign(&evidence_statement_message(&[7; 32], text.as_bytes()));
    EvidenceBundle::assemble(text, &signature, parts).unwrap()
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let bundle = bundle(&Signer::new());
    let file = bundle.to_json().unwrap();
    assert_eq!(
        EvidenceBundle::from_json(file.as_bytes()),
        Ok(bundle.clone())
    );
    assert_eq!(bundle.statement(), &statement(&parts()));
    assert_eq!(bundle.part(part::KEY_BUNDLE), Some(&[0xff, 0, 7][..]));
    assert_eq!(bundle.part("other"), None);
    // What is text is read in the file.
    let json: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(json["parts"][2]["text"], "note\n");
    assert_eq!(json["parts"][1]["base64"], "/wAH");
}

#[test]
fn a_signature_is_of_one_key_key_bundle_and_statement() {
    let (signer, other) = (Signer::new(), Signer::new());
    let good = bundle(&signer);
    let mut later = good.clone();
    later.text = later.text.replacen("1793491200", "1793491201", 1);
    // What proves a connection vouches for no statement, whatever is in it.
    let mut proof = good.clone();
    let message = crate::exporter_message(&[7; 32], &sha256(good.text.as_bytes()));
    proof.signature = signer.sign(&message).try_into().unwrap();
    let rows = [
        (&good, &signer.key, [7; 32], Ok(())),
        (&good, &other.key, [7; 32], Err(BadSignature)),
        (&good, &signer.key, [8; 32], Err(BadSignature)),
        (&later, &signer.key, [7; 32], Err(BadSignature)),
        (&proof, &signer.key, [7; 32], Err(BadSignature)),
    ];
    for (number, (bundle, key, digest, expected)) in rows.into_iter().enumerate() {
        let found = bundle.verify_signature(key, &digest);
        assert_eq!(found, expected, "row {number}");
    }
}

#[test]
fn each_fault_of_a_file_is_named() {
    type Edit = fn(&mut Value);
    let field = |field, rule| EvidenceBundleError::Field { field, rule };
    let named = |name: &str| name.to_owned();
    let hex_rule = "must be 64 lowercase hexadecimal digits";
    let text_rule = "must be 1 to 256 bytes without control characters";
    let rows: Vec<(Edit, EvidenceBundleError)> = vec![
        (
            |file| file["format"] = json!("tokenkeep/evidence-bundle/v2"),
            EvidenceBundleError::Format {
                what: "file",
                found: named("tokenkeep/evidence-bundle/v2"),
            },
        ),
        (
            |file| edit(file, |s| s["format"] = json!("tokenkeep/evidence/v1")),
            EvidenceBundleError::Format {
                what: "statement",
                found: named("tokenkeep/evidence/v1"),
            },
        ),
        (
            |file| file["signature"] = json!("AAAA"),
            EvidenceBundleError::Signature,
        ),
        (
            |file| file["signature"] = json!("no base64"),
            EvidenceBundleError::Signature,
        ),
        (
            |file| edit(file, |s| s["nonce"] = json!("AB".repeat(32))),
            field("nonce", hex_rule),
        ),
        (
            |file| edit(file, |s| s["key_bundle_sha256"] = json!("00")),
            field("key_bundle_sha256", hex_rule),
        ),
        (
            |file| edit(file, |s| s["nonce_path"]["siblings"] = json!([])),
            field("nonce_path", "must be the path of a nonce"),
        ),
        (
            |file| edit(file, |s| s["nonce_path"]["siblings"][0] = json!("x")),
            field("nonce_path", hex_rule),
        ),
        (
            |file| edit(file, |s| s["tenant"] = json!("")),
            field("tenant", text_rule),
        ),
        (
            |file| edit(file, |s| s["asked_by"] = json!("a\nb")),
            field("asked_by", text_rule),
        ),
        (
            |file| edit(file, |s| s["parts"] = json!([])),
            EvidenceBundleError::Parts { found: 0 },
        ),
        (
            |file| {
                edit(file, |s| {
                    let one = s["parts"][0].clone();
                    s["parts"] = json!(vec![one; MAX_BUNDLE_PARTS + 1]);
                });
            },
            EvidenceBundleError::Parts {
                found: MAX_BUNDLE_PARTS + 1,
            },
        ),
        (
            |file| edit(file, |s| s["parts"][0]["name"] = json!("../evidence.json")),
            EvidenceBundleError::Name {
                name: named("../evidence.json"),
            },
        ),
        (
            |file| edit(file, |s| s["parts"][0]["name"] = json!("/etc")),
            EvidenceBundleError::Name {
                name: named("/etc"),
            },
        ),
        (
            |file| {
                edit(file, |s| {
                    let one = s["parts"][0].clone();
                    s["parts"][1] = one;
                });
            },
            EvidenceBundleError::Duplicate {
                name: named(part::EVIDENCE),
            },
        ),
        (
            |file| edit(file, |s| s["parts"][0]["sha256"] = json!("")),
            field("sha256", hex_rule),
        ),
        (
            |file| file["parts"][0]["base64"] = json!(""),
            EvidenceBundleError::Body {
                name: named(part::EVIDENCE),
            },
        ),
        (
            |file| file["parts"][1]["base64"] = json!("*"),
            EvidenceBundleError::Body {
                name: named(part::KEY_BUNDLE),
            },
        ),
        (
            |file| file["parts"][0] = json!({"name": part::EVIDENCE}),
            EvidenceBundleError::Body {
                name: named(part::EVIDENCE),
            },
        ),
        (
            |file| {
                file["parts"].as_array_mut().unwrap().pop();
            },
            EvidenceBundleError::Listed {
                stated: named("\"checkpoint/log/control\""),
                found: named("nothing"),
            },
        ),
        (
            |file| {
                let one = json!({"name": "more", "text": ""});
                file["parts"].as_array_mut().unwrap().push(one);
            },
            EvidenceBundleError::Listed {
                stated: named("nothing"),
                found: named("\"more\""),
            },
        ),
        (
            |file| file["parts"].as_array_mut().unwrap().swap(0, 1),
            EvidenceBundleError::Listed {
                stated: named("\"evidence.json\""),
                found: named("\"key-bundle.bin\""),
            },
        ),
        (
            |file| file["parts"][0]["text"] = json!("{ }"),
            EvidenceBundleError::Digest {
                name: named(part::EVIDENCE),
            },
        ),
        (
            |file| edit(file, |s| s["parts"][0]["length_bytes"] = json!(3)),
            EvidenceBundleError::Digest {
                name: named(part::EVIDENCE),
            },
        ),
    ];
    let good = bundle(&Signer::new()).to_json().unwrap();
    for (edit, expected) in rows {
        let mut file: Value = serde_json::from_str(&good).unwrap();
        edit(&mut file);
        let found = EvidenceBundle::from_json(file.to_string().as_bytes());
        assert_eq!(found, Err(expected));
    }
}

/// Changes the statement in a file.
fn edit(file: &mut Value, change: impl FnOnce(&mut Value)) {
    let mut statement: Value = serde_json::from_str(file["statement"].as_str().unwrap()).unwrap();
    change(&mut statement);
    file["statement"] = json!(statement.to_string());
}

#[test]
fn what_is_no_json_of_the_form_or_too_long_is_refused() {
    let good = bundle(&Signer::new()).to_json().unwrap();
    let mut more: Value = serde_json::from_str(&good).unwrap();
    more["more"] = json!(1);
    let mut inside: Value = serde_json::from_str(&good).unwrap();
    edit(&mut inside, |statement| statement["more"] = json!(1));
    let twice = good.replacen("\"signature\"", "\"signature\": \"\", \"signature\"", 1);
    let rows = [
        (String::new(), "file"),
        ("[]".to_owned(), "file"),
        (more.to_string(), "file"),
        (twice, "file"),
        (inside.to_string(), "statement"),
    ];
    for (text, expected) in rows {
        match EvidenceBundle::from_json(text.as_bytes()) {
            Err(EvidenceBundleError::Json { what, why: _ }) => assert_eq!(what, expected),
            found => panic!("{found:?} of {text}"),
        }
    }
    let found_bytes = MAX_EVIDENCE_BUNDLE_BYTES + 1;
    assert_eq!(
        EvidenceBundle::from_json(&vec![b' '; found_bytes]),
        Err(EvidenceBundleError::TooLarge { found_bytes })
    );
    let found_bytes = MAX_STATEMENT_BYTES + 1;
    assert_eq!(
        EvidenceStatement::from_json(&" ".repeat(found_bytes)),
        Err(EvidenceBundleError::Statement { found_bytes })
    );
    let parts = vec![BundlePart {
        name: "big".to_owned(),
        bytes: vec![0; MAX_BUNDLE_PARTS_BYTES + 1],
    }];
    let text = statement(&parts).to_json().unwrap();
    assert_eq!(
        EvidenceBundle::assemble(text, &[0; 64], parts),
        Err(EvidenceBundleError::PartsTooLarge)
    );
}
