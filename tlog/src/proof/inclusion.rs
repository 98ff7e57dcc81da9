//! Inclusion: this leaf is at this place in the tree with this root [RFC 9162 §2.1.3].

use core::ops::Range;

use thiserror::Error;

use super::split;
use crate::hash::{Hash, node_hash};
use crate::tree::{HashReader, NodeId, ReadError, TreeHead, range_hash, subtrees};

/// Longest inclusion proof: the height of a tree of `u64::MAX` leaves.
pub const MAX_INCLUSION_HASHES: usize = 64;

/// Why no inclusion proof can be made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProveInclusionError {
    /// There is no such leaf.
    #[error("no leaf {index} in a tree of {size} leaves")]
    IndexOutsideTree {
        /// The leaf asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// A hash could not be read.
    #[error("cannot read the tree")]
    Read(#[from] ReadError),
}

/// Why an inclusion proof is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InclusionError {
    /// There is no such leaf in that tree.
    #[error("no leaf {index} in a tree of {size} leaves")]
    IndexOutsideTree {
        /// The leaf claimed.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// More hashes than the path has.
    #[error("an inclusion proof of {hashes} hashes is too long")]
    TooLong {
        /// Hashes in the proof.
        hashes: usize,
    },
    /// Fewer hashes than the path has.
    #[error("an inclusion proof of {hashes} hashes is too short")]
    TooShort {
        /// Hashes in the proof.
        hashes: usize,
    },
    /// The path does not lead to the root.
    #[error("the inclusion proof leads to another root")]
    RootMismatch,
}

/// The sibling hashes on the way from a leaf to the root, leaf's end first. Not yet verified; at most
/// [`MAX_INCLUSION_HASHES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof(Vec<Hash>);

impl InclusionProof {
    /// Takes hashes a peer sent.
    ///
    /// # Errors
    /// [`InclusionError::TooLong`] past [`MAX_INCLUSION_HASHES`].
    pub fn from_hashes(hashes: Vec<Hash>) -> Result<Self, InclusionError> {
        if hashes.len() > MAX_INCLUSION_HASHES {
            return Err(InclusionError::TooLong {
                hashes: hashes.len(),
            });
        }
        Ok(Self(hashes))
    }

    /// The subtrees that [`prove`](Self::prove) will read, for a caller that fetches them first.
    ///
    /// # Errors
    /// [`ProveInclusionError::IndexOutsideTree`].
    pub fn nodes(index: u64, size: u64) -> Result<Vec<NodeId>, ProveInclusionError> {
        Ok(path(index, size)?.into_iter().flat_map(subtrees).collect())
    }

    /// Makes the proof `PATH(index, D[size])` [RFC 9162 §2.1.3.1].
    ///
    /// # Errors
    /// [`ProveInclusionError::IndexOutsideTree`], or what the reader answers.
    pub fn prove(
        reader: &impl HashReader,
        index: u64,
        size: u64,
    ) -> Result<Self, ProveInclusionError> {
        let ranges = path(index, size)?.into_iter();
        let hashes = ranges
            .map(|range| range_hash(reader, range))
            .collect::<Result<_, _>>()?;
        Ok(Self(hashes))
    }

    /// The sibling hashes, leaf's end first.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.0
    }

    /// Verifies that `leaf` is leaf `index` of the tree with this head [RFC 9162 §2.1.3.2].
    ///
    /// # Errors
    /// [`InclusionError`]: the first rule broken.
    pub fn verify(
        &self,
        leaf: Hash,
        index: u64,
        head: TreeHead,
    ) -> Result<VerifiedInclusion, InclusionError> {
        let outside = InclusionError::IndexOutsideTree {
            index,
            size: head.size,
        };
        let hashes = self.0.len();
        // `node` and `last`: where the path and the right edge are on this level (the RFC's fn, sn).
        let mut last = head.size.checked_sub(1).ok_or(outside)?;
        if index > last {
            return Err(outside);
        }
        let mut node = index;
        let mut hash = leaf;
        for sibling in &self.0 {
            if last == 0 {
                return Err(InclusionError::TooLong { hashes });
            }
            if node & 1 == 1 || node == last {
                hash = node_hash(sibling, &hash);
                // An even node on the right edge has no sibling on the levels it rises through.
                while node & 1 == 0 && node != 0 {
                    (node, last) = (node >> 1, last >> 1);
                }
            } else {
                hash = node_hash(&hash, sibling);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        if last != 0 {
            return Err(InclusionError::TooShort { hashes });
        }
        if hash != head.root {
            return Err(InclusionError::RootMismatch);
        }
        Ok(VerifiedInclusion { leaf, index, head })
    }
}

/// A leaf that is in a tree. Made by [`InclusionProof::verify`] alone; trusts the head it was given.
///
/// ```compile_fail,E0451
/// # use tlog::{TreeHead, VerifiedInclusion, leaf_hash};
/// let forged = VerifiedInclusion { leaf: leaf_hash(b""), index: 0, head: TreeHead::empty() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedInclusion {
    leaf: Hash,
    index: u64,
    head: TreeHead,
}

impl VerifiedInclusion {
    /// The leaf's hash.
    #[must_use]
    pub const fn leaf(&self) -> Hash {
        self.leaf
    }

    /// The leaf's index.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The tree it is in.
    #[must_use]
    pub const fn head(&self) -> TreeHead {
        self.head
    }
}

/// The sibling ranges of leaf `index`, leaf's end first: at most one a level.
fn path(index: u64, size: u64) -> Result<Vec<Range<u64>>, ProveInclusionError> {
    if index >= size {
        return Err(ProveInclusionError::IndexOutsideTree { index, size });
    }
    let (mut start, mut end) = (0u64, size);
    let mut ranges = Vec::new();
    while let Some(left) = split(end.saturating_sub(start)) {
        let middle = start.saturating_add(left);
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    Ok(ranges)
}
