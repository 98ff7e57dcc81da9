//! A whole tree in memory: every complete subtree's hash, two hashes a leaf.

use super::{HashReader, NodeId, ReadError, TreeHead, fold_right, subtrees};
use crate::hash::{Hash, node_hash};

/// All hashes of a tree, by level. 64 bytes a leaf: for small trees, and for an auditor that rebuilds
/// one from its leaves.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    levels: Vec<Vec<Hash>>,
}

impl MemoryTree {
    /// The tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels
            .first()
            .map_or(0, |leaves| u64::try_from(leaves.len()).unwrap_or(u64::MAX))
    }

    /// Appends a leaf's hash.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut level = 0usize;
        loop {
            if self.levels.len() <= level {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level) else {
                return;
            };
            row.push(hash);
            let (pairs, []) = row.as_chunks::<2>() else {
                return;
            };
            let Some([left, right]) = pairs.last() else {
                return;
            };
            hash = node_hash(left, right);
            level = level.saturating_add(1);
        }
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        let size = self.size();
        let peaks: Vec<Hash> = subtrees(0..size)
            .filter_map(|node| self.find(node))
            .collect();
        TreeHead {
            size,
            root: fold_right(&peaks),
        }
    }

    fn find(&self, node: NodeId) -> Option<Hash> {
        let row = self.levels.get(usize::from(node.level()))?;
        row.get(usize::try_from(node.index()).ok()?).copied()
    }
}

impl HashReader for MemoryTree {
    fn hash(&self, node: NodeId) -> Result<Hash, ReadError> {
        self.find(node).ok_or(ReadError::OutsideTree {
            node,
            size: self.size(),
        })
    }
}

impl Extend<Hash> for MemoryTree {
    fn extend<I: IntoIterator<Item = Hash>>(&mut self, leaves: I) {
        for leaf in leaves {
            self.append(leaf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    #[test]
    fn incomplete_subtrees_are_refused() {
        let mut tree = MemoryTree::new();
        tree.extend((0..5u8).map(|leaf| leaf_hash(&[leaf])));
        let node = |level, index| NodeId::new(level, index).expect("fits");
        assert_eq!(tree.hash(node(0, 4)), Ok(leaf_hash(&[4])));
        for node in [node(0, 5), node(1, 2), node(2, 1), node(3, 0), node(63, 0)] {
            assert_eq!(
                tree.hash(node),
                Err(ReadError::OutsideTree { node, size: 5 })
            );
        }
    }
}
