//! Start-up: reads a store's file from the front, authenticating every byte.
//!
//! A process or machine that dies while it appends leaves a torn frame at the
//! end, and nowhere else: each frame is synced before the next is written. A
//! torn frame is dropped; nobody was told that it was durable. Behind the last
//! frame there may be room ([`super::room`]), which is dropped without a word.
//! A torn frame shows in one of these ways:
//!
//! - it is incomplete: the file ends before the frame does, or
//! - the file's length reached the disk and some of its last sectors did not:
//!   from a sector's border (or from the frame's first byte) to the end of the
//!   file all bytes are zero, or
//! - its header is whole, so that it is known to be the last, the file ends
//!   with it, and any of its sectors did not reach the disk: they are zero, or
//! - the same of one that was written into room: its sectors are still room,
//!   and there is nothing but room behind, or
//! - a sector with a part of its header is still room. Then its length is not
//!   known, and that it was the last is seen by none of the next
//!   [`enclave::frame::FRAMES_BEHIND`] frames beginning anywhere behind.
//!
//! Any other byte that doesn't authenticate is damage or an attack, and the
//! store refuses to open. So does it if a file ends within its snapshot, which
//! was durable before the file got its name. A change in the last frame that
//! leaves a sector of zeros can't be told from a torn write; whoever makes it
//! could as well cut the file there, which the witnesses find out.

use enclave::frame::{
    BODY_TAG_BYTES, Chain, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameCipher, FrameError,
    MAX_BODY_BYTES,
};
use enclave::store::Log;
use std::io;
use std::mem;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use thiserror::Error;

use super::encoding::{self, EncodingError, Entry};
use super::index::{ApplyError, FramePlace, Index};
use super::medium::Medium;
use super::room::{MAX_ROOM_BYTES, ROOM};

/// The unit in which disks write; a write is torn at a multiple of it.
const SECTOR_BYTES: u64 = 512;

/// No frame of ours is longer.
const MAX_FRAME_BYTES: u64 = (FRAME_HEADER_BYTES + MAX_BODY_BYTES + BODY_TAG_BYTES) as u64;

/// Why a store does not open. Nothing was modified.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Another process has the store open.
    #[error("{path} is locked: another process uses this store")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("can't {action} {path} ({kind})")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kind of the failure.
        kind: io::ErrorKind,
    },
    /// The file is damaged, was changed, or belongs to another key.
    #[error("the store is corrupt at byte {offset}: {what}")]
    Corrupt {
        /// Where the frame that doesn't hold begins.
        offset: u64,
        /// What doesn't hold.
        what: Corruption,
    },
    /// The writer's thread could not be started.
    #[error("can't start the store's writer ({kind})")]
    Thread {
        /// The kind of the failure.
        kind: io::ErrorKind,
    },
    /// The random source failed or the cipher refused, while a file was begun.
    #[error("can't begin a store file")]
    Begin {
        /// Why.
        source: FrameError,
    },
}

/// What does not hold in a corrupt store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Corruption {
    /// The file is shorter than its header, which is written whole.
    #[error("the file header is incomplete")]
    Short,
    /// A seal does not open.
    #[error("{0}")]
    Frame(FrameError),
    /// An authentic body can't be read.
    #[error("{0}")]
    Encoding(EncodingError),
    /// An authentic body doesn't follow from the frames before.
    #[error("{0}")]
    Apply(ApplyError),
    /// The file ends within the snapshot that it begins with.
    #[error("the file ends within its snapshot, which was whole when it was named")]
    SnapshotCut,
}

/// A torn frame that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where it began; the file now ends here.
    pub offset: u64,
    /// How many bytes were dropped.
    pub bytes: u64,
}

/// What start-up found.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) frames: Frames,
}

/// The frames of a file, read from the front.
pub(super) struct Frames {
    /// The place of the next frame.
    pub(super) chain: Chain,
    /// The file up to here is authentic.
    pub(super) good_bytes: u64,
    pub(super) torn: Option<TornTail>,
    /// The last good frame as it stands in the file, with its offset.
    pub(super) last_frame: Option<(u64, Vec<u8>)>,
    /// The last one was read.
    ended: bool,
    file_bytes: u64,
    raw: Vec<u8>,
}

/// An authentic frame: where it is, its body, and the entries in that.
struct ReadFrame {
    place: FramePlace,
    body: Vec<u8>,
    body_bytes: usize,
    entries: Vec<Entry>,
}

/// A frame that was taken in: its body, and the leaves in that.
struct IndexedFrame {
    body: Vec<u8>,
    leaves: Vec<(Log, Range<usize>)>,
}

