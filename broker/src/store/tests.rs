//! The store on real files: crashes, damage, faults of the medium, groups.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests count small numbers and fail by panicking"
)]

use super::index::ApplyError;
use super::room::ROOM;
use super::*;
use enclave::frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameCipher, FrameError};
use enclave::store::{Batch, Key, Leaf, Log, Record, Store, StoreError, Write};
use parking_lot::{Condvar, Mutex};
use ring::rand::SystemRandom;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use zeroize::Zeroizing;

fn cipher() -> FrameCipher {
    FrameCipher::new(Zeroizing::new([0x5a; 32]))
}

fn sync_must_not_fail() -> OnSyncFailure {
    Box::new(|kind| panic!("sync failed: {kind}"))
}

fn open(dir: &Path) -> Result<(EmbeddedStore, OpenReport), OpenError> {
    open_with(dir, cipher())
}

fn open_with(dir: &Path, cipher: FrameCipher) -> Result<(EmbeddedStore, OpenReport), OpenError> {
    // The file ends with its last frame, so that its length says how far that goes.
    let policy = FilePolicy {
        room_from_bytes: u64::MAX,
        ..FilePolicy::default()
    };
    let end = sync_must_not_fail();
    EmbeddedStore::open(dir, cipher, SystemRandom::new(), policy, end)
}

fn key(n: u8) -> Key {
    Key([n; 32])
}

fn put(n: u8, expected_generation: u64, sealed: &[u8]) -> Write {
    Write {
        key: key(n),
        expected_generation,
        sealed: Some(sealed.to_vec()),
    }
}

fn delete(n: u8, expected_generation: u64) -> Write {
    Write {
        key: key(n),
        expected_generation,
        sealed: None,
    }
}

fn writes(writes: Vec<Write>) -> Batch {
    Batch {
        writes,
        leaves: vec![],
    }
}

fn leaf(log: Log, bytes: &[u8]) -> Leaf {
    Leaf::new(log, bytes.to_vec())
}

fn record(n: u8, generation: u64, sealed: &[u8]) -> Record {
    Record {
        key: key(n),
        generation,
        sealed: sealed.into(),
    }
}

async fn commit<F: Folder>(store: &EmbeddedStore<F>, batch: Batch) -> Result<(), StoreError> {
    store.commit(batch).await.map(drop)
}

/// A closed store of four frames, and where each frame begins and the last ends.
struct Small {
    bytes: Vec<u8>,
    borders: Vec<usize>,
}

async fn small() -> Small {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (store, _report) = open(dir.path()).unwrap();
    let mut borders = vec![fs::read(&path).unwrap().len()];
    let batches = [
        writes(vec![put(1, 0, b"one")]),
        Batch {
            writes: vec![put(2, 0, &[7; 300])],
            leaves: vec![leaf(Log::Control, b"leaf")],
        },
        writes(vec![put(1, 1, b"one again"), delete(2, 1)]),
        writes(vec![put(3, 0, &[9; 700])]),
    ];
    for batch in batches {
        commit(&store, batch).await.unwrap();
        borders.push(fs::read(&path).unwrap().len());
    }
    store.close();
    Small {
        bytes: fs::read(&path).unwrap(),
        borders,
    }
}

/// The records after each number of the frames of [`small`].
fn records_after(frames: usize) -> Vec<Record> {
    match frames {
        0 => vec![],
        1 => vec![record(1, 1, b"one")],
        2 => vec![record(1, 1, b"one"), record(2, 1, &[7; 300])],
        3 => vec![record(1, 2, b"one again")],
        _ => vec![record(1, 2, b"one again"), record(3, 1, &[9; 700])],
    }
}

/// A directory for the tests that make thousands of stores: in memory if there
/// is such a place, since what they test is not the disk.
fn quick_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_absent| tempfile::tempdir().unwrap())
}

fn dir_with(bytes: &[u8]) -> TempDir {
    let dir = quick_dir();
    fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
    dir
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report) = open(dir.path()).unwrap();
    assert!(report.created);
    commit(
        &store,
        Batch {
            writes: vec![put(1, 0, b"a"), put(2, 0, b"b")],
            leaves: vec![leaf(Log::Control, b"c0"), leaf(Log::Issuance, b"i0")],
        },
    )
    .await
    .unwrap();
    commit(
        &store,
        Batch {
            writes: vec![put(1, 1, b"aa"), delete(2, 1), put(4, 0, b"d")],
            leaves: vec![leaf(Log::Issuance, b"i1"), leaf(Log::Control, b"c1")],
        },
    )
    .await
    .unwrap();
    drop(store);

    let (store, report) = open(dir.path()).unwrap();
    assert_eq!(
        report,
        OpenReport {
            created: false,
            frames: 2,
            records: 2,
            file_bytes: fs::metadata(dir.path().join(FILE_NAME)).unwrap().len(),
            torn: None
        }
    );
    assert_eq!(store.get(&key(1)).await.unwrap(), Some(record(1, 2, b"aa")));
    assert_eq!(store.get(&key(2)).await.unwrap(), None);
    let all = [record(1, 2, b"aa"), record(4, 1, b"d")];
    assert_eq!(store.scan(None, 9).await.unwrap(), all);
    assert_eq!(store.scan(None, 1).await.unwrap(), all[..1]);
    assert_eq!(store.scan(Some(&key(1)), 9).await.unwrap(), all[1..]);
    assert_eq!(store.scan(Some(&key(4)), 9).await.unwrap(), []);
    assert_eq!(store.leaf_count(Log::Control).unwrap(), 2);
    assert_eq!(store.leaves(Log::Control, 0, 9).unwrap(), [b"c0", b"c1"]);
    assert_eq!(store.leaves(Log::Issuance, 1, 9).unwrap(), [b"i1"]);
    assert_eq!(store.leaves(Log::Issuance, 0, 1).unwrap(), [b"i0"]);
    assert_eq!(
        store.leaves(Log::Issuance, 2, 9).unwrap(),
        Vec::<Vec<u8>>::new()
    );
    // A deleted record begins anew.
    commit(&store, writes(vec![put(2, 0, b"bb")]))
        .await
        .unwrap();
    assert_eq!(store.get(&key(2)).await.unwrap(), Some(record(2, 1, b"bb")));
}

