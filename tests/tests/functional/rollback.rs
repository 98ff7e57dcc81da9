//! A disk that was put back, and a second enclave on a copy of it, are found out by the witnesses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use dev::{lab, names};
use proto::v1::GrantState;
use proto::v1::freeze_subject::Subject;
use tests::bars::{self, Bar, Row};
use tests::binary::binary;
use tests::caller::{Caller, refused};
use tests::effort;
use tests::process::Process;
use tests::stack::{Blueprint, Stack, sign};
use tests::wait::{PATIENCE, wait_for};
use tests::witnesses::{Witnesses, copy, put_back};
use tonic::Code;

use crate::stop::revoke;

/// Shorter than in production, so that rounds come soon.
const LEASE_S: u64 = 6;

fn snapshots() -> usize {
    if effort::is_full() { 200 } else { 6 }
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// Old states that served.
    served: usize,
    /// Tokens that they gave for the grant that was revoked.
    tokens: usize,
    /// Old states that were refused with a witness's proof.
    proved: usize,
}

async fn asks(stack: &Stack) -> Result<(), (Code, String)> {
    let caller = Caller::of(stack).await;
    let nonce = caller.nonce().await;
    let proof = caller.issue_proof(&nonce);
    let asked = Box::pin(caller.issue(caller.request(), &[&proof])).await;
    asked.map(|_| ()).map_err(refused)
}

/// Takes snapshots of the disk, revokes the grant, and puts each snapshot back.
async fn roll_back(stack: &mut Stack, count: usize) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let client = Subject::Client(names::CLIENT.to_owned());
    for number in 0..count {
        copy(&stack.state(), &folder.path().join(number.to_string()));
        // Something is acknowledged between one and the next.
        stack.freeze(client.clone()).await;
        stack.thaw(client.clone()).await;
    }
    assert_eq!(asks(stack).await, Ok(()));
    let ended = revoke(stack, names::GRANT).await;
    assert_eq!(ended.state(), GrantState::Revoked);
    stack.kill().await;
    let newest = folder.path().join("newest");
    copy(&stack.state(), &newest);

    let mut outcome = Outcome::default();
    for number in 0..count {
        put_back(&folder.path().join(number.to_string()), &stack.state());
        match stack.try_restart().await {
            Ok(()) => {
                outcome.served += 1;
                outcome.tokens += usize::from(asks(stack).await.is_ok());
                stack.kill().await;
            }
            Err((status, said)) => {
                assert_eq!(status.code(), Some(1), "{said}");
                let proved = said.contains("refused to serve: the disk was put back")
                    && said.contains("signed by this state's own log key");
                assert!(proved, "{said}");
                outcome.proved += 1;
            }
        }
    }
    // The newest state serves, and what was revoked is revoked.
    put_back(&newest, &stack.state());
    stack.restart().await;
    let revoked = (Code::FailedPrecondition, "GRANT_REVOKED".to_owned());
    assert_eq!(asks(stack).await, Err(revoked));
    outcome
}

fn rows(outcome: &Outcome, count: usize) -> [Row; 2] {
    let row = |name, value: usize| Row {
        name,
        value: u32::try_from(value).unwrap().into(),
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs: u64::try_from(count).unwrap(),
        seed: 0,
    };
    [
        row("rollback_boots_that_served", outcome.served),
        row("rollback_tokens_for_revoked", outcome.tokens),
    ]
}

#[tokio::test]
async fn state_bar_a_disk_that_was_put_back_is_refused_with_the_witness_proof() {
    let witnesses = Witnesses::start(3).await;
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    stack.watch(&witnesses, LEASE_S).await;
    let count = snapshots();
    let outcome = roll_back(&mut stack, count).await;
    for row in rows(&outcome, count) {
        assert!(bars::record("state", row).unwrap());
    }
    assert_eq!(outcome.proved, count);
}

/// The same harness without the gate: it must turn red.
#[tokio::test]
async fn state_bar_canary_a_rollback_is_seen_without_witnesses() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert!(stack.log().contains("no_witnesses"));
    let outcome = roll_back(&mut stack, 1).await;
    let expected = Outcome {
        served: 1,
        tokens: 1,
        proved: 0,
    };
    assert_eq!(outcome, expected);
    assert_eq!(rows(&outcome, 1).map(Row::met), [false, false]);
}

