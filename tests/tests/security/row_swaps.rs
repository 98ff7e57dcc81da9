//! Edits by whoever owns the disk: frames and rows that are swapped, moved, mixed or replayed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use broker::store::{EmbeddedStore, FILE_NAME, FilePolicy, OpenError, OpenReport};
use enclave::frame::{FILE_HEADER_BYTES, FrameCipher};
use enclave::ids::TenantId;
use enclave::record::{Cabinet, Place, Table};
use enclave::seal::SealingKey;
use enclave::store::{Batch, Key, Leaf, Log, Record, Store, Write};
use ring::rand::SystemRandom;
use tests::bars::{self, Bar, Row};
use tests::disk::{Dice, Disk};
use tests::effort;
use zeroize::Zeroizing;

fn cipher(byte: u8) -> FrameCipher {
    FrameCipher::new(Zeroizing::new([byte; 32]))
}

fn open(disk: &Disk, key: u8) -> Result<(EmbeddedStore<Disk>, OpenReport), OpenError> {
    let policy = FilePolicy::default();
    EmbeddedStore::open_in(
        disk.clone(),
        cipher(key),
        SystemRandom::new(),
        policy,
        Box::new(|kind| panic!("a sync failed: {kind}")),
    )
}

/// A file, and where its frames are.
struct File {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

/// A store that lived: before its compaction and some frames on, and after it and some frames on.
async fn lived(key: u8) -> [File; 2] {
    let disk = Disk::default();
    let (store, _report) = open(&disk, key).unwrap();
    let mut files = Vec::new();
    for life in 0..2_u64 {
        for n in 0..24_u64 {
            let mut name = [3; 32];
            name[0] = u8::try_from(n % 8).unwrap();
            let batch = Batch {
                writes: vec![Write {
                    key: Key(name),
                    expected_generation: life * 3 + n / 8,
                    // All of one length, so that frames could be exchanged.
                    sealed: Some(vec![u8::try_from(n).unwrap(); 64]),
                }],
                leaves: vec![Leaf::new(Log::Control, vec![u8::try_from(n).unwrap(); 8])],
            };
            let _receipt = store.commit(batch).await.unwrap();
        }
        files.push(split(disk.contents(FILE_NAME).unwrap(), key));
        store.compact().await.unwrap();
    }
    let newer = files.pop().unwrap();
    [files.pop().unwrap(), newer]
}

/// Finds the frames of a file, with its key.
fn split(bytes: Vec<u8>, key: u8) -> File {
    let cipher = cipher(key);
    let (header, _rest) = bytes.split_first_chunk::<FILE_HEADER_BYTES>().unwrap();
    let (mut chain, mut at, mut frames) = (
        cipher.open_file(header).unwrap(),
        FILE_HEADER_BYTES,
        Vec::new(),
    );
    while let Some(front) = bytes[at..].first_chunk() {
        let header = cipher.open_header(&chain, front).unwrap();
        let end = at + front.len() + header.sealed_body_bytes();
        let mut body = bytes[at + front.len()..end].to_vec();
        chain = header.open_body(&mut body).unwrap().1;
        frames.push(at..end);
        at = end;
    }
    File { bytes, frames }
}

/// One edit of a file's frames, by the dice; frames may come from others.
fn edit(dice: &mut Dice, mine: &File, others: &[&File]) -> Vec<u8> {
    let frame = |file: &File, at: usize| file.bytes[file.frames[at].clone()].to_vec();
    let any = |dice: &mut Dice, file: &File| {
        usize::try_from(dice.below(file.frames.len() as u64)).unwrap()
    };
    let mut frames: Vec<Vec<u8>> = (0..mine.frames.len()).map(|at| frame(mine, at)).collect();
    let mut header = mine.bytes[..FILE_HEADER_BYTES].to_vec();
    let (a, b) = (any(dice, mine), any(dice, mine));
    let other = others[usize::try_from(dice.below(others.len() as u64)).unwrap()];
    let c = any(dice, other);
    match dice.below(8) {
        // Swapped.
        0 => frames.swap(a, b),
        // Dropped, but not from the end: that is what the witnesses find out.
        1 => drop(frames.remove(a.min(mine.frames.len() - 2))),
        // Played again.
        2 => frames.insert(b, frame(mine, a)),
        // Appended again.
        3 => frames.push(frame(mine, a)),
        // Another history's, generation's or tenant's in the place of one.
        4 => frames[a] = frame(other, c),
        // Appended from another one.
        5 => frames.push(frame(other, c)),
        // The tail of another one.
        6 => {
            frames.truncate(a);
            frames.extend((c..other.frames.len()).map(|at| frame(other, at)));
        }
        // All of them under another one's header.
        _ => header = other.bytes[..FILE_HEADER_BYTES].to_vec(),
    }
    [header, frames.concat()].concat()
}

/// Edits of frames that a store opened. `opens` is the real one, or in a canary a blind one.
async fn frame_edits(count: u64, seed: u64, opens: impl Fn(&[u8]) -> bool) -> u64 {
    let [older, newer] = lived(1).await;
    // The same history once more, and a store of another key.
    let [twin, _] = lived(1).await;
    let [foreign, _] = lived(2).await;
    let (mut accepted, mut done, mut dice) = (0, 0, Dice::new(seed));
    while done < count {
        let (mine, others) = if dice.below(2) == 0 {
            (&older, [&newer, &twin, &foreign])
        } else {
            (&newer, [&older, &twin, &foreign])
        };
        let edited = edit(&mut dice, mine, &others);
        // An edit that changes nothing, or that is another's whole file, is none.
        let whole = [mine, &older, &newer, &twin, &foreign];
        if whole.iter().any(|file| file.bytes == edited) || mine.bytes.starts_with(&edited) {
            continue;
        }
        done += 1;
        accepted += u64::from(opens(&edited));
    }
    accepted
}

fn opens(bytes: &[u8]) -> bool {
    open(&Disk::with(FILE_NAME, bytes), 1).is_ok()
}

/// Rows as a store sees them: under which name, of which generation.
struct Rows {
    cabinet: Cabinet,
    keys: HashMap<Place, SealingKey>,
    rows: Vec<(Place, Record)>,
}

/// Rows of several tenants, tables, names and generations.
fn rows() -> Rows {
    let cabinet = Cabinet::new(&[7; 32]).unwrap();
    let mut made = Rows {
        cabinet,
        keys: HashMap::new(),
        rows: Vec::new(),
    };
    for (number, tenant) in ["acme", "globex", "initech"].into_iter().enumerate() {
        let id = TenantId::parse(tenant).unwrap();
        for table in [Table::Grants, Table::Custody, Table::Journal] {
            for name in ["g-1", "g-2"] {
                let place = Place::tenant(&id, table, name);
                let byte = u8::try_from(number).unwrap();
                let key = || SealingKey::new(Zeroizing::new([byte; 32]));
                made.keys.insert(place.clone(), key());
                for generation in 0..3 {
                    let body = format!("{tenant} {table:?} {name} {generation}");
                    let rng = SystemRandom::new();
                    let write =
                        made.cabinet
                            .seal(&rng, &key(), &place, generation, body.as_bytes());
                    let write = write.unwrap();
                    let record = Record {
                        key: write.key,
                        generation: generation + 1,
                        sealed: write.sealed.unwrap().into(),
                    };
                    made.rows.push((place.clone(), record));
                }
            }
        }
    }
    made
}

impl Rows {
    /// Whether the enclave takes a row as it is.
    fn opens(&self, record: &Record) -> bool {
        let Ok(place) = self.cabinet.locate(record) else {
            return false;
        };
        let Some(key) = self.keys.get(&place) else {
            return false;
        };
        let opened = self
            .cabinet
            .open(key, &place, record.generation, &record.sealed);
        opened.is_ok()
    }
}

/// Parts of a row: its locator and its body.
fn parts(sealed: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = sealed.split_first_chunk::<2>().unwrap();
    rest.split_at(usize::from(u16::from_be_bytes(*length)))
}

/// Edits of rows, each of two rows that differ, that were taken. `blind` takes whatever has the right name.
fn row_edits(count: u64, seed: u64, opens: impl Fn(&Rows, &Record) -> bool) -> u64 {
    let made = rows();
    assert!(made.rows.iter().all(|(_, record)| made.opens(record)));
    let genuine: BTreeSet<(Key, u64, Vec<u8>)> = made
        .rows
        .iter()
        .map(|(_, record)| (record.key, record.generation, record.sealed.to_vec()))
        .collect();
    let (mut accepted, mut done, mut dice) = (0, 0, Dice::new(seed));
    while done < count {
        let mut any = || &made.rows[usize::try_from(dice.below(made.rows.len() as u64)).unwrap()].1;
        let (mine, other) = (any(), any());
        let mut edited = mine.clone();
        let ((locator, body), (other_locator, other_body)) =
            (parts(&mine.sealed), parts(&other.sealed));
        let joined = |locator: &[u8], body: &[u8]| {
            let length = u16::try_from(locator.len()).unwrap().to_be_bytes();
            [length.as_slice(), locator, body].concat().into()
        };
        match dice.below(5) {
            // Moved to another name, tenant or table.
            0 => edited.key = other.key,
            // Said to be of another generation.
            1 => edited.generation = other.generation,
            // Another row's bytes.
            2 => edited.sealed = other.sealed.clone(),
            // Another row's body behind this one's locator.
            3 => edited.sealed = joined(locator, other_body),
            // Another row's locator before this one's body.
            _ => edited.sealed = joined(other_locator, body),
        }
        let told = (edited.key, edited.generation, edited.sealed.to_vec());
        // The locators of one place are alike but for their salts: what opens there was sealed there, then.
        let same_place = mine.key == other.key && mine.generation == other.generation;
        if genuine.contains(&told)
            || (mine.key == other.key && parts(&told.2).1 == body && told.1 == mine.generation)
            || same_place
        {
            continue;
        }
        done += 1;
        accepted += u64::from(opens(&made, &edited));
    }
    accepted
}

#[tokio::test]
async fn state_bar_no_frame_and_no_row_is_taken_at_another_place() {
    let (runs, seed) = (if effort::is_full() { 1_000 } else { 200 }, 0x5_0a9);
    let accepted =
        frame_edits(runs, seed, opens).await + row_edits(runs, seed, |rows, row| rows.opens(row));
    let row = Row {
        name: "row_swap_accepted",
        value: accepted as f64,
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs: runs * 2,
        seed,
    };
    if effort::is_full() {
        assert!(bars::record("state", row).unwrap());
    } else {
        assert!(row.met(), "{row:?}");
    }
}

/// A store whose frames are not chained: each is opened at whatever place it was sealed for.
#[tokio::test]
async fn state_bar_canary_frames_without_a_chain_and_rows_without_a_place_are_seen() {
    let lived = lived(1).await;
    let known: BTreeSet<Vec<u8>> = lived
        .iter()
        .flat_map(|file| {
            file.frames
                .iter()
                .map(|frame| file.bytes[frame.clone()].to_vec())
        })
        .collect();
    let length = known.iter().map(Vec::len).collect::<BTreeSet<_>>();
    assert!(length.len() < known.len());
    // Frames of these files are alike in length; any sequence of such lengths is taken.
    let unchained = |bytes: &[u8]| {
        let mut rest = &bytes[FILE_HEADER_BYTES..];
        while !rest.is_empty() {
            match length.iter().find(|length| rest.len() >= **length) {
                Some(length) => rest = &rest[*length..],
                None => return true,
            }
        }
        true
    };
    assert!(frame_edits(50, 1, unchained).await > 0);
    assert!(row_edits(50, 1, |rows, row| rows.cabinet.locate(row).is_ok()) > 0);
}
