//! How fast logs are verified, by the program that auditors run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use tests::audit_logs::{Amount, Written, write};
use tests::bars::{self, Bar, Row};
use tests::binary::{binary, release_binary};
use tests::effort;

/// Characters of a private part as the service writes them.
const PRIVATE_CHARS: usize = 420;

/// Leaves that a log has, and how often it is verified.
const fn amount(issued: &'static [u64], private_chars: usize) -> Amount {
    Amount {
        control: 1_000,
        issued,
        tenants: 100,
        private_chars,
    }
}

fn program() -> PathBuf {
    if effort::is_full() {
        release_binary("tokenkeep")
    } else {
        binary("tokenkeep")
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures how long something took"
)]
fn now() -> Instant {
    Instant::now()
}

/// A folder with logs, and their key.
struct Exported {
    folder: TempDir,
    key: String,
}

impl Exported {
    fn new(amount: Amount) -> Self {
        let written = Written::new(amount);
        let folder = tempfile::tempdir().unwrap();
        write(&written.files(), folder.path());
        Self {
            folder,
            key: written.log_key(),
        }
    }

    /// Verifies all of it; leaves a second.
    async fn verify(&self, program: &Path) -> f64 {
        let began = now();
        let output = tokio::process::Command::new(program)
            .args(["--json", "audit", "verify", "--tiles"])
            .arg(self.folder.path())
            .args(["--log-key", &self.key])
            .env_clear()
            .output()
            .await
            .unwrap();
        let took_s = now().duration_since(began).as_secs_f64();
        let text = String::from_utf8(output.stdout).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report.get("verdict").unwrap(), "holds", "{text}");
        report.get("leaves").unwrap().as_u64().unwrap() as f64 / took_s
    }
}

fn row(leaves_per_s: f64, runs: u64) -> Row {
    Row {
        name: "verify_leaves_per_s",
        value: leaves_per_s,
        unit: "1/s",
        bar: Bar::AtLeast(100_000.0),
        runs,
        seed: 0,
    }
}

#[tokio::test]
async fn state_bar_leaves_are_verified_in_time() {
    if !effort::is_full() {
        // A debug build says nothing about the rate; that all is verified is seen.
        let exported = Exported::new(amount(&[3_000, 2_000], PRIVATE_CHARS));
        assert!(exported.verify(&program()).await > 0.0);
        return;
    }
    let exported = Exported::new(amount(&[300_000, 200_000], PRIVATE_CHARS));
    let program = program();
    let mut rates = Vec::new();
    for _ in 0..3 {
        rates.push(exported.verify(&program).await);
    }
    rates.sort_by(f64::total_cmp);
    let median = rates.get(1).copied().unwrap();
    assert!(bars::record("state", row(median, 3)).unwrap());
}

/// Leaves as long as they may be take so long that the bar turns red.
#[tokio::test]
async fn state_bar_canary_slow_leaves_are_seen() {
    let exported = Exported::new(amount(&[300], 60_000));
    let row = row(exported.verify(&program()).await, 1);
    assert!(!row.met(), "{row:?}");
}
