//! Notes, checkpoints, tiles and proofs, as a log, a mirror or a witness serves them.

use std::str;
use std::sync::LazyLock;

use ::tlog::note::{KeyName, NoteSigner, VerifierKey};
use ::tlog::tile::{BundleId, EntryBundle, HashTile, Resource, TileId};
use ::tlog::witness::AddCheckpoint;
use ::tlog::{
    Checkpoint, ConsistencyProof, Cosigner, CosignerKey, Frontier, Hash, InclusionProof,
    MemoryTree, Note, Origin, TreeHead, VerifiedCheckpoint, leaf_hash,
};
use ring::signature::Ed25519KeyPair;

use super::Target;

pub(super) const NOTE: Target = Target {
    name: "tlog_note",
    run: note,
    seeds: note_seeds,
};
pub(super) const TILE: Target = Target {
    name: "tlog_tile",
    run: tile,
    seeds: tile_seeds,
};
pub(super) const PROOF: Target = Target {
    name: "tlog_proof",
    run: proof,
    seeds: proof_seeds,
};
pub(super) const WITNESS: Target = Target {
    name: "tlog_witness",
    run: witness,
    seeds: witness_seeds,
};

const ORIGIN: &str = "tokenkeep.test/control";
const LEAVES: u8 = 13;

static TREE: LazyLock<MemoryTree> = LazyLock::new(|| tree(LEAVES));

fn tree(leaves: u8) -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.extend((0..leaves).map(|leaf| leaf_hash(&[leaf])));
    tree
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN.parse().unwrap(), pair(1)).unwrap()
}

fn cosigner() -> Cosigner {
    Cosigner::new("witness.test".parse().unwrap(), pair(2)).unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint::new(ORIGIN.parse().unwrap(), TREE.head()).unwrap()
}

/// A note, or one line of those that configure a verifier.
fn note(input: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(line) = str::from_utf8(input) {
        macro_rules! keeps {
            ($($type:ty),+) => {$(
                if let Ok(value) = line.parse::<$type>() {
                    accepted = true;
                    assert_eq!(value.to_string(), line, "one spelling only");
                }
            )+};
        }
        keeps!(KeyName, VerifierKey, CosignerKey);
        if let Ok(origin) = line.parse::<Origin>() {
            accepted = true;
            assert_eq!(origin.as_str(), line);
        }
        if let Ok(checkpoint) = line.parse::<Checkpoint>() {
            accepted = true;
            assert_eq!(checkpoint.to_string(), line);
        }
    }
    if let Ok(note) = Note::parse(input) {
        assert_eq!(note.to_string().as_bytes(), input, "one spelling only");
        accepted = true;
    }
    let keys = [signer().verifier_key().clone()];
    if let Ok(opened) = VerifiedCheckpoint::open(input, &ORIGIN.parse().unwrap(), &keys) {
        assert_eq!(
            *opened.checkpoint(),
            checkpoint(),
            "another checkpoint than was signed"
        );
        if let Ok(cosignature) = opened.cosignature(cosigner().key()) {
            assert_eq!(cosignature.timestamp_s(), 1_780_000_000);
            assert_eq!(cosignature.head(), TREE.head());
        }
    }
    accepted
}

