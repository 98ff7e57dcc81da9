//! Names of a log's resources: coordinates of tiles and entry bundles, and their paths.

use core::fmt;

use thiserror::Error;

use crate::tree::NodeId;

/// Tree levels in a tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile, entries in a full bundle: `2^TILE_HEIGHT`.
pub const TILE_WIDTH: u16 = 256;
/// [`TILE_WIDTH`] for arithmetic on indices.
pub(super) const WIDTH: u64 = 256;
/// Highest tile level that has a path [C2SP tlog-tiles]. A tree of `u64` size fills levels 0 to 7.
pub const MAX_TILE_LEVEL: u8 = 63;
/// Longest path read: `tile/entries/` or `tile/63/`, 7 path elements for a `u64`, `.p/255`.
pub const MAX_PATH_BYTES: usize = 64;

/// Why coordinates or a path name no tile.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TileIdError {
    /// A path longer than any resource's.
    #[error("a path of {found_bytes} bytes is too long")]
    PathTooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// Not the path of a checkpoint, tile or entry bundle.
    #[error("not a path of the log")]
    Path,
    /// The level is above 63, or not decimal without leading zeros.
    #[error("a tile's level is 0 to 63")]
    Level,
    /// The index is not in three-digit elements, all but the last with an `x`, without a leading
    /// `x000`; or its last leaf does not fit a `u64`.
    #[error("a tile's index is a u64 in elements of three digits")]
    Index,
    /// The width of a partial tile is not 1 to 255, or not decimal without leading zeros; or that of a
    /// tile is not 1 to 256.
    #[error("a partial tile's width is 1 to 255")]
    Width,
}

/// A hash tile: `width` hashes from the `index`-th 256 on, of subtrees of `256^level` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

impl TileId {
    /// The tile at `level` (0 to 63) and `index` with `width` hashes (1 to 256, 256 is full).
    ///
    /// # Errors
    /// [`TileIdError::Level`], [`TileIdError::Index`], [`TileIdError::Width`].
    pub fn new(level: u8, index: u64, width: u16) -> Result<Self, TileIdError> {
        if level > MAX_TILE_LEVEL {
            return Err(TileIdError::Level);
        }
        checked_place(index, width)?;
        Ok(Self {
            level,
            index,
            width,
        })
    }

    /// The tile that holds what a node's hash is made from, as a tree of `size` leaves names it;
    /// `None` if the node is not complete in that tree.
    #[must_use]
    pub fn of_node(node: NodeId, size: u64) -> Option<Self> {
        if node.leaves().end > size {
            return None;
        }
        let level = node.level() / TILE_HEIGHT;
        let within = u32::from(node.level() % TILE_HEIGHT);
        let first = node.index().checked_shl(within)?;
        Self::at(level, first / WIDTH, size)
    }

    /// The tile at a place as wide as it is in a tree of `size` leaves; `None` if it is empty there.
    #[must_use]
    pub fn at(level: u8, index: u64, size: u64) -> Option<Self> {
        let width = width_at(index, row_length(level, size))?;
        Self::new(level, index, width).ok()
    }

    /// 0 for leaf hashes, `n` for roots of full tiles at level `n - 1`.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.level
    }

    /// Position among the tiles of its level.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Hashes in it, 1 to 256.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it has all 256 hashes.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The full tile at the same place.
    #[must_use]
    pub const fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }

    /// Whether a tree of `size` leaves has all of its hashes, so that a log can serve it.
    #[must_use]
    pub fn is_within(self, size: u64) -> bool {
        is_within(self.index, self.width, row_length(self.level, size))
    }

    /// `tile/<level>/<index>[.p/<width>]`.
    #[must_use]
    pub fn path(self) -> String {
        format!("tile/{}/{}", self.level, place_path(self.index, self.width))
    }

    /// Reads [`path`](Self::path), and nothing else that means the same.
    ///
    /// # Errors
    /// [`TileIdError`]: which part is wrong.
    pub fn parse(path: &str) -> Result<Self, TileIdError> {
        match Resource::parse(path)? {
            Resource::Tile(tile) => Ok(tile),
            Resource::Checkpoint | Resource::Entries(_) => Err(TileIdError::Path),
        }
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// An entry bundle: `width` entries from the `index`-th 256 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleId {
    index: u64,
    width: u16,
}

