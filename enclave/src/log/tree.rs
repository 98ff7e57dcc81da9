//! One log's tree in memory: the right edge, and the full tiles above the
//! lowest level.

use tlog::tile::TileBuilderError;
use tlog::{Hash, HashTile, TileBuilder, TileId, TreeHead};

/// A tree that grows. The lowest full tiles are left out: they are hashes of
/// leaves that the store has.
#[derive(Debug, Default)]
pub(super) struct Tree {
    edge: TileBuilder,
    /// Full tiles by level from 1 on, each row in order.
    upper: Vec<Vec<HashTile>>,
}

impl Tree {
    pub(super) fn size(&self) -> u64 {
        self.edge.size()
    }

    pub(super) fn head(&self) -> TreeHead {
        self.edge.head()
    }

    pub(super) fn append(&mut self, leaf: Hash) -> Result<(), TileBuilderError> {
        for tile in self.edge.append(leaf)? {
            let Some(row) = usize::from(tile.id().level()).checked_sub(1) else {
                continue;
            };
            if self.upper.len() <= row {
                self.upper.push(Vec::new());
            }
            if let Some(row) = self.upper.get_mut(row) {
                row.push(tile);
            }
        }
        Ok(())
    }

    /// A tile that holds what `id` names, and maybe more, if it is in memory.
    pub(super) fn at_hand(&self, id: TileId) -> Option<HashTile> {
        let row = usize::from(id.level()).checked_sub(1);
        let full = row.and_then(|row| {
            let index = usize::try_from(id.index()).ok()?;
            self.upper.get(row)?.get(index)
        });
        if let Some(tile) = full {
            return Some(tile.clone());
        }
        let mut edge = self.edge.partials().into_iter();
        edge.find(|tile| {
            let at = tile.id();
            (at.level(), at.index()) == (id.level(), id.index()) && at.width() >= id.width()
        })
    }
}
