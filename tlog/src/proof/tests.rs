//! Every proof of every small tree, and every way to spoil one.

use proptest::prelude::*;

use super::*;
use crate::hash::{Hash, empty_root, leaf_hash};
use crate::tree::{MemoryTree, NodeId, ReadError, TreeHead};

const SIZES: u64 = 64;

fn leaf(index: u64) -> Hash {
    leaf_hash(&index.to_be_bytes())
}

/// A tree and its head at each size up to `size`.
fn grown(size: u64) -> (MemoryTree, Vec<TreeHead>) {
    let mut tree = MemoryTree::new();
    let mut heads = vec![tree.head()];
    for index in 0..size {
        tree.append(leaf(index));
        heads.push(tree.head());
    }
    (tree, heads)
}

fn flipped(hash: Hash) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[31] ^= 1;
    Hash::from_bytes(bytes)
}

/// Length of `PATH(index, D[size])` by the recursion of RFC 6962 §2.1.1.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the index is below the size"
)]
fn path_length(index: u64, size: u64) -> usize {
    if size == 1 {
        return 0;
    }
    let left = 1 << (size - 1).ilog2();
    1 + if index < left {
        path_length(index, left)
    } else {
        path_length(index - left, size - left)
    }
}

#[test]
fn every_inclusion_proof_verifies_and_every_spoilt_one_is_refused() {
    let (tree, heads) = grown(SIZES);
    for head in &heads {
        for index in 0..head.size {
            let proof = InclusionProof::prove(&tree, index, head.size).expect("in the tree");
            let hashes = proof.hashes().to_vec();
            let length = hashes.len();
            assert_eq!(length, path_length(index, head.size));
            let verified = proof.verify(leaf(index), index, *head).expect("verifies");
            assert_eq!(
                (verified.index(), verified.head(), verified.leaf()),
                (index, *head, leaf(index))
            );

            let verify = |hashes: Vec<Hash>, leaf, index, head| {
                InclusionProof::from_hashes(hashes)
                    .expect("short")
                    .verify(leaf, index, head)
            };
            let mismatch = Err(InclusionError::RootMismatch);
            for place in 0..length {
                let mut spoilt = hashes.clone();
                spoilt[place] = flipped(spoilt[place]);
                assert_eq!(verify(spoilt, leaf(index), index, *head), mismatch);
                let mut shorter = hashes.clone();
                shorter.remove(place);
                let error = InclusionError::TooShort { hashes: length - 1 };
                assert_eq!(verify(shorter, leaf(index), index, *head), Err(error));
                if place > 0 {
                    let mut swapped = hashes.clone();
                    swapped.swap(place - 1, place);
                    assert_eq!(verify(swapped, leaf(index), index, *head), mismatch);
                }
            }
            for place in 0..=length {
                let mut longer = hashes.clone();
                longer.insert(place, leaf(0));
                let error = InclusionError::TooLong { hashes: length + 1 };
                assert_eq!(verify(longer, leaf(index), index, *head), Err(error));
            }
            assert_eq!(
                verify(hashes.clone(), flipped(leaf(index)), index, *head),
                mismatch
            );
            let root = TreeHead {
                root: flipped(head.root),
                ..*head
            };
            assert_eq!(verify(hashes.clone(), leaf(index), index, root), mismatch);
            // At every other place and for every other size the same hashes lead nowhere, unless they
            // are as a matter of fact that proof as well: sizes are told apart by the root alone.
            for other in (0..head.size).filter(|other| *other != index) {
                assert!(
                    [
                        mismatch,
                        Err(InclusionError::TooShort { hashes: length }),
                        Err(InclusionError::TooLong { hashes: length }),
                    ]
                    .contains(&verify(
                        hashes.clone(),
                        leaf(index),
                        other,
                        *head
                    )),
                    "{index} passed for {other} of {}",
                    head.size
                );
            }
            let size = head.size;
            let outside = |index, size| Err(InclusionError::IndexOutsideTree { index, size });
            assert_eq!(
                verify(hashes.clone(), leaf(index), size, *head),
                outside(size, size)
            );
            let smaller = TreeHead {
                size: index,
                ..*head
            };
            assert_eq!(
                verify(hashes.clone(), leaf(index), index, smaller),
                outside(index, index)
            );
        }
    }
}

