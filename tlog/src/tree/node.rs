//! Coordinates of a complete subtree, and the port proofs read its hash through.

use core::ops::Range;

use thiserror::Error;

use crate::hash::{Hash, empty_root, node_hash};
use crate::tile::TileId;

/// A complete subtree: `2^level` leaves from leaf `index * 2^level` on. Level 0 is a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    level: u8,
    index: u64,
}

impl NodeId {
    /// The subtree at `level` (0 to 63) with `index`; `None` if its end does not fit a `u64`.
    #[must_use]
    pub fn new(level: u8, index: u64) -> Option<Self> {
        let width = 1u64.checked_shl(u32::from(level))?;
        index.checked_add(1)?.checked_mul(width)?;
        Some(Self { level, index })
    }

    /// Height above the leaves, 0 to 63.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.level
    }

    /// Position among the subtrees of its level.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// The leaves below: first, and one past the last.
    #[must_use]
    pub fn leaves(self) -> Range<u64> {
        // `new` and `subtrees` admit only subtrees whose end fits, so neither shift loses a bit.
        let level = u32::from(self.level);
        self.index.wrapping_shl(level)..self.index.saturating_add(1).wrapping_shl(level)
    }
}

/// Why a [`HashReader`] has no hash for a node.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The subtree is not complete in this tree.
    #[error("{node:?} is not complete in a tree of {size} leaves")]
    OutsideTree {
        /// What was asked for.
        node: NodeId,
        /// Leaves in the tree.
        size: u64,
    },
    /// The tile that holds it was not brought.
    #[error("{tile} is absent")]
    TileAbsent {
        /// The tile as it is named at this tree size.
        tile: TileId,
    },
    /// The tile has a path, but no tree of `u64` size fills it.
    #[error("{tile} is beyond any tree")]
    BeyondAnyTree {
        /// The tile.
        tile: TileId,
    },
}

/// Reads the hash of any complete subtree of a tree.
///
/// Sans-I/O: a caller that has to fetch first asks [`crate::InclusionProof::nodes`] or
/// [`crate::ConsistencyProof::nodes`] what will be read, fetches the tiles they are in
/// ([`TileId::of_node`]) and hands a [`crate::TileSet`] over.
pub trait HashReader {
    /// The hash of a complete subtree.
    ///
    /// # Errors
    /// [`ReadError`] if it is not complete or not at hand.
    fn hash(&self, node: NodeId) -> Result<Hash, ReadError>;
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Whatever the reader answers.
pub fn root(reader: &impl HashReader, size: u64) -> Result<Hash, ReadError> {
    range_hash(reader, 0..size)
}

/// The complete subtrees a range of leaves falls into, left to right.
///
/// The range is one that the recursion of [RFC 6962 §2.1] meets, so its subtrees shrink to the right.
pub(crate) fn subtrees(range: Range<u64>) -> impl Iterator<Item = NodeId> {
    let Range { mut start, end } = range;
    core::iter::from_fn(move || {
        let level = end
            .checked_sub(start)?
            .checked_ilog2()?
            .min(start.trailing_zeros());
        let node = NodeId {
            level: u8::try_from(level).ok()?,
            index: start.checked_shr(level)?,
        };
        start = start.checked_add(1u64.checked_shl(level)?)?;
        Some(node)
    })
}

/// `MTH(D[start:end])` of [RFC 6962 §2.1] for a range as in [`subtrees`].
pub(crate) fn range_hash(reader: &impl HashReader, range: Range<u64>) -> Result<Hash, ReadError> {
    let hashes = subtrees(range)
        .map(|node| reader.hash(node))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(fold_right(&hashes))
}

/// Joins subtrees that shrink to the right into their common root; the empty root for none.
pub(crate) fn fold_right(hashes: &[Hash]) -> Hash {
    let mut hashes = hashes.iter().rev();
    let Some(last) = hashes.next() else {
        return empty_root();
    };
    hashes.fold(*last, |right, left| node_hash(left, &right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_end_does_not_fit_is_refused() {
        assert_eq!(NodeId::new(64, 0), None);
        assert_eq!(NodeId::new(63, 1), None);
        assert_eq!(NodeId::new(0, u64::MAX), None);
        assert_eq!(NodeId::new(1, u64::MAX / 2), None);
        let last = NodeId::new(0, u64::MAX - 1).expect("fits");
        assert_eq!(last.leaves(), u64::MAX - 1..u64::MAX);
        let half = NodeId::new(63, 0).expect("fits");
        assert_eq!(half.leaves(), 0..1 << 63);
    }

    #[test]
    fn subtrees_tile_their_range_without_gap() {
        for size in (0..300).chain([u64::MAX - 1, u64::MAX]) {
            let mut next = 0;
            let mut above = 64;
            for node in subtrees(0..size) {
                assert_eq!(node.leaves().start, next);
                assert!(node.level() < above);
                (next, above) = (node.leaves().end, node.level());
            }
            assert_eq!(next, size);
        }
    }
}
