//! Room behind the last frame: written bytes that say nothing, so that the next frames change neither the file's length
//! nor where its blocks lie, and a sync has nothing to write but the frame. A sync takes a fifth of the time then, and a
//! third of the processor's.
//!
//! There is about as much room as was appended since the store was opened, up to a bound: a store that is written to
//! now and then has none. It is given back when the store closes; after a crash the next start finds it and cuts it off.
//!
//! A sector that a write should have reached and did not still says nothing in the way of [`ROOM`]: it is told from one
//! that the disk has lost, which comes back as zeros or as anything.

use std::io;

use super::medium::Medium;

/// What room is filled with.
pub(super) const ROOM: u8 = 0xd9;

/// The most room there is. A reader looks no further for its end.
pub(super) const MAX_ROOM_BYTES: u64 = 1024 * 1024;

/// Written at a time.
static PIECE: [u8; 64 * 1024] = [ROOM; 64 * 1024];

/// How long a store's file is, and how much room to keep.
#[derive(Debug)]
pub(super) struct Room {
    /// None while it is not known what is behind the last frame.
    length_bytes: Option<u64>,
    /// Since the store was opened, or there was no room to be had.
    appended_bytes: u64,
    /// With less than this appended there is no room.
    from_bytes: u64,
}

impl Room {
    /// For a file that ends with its last frame.
    pub(super) const fn none(length_bytes: u64, from_bytes: u64) -> Self {
        Self {
            length_bytes: Some(length_bytes),
            appended_bytes: 0,
            from_bytes,
        }
    }

    /// The file is another one, which ends with its last frame.
    pub(super) const fn moved(&mut self, length_bytes: u64) {
        self.length_bytes = Some(length_bytes);
    }

    /// Before a frame is written behind `good_bytes`: removes what an append that failed left there.
    pub(super) fn clear(&mut self, medium: &impl Medium, good_bytes: u64) -> io::Result<()> {
        if self.length_bytes == Some(medium.length_bytes()?) {
            return Ok(());
        }
        medium.truncate(good_bytes)?;
        self.length_bytes = Some(good_bytes);
        Ok(())
    }

    /// A frame was written in part, or not at all.
    pub(super) fn failed(&mut self, medium: &impl Medium, good_bytes: u64) {
        // If this fails too, the next append tries it again before it writes, and a restart drops the torn frame.
        self.length_bytes = medium.truncate(good_bytes).ok().map(|()| good_bytes);
    }

    /// A frame was written that ends at `end_bytes`. Makes room behind it if it took the last.
    pub(super) fn written(&mut self, medium: &impl Medium, frame_bytes: u64, end_bytes: u64) {
        self.appended_bytes = self.appended_bytes.saturating_add(frame_bytes);
        if self.length_bytes.is_some_and(|length| end_bytes <= length) {
            return;
        }
        self.length_bytes = Some(end_bytes);
        if self.appended_bytes < self.from_bytes {
            return;
        }
        let room = self.appended_bytes.min(MAX_ROOM_BYTES);
        let full = end_bytes.saturating_add(room);
        if fill(medium, end_bytes, full).is_ok() {
            self.length_bytes = Some(full);
            return;
        }
        // The frame has its place all the same. What of the room was written is cut off, and none is tried for a while.
        self.appended_bytes = 0;
        self.length_bytes = medium.truncate(end_bytes).ok().map(|()| end_bytes);
    }

    /// Gives back what is behind the last frame.
    pub(super) fn give_back(&mut self, medium: &impl Medium, good_bytes: u64) {
        if self.length_bytes != Some(good_bytes) {
            self.failed(medium, good_bytes);
        }
    }
}

fn fill(medium: &impl Medium, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let left = usize::try_from(to.saturating_sub(at)).unwrap_or(usize::MAX);
        let piece = PIECE.get(..left).unwrap_or(&PIECE);
        medium.write_all_at(piece, at)?;
        at = at.saturating_add(piece.len() as u64);
    }
    Ok(())
}
