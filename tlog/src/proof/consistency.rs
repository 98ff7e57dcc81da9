//! Consistency: the larger tree begins with the smaller one [RFC 9162 §2.1.4].

use core::ops::Range;

use thiserror::Error;

use super::split;
use crate::hash::{Hash, empty_root, node_hash};
use crate::tree::{HashReader, NodeId, ReadError, TreeHead, range_hash, subtrees};

/// Longest consistency proof: the height of a tree of `u64::MAX` leaves and one more.
pub const MAX_CONSISTENCY_HASHES: usize = 65;

/// Why no consistency proof can be made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProveConsistencyError {
    /// The old tree is the larger one.
    #[error("a tree of {old_size} leaves is no part of one of {new_size}")]
    SizesReversed {
        /// Leaves in the old tree.
        old_size: u64,
        /// Leaves in the new tree.
        new_size: u64,
    },
    /// A hash could not be read.
    #[error("cannot read the tree")]
    Read(#[from] ReadError),
}

/// Why a consistency proof is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ConsistencyError {
    /// The old tree is the larger one.
    #[error("a tree of {old_size} leaves is no part of one of {new_size}")]
    SizesReversed {
        /// Leaves in the old tree.
        old_size: u64,
        /// Leaves in the new tree.
        new_size: u64,
    },
    /// More hashes than the proof has.
    #[error("a consistency proof of {hashes} hashes is too long")]
    TooLong {
        /// Hashes in the proof.
        hashes: usize,
    },
    /// Fewer hashes than the proof has.
    #[error("a consistency proof of {hashes} hashes is too short")]
    TooShort {
        /// Hashes in the proof.
        hashes: usize,
    },
    /// The proof does not lead to the old root.
    #[error("the consistency proof leads to another old root")]
    OldRootMismatch,
    /// The proof does not lead to the new root.
    #[error("the consistency proof leads to another new root")]
    NewRootMismatch,
}

/// The hashes that join an old and a new root. Not yet verified; at most [`MAX_CONSISTENCY_HASHES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof(Vec<Hash>);

impl ConsistencyProof {
    /// Takes hashes a peer sent.
    ///
    /// # Errors
    /// [`ConsistencyError::TooLong`] past [`MAX_CONSISTENCY_HASHES`].
    pub fn from_hashes(hashes: Vec<Hash>) -> Result<Self, ConsistencyError> {
        if hashes.len() > MAX_CONSISTENCY_HASHES {
            return Err(ConsistencyError::TooLong {
                hashes: hashes.len(),
            });
        }
        Ok(Self(hashes))
    }

    /// The subtrees that [`prove`](Self::prove) will read, for a caller that fetches them first.
    ///
    /// # Errors
    /// [`ProveConsistencyError::SizesReversed`].
    pub fn nodes(old_size: u64, new_size: u64) -> Result<Vec<NodeId>, ProveConsistencyError> {
        Ok(path(old_size, new_size)?
            .into_iter()
            .flat_map(subtrees)
            .collect())
    }

    /// Makes the proof `PROOF(old_size, D[new_size])` [RFC 9162 §2.1.4.1]. Empty for equal sizes and,
    /// beyond the RFC, for an empty old tree, as [C2SP tlog-witness] has it.
    ///
    /// # Errors
    /// [`ProveConsistencyError::SizesReversed`], or what the reader answers.
    pub fn prove(
        reader: &impl HashReader,
        old_size: u64,
        new_size: u64,
    ) -> Result<Self, ProveConsistencyError> {
        let ranges = path(old_size, new_size)?.into_iter();
        let hashes = ranges
            .map(|range| range_hash(reader, range))
            .collect::<Result<_, _>>()?;
        Ok(Self(hashes))
    }

