//! Logs that were tampered with: whatever is changed in them, the auditor sees it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use tests::audit_logs::{Amount, Files, Written, keys, source};
use tests::bars::{self, Bar, Row};
use tests::effort;
use tlog::{InclusionProof, MemoryTree, Note, TlogProof, VerifiedCheckpoint, leaf_hash};
use tokenkeep::audit::report::Verdict;
use tokenkeep::audit::{Auditor, LogName, Receipt};

const AMOUNT: Amount = Amount {
    control: 300,
    issued: &[520, 0, 40],
    tenants: 3,
    private_chars: 90,
};

const SEED: u64 = 0x5eed_0a0d;

fn tries() -> u64 {
    if effort::is_full() { 10_000 } else { 300 }
}

/// SplitMix64: the choices of a run come from its seed alone.
struct Choice(u64);

impl Choice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

/// What is held against the auditor: logs, and a proof out of them.
struct Case {
    written: Written,
    files: Files,
    receipt: Receipt,
    proof: String,
}

impl Case {
    fn new() -> Self {
        let written = Written::new(AMOUNT);
        let files = written.files();
        let (name, leaves) = written.leaves.iter().next_back().unwrap();
        let mut tree = MemoryTree::new();
        tree.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
        let index = 5;
        let proof = InclusionProof::prove(&tree, index, tree.size()).unwrap();
        let note = Note::parse(written.checkpoint(name).as_bytes()).unwrap();
        let receipt = Receipt {
            log: keys(written.seed).origin(name).unwrap().to_string(),
            index,
            leaf_hash: leaf_hash(&leaves[5]),
        };
        let proof = TlogProof::new(index, proof, note).to_string();
        Self {
            written,
            files,
            receipt,
            proof,
        }
    }

    fn auditor(&self) -> Auditor {
        Auditor::new(keys(self.written.seed))
    }

    /// An auditor that has verified the logs before.
    fn knowing(&self) -> Auditor {
        let mut auditor = self.auditor();
        for name in self.written.leaves.keys() {
            let note = self.written.checkpoint(name);
            let (origin, key) = (
                auditor.keys.origin(name).unwrap(),
                auditor.keys.verifier_key(name).unwrap(),
            );
            let kept =
                VerifiedCheckpoint::open(note.as_bytes(), &origin, std::slice::from_ref(&key));
            auditor.kept.raise(name.clone(), kept.unwrap(), key);
        }
        auditor
    }

    /// A change of the files, or of the proof; with what is to see it.
    fn mutate(&self, choice: &mut Choice) -> Mutant {
        let mut files = self.files.clone();
        let paths: Vec<&String> = self.files.keys().collect();
        let path = paths[choice.below(paths.len())].clone();
        let bytes = files.get_mut(&path).unwrap();
        match choice.below(9) {
            0 | 1 => flip(bytes, choice),
            2 => {
                let to = choice.below(bytes.len());
                bytes.truncate(to);
            }
            3 => bytes.push(u8::try_from(choice.below(256)).unwrap()),
            4 => drop(files.remove(&path)),
            // Two files change places.
            5 => {
                let other = paths[choice.below(paths.len())];
                if self.files[other] == self.files[&path] {
                    flip(files.get_mut(&path).unwrap(), choice);
                } else {
                    files.insert(path.clone(), self.files[other].clone());
                    files.insert(other.clone(), self.files[&path].clone());
                }
            }
            // The leaves of a log are changed, and all of it hashed anew; signed by the log's own key.
            6 => return Mutant::Knowing(self.rewritten(choice).files()),
            7 => return Mutant::New(self.kept_back(choice).files()),
            _ => {
                let mut proof = self.proof.clone().into_bytes();
                flip(&mut proof, choice);
                return Mutant::Proof(proof);
            }
        }
        if choice.below(2) == 0 {
            Mutant::New(files)
        } else {
            Mutant::Knowing(files)
        }
    }

    /// Another history, of the same log key.
    fn rewritten(&self, choice: &mut Choice) -> Written {
        let mut written = self.written.clone();
        let (_, leaves) = pick(&mut written, choice);
        let at = choice.below(leaves.len());
        match choice.below(3) {
            0 => drop(leaves.remove(at)),
            1 => leaves.insert(at, leaves[at].clone()),
            _ => {
                let text = String::from_utf8(leaves[at].clone()).unwrap();
                leaves[at] = text.replacen("AAAA", "BAAA", 1).into_bytes();
            }
        }
        written
    }