#[tokio::test]
async fn a_file_cut_anywhere_opens_with_the_whole_frames() {
    let small = small().await;
    for length in 0..=small.bytes.len() {
        let dir = dir_with(&small.bytes[..length]);
        let opened = open(dir.path());
        if length < FILE_HEADER_BYTES {
            assert_eq!(
                opened.unwrap_err(),
                OpenError::Corrupt {
                    offset: 0,
                    what: Corruption::Short
                },
                "{length}"
            );
            continue;
        }
        let (store, report) = opened.unwrap();
        let frames = small.borders.iter().filter(|b| **b <= length).count() - 1;
        let good = small.borders[frames];
        // A byte or two may look as if nothing had been written.
        let blank = |byte: &u8| [0, ROOM].contains(byte);
        let torn = !small.bytes[good..length].iter().all(blank);
        let torn = torn.then_some(TornTail {
            offset: good as u64,
            bytes: (length - good) as u64,
        });
        assert_eq!((report.frames, report.torn), (frames, torn), "{length}");
        assert_eq!(
            store.scan(None, 9).await.unwrap(),
            records_after(frames),
            "{length}"
        );
        commit(&store, writes(vec![put(200, 0, b"later")]))
            .await
            .unwrap();
        drop(store);
        let (store, report) = open(dir.path()).unwrap();
        assert_eq!((report.frames, report.torn), (frames + 1, None), "{length}");
        assert_eq!(
            store.get(&key(200)).await.unwrap(),
            Some(record(200, 1, b"later")),
            "{length}"
        );
    }
}

/// What a changed byte at `at` must be reported as.
fn damage_at(small: &Small, at: usize, changed: &[u8]) -> OpenError {
    if at < FILE_HEADER_BYTES {
        let what = match at {
            0..8 => FrameError::Magic,
            8..12 => FrameError::Version {
                found: u32::from_be_bytes(changed[8..12].try_into().unwrap()),
            },
            _ => FrameError::FileHeader,
        };
        return OpenError::Corrupt {
            offset: 0,
            what: Corruption::Frame(what),
        };
    }
    let frame = small.borders.iter().rposition(|b| *b <= at).unwrap();
    let offset = small.borders[frame];
    let what = if at - offset < FRAME_HEADER_BYTES {
        FrameError::Header
    } else {
        FrameError::Body
    };
    OpenError::Corrupt {
        offset: offset as u64,
        what: Corruption::Frame(what),
    }
}

#[tokio::test]
async fn every_changed_byte_is_reported_where_it_is() {
    let small = small().await;
    // Else a byte set to zero could be what a torn write leaves.
    assert!(small.bytes.len() % 512 > 1);
    for at in 0..small.bytes.len() {
        for value in [
            small.bytes[at] ^ 1,
            small.bytes[at] ^ 0x80,
            !small.bytes[at],
            0,
        ] {
            if value == small.bytes[at] {
                continue;
            }
            let mut changed = small.bytes.clone();
            changed[at] = value;
            let dir = dir_with(&changed);
            assert_eq!(
                open(dir.path()).unwrap_err(),
                damage_at(&small, at, &changed),
                "byte {at}"
            );
            assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), changed);
        }
    }
}

