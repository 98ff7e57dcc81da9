//! C2SP `tlog-tiles`: how a log is served as static resources [C2SP tlog-tiles].

mod builder;
mod entries;
mod hashes;
mod id;
mod set;

pub use builder::{TileBuilder, TileBuilderError};
pub use entries::{EntryBundle, EntryBundleError, MAX_BUNDLE_BYTES, MAX_ENTRY_BYTES};
pub use hashes::{HashTile, HashTileError, MAX_TILE_BYTES};
pub use id::{
    BundleId, MAX_PATH_BYTES, MAX_TILE_LEVEL, Resource, TILE_HEIGHT, TILE_WIDTH, TileId,
    TileIdError,
};
pub use set::TileSet;
