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

/// The most room that a reader looks through for its end.
pub(super) const MAX_ROOM_BYTES: u64 = 1024 * 1024;

/// The most room that is made at a time: everybody waits meanwhile.
const ROOM_AT_A_TIME_BYTES: u64 = 256 * 1024;

/// Written at a time.
static PIECE: [u8; 64 * 1024] = [ROOM; 64 * 1024];

/// Why a frame can't be written.
#[derive(Debug)]
pub(super) enum NotReady {
    /// The file can't be asked for its length, or not be cut.
    Io(io::Error),
    /// Nothing is known about what was written since the last success.
    NotSynced(io::ErrorKind),
}

impl From<io::Error> for NotReady {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

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

    /// Before a frame of so many bytes is written behind `good_bytes`: removes what an append that failed left there, and
    /// makes room if what there is does not hold the frame. Room is durable before there is a frame in it: a sector that
    /// the frame does not reach is room then, and nothing else.
    ///
    /// # Errors
    /// [`NotReady`]. Where there is no room to be had, the frame makes the file longer.
    pub(super) fn make_ready(
        &mut self,
        medium: &impl Medium,
        good_bytes: u64,
        frame_bytes: u64,
    ) -> Result<(), NotReady> {
        let length = match self.length_bytes {
            Some(length) if length == medium.length_bytes()? => length,
            Some(_) | None => self.cut(medium, good_bytes)?,
        };
        self.appended_bytes = self.appended_bytes.saturating_add(frame_bytes);
        let end = good_bytes.saturating_add(frame_bytes);
        if end <= length || self.appended_bytes < self.from_bytes {
            return Ok(());
        }
        let full = end.saturating_add(self.appended_bytes.min(ROOM_AT_A_TIME_BYTES));
        if fill(medium, length, full).is_err() {
            // None is tried for a while. That the old room is gone is durable, too, before a frame lies across its end.
            self.appended_bytes = 0;
            self.cut(medium, good_bytes)?;
        } else {
            self.length_bytes = Some(full);
        }
        medium
            .sync()
            .map_err(|error| NotReady::NotSynced(error.kind()))
    }

    /// Ends the file with the last frame. Gives its length.
    fn cut(&mut self, medium: &impl Medium, good_bytes: u64) -> io::Result<u64> {
        self.length_bytes = None;
        medium.truncate(good_bytes)?;
        self.length_bytes = Some(good_bytes);
        Ok(good_bytes)
    }

    /// A frame was written in part, or not at all.
    pub(super) fn failed(&mut self, medium: &impl Medium, good_bytes: u64) {
        // If this fails too, the next append tries it again before it writes.
        drop(self.cut(medium, good_bytes));
    }

    /// A frame was written that ends at `end_bytes`.
    pub(super) fn written(&mut self, end_bytes: u64) {
        self.length_bytes = self.length_bytes.map(|length| length.max(end_bytes));
    }

    /// Gives back what is behind the last frame.
    pub(super) fn give_back(&mut self, medium: &impl Medium, good_bytes: u64) {
        if self.length_bytes != Some(good_bytes) {
            drop(self.cut(medium, good_bytes));
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