#[tokio::test]
async fn without_a_quorum_nothing_is_issued_and_no_change_is_acknowledged() {
    let witnesses = Witnesses::start(1).await;
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    stack.watch(&witnesses, 2).await;
    assert_eq!(asks(&stack).await, Ok(()));
    witnesses.stop();
    let missing = (Code::Unavailable, "NOT_WITNESSED".to_owned());
    wait_for("the lease ends", async || {
        (asks(&stack).await.err() == Some(missing.clone())).then_some(())
    })
    .await;
    wait_for("it says so", async || {
        stack.log().contains("lease_ended").then_some(())
    })
    .await;
    let revoking = stack.try_revoke(names::GRANT).await;
    assert_eq!(
        revoking,
        Err((Code::Unavailable, "NOT_COSIGNED".to_owned()))
    );
    // It was not acknowledged, and holds all the same.
    let state = stack.grant(names::GRANT).await.state();
    assert_eq!(state, GrantState::Revoked);
    // A start without witnesses waits for them, and serves nobody.
    stack.kill().await;
    let lab = stack.files().dir().to_str().unwrap().to_owned();
    let arguments = ["serve", "--state", lab.as_str()];
    let waiting = Process::start(
        &binary("tokenkeep-dev"),
        &arguments,
        stack.logs(),
        "waiting",
    );
    wait_for("the service asks in vain", async || {
        let asked = waiting.stderr().matches("not_cosigned").count();
        (asked > 2).then_some(())
    })
    .await;
    assert!(!waiting.stderr().contains("listener_started"));
}

fn twins() -> u64 {
    if effort::is_full() { 20 } else { 2 }
}

/// Starts a second enclave on a copy of the disk, on ports of its own.
async fn start_twin(stack: &Stack, lab: &Path, name: &str) -> Process {
    // Between two rounds of the first, so that the copy is the newest state for a moment.
    wait_for("a twin that is witnessed first", async || {
        let _absent = std::fs::remove_dir_all(lab);
        copy(stack.files().dir(), lab);
        // The host has the service's disk, not the keyholder's: both ask the same one.
        std::fs::remove_dir_all(lab.join(lab::KEYHOLDER)).unwrap();
        let host = lab.join(lab::HOST);
        let text = std::fs::read_to_string(&host).unwrap();
        let free: Vec<String> = text
            .lines()
            .map(|line| match line.split_once(" = \"127.0.0.1:") {
                Some((name, _port)) => format!("{name} = \"127.0.0.1:0\""),
                None => line.to_owned(),
            })
            .collect();
        std::fs::write(&host, free.join("\n")).unwrap();
        let host = host.to_str().unwrap().to_owned();
        let arguments = ["serve", "--host", host.as_str()];
        let mut twin = Process::start(&binary("tokenkeep-dev"), &arguments, stack.logs(), name);
        match twin.ready().await {
            Ok(_) => Some(twin),
            Err((_, said)) => {
                assert!(said.contains("refused to serve"), "{said}");
                None
            }
        }
    })
    .await
}

/// How long the first enclave issues after its twin came up; it is given up after `patience`.
async fn overlap(stack: &mut Stack, patience: Duration) -> Duration {
    let both = now();
    let mut last = both;
    while stack.running() && now().duration_since(both) < patience {
        let asked = tokio::time::timeout(Duration::from_secs(1), stack.try_issue());
        if asked.await == Ok(true) {
            last = now();
        }
    }
    last.duration_since(both)
}

fn overlap_row(longest: Duration, runs: u64, bar_s: u32) -> Row {
    Row {
        name: "twin_overlap_s",
        value: longest.as_secs_f64(),
        unit: "s",
        bar: Bar::AtMost(bar_s.into()),
        runs,
        seed: 0,
    }
}

/// A second enclave on a copy of the disk: how long do both issue?
#[tokio::test]
async fn state_bar_a_twin_on_a_copy_of_the_disk_ends_the_other() {
    let lease_s = if effort::is_full() { 30 } else { LEASE_S };
    let witnesses = Witnesses::start(3).await;
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    stack.watch(&witnesses, lease_s).await;
    let folder = tempfile::tempdir().unwrap();
    let mut longest = Duration::ZERO;
    for run in 0..twins() {
        let lab = folder.path().join(format!("twin-{run}"));
        assert_eq!(asks(&stack).await, Ok(()));
        let mut twin = start_twin(&stack, &lab, &format!("twin-{run}")).await;
        // The twin may issue. The first one may until its lease ends or it learns of it.
        longest = longest.max(overlap(&mut stack, PATIENCE + PATIENCE).await);
        let log = stack.log();
        assert!(
            log.contains("another enclave runs on a copy of it"),
            "{log}"
        );
        assert!(twin.stop().await.success());
        // The twin's history is the newest now.
        put_back(&lab.join("state"), &stack.state());
        stack.restart().await;
    }
    assert!(bars::record("state", overlap_row(longest, twins(), 30)).unwrap());
    assert!(longest <= Duration::from_secs(lease_s), "{longest:?}");
}