impl BundleId {
    /// The bundle at `index` with `width` entries (1 to 256, 256 is full).
    ///
    /// # Errors
    /// [`TileIdError::Index`], [`TileIdError::Width`].
    pub fn new(index: u64, width: u16) -> Result<Self, TileIdError> {
        checked_place(index, width)?;
        Ok(Self { index, width })
    }

    /// The bundle at a place as wide as it is in a log of `size` entries; `None` if it is empty there.
    #[must_use]
    pub fn at(index: u64, size: u64) -> Option<Self> {
        Self::new(index, width_at(index, size)?).ok()
    }

    /// Position among the bundles.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Entries in it, 1 to 256.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it has all 256 entries.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The index of its first entry.
    #[must_use]
    pub fn first_entry(self) -> u64 {
        // Fits: `checked_place`.
        self.index.saturating_mul(WIDTH)
    }

    /// The tile of its entries' hashes.
    #[must_use]
    pub const fn leaf_tile(self) -> TileId {
        TileId {
            level: 0,
            index: self.index,
            width: self.width,
        }
    }

    /// Whether a log of `size` entries has all of its entries.
    #[must_use]
    pub fn is_within(self, size: u64) -> bool {
        is_within(self.index, self.width, size)
    }

    /// `tile/entries/<index>[.p/<width>]`.
    #[must_use]
    pub fn path(self) -> String {
        format!("tile/entries/{}", place_path(self.index, self.width))
    }

    /// Reads [`path`](Self::path), and nothing else that means the same.
    ///
    /// # Errors
    /// [`TileIdError`]: which part is wrong.
    pub fn parse(path: &str) -> Result<Self, TileIdError> {
        match Resource::parse(path)? {
            Resource::Entries(bundle) => Ok(bundle),
            Resource::Checkpoint | Resource::Tile(_) => Err(TileIdError::Path),
        }
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// What a log serves below its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The signed tree head; the only one that changes.
    Checkpoint,
    /// A hash tile.
    Tile(TileId),
    /// An entry bundle.
    Entries(BundleId),
}

impl Resource {
    /// Its path below the prefix, without a leading slash.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Checkpoint => "checkpoint".to_owned(),
            Self::Tile(tile) => tile.path(),
            Self::Entries(bundle) => bundle.path(),
        }
    }

    /// Reads a path below the prefix, without a leading slash. Each resource has one path.
    ///
    /// # Errors
    /// [`TileIdError`]: which part is wrong.
    pub fn parse(path: &str) -> Result<Self, TileIdError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(TileIdError::PathTooLong {
                found_bytes: path.len(),
            });
        }
        if path == "checkpoint" {
            return Ok(Self::Checkpoint);
        }
        let rest = path.strip_prefix("tile/").ok_or(TileIdError::Path)?;
        let (kind, place) = rest.split_once('/').ok_or(TileIdError::Path)?;
        if kind == "entries" {
            let (index, width) = parse_place(place)?;
            return Ok(Self::Entries(BundleId::new(index, width)?));
        }
        let level = decimal(kind).ok_or(TileIdError::Level)?;
        let level = u8::try_from(level).map_err(|_| TileIdError::Level)?;
        if level > MAX_TILE_LEVEL {
            return Err(TileIdError::Level);
        }
        let (index, width) = parse_place(place)?;
        Ok(Self::Tile(TileId::new(level, index, width)?))
    }
}

/// Hashes that level `level` has in a tree of `size` leaves: `floor(size / 256^level)`.
fn row_length(level: u8, size: u64) -> u64 {
    let shift = u32::from(level).saturating_mul(u32::from(TILE_HEIGHT));
    size.checked_shr(shift).unwrap_or(0)
}

/// How many of a row's `length` items fall to place `index`; `None` for none.
fn width_at(index: u64, length: u64) -> Option<u16> {
    let first = index.checked_mul(WIDTH)?;
    let width = length.checked_sub(first)?.min(WIDTH);
    u16::try_from(width).ok().filter(|width| *width > 0)
}

fn is_within(index: u64, width: u16, length: u64) -> bool {
    width_at(index, length).is_some_and(|there| width <= there)
}

fn checked_place(index: u64, width: u16) -> Result<(), TileIdError> {
    if width == 0 || width > TILE_WIDTH {
        return Err(TileIdError::Width);
    }
    let past = index
        .checked_mul(WIDTH)
        .and_then(|i| i.checked_add(u64::from(width)));
    past.map(|_| ()).ok_or(TileIdError::Index)
}