/// What a frame is read into. Kept from one to the next: a store has many.
#[derive(Default)]
struct Buffers {
    /// The frame as it stands in the file.
    raw: Vec<u8>,
    /// Its body, sealed and then opened.
    body: Vec<u8>,
}

/// Why the reading stopped.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::ErrorKind),
    Corrupt { offset: u64, what: Corruption },
}

impl ReadError {
    /// As an error about the file at a path.
    pub(super) fn of(self, path: &Path) -> OpenError {
        match self {
            Self::Io(kind) => OpenError::Io {
                action: "read",
                path: path.to_path_buf(),
                kind,
            },
            Self::Corrupt { offset, what } => OpenError::Corrupt { offset, what },
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Frames that wait for the next thread.
const READ_AHEAD: usize = 2;

/// Is told of each leaf while a file is read, in their order.
pub(super) type TellLeaf<'a> = &'a mut (dyn FnMut(Log, &[u8]) + Send);

/// Reads the whole file. Modifies nothing. One thread opens the frames, another one indexes what they hold, and a third
/// tells of the leaves.
pub(super) fn read(
    medium: &impl Medium,
    cipher: &FrameCipher,
    tell: TellLeaf<'_>,
) -> Result<Recovered, ReadError> {
    let Recovered {
        mut index,
        mut frames,
    } = Recovered::begin(medium, cipher)?;
    let frames = thread::scope(|scope| {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        let (give_back, emptied) = channel();
        let (indexed, telling) = sync_channel::<IndexedFrame>(READ_AHEAD);
        scope.spawn(move || {
            for frame in telling {
                frame.tell_leaves(tell);
                // The reader may be done, and need it no more.
                drop(give_back.send(frame.body));
            }
        });
        let reader = scope.spawn(move || {
            let read = |frames: &mut Frames| {
                let body = emptied.try_recv().unwrap_or_default();
                frames.next(medium, cipher, body)
            };
            while let Some(frame) = read(&mut frames).transpose() {
                let failed = frame.is_err();
                // After a failure nobody listens.
                if sender.send(frame).is_err() || failed {
                    break;
                }
            }
            frames
        });
        for frame in receiver {
            // Who tells listens until the end.
            drop(indexed.send(frame?.index_in(&mut index)?));
        }
        Ok::<_, ReadError>(reader.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    let recovered = Recovered { index, frames };
    recovered.expect_whole()?;
    Ok(recovered)
}

impl ReadFrame {
    /// Takes in the entries.
    fn index_in(self, index: &mut Index) -> Result<IndexedFrame, ReadError> {
        let offset = self.place.offset;
        let leaves = self.entries.iter().filter_map(|entry| match entry {
            Entry::Leaf { log, bytes } => Some((*log, bytes.clone())),
            Entry::Put { .. }
            | Entry::Delete { .. }
            | Entry::Begin(_)
            | Entry::Set { .. }
            | Entry::Unset { .. }
            | Entry::End(_) => None,
        });
        let leaves = leaves.collect();
        let body = self.body.get(..self.body_bytes).unwrap_or_default();
        index
            .apply(self.place, body, self.entries)
            .map_err(|error| corrupt(offset, Corruption::Apply(error)))?;
        Ok(IndexedFrame {
            body: self.body,
            leaves,
        })
    }
}

impl IndexedFrame {
    fn tell_leaves(&self, tell: &mut (dyn FnMut(Log, &[u8]) + Send)) {
        for (log, bytes) in &self.leaves {
            tell(*log, self.body.get(bytes.clone()).unwrap_or_default());
        }
    }
}

impl Frames {
    /// Reads the next frame, with a buffer for its body. None is left, or a torn one, which is noted.
    fn next(
        &mut self,
        medium: &impl Medium,
        cipher: &FrameCipher,
        body: Vec<u8>,
    ) -> Result<Option<ReadFrame>, ReadError> {
        let offset = self.good_bytes;
        if offset >= self.file_bytes || self.ended {
            return Ok(None);
        }
        let mut buffers = Buffers {
            raw: mem::take(&mut self.raw),
            body,
        };
        let at = (offset, self.file_bytes);
        match read_frame(medium, cipher, &self.chain, at, &mut buffers)? {
            Frame::Good { body_bytes, next } => {
                let body = buffers.body.get(..body_bytes).unwrap_or_default();
                let entries = encoding::decode(body)
                    .map_err(|error| corrupt(offset, Corruption::Encoding(error)))?;
                let place = FramePlace {
                    offset,
                    chain: self.chain,
                };
                self.chain = next;
                self.good_bytes = offset.saturating_add(buffers.raw.len() as u64);
                let last = self.last_frame.replace((offset, buffers.raw));
                self.raw = last.map(|(_, raw)| raw).unwrap_or_default();
                Ok(Some(ReadFrame {
                    place,
                    body: buffers.body,
                    body_bytes,
                    entries,
                }))
            }
            Frame::Torn => {
                self.torn = Some(TornTail {
                    offset,
                    bytes: self.file_bytes.saturating_sub(offset),
                });
                self.ended = true;
                Ok(None)
            }
            Frame::Room => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    /// Whether the file goes on behind its last good frame.
    pub(super) const fn is_more_in_file(&self) -> bool {
        self.good_bytes < self.file_bytes
    }
}

impl Recovered {
    /// Reads the header of a file.
    pub(super) fn begin(medium: &impl Medium, cipher: &FrameCipher) -> Result<Self, ReadError> {
        let file_bytes = medium.length_bytes()?;
        let mut header = [0; FILE_HEADER_BYTES];
        if file_bytes < FILE_HEADER_BYTES as u64 {
            return Err(corrupt(0, Corruption::Short));
        }
        medium.read_exact_at(&mut header, 0)?;
        let chain = cipher
            .open_file(&header)
            .map_err(|error| corrupt(0, Corruption::Frame(error)))?;
        Ok(Self {
            index: Index::default(),
            frames: Frames {
                chain,
                good_bytes: FILE_HEADER_BYTES as u64,
                torn: None,
                last_frame: None,
                ended: false,
                file_bytes,
                raw: Vec::new(),
            },
        })
    }

    /// Reads the next frame. Whether there was one; a torn one is noted.
    pub(super) fn next(
        &mut self,
        medium: &impl Medium,
        cipher: &FrameCipher,
    ) -> Result<bool, ReadError> {
        let before = (self.frames.chain, self.frames.good_bytes);
        let Some(frame) = self.frames.next(medium, cipher, Vec::new())? else {
            return Ok(false);
        };
        if let Err(error) = frame.index_in(&mut self.index) {
            // What can't be taken in is not counted among what is good.
            (self.frames.chain, self.frames.good_bytes) = before;
            return Err(error);
        }
        Ok(true)
    }

    /// The snapshot that the file begins with has ended.
    pub(super) fn expect_whole(&self) -> Result<(), ReadError> {
        if self.index.is_within_snapshot() {
            return Err(corrupt(self.frames.good_bytes, Corruption::SnapshotCut));
        }
        Ok(())
    }
}

/// Opens the frame at a place that the index knows. Gives its body.
pub(super) fn reread(
    medium: &impl Medium,
    cipher: &FrameCipher,
    place: &FramePlace,
) -> Result<Vec<u8>, ReadError> {
    let at = (place.offset, medium.length_bytes()?);
    let mut buffers = Buffers::default();
    match read_frame(medium, cipher, &place.chain, at, &mut buffers)? {
        Frame::Good { body_bytes, .. } => {
            buffers.body.truncate(body_bytes);
            Ok(buffers.body)
        }
        // The frame was whole when it was indexed.
        Frame::Torn | Frame::Room => Err(corrupt(place.offset, Corruption::Short)),
    }
}

enum Frame {
    /// The frame and its body are in the buffers.
    Good {
        body_bytes: usize,
        next: Chain,
    },
    Torn,
    /// There is none.
    Room,
}

fn read_frame(
    medium: &impl Medium,
    cipher: &FrameCipher,
    chain: &Chain,
    (offset, file_bytes): (u64, u64),
    Buffers { raw, body }: &mut Buffers,
) -> Result<Frame, ReadError> {
    let left = file_bytes.saturating_sub(offset);
    if left < FRAME_HEADER_BYTES as u64 {
        return Ok(match is_all(&BLANK, medium, offset, file_bytes)? {
            true => Frame::Room,
            false => Frame::Torn,
        });
    }
    let mut front = [0; FRAME_HEADER_BYTES];
    medium.read_exact_at(&mut front, offset)?;
    let header = match cipher.open_header(chain, &front) {
        Ok(header) => header,
        Err(error) => {
            return without_header(medium, cipher, chain, (offset, file_bytes))?
                .ok_or_else(|| corrupt(offset, Corruption::Frame(error)));
        }
    };
    let sealed_bytes = header.sealed_body_bytes();
    let frame_bytes = (FRAME_HEADER_BYTES as u64).saturating_add(sealed_bytes as u64);
    if left < frame_bytes {
        return Ok(Frame::Torn);
    }
    raw.clear();
    raw.extend_from_slice(&front);
    raw.resize(FRAME_HEADER_BYTES.saturating_add(sealed_bytes), 0);
    let (_, sealed) = raw.split_at_mut(FRAME_HEADER_BYTES);
    medium.read_exact_at(sealed, offset.saturating_add(FRAME_HEADER_BYTES as u64))?;
    body.clear();
    body.extend_from_slice(sealed);
    match header.open_body(body) {
        Ok((opened, next)) => Ok(Frame::Good {
            body_bytes: opened.len(),
            next,
        }),
        Err(error) => {
            let end = offset.saturating_add(frame_bytes);
            let lost = |of| has_sector_of(of, raw, offset, raw.len());
            let is_last = left == frame_bytes;
            if (is_last && lost(0)) || (lost(ROOM) && is_all(&[ROOM], medium, end, file_bytes)?) {
                Ok(Frame::Torn)
            } else {
                Err(corrupt(offset, Corruption::Frame(error)))
            }
        }
    }
}

/// What a frame is whose header does not open: none, or a torn one; nothing if it is damaged.
fn without_header(
    medium: &impl Medium,
    cipher: &FrameCipher,
    chain: &Chain,
    (offset, file_bytes): (u64, u64),
) -> Result<Option<Frame>, ReadError> {
    let all = file_bytes.saturating_sub(offset);
    let left = all.min(MAX_FRAME_BYTES);
    let mut tail = vec![0; usize::try_from(left).unwrap_or_default()];
    medium.read_exact_at(&mut tail, offset)?;
    if !is_all(&BLANK, medium, offset.saturating_add(left), file_bytes)? {
        return Ok(None);
    }
    let Some(last) = tail.iter().rposition(|byte| !BLANK.contains(byte)) else {
        return Ok(Some(Frame::Room));
    };
    let written = tail.get(..=last).unwrap_or_default();
    let is_torn = (all == left && ends_in_zero_sectors(&tail, offset))
        || (has_sector_of(ROOM, &tail, offset, FRAME_HEADER_BYTES)
            && !cipher.has_frame_behind(chain, written));
    Ok(is_torn.then_some(Frame::Torn))
}

/// What stands in a file where nothing was written: zeros are what should have become room.
const BLANK: [u8; 2] = [0, ROOM];

/// Whether there is nothing from `offset` on but these bytes, and no more of them than there can be room.
fn is_all(of: &[u8], medium: &impl Medium, offset: u64, file_bytes: u64) -> io::Result<bool> {
    let left = file_bytes.saturating_sub(offset);
    if left > MAX_ROOM_BYTES {
        return Ok(false);
    }
    let mut rest = vec![0; usize::try_from(left).unwrap_or_default()];
    medium.read_exact_at(&mut rest, offset)?;
    Ok(rest.iter().all(|byte| of.contains(byte)))
}

/// Whether all of a frame's bytes, and all behind them, are zero from some sector's border within its header on, or
/// from its first byte, which is at `offset`.
fn ends_in_zero_sectors(tail: &[u8], offset: u64) -> bool {
    let border = match tail.iter().rposition(|byte| *byte != 0) {
        None => offset,
        Some(last) => offset
            .saturating_add(last as u64)
            .saturating_add(1)
            .next_multiple_of(SECTOR_BYTES),
    };
    border < offset.saturating_add(FRAME_HEADER_BYTES as u64)
}

/// Whether a sector of which the first `before` of these bytes have a part is all `of`, as far as these bytes, which
/// begin at `offset`, have it.
fn has_sector_of(of: u8, bytes: &[u8], offset: u64, before: usize) -> bool {
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(usize::MAX);
    let to_border = SECTOR_BYTES.saturating_sub(offset.checked_rem(SECTOR_BYTES).unwrap_or(0));
    let first = usize::try_from(to_border).map_or(bytes.len(), |first| first.min(bytes.len()));
    let (front, rest) = bytes.split_at(first);
    let begins = (first..before).step_by(sector.max(1));
    let rest = rest.chunks(sector).zip(begins).map(|(part, _begins)| part);
    std::iter::once(front)
        .chain(rest)
        .any(|part| part.iter().all(|byte| *byte == of))
}

/// An error of the operating system, with what was tried.
pub(super) fn failed(action: &'static str, path: &Path, error: &io::Error) -> OpenError {
    OpenError::Io {
        action,
        path: path.to_path_buf(),
        kind: error.kind(),
    }
}

fn corrupt(offset: u64, what: Corruption) -> ReadError {
    ReadError::Corrupt { offset, what }
}
