//! Tests of the logs over real leaves: heads, checkpoints, proofs, tiles, and
//! what a boot recovers.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use tlog::{VerifiedCheckpoint, VerifierKey, leaf_hash};

use super::*;
use crate::registry::{Rotation, Vendor};
use crate::store::{Log, StoreError};
use crate::testing::{World, id};

/// The bytes of a stream's leaves.
fn stream(world: &World, log: Log) -> Vec<Vec<u8>> {
    let leaves = world.store.leaves.lock();
    let of_log = leaves.iter().filter(|leaf| leaf.log == log);
    of_log.map(|leaf| leaf.bytes.clone()).collect()
}

/// Takes in what is new of both streams.
fn advance(world: &World) {
    for log in [Log::Control, Log::Issuance] {
        let logs = world.enclave.logs();
        let from = logs.taken(log);
        let leaves = stream(world, log);
        let new = &leaves[usize::try_from(from).unwrap()..];
        logs.take_in(log, from, new).unwrap();
    }
}

fn read<T>(world: &World, mut reading: Reading<T>) -> T {
    while let Some(Wanted { log, from, count }) = reading.wanted() {
        let from = usize::try_from(from).unwrap();
        let leaves = stream(world, log);
        let leaves = leaves[from..from + usize::from(count)].to_vec();
        reading.give(leaves).unwrap();
    }
    reading.finish().unwrap()
}

fn booted(world: &World) {
    let image = Image {
        platform: "snp".into(),
        measurement: "ab".repeat(48),
    };
    world.settle(world.enclave.booted(&image, &world.now).unwrap());
}

#[test]
fn checkpoints_are_signed_for_their_log_and_proofs_hold() {
    let world = World::new(Rotation::Strict);
    for _ in 0..90 {
        world.ask(|_| {}).unwrap();
    }
    advance(&world);
    let logs = world.enclave.logs();
    let issuance = LogName::Issuance(logs.boot());
    for name in [LogName::Control, issuance] {
        let leaves = stream(&world, name.stream());
        let size = u64::try_from(leaves.len()).unwrap();
        let signed = logs.checkpoint(name, size, &world.now).unwrap();
        assert_eq!(signed.head(), logs.current_head(name).unwrap());
        assert_eq!(signed.head().size, size);
        let origin = logs.origin(name).unwrap();
        assert_eq!(origin.as_str(), format!("127.0.0.1:7444/{}", name.path()));
        let keys = world.enclave.keys();
        let public = keys.log_public().as_bytes();
        let key = VerifierKey::new(origin.as_str().parse().unwrap(), public.try_into().unwrap());
        let note = signed.note().to_string();
        VerifiedCheckpoint::open(note.as_bytes(), &origin, &[key]).unwrap();
        for old in [1, 2, size - 1, size] {
            let proof = read(&world, logs.consistency(name, old, size).unwrap());
            let mut before = tlog::Frontier::new();
            for leaf in leaves.iter().take(usize::try_from(old).unwrap()) {
                before.append(leaf_hash(leaf)).unwrap();
            }
            proof.verify(before.head(), signed.head()).unwrap();
        }
        for (index, leaf) in leaves.iter().enumerate() {
            let index = u64::try_from(index).unwrap();
            let proof = read(&world, logs.inclusion(name, index, size).unwrap());
            proof.verify(leaf_hash(leaf), index, signed.head()).unwrap();
        }
        assert_eq!(
            logs.inclusion(name, size, size + 1).unwrap_err(),
            LogError::Beyond { size }
        );
        assert_eq!(
            logs.consistency(name, size, size - 1).unwrap_err(),
            LogError::Reversed
        );
        assert_eq!(
            logs.checkpoint(name, size + 1, &world.now).unwrap_err(),
            LogError::Beyond { size }
        );
    }
    let other = LogName::Issuance(BootId::from_bytes([0; 32]));
    assert_eq!(logs.current_head(other), Err(LogError::Unknown));
    let gap = logs.take_in(Log::Control, 1_000, &[]);
    let taken = logs.taken(Log::Control);
    assert_eq!(gap, Err(LogError::Gap { from: 1_000, taken }));
}

