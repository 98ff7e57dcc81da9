//! The right edge of a growing tree: enough to append and to know the root, never more than 64 hashes.

use thiserror::Error;

use super::{HashReader, ReadError, TreeHead, fold_right, subtrees};
use crate::hash::{HASH_BYTES, Hash, node_hash};

/// Format version, the first byte of an encoded frontier.
pub const FRONTIER_VERSION: u8 = 1;
/// One hash per bit of the size.
pub const MAX_FRONTIER_HASHES: usize = 64;
/// Longest encoded frontier: version, size, 64 hashes.
pub const MAX_FRONTIER_BYTES: usize = 1 + 8 + MAX_FRONTIER_HASHES * HASH_BYTES;

/// Why bytes are not a frontier, or a leaf cannot be appended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrontierError {
    /// The tree has `u64::MAX` leaves.
    #[error("the tree is full")]
    Full,
    /// Too short for version and size.
    #[error("a frontier of {found_bytes} bytes has no header")]
    Header {
        /// What there was.
        found_bytes: usize,
    },
    /// A format this build does not know.
    #[error("unknown frontier version {found}")]
    Version {
        /// The first byte.
        found: u8,
    },
    /// Not one hash per set bit of the size.
    #[error("a frontier of {size} leaves has {expected_bytes} bytes, not {found_bytes}")]
    Length {
        /// Leaves, as its header says.
        size: u64,
        /// What that takes.
        expected_bytes: usize,
        /// What there was.
        found_bytes: usize,
    },
}

