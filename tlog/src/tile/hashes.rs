//! A hash tile: up to 256 consecutive hashes of one level.

use thiserror::Error;

use super::id::WIDTH;
use super::{BundleId, EntryBundle, TILE_HEIGHT, TileId};
use crate::hash::{HASH_BYTES, Hash, leaf_hash, node_hash};
use crate::tree::{HashReader, NodeId, ReadError};

/// Bytes of a full tile.
pub const MAX_TILE_BYTES: usize = 8192;

/// Why bytes are not a tile, or entries not a tile's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HashTileError {
    /// Not 32 bytes for each hash.
    #[error("{tile} has {expected_bytes} bytes, not {found_bytes}")]
    Length {
        /// The tile asked for.
        tile: TileId,
        /// 32 times its width.
        expected_bytes: usize,
        /// What there was.
        found_bytes: usize,
    },
    /// The bundle's entries are not those of this tile.
    #[error("{bundle} is not what {tile} is made from")]
    OtherPlace {
        /// The tile.
        tile: TileId,
        /// The bundle.
        bundle: BundleId,
    },
    /// An entry does not hash to its place in the tile.
    #[error("entry {entry} does not hash to its place in the tile")]
    EntryMismatch {
        /// The entry's index in the log.
        entry: u64,
    },
}

/// The hashes of a [`TileId`], exactly as many as its width. As trustworthy as where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashTile {
    id: TileId,
    hashes: Vec<Hash>,
}

impl HashTile {
    /// Reads the tile out of stored hashes; needs its width in complete subtrees.
    ///
    /// # Errors
    /// Whatever the reader answers.
    pub fn from_reader(reader: &impl HashReader, id: TileId) -> Result<Self, ReadError> {
        let level = id.level().saturating_mul(TILE_HEIGHT);
        let first = id.index().saturating_mul(WIDTH);
        let hash = |offset: u16| {
            match NodeId::new(level, first.saturating_add(u64::from(offset))) {
                Some(node) => reader.hash(node),
                // A level that no tree of `u64` size reaches.
                None => Err(ReadError::BeyondAnyTree { tile: id }),
            }
        };
        let hashes = (0..id.width()).map(hash).collect::<Result<_, _>>()?;
        Ok(Self { id, hashes })
    }

    /// For a builder, which has as many hashes as it says.
    pub(super) fn from_hashes(id: TileId, hashes: Vec<Hash>) -> Self {
        Self { id, hashes }
    }

    /// Reads the bytes a log served for `id`.
    ///
    /// # Errors
    /// [`HashTileError::Length`].
    pub fn decode(id: TileId, bytes: &[u8]) -> Result<Self, HashTileError> {
        let (hashes, left_over) = bytes.as_chunks::<HASH_BYTES>();
        if hashes.len() != usize::from(id.width()) || !left_over.is_empty() {
            return Err(HashTileError::Length {
                tile: id,
                expected_bytes: usize::from(id.width()).saturating_mul(HASH_BYTES),
                found_bytes: bytes.len(),
            });
        }
        Ok(Self {
            id,
            hashes: hashes.iter().copied().map(Hash::from_bytes).collect(),
        })
    }

    /// The hashes one after the other.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.hashes
            .iter()
            .flat_map(|hash| hash.as_bytes())
            .copied()
            .collect()
    }

    /// Which tile it is.
    #[must_use]
    pub const fn id(&self) -> TileId {
        self.id
    }

    /// Its hashes, [`TileId::width`] of them.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The root of a full tile, which is a hash of the level above; `None` for a partial one, which
    /// must not be hashed into the level above.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.id
            .is_full()
            .then(|| perfect_root(&self.hashes))
            .flatten()
    }

    /// The hash of a subtree whose hash, or whose parts' hashes, this tile holds.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<Hash> {
        if node.level() / TILE_HEIGHT != self.id.level() {
            return None;
        }
        let within = u32::from(node.level() % TILE_HEIGHT);
        let first = node.index().checked_shl(within)?;
        let offset = first.checked_sub(self.id.index().checked_mul(WIDTH)?)?;
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(1usize.checked_shl(within)?)?;
        perfect_root(self.hashes.get(start..end)?)
    }

    /// Checks that a bundle's entries hash to this tile, one for one [C2SP tlog-tiles].
    ///
    /// # Errors
    /// [`HashTileError::OtherPlace`], [`HashTileError::EntryMismatch`].
    pub fn check_entries(&self, bundle: &EntryBundle) -> Result<(), HashTileError> {
        let place = bundle.id();
        if place.leaf_tile() != self.id {
            return Err(HashTileError::OtherPlace {
                tile: self.id,
                bundle: place,
            });
        }
        // As many entries as hashes: both have the width of their equal names.
        let first = place.first_entry();
        for ((entry, bytes), hash) in (first..).zip(bundle.entries()).zip(&self.hashes) {
            if leaf_hash(bytes) != *hash {
                return Err(HashTileError::EntryMismatch { entry });
            }
        }
        Ok(())
    }
}

