//! What policy and log cost of an issued token, by a program of the release profile.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use serde_json::Value;
use tests::bars::{self, Bar, Row};
use tests::binary::{binary, release_binary};
use tests::effort;

const ROUNDS: u64 = 5;

/// Runs the program; `more` are its options.
async fn measured(more: &[&str]) -> Value {
    let program = match effort::is_full() {
        true => release_binary("control-share"),
        false => binary("control-share"),
    };
    let folder = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(program)
        .arg(folder.path())
        .args(more)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn row(report: &Value) -> Row {
    Row {
        name: "policy_and_audit_cpu_share",
        value: report["share_percent"].as_f64().unwrap(),
        unit: "%",
        bar: Bar::AtMost(25.0),
        runs: report["rounds"].as_u64().unwrap(),
        seed: 0,
    }
}

#[tokio::test]
async fn control_bar_policy_and_log_are_a_small_part_of_an_issuance() {
    if !effort::is_full() {
        // A debug build says nothing about the share; that each part is measured is seen.
        let report = measured(&["--tokens", "50", "--rounds", "1"]).await;
        let parts = report["policy_and_audit_us"].as_f64().unwrap();
        assert!(
            parts > 0.0 && report["issuance_us"].as_f64().unwrap() > 0.0,
            "{report}"
        );
        return;
    }
    let report = measured(&["--rounds", &ROUNDS.to_string()]).await;
    let met = bars::record("control", row(&report));
    assert!(matches!(met, Ok(true)), "{report}");
}

#[tokio::test]
async fn control_bar_canary_policies_and_logs_that_cost_much_are_seen() {
    let less = ["--tokens", "50", "--rounds", "1", "--times"];
    let once = measured(&[&less[..], &["1"]].concat()).await;
    let report = measured(&[&less[..], &["40"]].concat()).await;
    assert!(!row(&report).met(), "{report}");
    // A debug build may miss the bar anyway: what is done more often must be seen to cost more.
    assert!(
        row(&report).value >= 2.0 * row(&once).value,
        "{once} {report}"
    );
}
