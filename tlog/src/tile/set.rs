//! Tiles at hand: a [`HashReader`] over tiles that were fetched or stored.

use std::collections::BTreeMap;

use super::{HashTile, TileId};
use crate::hash::Hash;
use crate::tree::{HashReader, NodeId, ReadError};

/// Some tiles of a tree of `size` leaves. A full tile stands in for any partial one at its place.
///
/// Nothing here is verified: a proof made from these tiles is worth what its verification says, and a
/// root computed from them what a signed checkpoint says.
#[derive(Clone, Debug, Default)]
pub struct TileSet {
    size: u64,
    tiles: BTreeMap<(u8, u64), HashTile>,
}

impl TileSet {
    /// No tiles yet of a tree of `size` leaves.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            tiles: BTreeMap::new(),
        }
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a tile; of two at the same place the wider stays.
    pub fn insert(&mut self, tile: HashTile) {
        let id = tile.id();
        let place = (id.level(), id.index());
        if self
            .tiles
            .get(&place)
            .is_none_or(|kept| kept.id().width() < id.width())
        {
            self.tiles.insert(place, tile);
        }
    }

    /// The tiles that reading `nodes` takes, each once, as a tree of this size names them; nodes that
    /// are not complete in it are left out.
    #[must_use]
    pub fn tiles_for(&self, nodes: &[NodeId]) -> Vec<TileId> {
        let tiles = nodes
            .iter()
            .filter_map(|node| TileId::of_node(*node, self.size));
        tiles
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }
}

impl HashReader for TileSet {
    fn hash(&self, node: NodeId) -> Result<Hash, ReadError> {
        let outside = ReadError::OutsideTree {
            node,
            size: self.size,
        };
        let tile = TileId::of_node(node, self.size).ok_or(outside)?;
        let held = self.tiles.get(&(tile.level(), tile.index()));
        // A narrower tile than the tree's may still hold this node.
        held.and_then(|held| held.node(node))
            .ok_or(ReadError::TileAbsent { tile })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;
    use crate::proof::{ConsistencyProof, InclusionProof};
    use crate::tree::{MemoryTree, root};

    #[test]
    fn proofs_from_tiles_are_those_from_the_whole_tree() {
        let size = 70_000;
        let mut tree = MemoryTree::new();
        tree.extend((0..size).map(|entry: u64| leaf_hash(&entry.to_be_bytes())));
        for (index, old) in [
            (0, 1),
            (255, 256),
            (256, 257),
            (65_535, 65_536),
            (69_999, 69_888),
        ] {
            let mut nodes = InclusionProof::nodes(index, size).expect("in the tree");
            nodes.extend(ConsistencyProof::nodes(old, size).expect("in the tree"));
            let mut set = TileSet::new(size);
            for tile in set.tiles_for(&nodes) {
                let tile = HashTile::from_reader(&tree, tile).expect("complete");
                set.insert(HashTile::decode(tile.id(), &tile.encode()).expect("own encoding"));
            }
            let proof = InclusionProof::prove(&set, index, size);
            assert_eq!(proof, InclusionProof::prove(&tree, index, size));
            let leaf = leaf_hash(&index.to_be_bytes());
            proof
                .expect("made")
                .verify(leaf, index, tree.head())
                .expect("verifies");
            let proof = ConsistencyProof::prove(&set, old, size);
            assert_eq!(proof, ConsistencyProof::prove(&tree, old, size));
        }
    }

    #[test]
    fn a_full_tile_stands_in_for_a_partial_one_and_not_the_other_way() {
        let mut tree = MemoryTree::new();
        tree.extend((0..300u64).map(|entry| leaf_hash(&entry.to_be_bytes())));
        let tile = |index, width| {
            let id = TileId::new(0, index, width).expect("in range");
            HashTile::from_reader(&tree, id).expect("complete")
        };
        let mut set = TileSet::new(200);
        set.insert(tile(0, 100));
        let absent = TileId::new(0, 0, 200).expect("in range");
        assert_eq!(root(&set, 200), Err(ReadError::TileAbsent { tile: absent }));
        assert_eq!(root(&set, 100), root(&tree, 100));
        set.insert(tile(0, 256));
        set.insert(tile(0, 1));
        assert_eq!(root(&set, 200), root(&tree, 200));
        let node = NodeId::new(0, 200).expect("fits");
        assert_eq!(
            set.hash(node),
            Err(ReadError::OutsideTree { node, size: 200 })
        );
    }
}