/// The complete subtrees a tree of `size` leaves falls into, largest (leftmost) first: one for each
/// set bit of `size`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: 0,
            peaks: Vec::new(),
        }
    }

    /// Reads the frontier of the first `size` leaves from stored hashes.
    ///
    /// # Errors
    /// Whatever the reader answers.
    pub fn from_reader(reader: &impl HashReader, size: u64) -> Result<Self, ReadError> {
        let peaks = subtrees(0..size)
            .map(|node| reader.hash(node))
            .collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }

    /// Leaves so far; also the index of the next one.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The right edge's hashes, largest subtree first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf's hash and returns its index. Costs one hash on average, 64 at
    /// most.
    ///
    /// # Errors
    /// [`FrontierError::Full`] past `u64::MAX` leaves; the frontier is then unchanged.
    pub fn append(&mut self, leaf: Hash) -> Result<u64, FrontierError> {
        let index = self.size;
        let size = index.checked_add(1).ok_or(FrontierError::Full)?;
        let mut hash = leaf;
        for _ in 0..index.trailing_ones() {
            // One peak for each set bit, so there is one to pop for each trailing one.
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = size;
        Ok(index)
    }

    /// The root over all leaves so far [RFC 6962 §2.1].
    #[must_use]
    pub fn root(&self) -> Hash {
        fold_right(&self.peaks)
    }

    /// Size and root together.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.size,
            root: self.root(),
        }
    }

    /// Version byte, size as big-endian `u64`, the peaks' 32 bytes each, largest subtree first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FRONTIER_VERSION];
        bytes.extend_from_slice(&self.size.to_be_bytes());
        for peak in &self.peaks {
            bytes.extend_from_slice(peak.as_bytes());
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote. The hashes are taken as they are: whoever stored
    /// the bytes has authenticated them, or compares [`root`](Self::root) with a signed checkpoint.
    ///
    /// # Errors
    /// [`FrontierError::Header`], [`FrontierError::Version`], [`FrontierError::Length`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrontierError> {
        let header = FrontierError::Header {
            found_bytes: bytes.len(),
        };
        let (version, rest) = bytes.split_first().ok_or(header)?;
        if *version != FRONTIER_VERSION {
            return Err(FrontierError::Version { found: *version });
        }
        let (size, hashes) = rest.split_first_chunk().ok_or(header)?;
        let size = u64::from_be_bytes(*size);
        let (hashes, left_over) = hashes.as_chunks::<HASH_BYTES>();
        let expected = usize::try_from(size.count_ones()).unwrap_or(MAX_FRONTIER_HASHES);
        if hashes.len() != expected || !left_over.is_empty() {
            return Err(FrontierError::Length {
                size,
                expected_bytes: expected.saturating_mul(HASH_BYTES).saturating_add(9),
                found_bytes: bytes.len(),
            });
        }
        Ok(Self {
            size,
            peaks: hashes.iter().copied().map(Hash::from_bytes).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::{empty_root, leaf_hash};
    use crate::tree::{MemoryTree, root};

    /// The definition of [RFC 6962 §2.1], by recursion.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            many => {
                let split = many.len().next_power_of_two() / 2;
                node_hash(&mth(&many[..split]), &mth(&many[split..]))
            }
        }
    }

    fn grown(size: u64) -> (Frontier, Vec<Hash>) {
        let mut frontier = Frontier::new();
        let mut leaves = Vec::new();
        for index in 0..size {
            let leaf = leaf_hash(&index.to_be_bytes());
            assert_eq!(frontier.append(leaf), Ok(index));
            leaves.push(leaf);
        }
        (frontier, leaves)
    }

    #[test]
    fn the_root_is_that_of_the_recursive_definition_at_every_size() {
        let mut frontier = Frontier::new();
        let mut tree = MemoryTree::new();
        let mut leaves = Vec::new();
        for size in 0..=520u64 {
            assert_eq!(frontier.root(), mth(&leaves), "{size}");
            assert_eq!(tree.head().root, mth(&leaves), "{size}");
            assert_eq!(root(&tree, size), Ok(mth(&leaves)));
            assert_eq!(Frontier::from_reader(&tree, size).as_ref(), Ok(&frontier));
            assert_eq!(frontier.peaks().len(), size.count_ones() as usize);
            let leaf = leaf_hash(&size.to_be_bytes());
            assert_eq!(frontier.append(leaf), Ok(size));
            tree.append(leaf);
            leaves.push(leaf);
        }
    }

    #[test]
    fn an_encoded_frontier_goes_on_where_it_stopped() {
        for size in 0..70 {
            let (mut frontier, _) = grown(size);
            let mut restored = Frontier::decode(&frontier.encode()).expect("own encoding");
            assert_eq!(restored, frontier);
            frontier.append(leaf_hash(b"next")).expect("room");
            restored.append(leaf_hash(b"next")).expect("room");
            assert_eq!(restored.root(), frontier.root());
        }
    }

    #[test]
    fn a_full_tree_takes_no_leaf() {
        let mut bytes = vec![FRONTIER_VERSION];
        bytes.extend([0xff; 8 + 64 * 32]);
        assert_eq!(bytes.len(), MAX_FRONTIER_BYTES);
        let mut full = Frontier::decode(&bytes).expect("64 peaks");
        let before = full.clone();
        assert_eq!(full.append(leaf_hash(b"")), Err(FrontierError::Full));
        assert_eq!(full, before);
    }

    #[test]
    fn malformed_frontiers_are_refused() {
        let (frontier, _) = grown(5);
        let good = frontier.encode();
        assert_eq!(good.len(), 73);
        let with = |edit: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            Frontier::decode(&bytes)
        };
        let length = |size, expected_bytes, found_bytes| {
            Err(FrontierError::Length {
                size,
                expected_bytes,
                found_bytes,
            })
        };
        assert_eq!(with(|_| ()), Ok(frontier.clone()));
        assert_eq!(
            with(|b| b.clear()),
            Err(FrontierError::Header { found_bytes: 0 })
        );
        assert_eq!(
            with(|b| b.truncate(8)),
            Err(FrontierError::Header { found_bytes: 8 })
        );
        assert_eq!(with(|b| b[0] = 0), Err(FrontierError::Version { found: 0 }));
        assert_eq!(with(|b| b[0] = 2), Err(FrontierError::Version { found: 2 }));
        assert_eq!(with(|b| b.truncate(41)), length(5, 73, 41));
        assert_eq!(with(|b| b.truncate(72)), length(5, 73, 72));
        assert_eq!(with(|b| b.push(0)), length(5, 73, 74));
        assert_eq!(with(|b| b.extend([0; 32])), length(5, 73, 105));
        assert_eq!(with(|b| b[8] = 7), length(7, 105, 73));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_themselves_or_are_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            count in 0u8..4,
        ) {
            let mut framed = vec![FRONTIER_VERSION, 0, 0, 0, 0, 0, 0, 0, count];
            framed.extend(&bytes);
            for bytes in [bytes, framed] {
                if let Ok(frontier) = Frontier::decode(&bytes) {
                    prop_assert_eq!(frontier.encode(), bytes);
                }
            }
        }
    }
}