fn note_seeds() -> Vec<Vec<u8>> {
    let keys = [signer().verifier_key().clone()];
    let signed = checkpoint().sign(&signer()).unwrap().to_string();
    let opened =
        VerifiedCheckpoint::open(signed.as_bytes(), &ORIGIN.parse().unwrap(), &keys).unwrap();
    let cosignature = cosigner().cosign(&opened, 1_780_000_000).unwrap();
    let cosigned = opened.note_with_signatures([cosignature]).unwrap();
    [
        signed,
        cosigned.to_string(),
        checkpoint().to_string(),
        keys[0].to_string(),
        cosigner().key().to_string(),
        ORIGIN.to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// The size from which the request of the seeds begins.
const OLD: u8 = 5;

/// A request to cosign, by a witness that saw a smaller tree. Whatever is accepted is that very tree.
fn witness(input: &[u8]) -> bool {
    let Ok(request) = AddCheckpoint::parse(input) else {
        return false;
    };
    assert_eq!(request.to_string().as_bytes(), input, "one spelling only");
    let keys = [signer().verifier_key().clone()];
    for latest in [None, Some(tree(OLD).head()), Some(TREE.head())] {
        match request.judge(&keys, latest) {
            Ok(witnessable) => {
                assert_eq!(*witnessable.checkpoint().checkpoint(), checkpoint());
            }
            Err(refused) => assert!([400, 403, 404, 409, 422].contains(&refused.status())),
        }
    }
    true
}

fn witness_seeds() -> Vec<Vec<u8>> {
    let keys = [signer().verifier_key().clone()];
    let signed = checkpoint().sign(&signer()).unwrap().to_string();
    let opened =
        VerifiedCheckpoint::open(signed.as_bytes(), &ORIGIN.parse().unwrap(), &keys).unwrap();
    [0, u64::from(OLD), u64::from(LEAVES)]
        .map(|old| {
            let proof = ConsistencyProof::prove(&*TREE, old, u64::from(LEAVES)).unwrap();
            let request = AddCheckpoint::new(old, proof, &opened);
            request.to_string().into_bytes()
        })
        .to_vec()
}

/// A path, a line end, and what is served there; or a stored frontier.
fn tile(input: &[u8]) -> bool {
    if let Ok(frontier) = Frontier::decode(input) {
        assert_eq!(frontier.encode(), input, "one encoding only");
        let mut longer = frontier.clone();
        let appended = longer.append(leaf_hash(b"next"));
        assert_eq!(appended.is_ok(), frontier.size() < u64::MAX);
        return true;
    }
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (path, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let Ok(path) = str::from_utf8(path) else {
        return false;
    };
    let Ok(resource) = Resource::parse(path) else {
        return false;
    };
    assert_eq!(resource.path(), path, "one spelling only");
    match resource {
        Resource::Checkpoint => true,
        Resource::Tile(id) => HashTile::decode(id, body).is_ok_and(|tile| {
            assert_eq!(tile.encode(), body);
            assert_eq!(tile.root().is_some(), id.is_full());
            true
        }),
        Resource::Entries(id) => EntryBundle::decode(id, body).is_ok_and(|bundle| {
            assert_eq!(bundle.encode(), body);
            assert_eq!(bundle.leaf_hashes().len(), usize::from(id.width()));
            true
        }),
    }
}

fn tile_seeds() -> Vec<Vec<u8>> {
    let size = u64::from(LEAVES);
    let frontier = Frontier::from_reader(&*TREE, size).unwrap();
    let id = TileId::at(0, 0, size).unwrap();
    let served = |path: String, body: Vec<u8>| [path.as_bytes(), b"\n", &body].concat();
    let bundle_id = BundleId::at(0, size).unwrap();
    let bundle = EntryBundle::new(bundle_id, (0..LEAVES).map(|leaf| vec![leaf]).collect()).unwrap();
    let full = TileId::new(1, 1_234_067, 256).unwrap();
    vec![
        frontier.encode(),
        served(
            id.path(),
            HashTile::from_reader(&*TREE, id).unwrap().encode(),
        ),
        served(bundle_id.path(), bundle.encode()),
        served(full.path(), vec![5; 256 * 32]),
        b"checkpoint".to_vec(),
    ]
}

/// A kind, an index or old size, and hashes: against the tree of 13 leaves.
fn proof(input: &[u8]) -> bool {
    let Some(([kind, at], rest)) = input.split_first_chunk::<2>() else {
        return false;
    };
    let (chunks, left_over) = rest.as_chunks::<32>();
    if !left_over.is_empty() {
        return false;
    }
    let hashes: Vec<Hash> = chunks
        .iter()
        .map(|chunk| Hash::from_bytes(*chunk))
        .collect();
    let (head, size) = (TREE.head(), u64::from(LEAVES));
    if kind % 2 == 0 {
        let Ok(proof) = InclusionProof::from_hashes(hashes) else {
            return false;
        };
        if proof
            .verify(leaf_hash(&[*at]), u64::from(*at), head)
            .is_err()
        {
            return false;
        }
        let genuine = InclusionProof::prove(&*TREE, u64::from(*at), size).unwrap();
        assert_eq!(
            proof.hashes(),
            genuine.hashes(),
            "another proof of the same leaf"
        );
    } else {
        let Ok(proof) = ConsistencyProof::from_hashes(hashes) else {
            return false;
        };
        let old = TreeHead {
            size: u64::from(*at),
            root: tree(*at).head().root,
        };
        if proof.verify(old, head).is_err() {
            return false;
        }
        let genuine = ConsistencyProof::prove(&*TREE, u64::from(*at), size).unwrap();
        assert_eq!(
            proof.hashes(),
            genuine.hashes(),
            "another proof of the same sizes"
        );
    }
    true
}

fn proof_seeds() -> Vec<Vec<u8>> {
    let size = u64::from(LEAVES);
    let bytes = |kind: u8, at: u8, hashes: &[Hash]| {
        let mut bytes = vec![kind, at];
        hashes.iter().for_each(|hash| bytes.extend(hash.as_bytes()));
        bytes
    };
    let inclusion = (0..LEAVES).map(|at| {
        let proof = InclusionProof::prove(&*TREE, u64::from(at), size).unwrap();
        bytes(0, at, proof.hashes())
    });
    let consistency = (0..=LEAVES).map(|at| {
        let proof = ConsistencyProof::prove(&*TREE, u64::from(at), size).unwrap();
        bytes(1, at, proof.hashes())
    });
    inclusion.chain(consistency).collect()
}
