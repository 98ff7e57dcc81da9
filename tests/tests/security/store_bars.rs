//! The store's bars on a simulated disk: power that goes, writes that fail, bits that flip, frames that are moved.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use broker::store::{
    EmbeddedStore, FILE_NAME, FilePolicy, Folder, OnSyncFailure, OpenError, OpenReport,
};
use enclave::frame::FILE_HEADER_BYTES;
use enclave::store::{Key, Store, StoreError};
use ring::rand::SystemRandom;
use tests::bars::{self, Bar, Row};
use tests::disk::{Dice, Disk, Trouble};
use tests::effort;
use tests::life::{Findings, Ledger, cipher, key, step, value};

/// Compacts by itself whenever a file of some kilobytes is twice as large as it need be, and has room soon.
const POLICY: FilePolicy = FilePolicy {
    ratio: 2,
    from_bytes: 6_000,
    room_from_bytes: 1_000,
};

fn open(disk: &Disk) -> Result<(EmbeddedStore<Disk>, OpenReport), OpenError> {
    // The power went, or the disk failed: the process would end here.
    let end: OnSyncFailure = Box::new(|_kind| {});
    EmbeddedStore::open_in(disk.clone(), cipher(), SystemRandom::new(), POLICY, end)
}

/// A figure that must be none at all.
fn none(name: &'static str, found: u64, runs: u64, seed: u64) -> Row {
    Row {
        name,
        value: found as f64,
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs,
        seed,
    }
}

/// Writes the rows of a full run down; each must be met either way.
fn judge(rows: impl IntoIterator<Item = Row>) {
    for row in rows {
        if effort::is_full() {
            assert!(bars::record("state", row).unwrap());
        } else {
            assert!(row.met(), "{row:?}");
        }
    }
}

/// So many in a full run, and so many on every day.
fn count(full: u64, bounded: u64) -> u64 {
    if effort::is_full() { full } else { bounded }
}

/// Holds what a disk has against the ledger.
async fn examined(ledger: &Ledger, disk: &Disk) -> Findings {
    disk.calm();
    match open(disk) {
        Ok((store, _report)) => ledger.examine(&store).await,
        Err(_) => ledger.all_lost(),
    }
}

/// Records that are written again and again, by the dice. A write is acknowledged when the store says so, or in a
/// canary before.
async fn live(disk: &Disk, ledger: &mut Ledger, dice: &mut Dice, steps: u64, honest: bool) {
    let Ok((store, _report)) = open(disk) else {
        return;
    };
    for _ in 0..steps {
        let n = dice.below(6);
        let generation = store
            .get(&key(n))
            .await
            .map(|found| found.map_or(0, |r| r.generation));
        let Ok(generation) = generation else {
            return;
        };
        if !honest {
            ledger.acknowledge(n, generation + 1);
        }
        match store.commit(step(n, generation)).await {
            Ok(_receipt) => ledger.acknowledge(n, generation + 1),
            Err(StoreError::Closed) => return,
            Err(_) => {}
        }
    }
}

/// Steps of one life: a dozen compactions.
const STEPS: u64 = 120;

/// The power goes at some point of a life and comes back. What was lost.
async fn power_losses(points: u64, seed: u64, lying: bool) -> Findings {
    let mut findings = Findings::default();
    for point in 0..points {
        let mut dice = Dice::new(seed ^ (point << 20));
        let (disk, mut ledger) = (Disk::default(), Ledger::default());
        if lying {
            disk.lie_about_syncs();
        }
        // About as many as a life has.
        disk.trouble_at(dice.below(STEPS * 3), Trouble::PowerLoss);
        live(&disk, &mut ledger, &mut dice, STEPS, true).await;
        let disk = disk.after_power_loss(&mut dice);
        let found = examined(&ledger, &disk).await;
        // It goes on, and nothing that was lost comes back.
        if !lying {
            assert_eq!(found, Findings::default(), "point {point}");
            live(&disk, &mut ledger, &mut dice, 10, true).await;
            findings.add(examined(&ledger, &disk).await);
        }
        findings.add(found);
    }
    findings
}

