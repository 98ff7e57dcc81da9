//! How a store treats its file.

/// When a store's file is compacted, and when it has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePolicy {
    /// When it is so many times as large as what it has come to.
    pub ratio: u64,
    /// But not below this size.
    pub from_bytes: u64,
    /// Behind the last frame there is room once so many bytes were appended.
    pub room_from_bytes: u64,
}

impl Default for FilePolicy {
    /// At twice the size of what is live, from 64 MiB on: at most about as much
    /// is written again as was written in the first place.
    fn default() -> Self {
        Self {
            ratio: 2,
            from_bytes: 64 * 1024 * 1024,
            room_from_bytes: 64 * 1024,
        }
    }
}

impl FilePolicy {
    /// Whether a file is to be compacted.
    #[must_use]
    pub fn is_due(self, file_bytes: u64, live_bytes: u64) -> bool {
        file_bytes >= self.from_bytes && file_bytes >= live_bytes.saturating_mul(self.ratio)
    }
}
