//! An entry bundle: up to 256 consecutive entries of the log, each after its length.

use thiserror::Error;

use super::{BundleId, TILE_WIDTH};
use crate::hash::{Hash, leaf_hash};

/// Longest entry: its length is a `u16` [C2SP tlog-tiles].
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;
/// Longest bundle: 256 of the longest entries.
pub const MAX_BUNDLE_BYTES: usize = TILE_WIDTH as usize * (2 + MAX_ENTRY_BYTES);

/// Why bytes or entries are not a bundle.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EntryBundleError {
    /// Not as many entries as the bundle's name says.
    #[error("{bundle} has {expected} entries, not {found}")]
    Count {
        /// The bundle.
        bundle: BundleId,
        /// Its width.
        expected: u16,
        /// What there was.
        found: usize,
    },
    /// An entry longer than its length field can say.
    #[error("entry {entry} has {found_bytes} bytes")]
    EntryTooLong {
        /// The entry's index in the log.
        entry: u64,
        /// Its length.
        found_bytes: usize,
    },
    /// The bytes end within an entry or before it.
    #[error("entry {entry} is cut off")]
    Truncated {
        /// The entry's index in the log.
        entry: u64,
    },
    /// Bytes after the last entry.
    #[error("{left_bytes} bytes after the last entry")]
    Trailing {
        /// How many.
        left_bytes: usize,
    },
}

/// The entries of a [`BundleId`], exactly as many as its width. As trustworthy as where it came from:
/// see [`super::HashTile::check_entries`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryBundle {
    id: BundleId,
    entries: Vec<Vec<u8>>,
}

impl EntryBundle {
    /// Takes the entries of `id` in order.
    ///
    /// # Errors
    /// [`EntryBundleError::Count`], [`EntryBundleError::EntryTooLong`].
    pub fn new(id: BundleId, entries: Vec<Vec<u8>>) -> Result<Self, EntryBundleError> {
        if entries.len() != usize::from(id.width()) {
            let (expected, found) = (id.width(), entries.len());
            return Err(EntryBundleError::Count {
                bundle: id,
                expected,
                found,
            });
        }
        for (entry, bytes) in (id.first_entry()..).zip(&entries) {
            if bytes.len() > MAX_ENTRY_BYTES {
                return Err(EntryBundleError::EntryTooLong {
                    entry,
                    found_bytes: bytes.len(),
                });
            }
        }
        Ok(Self { id, entries })
    }

    /// Reads the bytes a log served for `id`. Allocates no more than the bytes given.
    ///
    /// # Errors
    /// [`EntryBundleError::Truncated`], [`EntryBundleError::Trailing`].
    pub fn decode(id: BundleId, bytes: &[u8]) -> Result<Self, EntryBundleError> {
        let mut rest = bytes;
        let mut entries = Vec::with_capacity(usize::from(id.width()));
        for (entry, _) in (id.first_entry()..).zip(0..id.width()) {
            let truncated = EntryBundleError::Truncated { entry };
            let (length, after) = rest.split_first_chunk().ok_or(truncated)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (bytes, after) = after.split_at_checked(length).ok_or(truncated)?;
            entries.push(bytes.to_vec());
            rest = after;
        }
        if !rest.is_empty() {
            return Err(EntryBundleError::Trailing {
                left_bytes: rest.len(),
            });
        }
        Ok(Self { id, entries })
    }

    /// Each entry after its length as big-endian `u16`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in &self.entries {
            // `new` and `decode` admit no longer entry.
            let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(entry);
        }
        bytes
    }

    /// Which bundle it is.
    #[must_use]
    pub const fn id(&self) -> BundleId {
        self.id
    }

    /// Its entries in order, [`BundleId::width`] of them.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.entries.iter().map(Vec::as_slice)
    }

    /// The entries' leaf hashes in order.
    pub fn leaf_hashes(&self) -> impl ExactSizeIterator<Item = Hash> + '_ {
        self.entries().map(leaf_hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn malformed_bundles_are_refused() {
        let id = BundleId::new(2, 3).expect("in range");
        let entries = vec![b"a".to_vec(), Vec::new(), b"bcd".to_vec()];
        let bundle = EntryBundle::new(id, entries.clone()).expect("three");
        let good = b"\0\x01a\0\0\0\x03bcd";
        assert_eq!(bundle.encode(), good);
        assert_eq!(EntryBundle::decode(id, good), Ok(bundle));
        let truncated = |entry| EntryBundleError::Truncated { entry };
        let rows: [(&[u8], EntryBundleError); 8] = [
            (b"", truncated(512)),
            (b"\0", truncated(512)),
            (b"\0\x01", truncated(512)),
            (b"\0\x01a\0", truncated(513)),
            (b"\0\x01a\0\0", truncated(514)),
            (b"\0\x01a\0\0\0\x03bc", truncated(514)),
            (b"\0\x01a\0\0\xff\xffbcd", truncated(514)),
            (
                b"\0\x01a\0\0\0\x03bcd\0\0",
                EntryBundleError::Trailing { left_bytes: 2 },
            ),
        ];
        for (bytes, error) in rows {
            assert_eq!(EntryBundle::decode(id, bytes), Err(error), "{bytes:?}");
        }
        let count = |found| EntryBundleError::Count {
            bundle: id,
            expected: 3,
            found,
        };
        assert_eq!(EntryBundle::new(id, entries[..2].to_vec()), Err(count(2)));
        assert_eq!(EntryBundle::new(id, vec![Vec::new(); 4]), Err(count(4)));
        let long = vec![Vec::new(), vec![0; 65_536], Vec::new()];
        let error = EntryBundleError::EntryTooLong {
            entry: 513,
            found_bytes: 65_536,
        };
        assert_eq!(EntryBundle::new(id, long), Err(error));
    }

    #[test]
    fn the_largest_bundle_is_read_back() {
        let id = BundleId::new(0, 256).expect("in range");
        let bundle = EntryBundle::new(id, vec![vec![7; MAX_ENTRY_BYTES]; 256]).expect("fits");
        let bytes = bundle.encode();
        assert_eq!(bytes.len(), MAX_BUNDLE_BYTES);
        assert_eq!(EntryBundle::decode(id, &bytes), Ok(bundle));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_themselves_or_are_refused(
            bytes in proptest::collection::vec(0u8..4, 0..64),
            width in 1u16..=8,
        ) {
            let id = BundleId::new(0, width).expect("in range");
            if let Ok(bundle) = EntryBundle::decode(id, &bytes) {
                prop_assert_eq!(bundle.encode(), bytes);
            }
        }
    }
}