#[tokio::test]
async fn state_bar_power_loss_loses_nothing_that_was_acknowledged() {
    let (points, seed) = (count(2_000, 150), 0x70_3e_12);
    let findings = power_losses(points, seed, false).await;
    assert_eq!(findings.wrong, 0);
    judge([none("power_loss_acked_lost", findings.lost, points, seed)]);
}

/// A disk that says that it synced and did not.
#[tokio::test]
async fn state_bar_canary_a_disk_that_lies_about_syncs_is_seen() {
    let findings = power_losses(50, 1, true).await;
    assert!(findings.lost > 0, "{findings:?}");
}

/// Each operation of a life fails once, in each way. What was lost, and the number of write sites.
async fn failing_operations(lives: u64, seed: u64, honest: bool) -> (Findings, u64) {
    let (mut findings, mut sites) = (Findings::default(), 0);
    let kinds = [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::Other,
    ];
    for life in 0..lives {
        let seed = seed ^ (life << 20);
        let quiet = Disk::default();
        live(
            &quiet,
            &mut Ledger::default(),
            &mut Dice::new(seed),
            STEPS,
            true,
        )
        .await;
        for operation in 0..quiet.operations() {
            let kind = kinds[usize::try_from((operation + life) % 4).unwrap()];
            let (disk, mut ledger) = (Disk::default(), Ledger::default());
            let mut dice = Dice::new(seed);
            disk.trouble_at(operation, Trouble::Fails(kind));
            live(&disk, &mut ledger, &mut dice, STEPS, honest).await;
            // A failed sync ended the process, and the next one finds what the disk has.
            findings.add(examined(&ledger, &disk).await);
            let disk = disk.after_power_loss(&mut dice);
            findings.add(examined(&ledger, &disk).await);
            sites += 1;
        }
    }
    (findings, sites)
}

#[tokio::test]
async fn state_bar_each_failing_write_site_loses_nothing_that_was_acknowledged() {
    let (lives, seed) = (count(8, 1), 0xe1_05);
    let (findings, sites) = failing_operations(lives, seed, true).await;
    assert_eq!(findings.wrong, 0);
    assert!(sites > 200, "{sites}");
    judge([none("enospc_eio_acked_lost", findings.lost, sites, seed)]);
}

/// A service that acknowledges before the store has.
#[tokio::test]
async fn state_bar_canary_an_early_acknowledgement_is_seen_when_writes_fail() {
    let (findings, _sites) = failing_operations(1, 1, false).await;
    assert!(findings.lost > 0, "{findings:?}");
}