/// The same harness without witnesses: both issue for as long as they are asked.
#[tokio::test]
async fn state_bar_canary_twins_are_seen_without_witnesses() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut twin = start_twin(&stack, &folder.path().join("twin"), "twin").await;
    let seen = overlap(&mut stack, Duration::from_secs(3)).await;
    assert!(!overlap_row(seen, 1, 1).met(), "{seen:?}");
    assert!(stack.running());
    assert!(twin.stop().await.success());
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures how long something took"
)]
fn now() -> Instant {
    Instant::now()
}

/// The walk for newcomers ends well only if the old disk was refused.
#[tokio::test]
async fn the_walk_through_a_rollback_ends_with_the_proof() {
    let walked = tokio::process::Command::new(binary("tokenkeep-dev"))
        .arg("rollback")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(walked.stdout).unwrap();
    let failed = String::from_utf8(walked.stderr).unwrap();
    assert!(walked.status.success(), "{said}{failed}");
    assert!(said.contains("refused   the disk was put back"), "{said}");
    assert!(
        said.contains("signed by this state's own log key"),
        "{said}"
    );
}

/// Runs `tokenkeep witness` and reads its one line of JSON.
async fn witness_told(arguments: &[&str]) -> serde_json::Value {
    let ran = tokio::process::Command::new(binary("tokenkeep"))
        .args(["--json", "witness"])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let failed = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{arguments:?}: {failed}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The program, set up as the manual says, killed, and started again with what it remembers.
#[tokio::test]
async fn a_service_starts_when_its_witness_lets_it_in_and_not_before() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let log = stack.control_log().await.to_string();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("w").to_str().unwrap().to_owned();
    let made = witness_told(&["init", &dir, "--name", "bank.test/w"]).await;
    let key = made["key"].as_str().unwrap().to_owned();
    let serve = |listen: String| {
        let arguments = ["--json", "witness", "serve", &dir, "--listen", &listen];
        Process::start(&binary("tokenkeep"), &arguments, folder.path(), "witness")
    };
    let mut witness = serve("127.0.0.1:0".to_owned());
    let ready = witness.ready().await.unwrap();
    assert_eq!((&ready["key"], &ready["logs"]), (&made["key"], &0.into()));
    let url = ready["url"].as_str().unwrap().to_owned();

    stack.kill().await;
    let more = format!(
        "\n[witnesses]\nquorum = 1\nlease_s = 6\n[[witnesses.witness]]\nname = \"bank\"\nurl = \"{url}\"\nkey = \"{key}\"\n"
    );
    sign(stack.files(), |manifest| {
        format!(
            "{}{more}",
            manifest.replacen("sequence = 1\n", "sequence = 2\n", 1)
        )
    });
    // The log tells what to do; nobody is served until it is done.
    let lab = stack.files().dir().to_str().unwrap().to_owned();
    let arguments = ["serve", "--state", lab.as_str()];
    let logs = folder.path();
    let mut service = Process::start(&binary("tokenkeep-dev"), &arguments, logs, "waiting");
    let told = format!("tokenkeep witness add-log DIR '{log}'");
    wait_for("the service tells its log's key", async || {
        service.stderr().contains(&told).then_some(())
    })
    .await;
    assert!(!service.stderr().contains("listener_started"));
    witness_told(&["add-log", &dir, &log]).await;
    service.ready().await.unwrap();
    assert!(stack.try_issue().await);
    let seen = witness_told(&["show", &dir]).await;
    let before = seen["logs"][0]["size"].as_u64().unwrap();
    assert!(before > 0, "{seen}");

    // Killed at any moment: what it cosigned it knows again.
    witness.kill().await;
    let address = url.trim_start_matches("http://").to_owned();
    let mut witness = serve(address);
    witness.ready().await.unwrap();
    stack
        .freeze(Subject::Client(names::CLIENT.to_owned()))
        .await;
    let seen = witness_told(&["show", &dir]).await;
    assert!(seen["logs"][0]["size"].as_u64().unwrap() > before, "{seen}");
    assert!(service.stop().await.success());
}
