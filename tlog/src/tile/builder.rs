//! Tiles from leaf hashes as they come: full tiles once, partial ones on demand.

use thiserror::Error;

use super::id::WIDTH;
use super::{HashTile, TILE_WIDTH, TileId};
use crate::hash::Hash;
use crate::tree::{HashReader, ReadError, TreeHead, fold_right, subtrees};

/// Why a leaf cannot be added.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TileBuilderError {
    /// The tree has `u64::MAX` leaves.
    #[error("the tree is full")]
    Full,
}

/// The right edge of a tiled log: for each level the hashes that fill no tile yet, 8 times 255 at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TileBuilder {
    size: u64,
    rows: Vec<Vec<Hash>>,
}

impl TileBuilder {
    /// The log without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: 0,
            rows: Vec::new(),
        }
    }

    /// Goes on after `size` leaves; reads the partial tiles of the right edge.
    ///
    /// # Errors
    /// Whatever the reader answers.
    pub fn resume(reader: &impl HashReader, size: u64) -> Result<Self, ReadError> {
        let mut rows = Vec::new();
        let mut length = size;
        for level in 0u8..8 {
            if length == 0 {
                break;
            }
            let (index, width) = (length / WIDTH, length % WIDTH);
            rows.push(
                match u16::try_from(width).map(|width| TileId::new(level, index, width)) {
                    Ok(Ok(tile)) => HashTile::from_reader(reader, tile)?.hashes().to_vec(),
                    // No hashes beyond the last full tile.
                    Ok(Err(_)) | Err(_) => Vec::new(),
                },
            );
            length = index;
        }
        Ok(Self { size, rows })
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf's hash; returns the tiles that it filled, lowest level first, none for 255 leaves
    /// of 256. These never change again.
    ///
    /// # Errors
    /// [`TileBuilderError::Full`].
    pub fn append(&mut self, leaf: Hash) -> Result<Vec<HashTile>, TileBuilderError> {
        let size = self.size.checked_add(1).ok_or(TileBuilderError::Full)?;
        self.size = size;
        let mut filled = Vec::new();
        let mut hash = leaf;
        let mut length = size;
        for level in 0u8..8 {
            if self.rows.len() <= usize::from(level) {
                self.rows.push(Vec::new());
            }
            let Some(row) = self.rows.get_mut(usize::from(level)) else {
                break;
            };
            row.push(hash);
            if row.len() < usize::from(TILE_WIDTH) {
                break;
            }
            length /= WIDTH;
            let Ok(id) = TileId::new(level, length.saturating_sub(1), TILE_WIDTH) else {
                break;
            };
            let tile = HashTile::from_hashes(id, core::mem::take(row));
            let Some(root) = tile.root() else { break };
            filled.push(tile);
            hash = root;
        }
        Ok(filled)
    }

    /// The partial tiles of a tree of this size, lowest level first, as a log must serve them for a
    /// checkpoint of this size.
    #[must_use]
    pub fn partials(&self) -> Vec<HashTile> {
        let mut tiles = Vec::new();
        let mut index = self.size;
        for (level, row) in (0u8..).zip(&self.rows) {
            index /= WIDTH;
            let width = u16::try_from(row.len()).unwrap_or(0);
            if let Ok(id) = TileId::new(level, index, width) {
                tiles.push(HashTile::from_hashes(id, row.clone()));
            }
        }
        tiles
    }

    /// Size and root of the tree so far.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        let tiles = self.partials();
        let peaks: Vec<Hash> = subtrees(0..self.size)
            .filter_map(|node| tiles.iter().find_map(|tile| tile.node(node)))
            .collect();
        TreeHead {
            size: self.size,
            root: fold_right(&peaks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;
    use crate::tile::TileSet;
    use crate::tree::{Frontier, MemoryTree};

    #[test]
    fn tiles_grow_into_those_of_the_whole_tree() {
        let mut builder = TileBuilder::new();
        let mut frontier = Frontier::new();
        let mut tree = MemoryTree::new();
        let mut full = Vec::new();
        for entry in 0..66_000u64 {
            let leaf = leaf_hash(&entry.to_be_bytes());
            full.extend(builder.append(leaf).expect("room"));
            frontier.append(leaf).expect("room");
            tree.append(leaf);
            let size = entry + 1;
            if size % 1021 == 0 || size.is_multiple_of(256) && entry < 2000 || size == 65_536 {
                assert_eq!(builder.head(), frontier.head(), "{size}");
                assert_eq!(
                    TileBuilder::resume(&tree, size).map(|b| b.head()),
                    Ok(frontier.head())
                );
                for partial in builder.partials() {
                    let id = partial.id();
                    assert_eq!(TileId::at(id.level(), id.index(), size), Some(id));
                    assert_eq!(HashTile::from_reader(&tree, id), Ok(partial));
                }
            }
        }
        let names: Vec<_> = full.iter().map(|tile| tile.id().path()).collect();
        assert_eq!(names.len(), 257 + 1);
        assert_eq!(names[255..], ["tile/0/255", "tile/1/000", "tile/0/256"]);
        let mut set = TileSet::new(66_000);
        for tile in full.into_iter().chain(builder.partials()) {
            assert_eq!(HashTile::from_reader(&tree, tile.id()).as_ref(), Ok(&tile));
            set.insert(tile);
        }
        assert_eq!(crate::tree::root(&set, 66_000), Ok(frontier.root()));
        let mut resumed = TileBuilder::resume(&set, 66_000).expect("all tiles");
        assert_eq!(
            resumed.append(leaf_hash(b"")),
            builder.append(leaf_hash(b""))
        );
        assert_eq!(resumed.head(), builder.head());
    }
}
