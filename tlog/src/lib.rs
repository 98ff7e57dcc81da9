//! Merkle log: leaves, tree, tiles, checkpoints and proofs: make and verify.
