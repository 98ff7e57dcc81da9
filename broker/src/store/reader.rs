//! Reads leaves back from the file.

use enclave::frame::FrameCipher;
use enclave::store::{Log, StoreError};
use std::io;
use std::sync::Arc;

use super::index::{FramePlace, LeafPlace};
use super::medium::{Folder, Medium};
use super::recovery::{self, ReadError};
use super::writer::Shared;

/// A read of leaves stops after this many bytes, but gives at least one leaf.
const MAX_LEAVES_BYTES: usize = 4 * 1024 * 1024;

/// The leaves of a log from the one numbered `from`: at most `limit`, and fewer
/// when they are large, but at least one if there is one.
pub(super) fn read_leaves<F: Folder>(
    shared: &Shared<F>,
    log: Log,
    from: u64,
    limit: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    // The places and the file that they are in, as of one moment.
    let (medium, places) = {
        let index = shared.index.read();
        let rest = index.leaves(log).iter().skip(from).take(limit);
        let places: Vec<_> = rest.map(|leaf| (*leaf, index.frame(leaf.frame))).collect();
        (Arc::clone(&shared.medium.read()), places)
    };
    leaves_at(&*medium, &shared.cipher, &places)
}

/// The leaves of places in a file, at least one and not too many bytes of them.
pub(super) fn leaves_at(
    medium: &impl Medium,
    cipher: &FrameCipher,
    places: &[(LeafPlace, Option<FramePlace>)],
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut leaves = Vec::new();
    let mut total_bytes: usize = 0;
    let mut current: Option<(u32, Vec<u8>)> = None;
    for (leaf, frame) in places {
        let body = match current.take() {
            Some((number, body)) if number == leaf.frame => body,
            Some(_) | None => {
                let frame = frame.as_ref().ok_or(changed())?;
                recovery::reread(medium, cipher, frame).map_err(|error| match error {
                    ReadError::Io(kind) => StoreError::Io { kind },
                    ReadError::Corrupt { .. } => changed(),
                })?
            }
        };
        let (start, length) = (leaf.start as usize, leaf.length as usize);
        let bytes = body
            .get(start..start.saturating_add(length))
            .ok_or(changed())?;
        total_bytes = total_bytes.saturating_add(length);
        if total_bytes > MAX_LEAVES_BYTES && !leaves.is_empty() {
            break;
        }
        leaves.push(bytes.to_vec());
        current = Some((leaf.frame, body));
    }
    Ok(leaves)
}

fn changed() -> StoreError {
    StoreError::Io {
        kind: io::ErrorKind::InvalidData,
    }
}