#[test]
fn tiles_and_proofs_of_a_large_log_are_computed_again_from_its_leaves() {
    let world = World::new(Rotation::Strict);
    let logs = world.enclave.logs();
    let from = logs.taken(Log::Control);
    let leaves: Vec<Vec<u8>> = (0..70_000u32).map(|n| n.to_be_bytes().to_vec()).collect();
    logs.take_in(Log::Control, from, &leaves).unwrap();
    let size = 70_000 + from;
    let mut whole = tlog::MemoryTree::new();
    whole.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
    assert_eq!(logs.current_head(LogName::Control).unwrap(), whole.head());
    let bring = |wanted: Wanted| {
        let from = usize::try_from(wanted.from).unwrap();
        leaves[from..from + usize::from(wanted.count)].to_vec()
    };
    for (old, new) in [
        (1, size),
        (255, 256),
        (256, 65_536),
        (65_535, 65_537),
        (69_999, size),
    ] {
        let mut reading = logs.consistency(LogName::Control, old, new).unwrap();
        while let Some(wanted) = reading.wanted() {
            reading.give(bring(wanted)).unwrap();
        }
        let made = reading.finish().unwrap();
        assert_eq!(
            made,
            tlog::ConsistencyProof::prove(&whole, old, new).unwrap()
        );
    }
    for (level, index) in [(0, 0), (0, 272), (0, 273), (1, 0), (1, 1), (2, 0)] {
        let id = tlog::TileId::at(level, index, size).unwrap();
        let mut reading = logs.tile(LogName::Control, id).unwrap();
        while let Some(wanted) = reading.wanted() {
            reading.give(bring(wanted)).unwrap();
        }
        let tile = reading.finish().unwrap();
        assert_eq!(tile, tlog::HashTile::from_reader(&whole, id).unwrap());
    }
    let mut reading = logs.inclusion(LogName::Control, 300, size).unwrap();
    assert_eq!(reading.give(Vec::new()), Err(LogError::Leaves));
}

#[test]
fn a_boot_goes_on_where_the_one_before_ended() {
    let mut world = World::new(Rotation::Strict);
    booted(&world);
    world.ask(|_| {}).unwrap();
    world.ask(|_| {}).unwrap();
    advance(&world);
    let before = world.enclave.logs().boot();
    let ended = world
        .enclave
        .logs()
        .current_head(LogName::Issuance(before))
        .unwrap();
    let control = world.enclave.logs().current_head(LogName::Control).unwrap();

    world.restart();
    let logs = world.enclave.logs();
    assert_eq!(logs.boots(), [before, logs.boot()]);
    assert_eq!(logs.current_head(LogName::Control), Ok(control));
    assert_eq!(logs.current_head(LogName::Issuance(before)), Ok(ended));
    let now_empty = logs.current_head(LogName::Issuance(logs.boot())).unwrap();
    assert_eq!(now_empty, tlog::TreeHead::empty());
    booted(&world);
    world.ask(|_| {}).unwrap();
    let logs = world.enclave.logs();
    assert_eq!(
        logs.locate(Log::Issuance, 2),
        Some((LogName::Issuance(logs.boot()), 0))
    );
    assert_eq!(
        logs.locate(Log::Issuance, 1),
        Some((LogName::Issuance(before), 1))
    );

    // The boot's leaf says in clear who runs, and anchors the log before it.
    let leaf = stream(&world, Log::Control).pop().unwrap();
    let leaf: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
    assert_eq!(leaf["kind"], "booted");
    assert_eq!(leaf["boot"], world.enclave.logs().boot().to_string());
    assert_eq!(leaf["public"]["measurement"], "ab".repeat(48));
    assert_eq!(leaf["public"]["manifest_sequence"], 1);
    assert_eq!(leaf["public"]["previous"]["boot"], before.to_string());
    assert_eq!(leaf["public"]["previous"]["size"], 2);
    assert_eq!(leaf["public"]["previous"]["root"], ended.root.to_string());

    assert_no_gaps(&world);
}

/// Each reader's numbers are 1, 2, 3, … over both logs and all boots.
fn assert_no_gaps(world: &World) {
    let mut numbers = std::collections::HashMap::<Option<String>, BTreeSet<u64>>::new();
    for log in [Log::Control, Log::Issuance] {
        for leaf in stream(world, log) {
            let leaf: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
            let tenant = leaf["tenant"].as_str().map(str::to_owned);
            let seq = leaf["seq"].as_u64().unwrap();
            assert!(numbers.entry(tenant).or_default().insert(seq), "{leaf}");
        }
    }
    assert_eq!(numbers.len(), 2);
    for (reader, numbers) in numbers {
        let count = u64::try_from(numbers.len()).unwrap();
        assert_eq!(numbers.last(), Some(&count), "{reader:?}");
    }
}