#[tokio::test]
async fn sectors_that_a_write_did_not_reach_are_told_from_damage() {
    let small = small().await;
    let (last, end) = (small.borders[3], small.bytes.len());
    let border = |n: usize| (last / 512 + n) * 512;
    assert!(last < border(1) && border(2) < end && end < border(3));

    let zeroed = |from: usize, to: usize| {
        let mut bytes = small.bytes.clone();
        bytes.resize(bytes.len().max(to), 0);
        bytes[from..to].fill(0);
        bytes
    };
    let with_room = |mut bytes: Vec<u8>| {
        bytes.resize(bytes.len() + 1024 * 1024, ROOM);
        bytes
    };
    let unwritten = |from: usize, to: usize| {
        let mut bytes = small.bytes.clone();
        bytes[from..to].fill(ROOM);
        with_room(bytes)
    };
    let torn = [
        ("its last sector", zeroed(border(2), end)),
        ("its last two sectors", zeroed(border(1), end)),
        // The header is whole, so that no frame can follow.
        ("one in the middle", zeroed(border(1), border(2))),
        (
            "its last sector, written into room",
            unwritten(border(2), end),
        ),
        (
            "one in the middle, written into room",
            unwritten(border(1), border(2)),
        ),
        ("its header, written into room", unwritten(last, border(1))),
        ("its last sector, behind the room", {
            let mut bytes = unwritten(border(1), border(2));
            bytes.truncate(border(2));
            bytes.resize(end, 0);
            bytes
        }),
        ("a later frame's room", {
            let mut bytes = zeroed(border(1), end);
            bytes.truncate(border(1) + 100);
            bytes
        }),
    ];
    for (name, bytes) in torn {
        let dir = dir_with(&bytes);
        let (store, report) = open(dir.path()).unwrap();
        assert_eq!(
            report.torn,
            Some(TornTail {
                offset: last as u64,
                bytes: (bytes.len() - last) as u64
            }),
            "{name}"
        );
        assert_eq!(store.scan(None, 9).await.unwrap(), records_after(3));
        assert_eq!(
            fs::metadata(dir.path().join(FILE_NAME)).unwrap().len(),
            last as u64
        );
    }

    // Nothing of a frame reached the disk but its length, or there was room for one.
    for (name, frames, good, bytes) in [
        ("all of the last frame", 3, last, zeroed(last, end)),
        (
            "all of the last frame, into room",
            3,
            last,
            unwritten(last, end),
        ),
        ("room", 4, end, zeroed(end, end + 700)),
        ("room for a header's half", 4, end, zeroed(end, end + 20)),
        (
            "all room that there is",
            4,
            end,
            with_room(small.bytes.clone()),
        ),
        (
            "all room, and a large frame's",
            4,
            end,
            zeroed(end, end + 9 * 1024 * 1024),
        ),
    ] {
        let dir = dir_with(&bytes);
        let (store, report) = open(dir.path()).unwrap();
        assert_eq!((report.frames, report.torn), (frames, None), "{name}");
        assert_eq!(report.file_bytes, good as u64, "{name}");
        assert_eq!(store.scan(None, 9).await.unwrap(), records_after(frames));
        let length = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
        assert_eq!(length, good as u64, "{name}");
    }

    // What was sealed there may be zero, and must not become it.
    let marked = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] = if bytes[at] == 1 { 2 } else { bytes[at] ^ 1 };
        bytes
    };
    let header_is_bad = Corruption::Frame(FrameError::Header);
    let body_is_bad = Corruption::Frame(FrameError::Body);
    let damaged = [
        (
            "zeros that begin inside a sector",
            marked(zeroed(border(2) + 1, end), border(2)),
            last,
            body_is_bad,
        ),
        (
            "part of a sector in the middle",
            marked(zeroed(border(1), border(2) - 1), border(2) - 1),
            last,
            body_is_bad,
        ),
        (
            "an earlier frame",
            zeroed(small.borders[1], small.borders[2]),
            small.borders[1],
            header_is_bad,
        ),
        (
            "an earlier frame, and room",
            with_room(zeroed(small.borders[1], small.borders[2])),
            small.borders[1],
            header_is_bad,
        ),
        (
            "two earlier frames",
            zeroed(small.borders[1], small.borders[3]),
            small.borders[1],
            header_is_bad,
        ),
        (
            "the sector of its header, which was not room",
            zeroed(last, border(1)),
            last,
            header_is_bad,
        ),
        (
            "the same before room",
            with_room(zeroed(last, border(1))),
            last,
            header_is_bad,
        ),
        (
            "a header's sector that is room in part",
            {
                let mut bytes = unwritten(last, border(1));
                bytes[border(1) - 1] = 0;
                bytes
            },
            last,
            header_is_bad,
        ),
        (
            "a header that is still room, and more than room behind",
            [
                unwritten(last, border(1)),
                vec![ROOM; 8 * 1024 * 1024],
                vec![1],
            ]
            .concat(),
            last,
            header_is_bad,
        ),
        (
            "a sector of zeros before room, which was not room",
            with_room(zeroed(border(1), border(2))),
            last,
            body_is_bad,
        ),
        (
            "a sector of zeros, and a frame behind",
            [zeroed(border(1), border(2)), vec![0; 600]].concat(),
            last,
            body_is_bad,
        ),
        (
            "a sector that is still room, and zeros behind",
            [unwritten(border(1), border(2)), vec![0; 600]].concat(),
            last,
            body_is_bad,
        ),
        (
            "the header of an earlier frame is still room",
            unwritten(small.borders[1], 512),
            small.borders[1],
            header_is_bad,
        ),
        (
            "zeros that no frame needs",
            zeroed(end, end + 10 * 1024 * 1024),
            end,
            header_is_bad,
        ),
        (
            "a lost sector, and more than room behind",
            marked(with_room(zeroed(border(1), border(2))), end + 1000),
            last,
            body_is_bad,
        ),
        (
            "room that was changed where a header would be",
            marked(with_room(small.bytes.clone()), end + 10),
            end,
            header_is_bad,
        ),
    ];
    for (name, bytes, offset, what) in damaged {
        let dir = dir_with(&bytes);
        assert_eq!(
            open(dir.path()).unwrap_err(),
            OpenError::Corrupt {
                offset: offset as u64,
                what
            },
            "{name}"
        );
        assert_eq!(fs::read(dir.path().join(FILE_NAME)).unwrap(), bytes);
    }
}

#[tokio::test]
async fn frames_that_are_moved_or_dropped_are_refused() {
    let small = small().await;
    let b = &small.borders;
    let part = |from: usize, to: usize| &small.bytes[b[from]..b[to]];
    let header = &small.bytes[..b[0]];
    let foreign = self::small().await;
    let rows = [
        ("dropped", [header, part(0, 1), part(2, 4)].concat(), b[1]),
        ("first dropped", [header, part(1, 4)].concat(), b[0]),
        (
            "swapped",
            [header, part(1, 2), part(0, 1), part(2, 4)].concat(),
            b[0],
        ),
        (
            "twice",
            [header, part(0, 1), part(0, 1), part(1, 4)].concat(),
            b[1],
        ),
        (
            "of another file",
            [header, part(0, 3), &foreign.bytes[b[3]..]].concat(),
            b[3],
        ),
        (
            "garbage at the end",
            [header, part(0, 4), &[1; 60]].concat(),
            b[4],
        ),
    ];
    for (name, bytes, offset) in rows {
        let dir = dir_with(&bytes);
        assert_eq!(
            open(dir.path()).unwrap_err(),
            OpenError::Corrupt {
                offset: offset as u64,
                what: Corruption::Frame(FrameError::Header)
            },
            "{name}"
        );
    }
}

#[tokio::test]
async fn another_key_does_not_open_the_store() {
    let dir = dir_with(&small().await.bytes);
    let other = FrameCipher::new(Zeroizing::new([0x5b; 32]));
    assert_eq!(
        open_with(dir.path(), other).unwrap_err(),
        OpenError::Corrupt {
            offset: 0,
            what: Corruption::Frame(FrameError::FileHeader)
        }
    );
}

#[tokio::test]
async fn a_store_in_use_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _report) = open(dir.path()).unwrap();
    assert_eq!(
        open(dir.path()).unwrap_err(),
        OpenError::Locked {
            path: dir.path().join(LOCK_NAME)
        }
    );
    drop(store);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_batch_with_one_wrong_generation_changes_nothing() {
    let rows: [(&str, Vec<Write>, u8); 7] = [
        (
            "creates what exists",
            vec![put(9, 0, b"x"), put(1, 0, b"x")],
            1,
        ),
        (
            "changes what is absent",
            vec![put(9, 0, b"x"), put(2, 1, b"x")],
            2,
        ),
        ("is behind", vec![put(9, 0, b"x"), put(3, 1, b"x")], 3),
        ("is ahead", vec![put(9, 0, b"x"), put(3, 3, b"x")], 3),
        (
            "deletes what is absent",
            vec![put(9, 0, b"x"), delete(2, 0)],
            2,
        ),
        ("deletes an old one", vec![put(9, 0, b"x"), delete(3, 1)], 3),
        ("creates twice", vec![put(9, 0, b"x"), put(9, 0, b"x")], 9),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (store, _report) = open(dir.path()).unwrap();
    commit(&store, writes(vec![put(1, 0, b"a"), put(3, 0, b"b")]))
        .await
        .unwrap();
    commit(&store, writes(vec![put(3, 1, b"c")])).await.unwrap();
    let before = store.scan(None, 9).await.unwrap();
    for (name, batch, conflict) in rows {
        assert_eq!(
            commit(
                &store,
                Batch {
                    writes: batch,
                    leaves: vec![leaf(Log::Control, b"no")]
                }
            )
            .await
            .unwrap_err(),
            StoreError::Conflict { key: key(conflict) },
            "{name}"
        );
        assert_eq!(store.scan(None, 9).await.unwrap(), before, "{name}");
        assert_eq!(store.leaf_count(Log::Control).unwrap(), 0, "{name}");
    }
    drop(store);
    let (store, _report) = open(dir.path()).unwrap();
    assert_eq!(store.scan(None, 9).await.unwrap(), before);
}

#[tokio::test]
async fn a_batch_over_its_bound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _report) = open(dir.path()).unwrap();
    let batch = writes(vec![put(1, 0, &vec![0; 65_537])]);
    assert_eq!(
        commit(&store, batch).await.unwrap_err(),
        StoreError::TooLarge
    );
    commit(&store, writes(vec![put(1, 0, &vec![0; 65_536])]))
        .await
        .unwrap();
}

