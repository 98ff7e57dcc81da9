//! Looks at a store's file without a service and without a change: authenticates every frame, and counts.

use enclave::frame::FrameCipher;
use std::path::Path;

use super::embedded::Stats;
use super::medium::Medium;
use super::recovery::{Corruption, OpenError, ReadError, Recovered, TornTail};

/// What a check of a store's file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What the authentic frames hold, up to the damage if there is any.
    pub stats: Stats,
    /// Bytes of the file that are authentic.
    pub authentic_bytes: u64,
    /// An unfinished write at the end, which the service drops at its start.
    pub torn: Option<TornTail>,
    /// Where the file stops being authentic, and why.
    pub damage: Option<Damage>,
}

/// Where a file stops being authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the frame that doesn't hold begins.
    pub offset: u64,
    /// What number it would have, from 0.
    pub frame: u64,
    /// What doesn't hold.
    pub what: Corruption,
}

/// Checks a store's file. `path` names it in errors. Blocks, and keeps the
/// records in memory as the service does.
///
/// # Errors
/// [`OpenError::Io`] if the file can't be read. Damage is no error here.
pub fn check(
    medium: &impl Medium,
    path: &Path,
    cipher: &FrameCipher,
) -> Result<Checked, OpenError> {
    let file_bytes = medium
        .length_bytes()
        .map_err(|error| ReadError::from(error).of(path))?;
    let mut found = match Recovered::begin(medium, cipher) {
        Ok(found) => found,
        Err(ReadError::Corrupt { offset, what }) => {
            return Ok(Checked {
                stats: Stats::of_nothing(file_bytes),
                authentic_bytes: 0,
                torn: None,
                damage: Some(Damage {
                    offset,
                    frame: 0,
                    what,
                }),
            });
        }
        Err(error @ ReadError::Io(_)) => return Err(error.of(path)),
    };
    let outcome = loop {
        match found.next(medium, cipher) {
            Ok(true) => {}
            Ok(false) => break found.expect_whole(),
            Err(error) => break Err(error),
        }
    };
    let stats = found.index.stats(file_bytes);
    let damage = match outcome {
        Ok(()) => None,
        Err(ReadError::Corrupt { offset, what }) => Some(Damage {
            offset,
            frame: found.frames.chain.sequence(),
            what,
        }),
        Err(error @ ReadError::Io(_)) => return Err(error.of(path)),
    };
    Ok(Checked {
        stats,
        authentic_bytes: found.frames.good_bytes,
        torn: found.frames.torn,
        damage,
    })
}
