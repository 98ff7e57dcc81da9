//! The program that judges a campaign.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::binary::binary;
use tests::campaign::{CAMPAIGNS, Report};

/// A row for each bar of a campaign: all met, often enough.
fn rows() -> Vec<Value> {
    let nothing = Report::of(CAMPAIGNS, "state", b"[]").unwrap();
    let promises: toml::Table = CAMPAIGNS.parse().unwrap();
    let rows = nothing.lines.into_iter().map(|line| {
        let promise = &promises["state"][&line.name];
        let bar = promise["bar"].as_str().unwrap();
        let value: f64 = bar.split_once(' ').unwrap().1.parse().unwrap();
        let runs = promise["runs"].as_integer().unwrap();
        json!({
            "name": line.name, "value": value, "unit": "count", "bar": bar, "met": true, "runs": runs, "seed": 0,
        })
    });
    rows.collect()
}

fn judged(rows: &Path) -> (Option<i32>, String) {
    let judged = Command::new(binary("soak-report"))
        .arg("state")
        .arg(rows)
        .output()
        .unwrap();
    (
        judged.status.code(),
        String::from_utf8(judged.stdout).unwrap(),
    )
}

#[test]
fn a_campaign_ends_with_its_verdict_and_a_canary_turns_it_red() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let judge = |rows: &[Value]| {
        std::fs::write(&path, serde_json::to_vec(rows).unwrap()).unwrap();
        judged(&path)
    };
    let good = rows();
    let (code, said) = judge(&good);
    assert_eq!(code, Some(0), "{said}");
    // One acknowledged write lost, one freeze too few, one row gone.
    for (name, field, bad) in [
        ("kill9_acked_lost", "value", json!(1.0)),
        ("freeze_then_release", "runs", json!(999)),
        ("twin_overlap_s", "name", json!("twin")),
    ] {
        let mut rows = good.clone();
        let row = rows.iter_mut().find(|row| row["name"] == name).unwrap();
        row[field] = bad;
        let (code, said) = judge(&rows);
        assert_eq!(code, Some(1), "{name}: {said}");
        let red = said
            .lines()
            .any(|line| line.starts_with(name) && !line.ends_with("  met"));
        assert!(red, "{said}");
    }
    // Nothing was measured at all.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(judged(&path).0, Some(1));
}
