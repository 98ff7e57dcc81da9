//! What is read of a log, and in which order: each bundle of entries, then the tiles that it fills.

use std::collections::VecDeque;

use tlog::tile::{BundleId, Resource, TILE_HEIGHT, TILE_WIDTH, TileId};

/// [`TILE_WIDTH`] for arithmetic on indices.
const WIDTH: u64 = 256;

/// Levels of tiles that a log can have.
const LEVELS: u8 = 8;

/// The resources of a log that grows from one size to another, without checkpoints: first what is full, at last what
/// is partial.
#[derive(Debug, Clone)]
pub struct Steps {
    bundle: u64,
    to: u64,
    ready: VecDeque<Resource>,
    at_edge: bool,
}

impl Steps {
    /// What is read when `from` leaves are known and the log has `to`.
    #[must_use]
    pub fn new(from: u64, to: u64) -> Self {
        Self {
            bundle: from / WIDTH,
            to,
            ready: VecDeque::new(),
            at_edge: from >= to,
        }
    }

    fn refill(&mut self) {
        let Some(id) = BundleId::at(self.bundle, self.to) else {
            self.at_edge = true;
            self.edge();
            return;
        };
        self.ready.push_back(Resource::Entries(id));
        self.ready.push_back(Resource::Tile(id.leaf_tile()));
        self.bundle = self.bundle.saturating_add(1);
        if id.is_full() {
            let mut row = self.bundle;
            for level in 1..LEVELS {
                if !row.is_multiple_of(WIDTH) {
                    break;
                }
                row /= WIDTH;
                let tile = TileId::new(level, row.saturating_sub(1), TILE_WIDTH);
                self.ready.extend(tile.ok().map(Resource::Tile));
            }
        }
    }

    /// The partial tiles above the lowest level.
    fn edge(&mut self) {
        for level in 1..LEVELS {
            let shift = u32::from(level).saturating_mul(u32::from(TILE_HEIGHT));
            let row = self.to.checked_shr(shift).unwrap_or(0);
            let tile = TileId::at(level, row / WIDTH, self.to);
            let partial = tile.filter(|tile| !tile.is_full());
            self.ready.extend(partial.map(Resource::Tile));
        }
    }
}

impl Iterator for Steps {
    type Item = Resource;

    fn next(&mut self) -> Option<Resource> {
        if self.ready.is_empty() && !self.at_edge {
            self.refill();
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(from: u64, to: u64) -> Vec<String> {
        Steps::new(from, to).map(Resource::path).collect()
    }

    #[test]
    fn a_small_log_is_one_bundle_and_its_tile() {
        assert_eq!(paths(0, 0), Vec::<String>::new());
        assert_eq!(paths(3, 3), Vec::<String>::new());
        let small = ["tile/entries/000.p/3", "tile/0/000.p/3"];
        assert_eq!(paths(0, 3), small);
        assert_eq!(paths(1, 3), small);
        let full = ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"];
        assert_eq!(paths(0, 256), full);
        assert_eq!(paths(255, 256), full);
        let next = ["tile/entries/001.p/1", "tile/0/001.p/1", "tile/1/000.p/1"];
        assert_eq!(paths(256, 257), next);
    }

    #[test]
    fn all_of_a_large_log_is_read_once() {
        assert_eq!(u64::from(TILE_WIDTH), WIDTH);
        let size = 65_536 * 2 + 256 * 3 + 5;
        let all = paths(0, size);
        let of = |level: u8| {
            let prefix = format!("tile/{level}/");
            all.iter().filter(|path| path.starts_with(&prefix)).count()
        };
        assert_eq!((of(0), of(1), of(2), of(3)), (516, 3, 1, 0));
        let entries = all.iter().filter(|path| path.starts_with("tile/entries/"));
        assert_eq!(entries.count(), 516);
        let mut unique = all.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), all.len());
        assert_eq!(all.last().map(String::as_str), Some("tile/2/000.p/2"));
    }
}
