//! Evidence bundles, as whoever hands one to an auditor may have changed them.

use std::sync::LazyLock;

use ::attestation::evidence_bundle::part;
use ::attestation::{
    BundlePart, Endorsements, Evidence, EvidenceBundle, EvidenceStatement, KeyBundle, NonceTree,
    Outcome, Roots, Verdict,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use tlog::{Checkpoint, NoteSigner, Origin, TreeHead, leaf_hash};
use tokenkeep::Verification;
use tokenkeep::evidence_bundle::{BundleFindings, check};

use super::Target;
use super::attestation::bundle_seeds;

const AT_S: u64 = 1_793_500_000;

static AMD: LazyLock<Verification> =
    LazyLock::new(|| Verification::new(Roots::amd().unwrap(), None));

pub(super) const BUNDLE: Target = Target {
    name: "attestation_evidence_bundle",
    run: bundle,
    seeds,
};

/// A file of a bundle, or one part.
fn bundle(input: &[u8]) -> bool {
    let Ok(bundle) = EvidenceBundle::from_json(input) else {
        return of_part(input);
    };
    let again = bundle.to_json().unwrap();
    assert_eq!(
        EvidenceBundle::from_json(again.as_bytes()),
        Ok(bundle.clone())
    );
    let statement = bundle.statement();
    let text = statement.to_json().unwrap();
    assert_eq!(EvidenceStatement::from_json(&text).as_ref(), Ok(statement));
    assert_eq!(statement.parts.len(), bundle.parts().len());
    for (stated, part) in statement.parts.iter().zip(bundle.parts()) {
        assert_eq!(*stated, part.digest(), "a part that was not named");
        assert!(!part.name.contains(".."), "a name that leads elsewhere");
    }
    reject(&bundle);
    true
}

/// Nobody's signature is over it: whatever it says, it is never accepted.
fn reject(bundle: &EvidenceBundle) -> BundleFindings {
    let findings = check(bundle, &AMD, None, AT_S);
    assert_eq!(findings.verdict, Verdict::Reject);
    findings
}

/// A part alone, under the letter that names it: what is changed in a file is found by its digest, so that nothing else
/// would ever be looked at.
fn of_part(input: &[u8]) -> bool {
    let Some((letter, bytes)) = input.split_first() else {
        return false;
    };
    let Some((_, name, checked)) = PARTS.iter().find(|(of, ..)| of == letter) else {
        return false;
    };
    let mut parts = whole();
    for one in parts.iter_mut().filter(|one| one.name == *name) {
        one.bytes = bytes.to_vec();
    }
    let findings = reject(&signed_by_nobody(parts));
    let of = findings.checks.iter().find(|one| one.name == *checked);
    of.is_some_and(|check| check.outcome == Outcome::Pass)
}

const CONTROL: &str = "checkpoint/log/control";

/// By which letter a part is given alone, and the check that reads it.
const PARTS: [(u8, &str, &str); 3] = [
    (b'i', part::INVENTORY, "bundle_inventory"),
    (b's', part::SBOM, "bundle_sbom"),
    (b'c', CONTROL, "bundle_checkpoints"),
];

fn named(name: &str, bytes: &[u8]) -> BundlePart {
    BundlePart {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    }
}

/// Parts that are read to their ends, though their evidence is not genuine.
fn whole() -> Vec<BundlePart> {
    let log = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
    let mut keys = KeyBundle::decode(&bundle_seeds()[0]).unwrap();
    let prefix = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    keys.log_key_spki = [&prefix[..], log.public_key().as_ref()].concat();
    keys.earlier_log_keys.clear();
    let origin: Origin = "issuer.test/log/control".parse().unwrap();
    let signer = NoteSigner::new(origin.as_str().parse().unwrap(), log).unwrap();
    let head = TreeHead {
        size: 1,
        root: leaf_hash(b"leaf"),
    };
    let note = Checkpoint::new(origin, head)
        .unwrap()
        .sign(&signer)
        .unwrap();
    let evidence = Evidence::snp(vec![1, 2, 3], Endorsements::default());
    let inventory = json!({
        "format": "tokenkeep/inventory/v1", "tenant": "acme", "policy": null,
        "freezes": [], "grants": [{"id": "crm", "state": "active", "frozen": false}],
    });
    let sbom = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6",
        "metadata": {"component": {"name": "tokenkeepd"}}, "components": [{"name": "ring"}],
    });
    vec![
        named(part::EVIDENCE, evidence.to_json().unwrap().as_bytes()),
        named(part::KEY_BUNDLE, &keys.encode().unwrap()),
        named(part::MANIFEST, b"sequence = 1"),
        named(part::MANIFEST_SIGNATURE, b"{}"),
        named(part::INVENTORY, inventory.to_string().as_bytes()),
        named(part::SBOM, sbom.to_string().as_bytes()),
        named(CONTROL, note.to_string().as_bytes()),
    ]
}

fn signed_by_nobody(parts: Vec<BundlePart>) -> EvidenceBundle {
    let tree = NonceTree::new(&[[1; 32], [2; 32]]).unwrap();
    let statement = EvidenceStatement {
        made_at_s: 1_793_491_200,
        nonce: [1; 32],
        nonce_path: tree.path(0).unwrap(),
        key_bundle_sha256: [3; 32],
        tenant: "acme".to_owned(),
        asked_by: "auditor".to_owned(),
        parts: parts.iter().map(BundlePart::digest).collect(),
    };
    let text = statement.to_json().unwrap();
    EvidenceBundle::assemble(text, &[0; 64], parts).unwrap()
}

fn seeds() -> Vec<Vec<u8>> {
    let file = |parts| {
        let bundle = signed_by_nobody(parts);
        bundle.to_json().unwrap().into_bytes()
    };
    let unread = vec![
        named(part::EVIDENCE, b"{\"format\":\"tokenkeep/evidence/v1\"}"),
        named(part::KEY_BUNDLE, &[0xff, 0xfe, 0]),
        named(CONTROL, "note\n\n\u{2014} a b\n".as_bytes()),
    ];
    let mut seeds = vec![file(vec![named("empty", b"")]), file(unread), file(whole())];
    let whole = whole();
    for (letter, name, checked) in PARTS {
        let part = whole.iter().find(|one| one.name == name).unwrap();
        let seed = [&[letter][..], &part.bytes].concat();
        assert!(of_part(&seed), "the seed passes {checked}");
        seeds.push(seed);
    }
    seeds
}