#[test]
fn a_refused_or_forgotten_change_leaves_no_gap() {
    let world = World::new(Rotation::Strict);
    let vendor = |name: &str| Vendor {
        id: id(name),
        display_name: name.to_owned(),
    };
    let create = |name: &str| {
        let e = &world.enclave;
        e.create_vendor(world.admin(), vendor(name), &world.now)
            .unwrap()
    };
    drop(create("forgotten"));
    world.store.full.store(true, Ordering::Relaxed);
    let refused = create("refused").commit(&world.store).now_or_never();
    assert_eq!(refused.unwrap().unwrap_err(), StoreError::Full);
    world.store.full.store(false, Ordering::Relaxed);
    world.settle(create("kept"));
    assert_no_gaps(&world);
}

#[test]
fn a_leaf_that_is_none_is_refused_at_boot() {
    let good = serde_json::json!({"v": 1, "boot": "00".repeat(32), "tenant": null, "seq": 1});
    let with = |name: &str, value: serde_json::Value| {
        let mut leaf = good.clone();
        leaf[name] = value;
        leaf.to_string().into_bytes()
    };
    let refused = Err(LogError::Leaf {
        log: Log::Issuance,
        index: 0,
    });
    let rows = [
        (good.to_string().into_bytes(), Ok(())),
        (b"{".to_vec(), refused),
        (with("v", 2.into()), refused),
        (with("boot", "00".into()), refused),
        (with("seq", "1".into()), refused),
    ];
    for (leaf, expected) in rows {
        let mut recovery = Recovery::default();
        assert_eq!(recovery.take_in(Log::Issuance, &leaf), expected);
    }
    // Far ahead of what is there, it may be that the other log is yet to be read; at the end it is not.
    let mut recovery = Recovery::default();
    let ahead = with("seq", 1_000_000.into());
    assert_eq!(recovery.take_in(Log::Issuance, &ahead), Ok(()));
    assert!(
        recovery
            .numbers
            .remove(&None)
            .unwrap()
            .into_numbers()
            .is_err()
    );
}

#[test]
fn a_number_that_a_crash_left_unused_has_a_leaf_after_the_next_boot() {
    let mut world = World::new(Rotation::Strict);
    booted(&world);
    for _ in 0..3 {
        world.ask(|_| {}).unwrap();
    }
    // A batch that was under way when the service ended: the one behind it is durable.
    let lost = {
        let mut leaves = world.store.leaves.lock();
        let place = leaves.len() - 2;
        leaves.remove(place)
    };
    let lost: serde_json::Value = serde_json::from_slice(&lost.bytes).unwrap();
    assert_eq!(lost["kind"], "token_issued");
    world.restart();
    booted(&world);
    let leaf = stream(&world, Log::Control).pop().unwrap();
    let leaf: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
    assert_eq!(leaf["kind"], "unused");
    assert_eq!(
        (&leaf["tenant"], &leaf["seq"]),
        (&lost["tenant"], &lost["seq"])
    );
    world.ask(|_| {}).unwrap();
    assert_no_gaps(&world);
}

#[test]
fn a_receipt_says_where_the_leaf_of_an_answer_stands() {
    let mut world = World::new(Rotation::Strict);
    booted(&world);
    world.ask(|_| {}).unwrap();
    world.restart();
    booted(&world);
    for index in 0..3 {
        let e = &world.enclave;
        let pending = e.begin_round(&world.now).unwrap();
        let durable = pending
            .commit(&world.store)
            .now_or_never()
            .unwrap()
            .unwrap();
        let receipt = e.receipt(&durable).unwrap();
        let leaf = stream(&world, Log::Control).pop().unwrap();
        assert_eq!(receipt.leaf_hash, leaf_hash(&leaf));
        advance(&world);
        let size = e.logs().current_head(LogName::Control).unwrap().size;
        assert_eq!((receipt.log, receipt.index), (LogName::Control, size - 1));
        let leaf: serde_json::Value = serde_json::from_slice(&leaf).unwrap();
        // It holds fast where this boot's issuance log stands.
        let issuance = &leaf["public"]["issuance"];
        if index == 0 {
            assert!(issuance.is_null());
        } else {
            assert_eq!(issuance["boot"], e.logs().boot().to_string());
            assert_eq!(issuance["size"], index);
        }

        let durable = world.pending(|_| {}).unwrap().commit(&world.store);
        let durable = durable.now_or_never().unwrap().unwrap();
        let receipt = e.receipt(&durable).unwrap();
        let issuance = LogName::Issuance(e.logs().boot());
        assert_eq!((receipt.log, receipt.index), (issuance, index));
        let leaf = stream(&world, Log::Issuance).pop().unwrap();
        assert_eq!(receipt.leaf_hash, leaf_hash(&leaf));
        advance(&world);
    }
}