#[tokio::test]
async fn a_lone_commit_costs_one_sync_and_waits_for_nobody() {
    let disk = Disk::default();
    let policy = FilePolicy::default();
    let end: OnSyncFailure = Box::new(|kind| panic!("a sync failed: {kind}"));
    let (store, _report) =
        EmbeddedStore::open_in(disk.clone(), cipher(), SystemRandom::new(), policy, end).unwrap();
    let before = disk.syncs();
    for generation in 0..10 {
        let _receipt = store.commit(step(1, generation)).await.unwrap();
        assert_eq!(disk.syncs(), before + generation + 1, "it waits for nobody");
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_store_goes_on_when_there_is_room() {
    let disk = Disk::default();
    // Nobody else touches the disk.
    let policy = FilePolicy::default();
    let end: OnSyncFailure = Box::new(|kind| panic!("a sync failed: {kind}"));
    let (store, _report) =
        EmbeddedStore::open_in(disk.clone(), cipher(), SystemRandom::new(), policy, end).unwrap();
    let (mut generation, mut refused) = (0, 0);
    for _ in 0..20 {
        disk.trouble_at(disk.operations(), Trouble::Fails(ErrorKind::StorageFull));
        match store.commit(step(1, generation)).await {
            Err(StoreError::Full) => refused += 1,
            other => panic!("{other:?}"),
        }
        let _receipt = store.commit(step(1, generation)).await.unwrap();
        generation += 1;
    }
    assert_eq!(refused, 20);
    assert_eq!(store.get(&key(1)).await.unwrap().unwrap().generation, 20);
}

/// A store of about so many bytes: half of it a snapshot, half of it a tail. Its file, and its states: what records
/// were there after each frame of the tail.
async fn sample(bytes: usize) -> (Vec<u8>, Vec<BTreeMap<Key, Vec<u8>>>) {
    let disk = Disk::default();
    let policy = FilePolicy {
        ratio: u64::MAX,
        from_bytes: u64::MAX,
        room_from_bytes: u64::MAX,
    };
    let end: OnSyncFailure = Box::new(|kind| panic!("a sync failed: {kind}"));
    let (store, _report) =
        EmbeddedStore::open_in(disk.clone(), cipher(), SystemRandom::new(), policy, end).unwrap();
    let length = || disk.contents(FILE_NAME).unwrap().len();
    let mut n = 0;
    while length() < bytes / 2 {
        let _receipt = store.commit(step(n, 0)).await.unwrap();
        n += 1;
    }
    store.compact().await.unwrap();
    let mut states = vec![records(&store).await];
    let mut again = 0;
    // Whatever a flip zeroes, it leaves no part of a sector of zeros.
    while length() < bytes || !(16..=496).contains(&(length() % 512)) {
        let _receipt = store.commit(step(again % n, 1 + again / n)).await.unwrap();
        states.push(records(&store).await);
        again += 1;
    }
    (disk.contents(FILE_NAME).unwrap(), states)
}

async fn records<F: Folder>(store: &EmbeddedStore<F>) -> BTreeMap<Key, Vec<u8>> {
    let all = store.scan(None, usize::MAX).await.unwrap();
    all.into_iter()
        .map(|record| (record.key, record.sealed.to_vec()))
        .collect()
}

/// What became of a changed file.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    undetected: u64,
    wrong: u64,
    panics: u64,
}

/// Opens a changed file, whose states are known. `opens` is the store's opening, or in a canary a blind one.
fn open_changed(
    bytes: &[u8],
    states: &[BTreeMap<Key, Vec<u8>>],
    opens: impl Fn(&[u8]) -> Option<BTreeMap<Key, Vec<u8>>>,
) -> Changed {
    let mut changed = Changed::default();
    match catch_unwind(AssertUnwindSafe(|| opens(bytes))) {
        Err(_panic) => changed.panics = 1,
        Ok(None) => {}
        Ok(Some(records)) => {
            changed.undetected = 1;
            changed.wrong = u64::from(!states.contains(&records));
        }
    }
    changed
}

/// Opens a file as the service would.
fn honest(bytes: &[u8]) -> Option<BTreeMap<Key, Vec<u8>>> {
    let (store, _report) = open(&Disk::with(FILE_NAME, bytes)).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    Some(runtime.block_on(records(&store)))
}

/// Flips a bit of every byte, each another one.
fn flips(
    bytes: &[u8],
    states: &[BTreeMap<Key, Vec<u8>>],
    opens: impl Fn(&[u8]) -> Option<BTreeMap<Key, Vec<u8>>>,
) -> Changed {
    let mut sum = Changed::default();
    let mut flipped = bytes.to_vec();
    for (at, byte) in bytes.iter().enumerate() {
        flipped[at] = byte ^ (1 << (at % 8));
        let changed = open_changed(&flipped, states, &opens);
        sum.undetected += changed.undetected;
        sum.wrong += changed.wrong;
        sum.panics += changed.panics;
        flipped[at] = *byte;
    }
    sum
}

#[test]
fn state_bar_every_flipped_byte_is_detected() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let size = usize::try_from(count(256 * 1024, 8 * 1024)).unwrap();
    let (bytes, states) = runtime.block_on(sample(size));
    assert!(honest(&bytes).is_some_and(|records| Some(&records) == states.last()));
    let found = flips(&bytes, &states, honest);
    let runs = bytes.len() as u64;
    judge([
        none("flip_wrong_plaintext", found.wrong, runs, 0),
        none("flip_panics", found.panics, runs, 0),
        none("flip_undetected", found.undetected, runs, 0),
    ]);
}