/// The root over a power of two of hashes; `None` for another number.
fn perfect_root(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[left, right]| node_hash(left, right))
            .collect();
    }
    row.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::MemoryTree;

    fn tree(size: u16) -> MemoryTree {
        let mut tree = MemoryTree::new();
        tree.extend((0..size).map(|entry| leaf_hash(&entry.to_be_bytes())));
        tree
    }

    #[test]
    fn a_tile_answers_for_its_subtrees_alone() {
        let tree = tree(600);
        let id = TileId::new(0, 1, 256).expect("in range");
        let tile = HashTile::from_reader(&tree, id).expect("complete");
        let node = |level, index| NodeId::new(level, index).expect("fits");
        assert_eq!(tile.root(), tree.hash(node(8, 1)).ok());
        for level in 0..8u8 {
            let width = 256u64 >> level;
            for index in width..2 * width {
                assert_eq!(
                    tile.node(node(level, index)),
                    tree.hash(node(level, index)).ok()
                );
            }
            assert_eq!(tile.node(node(level, width - 1)), None);
            assert_eq!(tile.node(node(level, 2 * width)), None);
        }
        assert_eq!(tile.node(node(8, 1)), None);
        let partial = TileId::new(0, 2, 88).expect("in range");
        let partial = HashTile::from_reader(&tree, partial).expect("complete");
        assert_eq!(partial.root(), None);
        assert_eq!(partial.node(node(3, 74)), tree.hash(node(3, 74)).ok());
        assert_eq!(partial.node(node(3, 75)), None);
    }

    #[test]
    fn a_tile_of_another_length_is_refused() {
        let id = TileId::new(0, 0, 3).expect("in range");
        let tile = HashTile::from_reader(&tree(3), id).expect("complete");
        let bytes = tile.encode();
        assert_eq!(HashTile::decode(id, &bytes), Ok(tile));
        for found_bytes in [0, 32, 64, 95, 97, 128] {
            let mut bytes = bytes.clone();
            bytes.resize(found_bytes, 0);
            let error = HashTileError::Length {
                tile: id,
                expected_bytes: 96,
                found_bytes,
            };
            assert_eq!(HashTile::decode(id, &bytes), Err(error));
        }
    }

    #[test]
    fn a_level_beyond_any_tree_is_refused() {
        let id = TileId::new(8, 0, 1).expect("has a path");
        let error = ReadError::BeyondAnyTree { tile: id };
        assert_eq!(HashTile::from_reader(&tree(3), id), Err(error));
    }

    #[test]
    fn entries_must_hash_to_their_tile() {
        let id = BundleId::new(0, 3).expect("in range");
        let entries: Vec<Vec<u8>> = (0..3u16)
            .map(|entry| entry.to_be_bytes().to_vec())
            .collect();
        let bundle = EntryBundle::new(id, entries.clone()).expect("three");
        let tile = HashTile::from_reader(&tree(3), id.leaf_tile()).expect("complete");
        assert_eq!(tile.check_entries(&bundle), Ok(()));
        for changed in 0..3u8 {
            let mut entries = entries.clone();
            entries[usize::from(changed)].push(0);
            let bundle = EntryBundle::new(id, entries).expect("three");
            let entry = u64::from(changed);
            assert_eq!(
                tile.check_entries(&bundle),
                Err(HashTileError::EntryMismatch { entry })
            );
        }
        for other in [BundleId::new(0, 2), BundleId::new(1, 3)] {
            let other = other.expect("in range");
            let entries = entries[..usize::from(other.width())].to_vec();
            let bundle = EntryBundle::new(other, entries).expect("as many");
            let error = HashTileError::OtherPlace {
                tile: tile.id(),
                bundle: other,
            };
            assert_eq!(tile.check_entries(&bundle), Err(error));
        }
    }
}