/// `x001/x234/067[.p/W]`.
fn place_path(index: u64, width: u16) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut above = index / 1000;
    while above > 0 {
        path = format!("x{:03}/{path}", above % 1000);
        above /= 1000;
    }
    if width != TILE_WIDTH {
        path = format!("{path}.p/{width}");
    }
    path
}

fn parse_place(place: &str) -> Result<(u64, u16), TileIdError> {
    let (index, width) = match place.split_once(".p/") {
        None => (place, TILE_WIDTH),
        Some((index, width)) => {
            let width = decimal(width).and_then(|width| u16::try_from(width).ok());
            let width = width.filter(|width| (1..TILE_WIDTH).contains(width));
            (index, width.ok_or(TileIdError::Width)?)
        }
    };
    Ok((parse_index(index).ok_or(TileIdError::Index)?, width))
}

fn parse_index(text: &str) -> Option<u64> {
    let mut elements = text.split('/').rev();
    let mut index = three_digits(elements.next()?)?;
    let mut place = 1u64;
    let mut top = None;
    for element in elements {
        let digits = three_digits(element.strip_prefix('x')?)?;
        place = place.checked_mul(1000)?;
        index = index.checked_add(digits.checked_mul(place)?)?;
        top = Some(digits);
    }
    // A leading x000 would be a second name for the same index.
    if top == Some(0) { None } else { Some(index) }
}