/// An opening that authenticates no body: it takes what it finds, and stumbles over lengths.
#[test]
fn state_bar_canary_a_store_without_seals_is_seen() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (_sealed, states) = runtime.block_on(sample(4 * 1024));
    let last = states.last().unwrap().clone();
    let mut bytes = Vec::new();
    for (key, sealed) in &last {
        bytes.extend(key.0);
        bytes.extend(u16::try_from(sealed.len()).unwrap().to_be_bytes());
        bytes.extend(sealed);
    }
    let blind = |bytes: &[u8]| {
        let (mut records, mut at) = (BTreeMap::new(), 0);
        while at < bytes.len() {
            let length = u16::from_be_bytes(bytes[at + 32..at + 34].try_into().unwrap());
            let end = at + 34 + usize::from(length);
            let key = Key(bytes[at..at + 32].try_into().unwrap());
            records.insert(key, bytes[at + 34..end].to_vec());
            at = end;
        }
        Some(records)
    };
    let found = flips(&bytes, &[last], blind);
    assert!(
        found.undetected > 0 && found.wrong > 0 && found.panics > 0,
        "{found:?}"
    );
}

/// Cuts a file at each offset. How many were accepted as another state than that of the whole frames before.
fn cuts(
    bytes: &[u8],
    states: &[(usize, BTreeMap<Key, Vec<u8>>)],
    opens: impl Fn(&[u8]) -> Option<BTreeMap<Key, Vec<u8>>>,
) -> u64 {
    let mut accepted = 0;
    for cut in FILE_HEADER_BYTES..=bytes.len() {
        let expected = states.iter().rev().find(|(end, _)| *end <= cut);
        let found = opens(&bytes[..cut]);
        accepted += u64::from(found.as_ref() != expected.map(|(_, state)| state));
    }
    accepted
}

/// A store of so many records, and its state after each.
async fn torn_sample(count: u64) -> (Vec<u8>, Vec<(usize, BTreeMap<Key, Vec<u8>>)>) {
    let disk = Disk::default();
    let policy = FilePolicy::default();
    let end: OnSyncFailure = Box::new(|kind| panic!("a sync failed: {kind}"));
    let (store, _report) =
        EmbeddedStore::open_in(disk.clone(), cipher(), SystemRandom::new(), policy, end).unwrap();
    let mut states = vec![(FILE_HEADER_BYTES, BTreeMap::new())];
    for n in 0..count {
        let _receipt = store.commit(step(n % 40, n / 40)).await.unwrap();
        let end = disk.contents(FILE_NAME).unwrap().len();
        states.push((end, records(&store).await));
    }
    (disk.contents(FILE_NAME).unwrap(), states)
}

#[test]
fn state_bar_a_torn_write_is_never_accepted() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let count = count(100, 12);
    let (bytes, states) = runtime.block_on(torn_sample(count));
    let accepted = cuts(&bytes, &states, honest);
    assert!(bytes.len() as u64 > count * 100);
    judge([none("torn_write_corrupt_accepted", accepted, count, 0)]);
}

/// An opening that takes a torn record for a whole one: a file with lengths and no seals.
#[test]
fn state_bar_canary_a_torn_record_that_is_taken_is_seen() {
    let records: BTreeMap<Key, Vec<u8>> = (0..5).map(|n| (key(n), value(n, 1))).collect();
    let mut bytes = vec![0; FILE_HEADER_BYTES];
    let mut states = vec![(bytes.len(), BTreeMap::new())];
    for (key, sealed) in &records {
        bytes.extend(key.0);
        bytes.extend(u16::try_from(sealed.len()).unwrap().to_be_bytes());
        bytes.extend(sealed);
        let mut state = states.last().unwrap().1.clone();
        state.insert(*key, sealed.clone());
        states.push((bytes.len(), state));
    }
    let blind = |bytes: &[u8]| {
        let (mut records, mut at) = (BTreeMap::new(), FILE_HEADER_BYTES);
        while let Some(head) = bytes.get(at..at + 34) {
            let length = u16::from_be_bytes(head[32..34].try_into().unwrap());
            let end = (at + 34 + usize::from(length)).min(bytes.len());
            records.insert(
                Key(head[..32].try_into().unwrap()),
                bytes[at + 34..end].to_vec(),
            );
            at = end;
        }
        Some(records)
    };
    assert!(cuts(&bytes, &states, blind) > 100);
}
