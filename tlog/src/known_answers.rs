//! Answers of others: Certificate Transparency's reference tree, the C2SP texts' examples, and what
//! Go's `golang.org/x/mod/sumdb` computes for a tree of 70,000 leaves.

use ring::signature::Ed25519KeyPair;

use crate::hash::{Hash, leaf_hash, sha256};
use crate::tile::{HashTile, TileId};
use crate::tree::{Frontier, MemoryTree, root};
use crate::{
    ConsistencyProof, Cosigner, InclusionProof, Note, NoteSigner, Origin, TreeHead,
    VerifiedCheckpoint, VerifierKey,
};

fn hash(base64: &str) -> Hash {
    Hash::from_base64(base64).expect("base64 of 32 bytes")
}

fn digest(hashes: &[Hash]) -> String {
    sha256(
        &hashes
            .iter()
            .map(|hash| hash.as_bytes().as_slice())
            .collect::<Vec<_>>(),
    )
    .to_string()
}

/// Leaf `i` of Go's tree is `i` as big-endian `u64`.
fn go_tree() -> (MemoryTree, Frontier) {
    let (mut tree, mut frontier) = (MemoryTree::new(), Frontier::new());
    for index in 0..70_000u64 {
        let leaf = leaf_hash(&index.to_be_bytes());
        tree.append(leaf);
        frontier.append(leaf).expect("room");
    }
    (tree, frontier)
}

const GO_ROOT: &str = "B1kWeg+Y416ALUb/fH0p0sPwOmOiVt62q7/zV6kbY7E=";