/// A fault that a [`Faulty`] medium injects once per count.
#[derive(Clone, Copy)]
enum Fault {
    /// Writes half of the bytes, then fails.
    Write(io::ErrorKind),
    /// Writes half, fails, and can't be cut back either.
    WriteAndTruncate(io::ErrorKind),
    Sync(io::ErrorKind),
}

/// A real file whose next operations can be made to fail or to wait.
struct Faulty<T> {
    inner: T,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    fault: Mutex<Option<Fault>>,
    syncs: AtomicUsize,
    held: Mutex<bool>,
    released: Condvar,
}

impl Control {
    fn hold_syncs(&self) {
        *self.held.lock() = true;
    }

    fn release_syncs(&self) {
        *self.held.lock() = false;
        self.released.notify_all();
    }
}

impl Folder for Faulty<StateDir> {
    type File = Faulty<FileMedium>;

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.inner.exists(name)
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        Ok(Faulty {
            inner: self.inner.open(name)?,
            control: Arc::clone(&self.control),
        })
    }

    fn create(&self, name: &str) -> io::Result<Self::File> {
        Ok(Faulty {
            inner: self.inner.create(name)?,
            control: Arc::clone(&self.control),
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

impl Medium for Faulty<FileMedium> {
    fn length_bytes(&self) -> io::Result<u64> {
        self.inner.length_bytes()
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(out, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut fault = self.control.fault.lock();
        match *fault {
            Some(Fault::Write(kind)) => {
                *fault = None;
                self.inner.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                Err(kind.into())
            }
            Some(Fault::WriteAndTruncate(kind)) => {
                self.inner.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                Err(kind.into())
            }
            Some(Fault::Sync(_)) | None => self.inner.write_all_at(bytes, offset),
        }
    }

    fn truncate(&self, length_bytes: u64) -> io::Result<()> {
        let mut fault = self.control.fault.lock();
        if let Some(Fault::WriteAndTruncate(kind)) = *fault {
            *fault = None;
            return Err(kind.into());
        }
        self.inner.truncate(length_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.control.syncs.fetch_add(1, Ordering::SeqCst);
        let mut held = self.control.held.lock();
        while *held {
            self.control.released.wait(&mut held);
        }
        match *self.control.fault.lock() {
            Some(Fault::Sync(kind)) => Err(kind.into()),
            Some(Fault::Write(_) | Fault::WriteAndTruncate(_)) | None => self.inner.sync(),
        }
    }
}

fn open_faulty(
    dir: &Path,
    on_sync_failure: OnSyncFailure,
) -> (EmbeddedStore<Faulty<StateDir>>, Arc<Control>) {
    drop(open(dir).unwrap());
    let control = Arc::new(Control::default());
    let folder = Faulty {
        inner: StateDir::lock(dir).unwrap(),
        control: Arc::clone(&control),
    };
    let (random, policy) = (SystemRandom::new(), FilePolicy::default());
    let (store, _report) =
        EmbeddedStore::open_in(folder, cipher(), random, policy, on_sync_failure).unwrap();
    (store, control)
}

#[tokio::test]
async fn a_failed_write_keeps_nothing_and_the_next_one_works() {
    use io::ErrorKind::{
        FileTooLarge, Interrupted, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let rows = [
        (Fault::Write(StorageFull), StoreError::Full),
        (Fault::Write(QuotaExceeded), StoreError::Full),
        (Fault::Write(FileTooLarge), StoreError::Full),
        (Fault::Write(ReadOnlyFilesystem), StoreError::ReadOnly),
        (Fault::Write(PermissionDenied), StoreError::ReadOnly),
        (
            Fault::Write(Interrupted),
            StoreError::Io { kind: Interrupted },
        ),
        (Fault::WriteAndTruncate(StorageFull), StoreError::Full),
    ];
    for (n, (fault, expected)) in rows.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (store, control) = open_faulty(dir.path(), sync_must_not_fail());
        commit(&store, writes(vec![put(1, 0, b"before")]))
            .await
            .unwrap();
        *control.fault.lock() = Some(fault);
        assert_eq!(
            commit(&store, writes(vec![put(1, 1, &[3; 2_000])]))
                .await
                .unwrap_err(),
            expected,
            "row {n}"
        );
        assert_eq!(
            store.get(&key(1)).await.unwrap(),
            Some(record(1, 1, b"before")),
            "row {n}"
        );
        commit(&store, writes(vec![put(1, 1, b"after")]))
            .await
            .unwrap();
        drop(store);
        let (store, report) = open(dir.path()).unwrap();
        assert_eq!((report.frames, report.torn), (2, None), "row {n}");
        assert_eq!(
            store.get(&key(1)).await.unwrap(),
            Some(record(1, 2, b"after")),
            "row {n}"
        );
    }
}

#[tokio::test]
async fn a_failed_sync_ends_it_and_acknowledges_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (told, tells) = std::sync::mpsc::channel();
    let (store, control) = open_faulty(dir.path(), Box::new(move |kind| told.send(kind).unwrap()));
    commit(&store, writes(vec![put(1, 0, b"before")]))
        .await
        .unwrap();
    *control.fault.lock() = Some(Fault::Sync(io::ErrorKind::Other));
    assert_eq!(
        commit(&store, writes(vec![put(1, 1, b"lost")]))
            .await
            .unwrap_err(),
        StoreError::Closed
    );
    assert_eq!(tells.recv().unwrap(), io::ErrorKind::Other);
    *control.fault.lock() = None;
    assert_eq!(
        commit(&store, writes(vec![put(1, 1, b"later")]))
            .await
            .unwrap_err(),
        StoreError::Closed
    );
    assert_eq!(store.get(&key(1)).await.unwrap_err(), StoreError::Closed);
    assert_eq!(store.scan(None, 1).await.unwrap_err(), StoreError::Closed);
    assert_eq!(
        store.leaves(Log::Control, 0, 1).unwrap_err(),
        StoreError::Closed
    );
}

/// Lets spawned tasks run until `condition` holds.
async fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Runs all tasks of this one-threaded runtime up to where they wait. Each turn
/// polls a few dozen; these are enough for the largest test.
async fn let_tasks_run() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_sync_serves_all_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (store, control) = open_faulty(dir.path(), sync_must_not_fail());
    let store = Arc::new(store);
    let opened = control.syncs.load(Ordering::SeqCst);
    control.hold_syncs();
    let mut tasks = vec![];
    for n in 0..100 {
        let task_store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            commit(&task_store, writes(vec![put(n, 0, &[n])])).await
        }));
        if n == 0 {
            wait_for(|| control.syncs.load(Ordering::SeqCst) == opened + 1).await;
        }
    }
    let_tasks_run().await;
    assert_eq!(store.get(&key(0)).await.unwrap(), None, "not durable yet");
    control.release_syncs();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(control.syncs.load(Ordering::SeqCst), opened + 2);
    assert_eq!(store.scan(None, 1_000).await.unwrap().len(), 100);
}