#[test]
fn every_consistency_proof_verifies_and_every_spoilt_one_is_refused() {
    let (tree, heads) = grown(SIZES);
    let verify = |hashes: Vec<Hash>, old, new| {
        ConsistencyProof::from_hashes(hashes)
            .expect("short")
            .verify(old, new)
    };
    for new in &heads {
        for old in &heads[..=usize::try_from(new.size).expect("small")] {
            let proof = ConsistencyProof::prove(&tree, old.size, new.size).expect("ordered");
            let hashes = proof.hashes().to_vec();
            let length = hashes.len();
            let verified = proof.verify(*old, *new).expect("verifies");
            assert_eq!((verified.old_head(), verified.new_head()), (*old, *new));

            let too_long = Err(ConsistencyError::TooLong { hashes: length + 1 });
            let spoilt_old = TreeHead {
                root: flipped(old.root),
                ..*old
            };
            let spoilt_new = TreeHead {
                root: flipped(new.root),
                ..*new
            };
            if old.size == 0 || old.size == new.size {
                assert_eq!(length, 0);
                assert_eq!(verify(vec![leaf(0)], *old, *new), too_long);
                let error = if old.size == 0 {
                    ConsistencyError::OldRootMismatch
                } else {
                    ConsistencyError::NewRootMismatch
                };
                assert_eq!(verify(Vec::new(), spoilt_old, *new), Err(error));
                if old.size == new.size {
                    let error = Err(ConsistencyError::NewRootMismatch);
                    assert_eq!(verify(Vec::new(), *old, spoilt_new), error);
                }
                continue;
            }
            assert_eq!(
                verify(hashes.clone(), *old, spoilt_new),
                Err(ConsistencyError::NewRootMismatch)
            );
            // Where the old root is the first hash of the path, a wrong one breaks the new root too,
            // and the old is compared first only with itself.
            let error = if old.size.is_power_of_two() {
                ConsistencyError::NewRootMismatch
            } else {
                ConsistencyError::OldRootMismatch
            };
            assert_eq!(verify(hashes.clone(), spoilt_old, *new), Err(error));
            for place in 0..length {
                let mut spoilt = hashes.clone();
                spoilt[place] = flipped(spoilt[place]);
                assert!(
                    [
                        ConsistencyError::OldRootMismatch,
                        ConsistencyError::NewRootMismatch
                    ]
                    .map(Err)
                    .contains(&verify(spoilt, *old, *new))
                );
                let mut shorter = hashes.clone();
                shorter.remove(place);
                let error = ConsistencyError::TooShort { hashes: length - 1 };
                assert_eq!(verify(shorter, *old, *new), Err(error));
            }
            for place in 0..=length {
                let mut longer = hashes.clone();
                longer.insert(place, leaf(0));
                assert_eq!(verify(longer, *old, *new), too_long);
            }
            let reversed = ConsistencyError::SizesReversed {
                old_size: new.size,
                new_size: old.size,
            };
            assert_eq!(verify(hashes.clone(), *new, *old), Err(reversed));
            // Another old tree with the same root is another statement.
            for other in (0..=new.size).filter(|size| *size != old.size) {
                let claimed = TreeHead {
                    size: other,
                    ..*old
                };
                assert!(
                    matches!(
                        verify(hashes.clone(), claimed, *new),
                        Err(ConsistencyError::OldRootMismatch
                            | ConsistencyError::NewRootMismatch
                            | ConsistencyError::TooShort { .. }
                            | ConsistencyError::TooLong { .. })
                    ),
                    "{} passed for {other} in {}",
                    old.size,
                    new.size
                );
            }
        }
    }
}

#[test]
fn proofs_beyond_the_tree_are_not_made() {
    let (tree, _) = grown(5);
    let outside = |index, size| Err(ProveInclusionError::IndexOutsideTree { index, size });
    assert_eq!(InclusionProof::prove(&tree, 5, 5), outside(5, 5));
    assert_eq!(InclusionProof::prove(&tree, 0, 0), outside(0, 0));
    assert_eq!(
        InclusionProof::nodes(7, 5),
        Err(ProveInclusionError::IndexOutsideTree { index: 7, size: 5 })
    );
    let node = NodeId::new(0, 5).expect("fits");
    let read = ReadError::OutsideTree { node, size: 5 };
    assert_eq!(
        InclusionProof::prove(&tree, 4, 6),
        Err(ProveInclusionError::Read(read))
    );
    assert_eq!(
        ConsistencyProof::prove(&tree, 5, 6),
        Err(ProveConsistencyError::Read(read))
    );
    let reversed = ProveConsistencyError::SizesReversed {
        old_size: 6,
        new_size: 5,
    };
    assert_eq!(ConsistencyProof::prove(&tree, 6, 5), Err(reversed));
}

#[test]
fn proofs_are_bounded() {
    let too_many = |count| vec![leaf(0); count];
    assert_eq!(
        InclusionProof::from_hashes(too_many(65)),
        Err(InclusionError::TooLong { hashes: 65 })
    );
    assert_eq!(
        ConsistencyProof::from_hashes(too_many(66)),
        Err(ConsistencyError::TooLong { hashes: 66 })
    );
    // The longest proofs of the largest tree just fit.
    let last = u64::MAX - 1;
    let longest = InclusionProof::nodes(0, u64::MAX).expect("in the tree");
    assert_eq!(path_length(0, u64::MAX), MAX_INCLUSION_HASHES);
    assert!(longest.len() <= 64 * 64);
    let head = TreeHead {
        size: u64::MAX,
        root: empty_root(),
    };
    for index in [0, last] {
        let refused = InclusionProof::from_hashes(too_many(64)).expect("fits");
        let error = refused
            .verify(leaf(0), index, head)
            .expect_err("no such root");
        let expected = if index == 0 {
            InclusionError::RootMismatch
        } else {
            InclusionError::TooLong { hashes: 64 }
        };
        // The last leaf of 2^64 - 1 has 63 siblings: the tree lacks one leaf to be full.
        assert_eq!(error, expected);
    }
    let old = TreeHead {
        size: (1 << 63) + 1,
        root: empty_root(),
    };
    let refused = ConsistencyProof::from_hashes(too_many(65)).expect("fits");
    assert_eq!(
        refused.verify(old, head),
        Err(ConsistencyError::OldRootMismatch)
    );
}

proptest! {
    #[test]
    fn any_hashes_for_any_tree_are_refused_without_panic(
        hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..=64),
        index: u64, old: u64, new: u64,
    ) {
        let hashes: Vec<Hash> = hashes.into_iter().map(Hash::from_bytes).collect();
        let head = |size| TreeHead { size, root: leaf(size) };
        let inclusion = InclusionProof::from_hashes(hashes.clone()).expect("fits");
        prop_assert_eq!(inclusion.verify(leaf(index), index, head(new)).ok(), None);
        let consistency = ConsistencyProof::from_hashes(hashes).expect("fits");
        if old != new {
            prop_assert_eq!(consistency.verify(head(old), head(new)).ok(), None);
        }
        if let Ok(nodes) = ConsistencyProof::nodes(old, new) {
            prop_assert!(nodes.iter().all(|node| node.leaves().end <= new));
        }
    }
}