    /// A leaf was kept back, and what follows it was not; by an enclave that signs what it should not.
    fn kept_back(&self, choice: &mut Choice) -> Written {
        let mut written = self.written.clone();
        let (_, leaves) = pick(&mut written, choice);
        // Not the last of its tenant, or nobody could know that it was there.
        let at = choice.below(leaves.len() - 12);
        leaves.remove(at);
        written
    }
}

fn pick<'a>(written: &'a mut Written, choice: &mut Choice) -> (LogName, &'a mut Vec<Vec<u8>>) {
    let of = written
        .leaves
        .iter_mut()
        .filter(|(_, leaves)| leaves.len() > 12);
    let mut of: Vec<_> = of.collect();
    let at = choice.below(of.len());
    let (name, leaves) = of.swap_remove(at);
    (name.clone(), leaves)
}

fn flip(bytes: &mut [u8], choice: &mut Choice) {
    let at = choice.below(bytes.len());
    bytes[at] ^= 1 << choice.below(8);
}

enum Mutant {
    /// For an auditor that has seen nothing before.
    New(Files),
    /// For one that has verified the logs before.
    Knowing(Files),
    Proof(Vec<u8>),
}

async fn is_detected(case: &Case, mutant: Mutant) -> bool {
    let (mut auditor, files) = match mutant {
        Mutant::New(files) => (case.auditor(), files),
        Mutant::Knowing(files) => (case.knowing(), files),
        Mutant::Proof(proof) => {
            let Ok(proof) = TlogProof::parse(&proof) else {
                return true;
            };
            return case
                .receipt
                .verify(&keys(case.written.seed), &proof)
                .is_err();
        }
    };
    let before = auditor.kept.clone();
    let report = auditor.verify(&source(files), &mut |_| {}).await.unwrap();
    // Nothing of it is remembered.
    report.verdict() == Verdict::Refused && auditor.kept == before
}

/// Looks at signatures alone, as one who trusts whoever serves the tiles.
fn is_detected_by_signatures(case: &Case, mutant: &Mutant) -> bool {
    let (Mutant::New(files) | Mutant::Knowing(files)) = mutant else {
        return true;
    };
    let keys = keys(case.written.seed);
    case.written.leaves.keys().any(|name| {
        let note = files.get(&format!("{name}/checkpoint"));
        let (origin, key) = (keys.origin(name).unwrap(), keys.verifier_key(name).unwrap());
        note.is_none_or(|note| VerifiedCheckpoint::open(note, &origin, &[key]).is_err())
    })
}

fn row(undetected: u64, runs: u64) -> Row {
    Row {
        name: "log_mutations_undetected",
        value: undetected as f64,
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs,
        seed: SEED,
    }
}

#[tokio::test]
async fn state_bar_log_mutations_are_detected() {
    let case = Case::new();
    for mut auditor in [case.auditor(), case.knowing()] {
        let report = auditor
            .verify(&source(case.files.clone()), &mut |_| {})
            .await
            .unwrap();
        assert_eq!(report.verdict(), Verdict::Holds, "{:?}", report.findings);
        assert_eq!((report.leaves, report.tenants), (863, 3));
    }
    let proof = TlogProof::parse(case.proof.as_bytes()).unwrap();
    case.receipt
        .verify(&keys(case.written.seed), &proof)
        .unwrap();
    let mut choice = Choice(SEED);
    let mut undetected = 0;
    for _ in 0..tries() {
        let mutant = case.mutate(&mut choice);
        if !is_detected(&case, mutant).await {
            undetected += 1;
        }
    }
    assert!(bars::record("state", row(undetected, tries())).unwrap());
}

/// Who looks at signatures alone, misses what was changed behind them.
#[tokio::test]
async fn state_bar_canary_mutations_behind_a_signature_are_seen() {
    let case = Case::new();
    let mut choice = Choice(SEED);
    let missed = (0..50).filter(|_| {
        let mutant = case.mutate(&mut choice);
        !is_detected_by_signatures(&case, &mutant)
    });
    let row = row(u64::try_from(missed.count()).unwrap(), 50);
    assert!(!row.met(), "{row:?}");
}