fn three_digits(text: &str) -> Option<u64> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// ASCII decimal without sign or leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if digits && !leading_zero {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_standard() {
        // 1234067 and the tree of 70,000 are the text's own examples.
        let rows = [
            ("tile/0/x001/x234/067", TileId::new(0, 1_234_067, 256)),
            ("tile/0/000", TileId::new(0, 0, 256)),
            ("tile/0/273.p/112", TileId::new(0, 273, 112)),
            ("tile/1/000", TileId::new(1, 0, 256)),
            ("tile/1/001.p/17", TileId::new(1, 1, 17)),
            ("tile/2/000.p/1", TileId::new(2, 0, 1)),
            ("tile/63/x999/000.p/255", TileId::new(63, 999_000, 255)),
            (
                "tile/0/x072/x057/x594/x037/x927/934",
                TileId::new(0, 72_057_594_037_927_934, 256),
            ),
        ];
        for (path, tile) in rows {
            let tile = tile.expect("in range");
            assert_eq!(tile.path(), path);
            assert_eq!(TileId::parse(path), Ok(tile));
            assert_eq!(Resource::parse(path), Ok(Resource::Tile(tile)));
        }
        let bundle = BundleId::new(1234, 5).expect("in range");
        assert_eq!(bundle.path(), "tile/entries/x001/234.p/5");
        assert_eq!(BundleId::parse("tile/entries/x001/234.p/5"), Ok(bundle));
        assert_eq!(bundle.first_entry(), 315_904);
        assert_eq!(bundle.leaf_tile().path(), "tile/0/x001/234.p/5");
        assert_eq!(Resource::parse("checkpoint"), Ok(Resource::Checkpoint));
        assert_eq!(Resource::Checkpoint.path(), "checkpoint");
    }

    #[test]
    fn every_other_spelling_is_refused() {
        use TileIdError::{Index, Level, Path, PathTooLong, Width};
        let rows = [
            ("", Path),
            ("/tile/0/000", Path),
            ("tile", Path),
            ("tile/0", Path),
            ("tile/entries", Path),
            ("tiles/0/000", Path),
            ("Checkpoint", Path),
            ("checkpoint/", Path),
            ("tile//000", Level),
            ("tile/64/000", Level),
            ("tile/256/000", Level),
            ("tile/00/000", Level),
            ("tile/+0/000", Level),
            ("tile/-1/000", Level),
            ("tile/Entries/000", Level),
            ("tile/99999999999999999999/000", Level),
            ("tile/0/", Index),
            ("tile/0/0", Index),
            ("tile/0/0000", Index),
            ("tile/0/+00", Index),
            ("tile/0/x00", Index),
            ("tile/0/x001", Index),
            ("tile/0/001/000", Index),
            ("tile/0/x000/001", Index),
            ("tile/0/x001//000", Index),
            ("tile/0/X001/000", Index),
            ("tile/0/x001/000/", Index),
            ("tile/0/٣٣٣", Index),
            ("tile/0/x072/x057/x594/x037/x927/936", Index),
            ("tile/0/x999/x999/x999/x999/x999/x999/999", Index),
            ("tile/0/000.p/0", Width),
            ("tile/0/000.p/256", Width),
            ("tile/0/000.p/01", Width),
            ("tile/0/000.p/", Width),
            ("tile/0/000.p/+1", Width),
            ("tile/0/000.p/1/", Width),
            ("tile/0/000.p/1.p/1", Width),
            ("tile/0/000.p/65537", Width),
            ("tile/0/000.p", Index),
            ("tile/entries/000.p/256", Width),
            ("tile/entries/00", Index),
        ];
        for (path, error) in rows {
            assert_eq!(Resource::parse(path), Err(error), "{path:?}");
        }
        let long = format!("tile/0/{}000", "x001/".repeat(12));
        assert_eq!(Resource::parse(&long), Err(PathTooLong { found_bytes: 70 }));
        assert_eq!(TileId::parse("checkpoint"), Err(Path));
        assert_eq!(TileId::parse("tile/entries/000"), Err(Path));
        assert_eq!(BundleId::parse("checkpoint"), Err(Path));
        assert_eq!(BundleId::parse("tile/0/000"), Err(Path));
        assert_eq!(TileId::new(64, 0, 1), Err(Level));
        assert_eq!(TileId::new(0, 0, 0), Err(Width));
        assert_eq!(TileId::new(0, 0, 257), Err(Width));
        assert_eq!(TileId::new(0, u64::MAX / 256, 256), Err(Index));
        assert_eq!(BundleId::new(u64::MAX / 256, 256), Err(Index));
    }

    #[test]
    fn a_tree_has_the_tiles_of_the_standard() {
        let path = |level, index, size| TileId::at(level, index, size).map(TileId::path);
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(path(0, 272, 70_000), some("tile/0/272"));
        assert_eq!(path(0, 273, 70_000), some("tile/0/273.p/112"));
        assert_eq!(path(0, 274, 70_000), None);
        assert_eq!(path(1, 0, 70_000), some("tile/1/000"));
        assert_eq!(path(1, 1, 70_000), some("tile/1/001.p/17"));
        assert_eq!(path(2, 0, 70_000), some("tile/2/000.p/1"));
        assert_eq!(path(3, 0, 70_000), None);
        assert_eq!(path(0, 1, 256), None);
        assert_eq!(path(1, 0, 256), some("tile/1/000.p/1"));
        assert_eq!(path(7, 0, u64::MAX), some("tile/7/000.p/255"));
        assert_eq!(path(8, 0, u64::MAX), None);
        assert_eq!(path(63, 0, u64::MAX), None);
        assert_eq!(BundleId::at(273, 70_000), BundleId::new(273, 112).ok());
        assert_eq!(BundleId::at(274, 70_000), None);

        let partial = TileId::new(0, 1, 44).expect("in range");
        assert!(!partial.is_within(299));
        assert!(partial.is_within(300));
        assert!(partial.is_within(1000));
        assert!(!partial.full().is_within(511));
        assert!(partial.full().is_within(512));
        assert!(BundleId::new(1, 44).expect("in range").is_within(300));
        assert!(!BundleId::new(1, 44).expect("in range").is_within(299));
    }

    proptest! {
        #[test]
        fn a_path_that_parses_is_the_one_it_formats_to(path in "(tile/)?([0-9x/.p]|entries/){0,30}") {
            if let Ok(resource) = Resource::parse(&path) {
                prop_assert_eq!(resource.path(), path);
            }
        }

        #[test]
        fn any_text_is_parsed_without_panic(path in ".{0,80}") {
            if let Ok(resource) = Resource::parse(&path) {
                prop_assert_eq!(resource.path(), path);
            }
        }

        #[test]
        fn every_tile_is_read_back(level in 0u8..64, index in 0..u64::MAX / 256, width in 1u16..=256) {
            let tile = TileId::new(level, index, width).expect("in range");
            prop_assert_eq!(TileId::parse(&tile.path()), Ok(tile));
            let bundle = BundleId::new(index, width).expect("in range");
            prop_assert_eq!(BundleId::parse(&bundle.path()), Ok(bundle));
        }
    }
}
