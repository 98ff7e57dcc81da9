//! Evidence bundles, as whoever hands one to an auditor may have changed them.

use std::sync::LazyLock;

use ::attestation::evidence_bundle::part;
use ::attestation::{BundlePart, EvidenceBundle, EvidenceStatement, NonceTree, Roots, Verdict};
use tokenkeep::Verification;
use tokenkeep::evidence_bundle::check;

use super::Target;

const AT_S: u64 = 1_793_500_000;

static AMD: LazyLock<Verification> =
    LazyLock::new(|| Verification::new(Roots::amd().unwrap(), None));

pub(super) const BUNDLE: Target = Target {
    name: "attestation_evidence_bundle",
    run: bundle,
    seeds,
};

/// A file of a bundle. Nobody's signature is over it: whatever is read, it is never accepted.
fn bundle(input: &[u8]) -> bool {
    let Ok(bundle) = EvidenceBundle::from_json(input) else {
        return false;
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
    let findings = check(&bundle, &AMD, None, AT_S);
    assert_eq!(findings.verdict, Verdict::Reject);
    true
}

fn seeds() -> Vec<Vec<u8>> {
    let named = |name: &str, bytes: &[u8]| BundlePart {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    };
    let empty = vec![named("empty", b"")];
    let full = vec![
        named(part::EVIDENCE, b"{\"format\":\"tokenkeep/evidence/v1\"}"),
        named(part::KEY_BUNDLE, &[0xff, 0xfe, 0]),
        named(part::INVENTORY, b"{\"format\":\"tokenkeep/inventory/v1\"}"),
        named(
            "checkpoint/log/control",
            "note\n\n\u{2014} a b\n".as_bytes(),
        ),
    ];
    let file = |parts: Vec<BundlePart>| {
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
        let bundle = EvidenceBundle::assemble(text, &[0; 64], parts).unwrap();
        bundle.to_json().unwrap().into_bytes()
    };
    vec![file(empty), file(full)]
}