#[test]
fn roots_of_certificate_transparencys_reference_tree() {
    let rows = [
        (
            "",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        ),
        (
            "00",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        ),
        (
            "10",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        ),
        (
            "2021",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ),
        (
            "3031",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        ),
        (
            "40414243",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        ),
        (
            "5051525354555657",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        ),
        (
            "606162636465666768696a6b6c6d6e6f",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ];
    let mut frontier = Frontier::new();
    for (leaf, expected) in rows {
        let leaf = hex::decode(leaf).expect("hex");
        frontier.append(leaf_hash(&leaf)).expect("room");
        assert_eq!(
            format!("{:?}", frontier.root()),
            expected,
            "{}",
            frontier.size()
        );
    }
}

#[test]
fn roots_are_gos() {
    let (tree, frontier) = go_tree();
    let rows = [
        (1, "PnB3/S9m1ongzuanz1s3vy3KfJea81bQoxy8XIVgXH0="),
        (2, "p9kYlLYfv0Y3jYjj4bH3rvOVMsUEtIS9MVUdFeCgnf8="),
        (3, "m0ll+LIgukL3A5rQeByWbPkLsa6hWoBYbWNLMiqx9M4="),
        (7, "Rc6n7cqVQ+5VdaV3TQ2PqTIai+CEs/tlf6T20HGjyUw="),
        (8, "sVrNixzPepuBwE9psn5cq9Z+kL4Ob/ak0e2HAEpPDME="),
        (255, "uzuXQ+CBGOpYOud98EoUSaBgHN5vdRRtecLKtjZs4hA="),
        (256, "FeLdSXOuRN6MjPMEj9mNF62q6mKH9OBgalWmQ2F0CMA="),
        (257, "1BjAhzJZvOfQVhqwBEhhEkFsHESQhlQVNCv+BuZzFGw="),
        (70_000, GO_ROOT),
    ];
    for (size, expected) in rows {
        assert_eq!(root(&tree, size), Ok(hash(expected)), "{size}");
    }
    assert_eq!(frontier.root(), hash(GO_ROOT));
}

#[test]
fn proofs_are_gos() {
    let (tree, _) = go_tree();
    let head = TreeHead {
        size: 70_000,
        root: hash(GO_ROOT),
    };
    // Index, hashes in the proof, SHA-256 over them.
    let inclusion = [
        (0, 17, "EqI2Iw7AtAgYm4SvD3kisklSGGzrE7lwQbusVWNPzGs="),
        (255, 17, "CDLnRunO+XpIUlc4nncCAgrViY/bhMhfSEtrVNBbNJI="),
        (256, 17, "RYuLPYnjcCwkfvHz1vaVGDWW9RsJiPQskzOf9kVGgMQ="),
        (65_535, 17, "m2kqHRqF7EtCE9XEaVegMJ8coZf6uF8r4BOMT3bjdic="),
        (65_536, 14, "IJYfSM3zcWGv/HVLwNVQKfQpIx7mo8L8yO53TzjYx5s="),
        (69_999, 9, "f5xlVy4gr+dk8Gn5iIDSSo7jituxStIZ8dzBXli+LXU="),
    ];
    for (index, length, expected) in inclusion {
        let proof = InclusionProof::prove(&tree, index, head.size).expect("in the tree");
        assert_eq!(
            (proof.hashes().len(), digest(proof.hashes()).as_str()),
            (length, expected)
        );
        proof
            .verify(leaf_hash(&index.to_be_bytes()), index, head)
            .expect("verifies");
    }
    let consistency = [
        (1, 17, "EqI2Iw7AtAgYm4SvD3kisklSGGzrE7lwQbusVWNPzGs="),
        (3, 18, "uLRBgwL9TB8a+iqgy1rs4lgHwQJjK2+a9McToH3B0Rs="),
        (256, 9, "Ku5ZcwxvJRD5R7VqesDqWQcBfKm1wsCH0F5smoxe2i4="),
        (65_535, 18, "8i5jEDbxR9T27EMF4+btaAMqXRVCJ6IiuV1esOfkji8="),
        (65_536, 1, "ecHz9IBWC5ERqBxFB4x392O+Kf2zmOUzfeeql/POlys="),
        (69_999, 10, "842ROCyqy1BtDLPd6NNldwMu6B3Bg9lOGBzcNYbKMC0="),
    ];
    for (size, length, expected) in consistency {
        let proof = ConsistencyProof::prove(&tree, size, head.size).expect("ordered");
        assert_eq!(
            (proof.hashes().len(), digest(proof.hashes()).as_str()),
            (length, expected)
        );
        let old = TreeHead {
            size,
            root: root(&tree, size).expect("in the tree"),
        };
        proof.verify(old, head).expect("verifies");
    }
}

#[test]
fn tiles_are_gos() {
    let (tree, _) = go_tree();
    let rows = [
        ("tile/0/000", "IM0IWcf7SunurB0kSIfm+TQths4LGhx7skSRXT0NyXE="),
        (
            "tile/0/273.p/112",
            "x+uxWB+zfQjowU7yPOAuvQfXnXg7ZRXHQNi59WbvAok=",
        ),
        (
            "tile/1/001.p/17",
            "T9IQVn85q/1q86zT+JVpjLqvG4O9dk+Y19gfQxRUqlQ=",
        ),
        (
            "tile/2/000.p/1",
            "Lz17cuHMvzHnfkxB1zHanJT6GmwIJJ/Unl1K3tBSsWs=",
        ),
    ];
    for (path, expected) in rows {
        let id = TileId::parse(path).expect("path");
        let tile = HashTile::from_reader(&tree, id).expect("complete");
        assert_eq!(sha256(&[&tile.encode()]).to_string(), expected, "{path}");
    }
}

#[test]
fn notes_of_others_verify() {
    let rows = [
        // The documentation of Go's `golang.org/x/mod/sumdb/note`.
        (
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "If you think cryptography is the answer to your problem,\n\
             then you don't know what your problem is.\n",
            "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg\
             KvqfqdngotpRZb6KE6RyyBwJnAM=\n",
        ),
        // [C2SP signed-note], "Example".
        (
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "This is an example message.\n",
            "\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZ\
             XsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n",
        ),
    ];
    for (key, text, signature) in rows {
        let key: VerifierKey = key.parse().expect("key");
        let note = Note::parse(format!("{text}\n{signature}").as_bytes()).expect("note");
        let verified = note.verify(core::slice::from_ref(&key)).expect("verifies");
        assert_eq!(
            (verified.text(), verified.signers()),
            (text, [key].as_slice())
        );
    }
}

#[test]
fn a_checkpoint_and_its_cosignature_are_gos() {
    let seed = |first: u8| {
        let seed: Vec<u8> = (first..).take(32).collect();
        Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes")
    };
    let note = format!(
        "tokenkeep.example/control\n70000\n{GO_ROOT}\n\n\
         \u{2014} tokenkeep.example/control hjOhnVvsxesdpYiwirttZgnfITu5fpN6g2oAqbHNyJfQze94CnZ3AZwr\
         Cu/ajIsJtYnfnTbMDGIgAteQ7bRost2KIww=\n"
    );
    let line = "\u{2014} witness.example/w1 IDJKvgAAAABkGFDLlKzIX2o8mAthvlIop+lDGtQAXT2aGbA/dHVOYPua\
                mQ3dbK5SOj0E8PxlcSX+2b4ZKgB2dJGrUMoOD6dGKo6GCg==";
    let name = "tokenkeep.example/control";
    let log = NoteSigner::new(name.parse().expect("name"), seed(0)).expect("key");
    let key = log.verifier_key().clone();
    assert_eq!(
        key.to_string(),
        "tokenkeep.example/control+8633a19d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    );
    let origin: Origin = name.parse().expect("origin");
    let opened = VerifiedCheckpoint::open(note.as_bytes(), &origin, &[key]).expect("opens");
    assert_eq!(
        opened.head(),
        TreeHead {
            size: 70_000,
            root: hash(GO_ROOT)
        }
    );
    // Ed25519 is deterministic: the same keys make the same notes.
    assert_eq!(
        opened.checkpoint().sign(&log).expect("signs").to_string(),
        note
    );

    let witness = Cosigner::new("witness.example/w1".parse().expect("name"), seed(32));
    let witness = witness.expect("key");
    assert_eq!(
        witness.key().to_string(),
        "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
    );
    let cosignature = witness.cosign(&opened, 1_679_315_147).expect("cosigns");
    assert_eq!(cosignature.to_string(), line);
    let parsed = line.parse().expect("a signature line");
    let verified = opened
        .verify_cosignature(witness.key(), &parsed)
        .expect("verifies");
    assert_eq!(verified.timestamp_s(), 1_679_315_147);
}