#[tokio::test]
async fn batches_of_one_group_are_compared_with_each_other() {
    for fault in [None, Some(Fault::Write(io::ErrorKind::StorageFull))] {
        let dir = tempfile::tempdir().unwrap();
        let (store, control) = open_faulty(dir.path(), sync_must_not_fail());
        let store = Arc::new(store);
        let opened = control.syncs.load(Ordering::SeqCst);
        control.hold_syncs();
        let mut tasks = vec![];
        let batches = [
            put(1, 0, b"opens the first group"),
            put(2, 0, b"first"),
            put(2, 0, b"loses"),
            put(2, 1, b"follows"),
        ];
        for (n, write) in batches.into_iter().enumerate() {
            let task_store = Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                commit(&task_store, writes(vec![write])).await
            }));
            if n == 0 {
                wait_for(|| control.syncs.load(Ordering::SeqCst) == opened + 1).await;
            }
        }
        let_tasks_run().await;
        *control.fault.lock() = fault;
        control.release_syncs();
        let mut answers = vec![];
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        let conflict = Err(StoreError::Conflict { key: key(2) });
        let full = || Err(StoreError::Full);
        let (expected, kept) = match fault {
            None => (
                vec![Ok(()), Ok(()), conflict, Ok(())],
                Some(record(2, 2, b"follows")),
            ),
            // The loser lost against a batch that was not kept.
            Some(_) => (vec![Ok(()), full(), full(), full()], None),
        };
        assert_eq!(answers, expected);
        assert_eq!(store.get(&key(2)).await.unwrap(), kept);
    }
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (store, control) = open_faulty(dir.path(), sync_must_not_fail());
    let store = Arc::new(store);
    let opened = control.syncs.load(Ordering::SeqCst);
    control.hold_syncs();
    let mut tasks = vec![];
    // More than the queue and the running group hold: the last ones wait for a
    // place while this thread closes the store.
    for n in 0..1_100_u64 {
        let task_store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&n.to_be_bytes());
            let batch = writes(vec![Write {
                key: Key(name),
                expected_generation: 0,
                sealed: Some(vec![1]),
            }]);
            commit(&task_store, batch).await
        }));
        if n == 0 {
            wait_for(|| control.syncs.load(Ordering::SeqCst) == opened + 1).await;
        }
    }
    let_tasks_run().await;
    control.release_syncs();
    store.close();
    let mut done = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => done += 1,
            Err(error) => assert_eq!(error, StoreError::Closed),
        }
    }
    assert!(done >= 1_000, "{done}");
    assert_eq!(
        commit(&store, Batch::default()).await.unwrap_err(),
        StoreError::Closed
    );
    drop(store);
    let (store, _report) = open(dir.path()).unwrap();
    assert_eq!(store.scan(None, 2_000).await.unwrap().len(), done);
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, control) = open_faulty(dir.path(), sync_must_not_fail());
    let store = Arc::new(store);
    let opened = control.syncs.load(Ordering::SeqCst);
    control.hold_syncs();
    let task_store = Arc::clone(&store);
    let task =
        tokio::spawn(async move { commit(&task_store, writes(vec![put(1, 0, b"kept")])).await });
    wait_for(|| control.syncs.load(Ordering::SeqCst) == opened + 1).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    control.release_syncs();
    store.close();
    drop(store);
    let (store, _report) = open(dir.path()).unwrap();
    assert_eq!(
        store.get(&key(1)).await.unwrap(),
        Some(record(1, 1, b"kept"))
    );
}

