//! What an auditor reads: leaves, receipts, proofs, the checkpoints that it kept, and whole logs.

use ::tlog::tile::{EntryBundle, Resource};
use ::tlog::{InclusionProof, MemoryTree, Note, TlogProof, VerifiedCheckpoint, leaf_hash};
use tokenkeep::audit::check::{Check, Held, Witnessed};
use tokenkeep::audit::leaf::{self, Leaf};
use tokenkeep::audit::{Fault, Kept, LogName, Receipt};

use super::Target;
use crate::audit_logs::{Amount, Written, keys};

pub(super) const AUDIT: Target = Target {
    name: "client_audit",
    run: audit,
    seeds,
};

const AMOUNT: Amount = Amount {
    control: 3,
    issued: &[4],
    tenants: 2,
    private_chars: 70,
};

/// Counts what is said of a log.
#[derive(Default)]
struct Ear {
    leaves: u64,
    faults: u64,
}

impl Witnessed for Ear {
    fn leaf(&mut self, _: u64, _: &Leaf<'_>) {
        self.leaves += 1;
    }

    fn fault(&mut self, _: Fault) {
        self.faults += 1;
    }

    fn other(&mut self, _: &Held) {
        self.faults += 1;
    }
}

/// A leaf, a receipt, a proof, a file of kept checkpoints, or the entries of a log.
fn audit(input: &[u8]) -> bool {
    let written = Written::new(AMOUNT);
    let keys = keys(written.seed);
    let mut accepted = false;
    for name in written.leaves.keys() {
        accepted |= leaf::parse(name, input).is_ok_and(|leaf| leaf.seq > 0);
        // Whatever is read as entries, the log holds with its own alone.
        let own = written.files()[&format!("{name}/checkpoint")].clone();
        let key = keys.verifier_key(name).unwrap();
        let head = VerifiedCheckpoint::open(&own, &keys.origin(name).unwrap(), &[key]);
        let head = head.unwrap().head();
        let mut check = Check::new(name.clone(), Vec::new());
        let mut steps = check.begin(head);
        let mut ear = Ear::default();
        let Some(entries @ Resource::Entries(id)) = steps.next() else {
            continue;
        };
        if check.give(entries, input, &mut ear).is_ok() {
            let holds = check.end().is_ok();
            let leaves = &written.leaves[name];
            let same = EntryBundle::new(id, leaves.clone()).unwrap().encode() == input;
            assert_eq!(holds, same, "another log passes for this one");
            accepted |= holds && ear.faults == 0;
        }
    }
    if let Ok(receipt) = Receipt::from_json(input) {
        let again = receipt.to_json().to_string();
        assert_eq!(Receipt::from_json(again.as_bytes()), Ok(receipt));
        accepted = true;
    }
    if let Ok(proof) = TlogProof::parse(input) {
        assert_eq!(proof.to_string().as_bytes(), input, "one spelling only");
        let (name, leaves) = written.leaves.iter().next_back().unwrap();
        let (origin, key) = (keys.origin(name).unwrap(), keys.verifier_key(name).unwrap());
        for (index, leaf) in (0..).zip(leaves) {
            let proved = proof.verify(leaf_hash(leaf), &origin, std::slice::from_ref(&key));
            assert!(
                proved.is_err() || proof.index() == index,
                "a leaf at another place"
            );
        }
        accepted = true;
    }
    accepted | Kept::parse(input, &keys).is_ok_and(|kept| kept.names().count() > 0)
}

fn seeds() -> Vec<Vec<u8>> {
    let written = Written::new(AMOUNT);
    let keys = keys(written.seed);
    let (mut kept, mut older) = (serde_json::Map::new(), serde_json::Map::new());
    let mut seeds = Vec::new();
    for (name, leaves) in &written.leaves {
        seeds.push(leaves[0].clone());
        seeds.push(leaves[1].clone());
        let id = ::tlog::tile::BundleId::new(0, u16::try_from(leaves.len()).unwrap()).unwrap();
        seeds.push(EntryBundle::new(id, leaves.clone()).unwrap().encode());
        let origin = keys.origin(name).unwrap().to_string();
        let key = keys.verifier_key(name).unwrap().to_string();
        let checkpoint = written.checkpoint(name);
        older.insert(origin.clone(), checkpoint.clone().into());
        let one = serde_json::json!({"key": key, "checkpoint": checkpoint});
        kept.insert(origin.clone(), one);
        if *name == LogName::Control {
            continue;
        }
        let mut tree = MemoryTree::new();
        tree.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
        let proof = InclusionProof::prove(&tree, 1, tree.size()).unwrap();
        let note = Note::parse(written.checkpoint(name).as_bytes()).unwrap();
        seeds.push(TlogProof::new(1, proof, note).to_string().into_bytes());
        let receipt = Receipt {
            log: origin,
            index: 1,
            leaf_hash: leaf_hash(&leaves[1]),
        };
        seeds.push(receipt.to_json().to_string().into_bytes());
    }
    for (version, kept) in [(1, older), (2, kept)] {
        let kept = serde_json::json!({"version": version, "checkpoints": kept});
        seeds.push(kept.to_string().into_bytes());
    }
    seeds
}
