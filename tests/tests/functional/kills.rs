//! kill -9 of a process that writes to a store: what it said was acknowledged is there, and nothing that was not written.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::path::Path;
use std::process::Stdio;

use broker::store::{EmbeddedStore, FilePolicy, OnSyncFailure};
use ring::rand::SystemRandom;
use tests::bars::{self, Bar, Row};
use tests::binary::binary;
use tests::disk::Dice;
use tests::effort;
use tests::life::{Findings, Ledger, cipher, parsed};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// Kills of one store before another is begun: else most of the time goes into reading what it has come to.
const KILLS_OF_ONE: u64 = 40;

/// Starts a writer, lets it say up to so many lines, kills it, and writes down what it said.
async fn life(dir: &Path, lines: u64, bug: Option<&str>, ledger: &mut Ledger) -> u64 {
    let mut writer = Command::new(binary("state-writer"))
        .arg(dir)
        .args(bug)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut heard = 0;
    // With 0 it dies while it opens the store.
    while heard < lines {
        let line = said.next_line().await.unwrap();
        let line = line.unwrap_or_else(|| panic!("the writer ended by itself"));
        if let Some((n, generation)) = parsed(line.as_bytes()) {
            ledger.acknowledge(n, generation);
        }
        heard += 1;
    }
    writer.start_kill().unwrap();
    // What it said before it died holds, too. The last line may be cut.
    while let Ok(Some(line)) = said.next_line().await {
        if let Some((n, generation)) = parsed(line.as_bytes()) {
            ledger.acknowledge(n, generation);
            heard += 1;
        }
    }
    writer.wait().await.unwrap();
    heard
}

async fn kills(count: u64, seed: u64, bug: Option<&str>) -> Findings {
    let (mut findings, mut heard) = (Findings::default(), 0);
    let mut dice = Dice::new(seed);
    let mut folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    for kill in 0..count {
        if kill % KILLS_OF_ONE == 0 {
            folder = tempfile::tempdir().unwrap();
            ledger = Ledger::default();
        }
        heard += life(folder.path(), dice.below(120), bug, &mut ledger).await;
        let end: OnSyncFailure = Box::new(|kind| panic!("a sync failed: {kind}"));
        let policy = FilePolicy::default();
        let rng = SystemRandom::new();
        match EmbeddedStore::open(folder.path(), cipher(), rng, policy, end) {
            Ok((store, _report)) => findings.add(ledger.examine(&store).await),
            Err(_) => findings.add(ledger.all_lost()),
        }
    }
    // A run below its load says nothing.
    assert!(heard > count * 20, "{heard} lines of {count} lives");
    findings
}

#[tokio::test]
async fn state_bar_kill9_loses_nothing_that_was_acknowledged() {
    let (runs, seed) = (if effort::is_full() { 1_000 } else { 25 }, 0x9_111);
    let findings = kills(runs, seed, None).await;
    for (name, value) in [
        ("kill9_acked_lost", findings.lost),
        ("kill9_unauthenticated_accepted", findings.wrong),
    ] {
        let row = Row {
            name,
            value: value as f64,
            unit: "count",
            bar: Bar::AtMost(0.0),
            runs,
            seed,
        };
        if effort::is_full() {
            assert!(bars::record("state", row).unwrap());
        } else {
            assert!(row.met(), "{row:?}");
        }
    }
}

#[tokio::test]
async fn state_bar_canary_a_writer_that_says_too_much_or_writes_other_bytes_is_seen() {
    let early = kills(15, 1, Some("--acknowledge-early")).await;
    assert!(early.lost > 0, "{early:?}");
    let scribbled = kills(3, 2, Some("--scribble")).await;
    assert!(scribbled.wrong > 0, "{scribbled:?}");
}