#[tokio::test]
async fn each_leaf_is_told_of_in_its_order_when_a_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let told = || {
        let (mut control, mut issuance) = (Vec::new(), Vec::new());
        let mut tell = |log, leaf: &[u8]| match log {
            Log::Control => control.push(leaf.to_vec()),
            Log::Issuance => issuance.push(leaf.to_vec()),
        };
        let policy = FilePolicy::default();
        let (random, end) = (SystemRandom::new(), sync_must_not_fail());
        let (store, _report) =
            EmbeddedStore::open_telling(dir.path(), cipher(), random, policy, end, &mut tell)
                .unwrap();
        let read = [Log::Control, Log::Issuance].map(|log| store.leaves(log, 0, 1_000).unwrap());
        assert_eq!([control, issuance], read);
        (store, read.map(|leaves| leaves.len()))
    };
    let (mut store, mut expected) = told();
    assert_eq!(expected, [0, 0]);
    for round in 0..4_u8 {
        // More frames than wait between the threads.
        for number in 0..40_u8 {
            let mut leaves = vec![leaf(Log::Issuance, &[round, number])];
            if number % 3 == 0 {
                leaves.push(leaf(Log::Control, &[number, round, 7]));
            }
            expected[0] += leaves.len() - 1;
            expected[1] += 1;
            let writes = vec![put(number, u64::from(round), &[round])];
            commit(&store, Batch { writes, leaves }).await.unwrap();
        }
        if round == 2 {
            store.compact().await.unwrap();
        }
        store.close();
        drop(store);
        let found;
        (store, found) = told();
        assert_eq!(found, expected);
    }
    store.close();
    drop(store);
    // What was torn was never acknowledged, and nobody is told of it.
    let path = dir.path().join(FILE_NAME);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (_store, found) = told();
    assert_eq!(
        found,
        [expected[0] - usize::from(39 % 3 == 0), expected[1] - 1]
    );
}

#[tokio::test]
async fn leaves_changed_behind_our_back_are_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _report) = open(dir.path()).unwrap();
    commit(
        &store,
        Batch {
            writes: vec![],
            leaves: vec![leaf(Log::Control, b"leaf")],
        },
    )
    .await
    .unwrap();
    assert_eq!(store.leaves(Log::Control, 0, 1).unwrap(), [b"leaf"]);
    let path = dir.path().join(FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(
        store.leaves(Log::Control, 0, 1).unwrap_err(),
        StoreError::Io {
            kind: io::ErrorKind::InvalidData
        }
    );
}

/// One step of a store's life.
#[derive(Clone, Debug)]
enum Step {
    /// Writes to these keys, each right or wrong about the generation; deletes
    /// where there are no bytes.
    Commit(Vec<(u8, bool, Option<u8>)>),
    Reopen,
    /// A crash that tears so many bytes off the last frame.
    Tear(usize),
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    let write = (0..6_u8, prop::bool::weighted(0.9), any::<Option<u8>>());
    prop_oneof![
        8 => prop::collection::vec(write, 0..5).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => (1..200_usize).prop_map(Step::Tear),
    ]
}

/// Records by key: generation and bytes.
type Records = BTreeMap<u8, (u64, Vec<u8>)>;

/// What [`Step`]s must lead to.
#[derive(Default)]
struct Model {
    now: Records,
    /// Where each frame ends, and the records after it.
    frames: Vec<(u64, Records)>,
}

async fn live(steps: Vec<Step>) {
    let dir = quick_dir();
    let path = dir.path().join(FILE_NAME);
    let mut store = open(dir.path()).unwrap().0;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Commit(of) => {
                let mut after = model.now.clone();
                let mut conflict = None;
                let mut batch = Batch::default();
                for (n, right, byte) in of {
                    let found = after.get(&n).map_or(0, |(generation, _)| *generation);
                    let expected = if right { found } else { found + 1 };
                    let sealed = byte.map(|byte| vec![byte; 20]);
                    let fits = right && (found > 0 || sealed.is_some());
                    if !fits && conflict.is_none() {
                        conflict = Some(n);
                    }
                    match &sealed {
                        Some(sealed) => {
                            after.insert(n, (found + 1, sealed.clone()));
                        }
                        None => {
                            after.remove(&n);
                        }
                    }
                    batch.writes.push(Write {
                        key: key(n),
                        expected_generation: expected,
                        sealed,
                    });
                }
                let expected = match conflict {
                    Some(n) => Err(StoreError::Conflict { key: key(n) }),
                    None => Ok(()),
                };
                let empty = batch.writes.is_empty();
                assert_eq!(commit(&store, batch).await, expected);
                if conflict.is_none() && !empty {
                    let end = fs::metadata(&path).unwrap().len();
                    model.frames.push((end, after.clone()));
                    model.now = after;
                }
            }
            Step::Reopen => {
                drop(store);
                let (reopened, report) = open(dir.path()).unwrap();
                assert_eq!((report.frames, report.torn), (model.frames.len(), None));
                store = reopened;
            }
            Step::Tear(bytes) => {
                drop(store);
                let length = fs::metadata(&path).unwrap().len();
                let cut = length.saturating_sub(bytes as u64);
                let kept = cut.max(FILE_HEADER_BYTES as u64);
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(kept).unwrap();
                model.frames.retain(|(end, _)| *end <= kept);
                model.now = model
                    .frames
                    .last()
                    .map(|(_, now)| now.clone())
                    .unwrap_or_default();
                let (reopened, report) = open(dir.path()).unwrap();
                assert_eq!(report.frames, model.frames.len());
                store = reopened;
            }
        }
        let expected: Vec<_> = model
            .now
            .iter()
            .map(|(n, (generation, sealed))| record(*n, *generation, sealed))
            .collect();
        assert_eq!(store.scan(None, 99).await.unwrap(), expected);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn a_store_is_what_its_whole_frames_say(
        steps in proptest::collection::vec(step(), 0..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(live(steps));
    }
}

/// What a store holds, all of it.
#[derive(Debug, PartialEq)]
struct Held {
    records: Vec<Record>,
    control: Vec<Vec<u8>>,
    issuance: Vec<Vec<u8>>,
}

async fn held<F: Folder>(store: &EmbeddedStore<F>) -> Held {
    Held {
        records: store.scan(None, 10_000).await.unwrap(),
        control: store.leaves(Log::Control, 0, 10_000).unwrap(),
        issuance: store.leaves(Log::Issuance, 0, 10_000).unwrap(),
    }
}

/// Ten records that each were written several times, and as many leaves.
async fn fill<F: Folder>(store: &EmbeddedStore<F>) {
    for generation in 0..6 {
        for n in 0..10 {
            let batch = Batch {
                writes: vec![put(n, generation, &[n; 2_000])],
                leaves: vec![
                    leaf(Log::Control, &[n, u8::try_from(generation).unwrap()]),
                    leaf(Log::Issuance, &[n; 40]),
                ],
            };
            commit(store, batch).await.unwrap();
        }
    }
    commit(store, writes(vec![delete(3, 6)])).await.unwrap();
}