    /// The hashes, in the RFC's order.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.0
    }

    /// Verifies that the new tree begins with the old one [RFC 9162 §2.1.4.2].
    ///
    /// Equal sizes need equal roots and no hashes. The empty tree is a beginning of any tree: its root
    /// must be the empty root, and no hashes may follow.
    ///
    /// # Errors
    /// [`ConsistencyError`]: the first rule broken.
    pub fn verify(
        &self,
        old: TreeHead,
        new: TreeHead,
    ) -> Result<VerifiedConsistency, ConsistencyError> {
        let hashes = self.0.len();
        let too_short = ConsistencyError::TooShort { hashes };
        if old.size > new.size {
            return Err(ConsistencyError::SizesReversed {
                old_size: old.size,
                new_size: new.size,
            });
        }
        if old.size == 0 || old.size == new.size {
            if hashes != 0 {
                return Err(ConsistencyError::TooLong { hashes });
            }
            if old.size == 0 && old.root != empty_root() {
                return Err(ConsistencyError::OldRootMismatch);
            }
            if old.size == new.size && old.root != new.root {
                return Err(ConsistencyError::NewRootMismatch);
            }
            return Ok(VerifiedConsistency { old, new });
        }
        // An empty path fails even where the old root could stand in for its first hash.
        let (first, after_first) = self.0.split_first().ok_or(too_short)?;
        // A whole old tree is a subtree of the new one, so its root is left out of the proof.
        let (start, rest) = if old.size.is_power_of_two() {
            (&old.root, self.0.as_slice())
        } else {
            (first, after_first)
        };
        // Where the two right edges are on this level (the RFC's fn, sn); both sizes are above zero.
        let mut old_last = old.size.saturating_sub(1);
        let mut new_last = new.size.saturating_sub(1);
        while old_last & 1 == 1 {
            (old_last, new_last) = (old_last >> 1, new_last >> 1);
        }
        let (mut old_hash, mut new_hash) = (*start, *start);
        for hash in rest {
            if new_last == 0 {
                return Err(ConsistencyError::TooLong { hashes });
            }
            if old_last & 1 == 1 || old_last == new_last {
                old_hash = node_hash(hash, &old_hash);
                new_hash = node_hash(hash, &new_hash);
                while old_last & 1 == 0 && old_last != 0 {
                    (old_last, new_last) = (old_last >> 1, new_last >> 1);
                }
            } else {
                new_hash = node_hash(&new_hash, hash);
            }
            (old_last, new_last) = (old_last >> 1, new_last >> 1);
        }
        if new_last != 0 {
            return Err(too_short);
        }
        if old_hash != old.root {
            return Err(ConsistencyError::OldRootMismatch);
        }
        if new_hash != new.root {
            return Err(ConsistencyError::NewRootMismatch);
        }
        Ok(VerifiedConsistency { old, new })
    }
}

/// Two heads of which the new one keeps every leaf of the old one. Made by
/// [`ConsistencyProof::verify`] alone; trusts the heads it was given.
///
/// ```compile_fail,E0451
/// # use tlog::{TreeHead, VerifiedConsistency};
/// let forged = VerifiedConsistency { old: TreeHead::empty(), new: TreeHead::empty() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedConsistency {
    old: TreeHead,
    new: TreeHead,
}

impl VerifiedConsistency {
    /// The smaller tree.
    #[must_use]
    pub const fn old_head(&self) -> TreeHead {
        self.old
    }

    /// The tree that begins with it.
    #[must_use]
    pub const fn new_head(&self) -> TreeHead {
        self.new
    }
}

/// The ranges `SUBPROOF` of [RFC 9162 §2.1.4.1] takes the hash of, in its order.
fn path(old_size: u64, new_size: u64) -> Result<Vec<Range<u64>>, ProveConsistencyError> {
    if old_size > new_size {
        return Err(ProveConsistencyError::SizesReversed { old_size, new_size });
    }
    let mut ranges = Vec::new();
    if old_size == 0 {
        return Ok(ranges);
    }
    let (mut start, mut end) = (0u64, new_size);
    while end != old_size {
        let Some(left) = split(end.saturating_sub(start)) else {
            break;
        };
        let middle = start.saturating_add(left);
        if old_size <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    // From leaf 0 on it would be the old root itself, which the verifier has.
    if start != 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    Ok(ranges)
}
