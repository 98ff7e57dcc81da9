//! Reading from a tree whose lowest tiles are not in memory: says which leaves
//! it takes, is given them, and ends in a proof or a tile.

use tlog::{EntryBundle, HashTile, TileId, TileSet};

use super::LogError;
use super::name::LogName;
use crate::store::Log;

/// Leaves that are to be read from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The store's stream.
    pub log: Log,
    /// The first leaf's place in that stream.
    pub from: u64,
    /// How many, 256 at most.
    pub count: u16,
}

type End<T> = Box<dyn FnOnce(&TileSet) -> Result<T, LogError> + Send>;

/// What is being read. While [`wanted`](Self::wanted) names leaves, bring them to
/// [`give`](Self::give); then [`finish`](Self::finish).
pub struct Reading<T> {
    pub(super) name: LogName,
    /// Where the log begins in its stream.
    pub(super) begins: u64,
    pub(super) set: TileSet,
    /// Lowest tiles that are not at hand.
    pub(super) absent: Vec<TileId>,
    pub(super) end: End<T>,
}

impl<T> std::fmt::Debug for Reading<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading")
            .field("name", &self.name)
            .field("absent", &self.absent)
            .finish_non_exhaustive()
    }
}

impl<T> Reading<T> {
    /// The leaves to bring next; none when all are there.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        let tile = self.absent.last()?;
        let first = tile
            .index()
            .saturating_mul(u64::from(tlog::tile::TILE_WIDTH));
        Some(Wanted {
            log: self.name.stream(),
            from: self.begins.saturating_add(first),
            count: tile.width(),
        })
    }

    /// Takes the leaves that were wanted, all of them.
    ///
    /// # Errors
    /// [`LogError::Leaves`] if they are not as many.
    pub fn give(&mut self, leaves: Vec<Vec<u8>>) -> Result<(), LogError> {
        let Some(tile) = self.absent.pop() else {
            return Ok(());
        };
        let hashes = lowest_tile(tile, leaves)?;
        self.set.insert(hashes);
        Ok(())
    }

    /// The end.
    ///
    /// # Errors
    /// [`LogError::Read`] if something that was wanted was not given.
    pub fn finish(self) -> Result<T, LogError> {
        (self.end)(&self.set)
    }
}

fn lowest_tile(tile: TileId, leaves: Vec<Vec<u8>>) -> Result<HashTile, LogError> {
    let wrong = |_| LogError::Leaves;
    let bundle = tlog::BundleId::new(tile.index(), tile.width()).map_err(|_| LogError::Leaves)?;
    let bundle = EntryBundle::new(bundle, leaves).map_err(wrong)?;
    let hashes: Vec<u8> = bundle
        .leaf_hashes()
        .flat_map(|hash| *hash.as_bytes())
        .collect();
    HashTile::decode(tile, &hashes).map_err(|_| LogError::Leaves)
}