#[tokio::test]
async fn a_compacted_store_holds_the_same_in_less_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let (store, _report) = open(dir.path()).unwrap();
    fill(&store).await;
    let before = held(&store).await;
    let file_bytes = fs::metadata(&path).unwrap().len();
    let compacted = store.compact().await.unwrap();
    assert_eq!(compacted.before_bytes, file_bytes);
    assert_eq!(compacted.after_bytes, fs::metadata(&path).unwrap().len());
    assert!(compacted.after_bytes * 4 < compacted.before_bytes);
    assert_eq!(compacted.epoch, 1);
    assert_eq!(held(&store).await, before);
    let stats = store.stats().unwrap();
    assert_eq!((stats.records, stats.epoch), (9, 1));
    assert_eq!((stats.control_leaves, stats.issuance_leaves), (60, 60));
    let overhead = stats.file_bytes - stats.live_bytes;
    assert!(overhead < 1_000, "{overhead}");

    // It goes on behind the snapshot, from where each record was.
    assert_eq!(
        commit(&store, writes(vec![put(1, 5, b"stale")])).await,
        Err(StoreError::Conflict { key: key(1) })
    );
    commit(&store, writes(vec![put(1, 6, b"on"), put(3, 0, b"anew")]))
        .await
        .unwrap();
    let after = held(&store).await;
    drop(store);
    let (store, report) = open(dir.path()).unwrap();
    assert_eq!((report.records, report.torn), (10, None));
    assert_eq!(held(&store).await, after);
    assert_eq!(store.stats().unwrap().epoch, 1);
    // And again.
    assert_eq!(store.compact().await.unwrap().epoch, 2);
    assert_eq!(held(&store).await, after);
    drop(store);
    assert_eq!(held(&open(dir.path()).unwrap().0).await, after);
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [LOCK_NAME, FILE_NAME]);
}

#[tokio::test]
async fn a_store_compacts_itself_when_its_policy_says() {
    let dir = tempfile::tempdir().unwrap();
    let policy = FilePolicy {
        ratio: 3,
        from_bytes: 30_000,
        ..FilePolicy::default()
    };
    let end = sync_must_not_fail();
    let (store, _report) =
        EmbeddedStore::open(dir.path(), cipher(), SystemRandom::new(), policy, end).unwrap();
    commit(&store, writes(vec![put(1, 0, &[1; 1_000])]))
        .await
        .unwrap();
    let mut generation = 1;
    while store.stats().unwrap().epoch == 0 {
        let stats = store.stats().unwrap();
        assert!(stats.file_bytes < 10_000_000, "{stats:?}");
        commit(&store, writes(vec![put(1, generation, &[1; 1_000])]))
            .await
            .unwrap();
        generation += 1;
    }
    assert!(generation >= 25, "not below its size: {generation}");
    assert_eq!(
        store.get(&key(1)).await.unwrap().unwrap().generation,
        generation
    );
}

#[tokio::test]
async fn there_is_room_behind_the_last_frame_while_a_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let open = |dir: &Path| {
        let policy = FilePolicy {
            room_from_bytes: 3_000,
            ..FilePolicy::default()
        };
        let end = sync_must_not_fail();
        EmbeddedStore::open(dir, cipher(), SystemRandom::new(), policy, end).unwrap()
    };
    let length = || fs::metadata(&path).unwrap().len();
    let (store, _report) = open(dir.path());
    commit(&store, writes(vec![put(1, 0, &[1; 1_000])]))
        .await
        .unwrap();
    let first = length();
    assert!(first < 1_500, "none for a little: {first}");
    let (mut lengths, mut generation) = (vec![first], 1);
    while lengths.len() < 5 {
        commit(&store, writes(vec![put(1, generation, &[1; 1_000])]))
            .await
            .unwrap();
        generation += 1;
        if lengths.last() != Some(&length()) {
            lengths.push(length());
        }
    }
    // Without room each of them changes the length. There is twice as much each time.
    assert!(generation > 12, "{generation} {lengths:?}");
    // The power goes: what is there opens, and nothing of the room was a write.
    let bytes = fs::read(&path).unwrap();
    let again = dir_with(&bytes);
    let (found, report) = open(again.path());
    assert_eq!(
        (report.frames, report.torn),
        (usize::try_from(generation).unwrap(), None)
    );
    assert!(report.file_bytes < bytes.len() as u64);
    assert_eq!(
        found.record(&key(1)).unwrap(),
        store.record(&key(1)).unwrap()
    );
    // A compaction leaves no room, and what follows makes it.
    let compacted = store.compact().await.unwrap();
    assert_eq!(length(), compacted.after_bytes);
    commit(&store, writes(vec![put(1, generation, &[1; 1_000])]))
        .await
        .unwrap();
    assert!(length() > compacted.after_bytes + 4_000);
    store.close();
    drop(store);
    let closed = length();
    assert!(closed < compacted.after_bytes + 1_500, "it is given back");
    let (_store, report) = open(dir.path());
    assert_eq!(report.file_bytes, closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_go_on_while_a_store_is_compacted() {
    let dir = quick_dir();
    let (store, _report) = open(dir.path()).unwrap();
    let store = Arc::new(store);
    fill(&store).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks: Vec<_> = (100..104_u8)
        .map(|n| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut generation = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Now and then it is deleted, and begins anew.
                    let (write, next) = if generation == 7 {
                        (delete(n, generation), 0)
                    } else {
                        (put(n, generation, &[n; 300]), generation + 1)
                    };
                    let batch = Batch {
                        writes: vec![write],
                        leaves: vec![leaf(Log::Issuance, &[n; 60])],
                    };
                    commit(&store, batch).await.unwrap();
                    generation = next;
                }
            })
        })
        .collect();
    for epoch in 1..=20 {
        assert_eq!(store.compact().await.unwrap().epoch, epoch);
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let before = held(&store).await;
    store.close();
    drop(store);
    assert_eq!(held(&open(dir.path()).unwrap().0).await, before);
}

#[tokio::test]
async fn a_compaction_that_fails_leaves_the_store_as_it_was() {
    let rows = [
        (Fault::Write(io::ErrorKind::StorageFull), StoreError::Full),
        (
            Fault::Write(io::ErrorKind::ReadOnlyFilesystem),
            StoreError::ReadOnly,
        ),
        (
            Fault::Sync(io::ErrorKind::Other),
            StoreError::Io {
                kind: io::ErrorKind::Other,
            },
        ),
    ];
    for (fault, expected) in rows {
        let dir = tempfile::tempdir().unwrap();
        let (store, control) = open_faulty(dir.path(), sync_must_not_fail());
        fill(&store).await;
        let before = held(&store).await;
        *control.fault.lock() = Some(fault);
        assert_eq!(store.compact().await.unwrap_err(), expected);
        *control.fault.lock() = None;
        assert!(!dir.path().join(NEW_FILE_NAME).exists());
        assert_eq!(held(&store).await, before);
        commit(&store, writes(vec![put(1, 6, b"on")]))
            .await
            .unwrap();
        assert_eq!(store.compact().await.unwrap().epoch, 1);
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_compaction_is_removed() {
    let small = small().await;
    let dir = dir_with(&small.bytes);
    let new = dir.path().join(NEW_FILE_NAME);
    fs::write(&new, &small.bytes[..100]).unwrap();
    let (store, _report) = open(dir.path()).unwrap();
    assert!(!new.exists());
    assert_eq!(store.scan(None, 9).await.unwrap(), records_after(4));
}

/// A compacted store with two frames behind a snapshot of several: the file, and
/// where the snapshot ends.
async fn compacted() -> (Vec<u8>, usize) {
    let dir = quick_dir();
    let path = dir.path().join(FILE_NAME);
    let (store, _report) = open(dir.path()).unwrap();
    for n in 0..100 {
        commit(&store, writes(vec![put(n, 0, &[n; 2_000])]))
            .await
            .unwrap();
    }
    let end = store.compact().await.unwrap().after_bytes;
    for n in [150, 151] {
        commit(&store, writes(vec![put(n, 0, b"tail")]))
            .await
            .unwrap();
    }
    drop(store);
    (fs::read(&path).unwrap(), usize::try_from(end).unwrap())
}

#[tokio::test]
async fn a_snapshot_is_there_whole_and_with_its_own_tail() {
    let (mine, end) = compacted().await;
    let (other, other_end) = compacted().await;
    let refused = |bytes: &[u8]| match open(dir_with(bytes).path()) {
        Err(OpenError::Corrupt { offset, what }) => (usize::try_from(offset).unwrap(), what),
        other => panic!("{other:?}"),
    };
    let header_is_bad = Corruption::Frame(FrameError::Header);
    // The whole snapshot was durable before the file got its name: a cut one is
    // no torn write. Of a file that was just begun the first frame may be torn.
    let first = 80_000;
    assert!(first < end / 2);
    for cut in (first..end).step_by(997).chain([end - 1]) {
        let (offset, what) = refused(&mine[..cut]);
        assert_eq!(what, Corruption::SnapshotCut, "{cut}");
        assert!(offset <= cut);
    }
    // The tail of another history of the same state.
    let mixed = [&mine[..end], &other[other_end..]].concat();
    assert_eq!(refused(&mixed), (end, header_is_bad));
    // A snapshot under another file's header.
    let mixed = [&other[..FILE_HEADER_BYTES], &mine[FILE_HEADER_BYTES..]].concat();
    assert_eq!(refused(&mixed), (FILE_HEADER_BYTES, header_is_bad));
}

#[test]
fn entries_that_stand_where_they_may_not_are_refused() {
    let begin = || {
        let mut out = vec![];
        let begin = encoding::Begin {
            epoch: 1,
            origin: [0; 32],
            envelope: [0; 32],
        };
        encoding::encode_begin(&begin, &mut out);
        out
    };
    let end = |records| {
        let mut out = vec![];
        let counts = encoding::Counts {
            records,
            control: 0,
            issuance: 0,
        };
        let origin = [0; 32];
        encoding::encode_end(&encoding::End { counts, origin }, &mut out);
        out
    };
    let set = || {
        let mut out = vec![];
        encoding::encode_set(&record(1, 4, b"x"), &mut out).unwrap();
        out
    };
    let unset = || {
        let mut out = vec![];
        encoding::encode_unset(&key(1), &mut out);
        out
    };
    let changes = |write| {
        let mut out = vec![];
        encoding::encode(&writes(vec![write]), &mut out).unwrap();
        out
    };
    let out_of_place = Err(ApplyError::OutOfPlace);
    type Row<'a> = (&'a str, &'a [Vec<u8>], Result<(), ApplyError>);
    let rows: [Row<'_>; 15] = [
        ("nothing", &[], Ok(())),
        ("an empty snapshot", &[begin(), end(0)], Ok(())),
        ("one with a record", &[begin(), set(), end(1)], Ok(())),
        (
            "the later one holds",
            &[begin(), set(), unset(), set(), end(1)],
            Ok(()),
        ),
        (
            "unset without a record",
            &[begin(), unset(), end(0)],
            Ok(()),
        ),
        (
            "and a tail",
            &[begin(), set(), end(1), changes(put(1, 4, b"y"))],
            Ok(()),
        ),
        (
            "fewer than it says",
            &[begin(), end(1)],
            Err(ApplyError::Counts),
        ),
        (
            "more than it says",
            &[begin(), set(), end(0)],
            Err(ApplyError::Counts),
        ),
        ("set without a begin", &[set()], out_of_place),
        ("unset without a begin", &[unset()], out_of_place),
        ("end without a begin", &[end(0)], out_of_place),
        ("twice begun", &[begin(), begin()], out_of_place),
        (
            "a change within",
            &[begin(), changes(put(1, 0, b"y"))],
            out_of_place,
        ),
        (
            "begun behind a change",
            &[changes(put(1, 0, b"y")), begin()],
            out_of_place,
        ),
        (
            "set behind the end",
            &[begin(), end(0), set()],
            out_of_place,
        ),
    ];
    for (name, bodies, expected) in rows {
        let (cipher, random) = (cipher(), SystemRandom::new());
        let (header, mut chain) = cipher.begin_file(&random).unwrap();
        let mut bytes = header.to_vec();
        let mut last = 0;
        for body in bodies {
            last = bytes.len() as u64;
            chain = cipher.seal(&chain, &random, body, &mut bytes).unwrap();
        }
        let opened = open(dir_with(&bytes).path()).map(drop);
        let expected = expected.map_err(|error| OpenError::Corrupt {
            offset: last,
            what: Corruption::Apply(error),
        });
        assert_eq!(opened, expected, "{name}");
    }
}
