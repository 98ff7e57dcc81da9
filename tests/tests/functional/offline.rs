//! `store check|stats|export|import`: on a real state, by the program that opens it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dev::names;
use proto::v1::GrantState;
use serde_json::Value;
use tests::binary::binary;
use tests::caller::Caller;
use tests::stack::{Blueprint, Stack};

fn store(stack: &Stack, arguments: &[&str]) -> Output {
    Command::new(binary("tokenkeep-dev"))
        .args(["store", "--state"])
        .arg(stack.files().dir())
        .args(arguments)
        .output()
        .unwrap()
}

/// What it said to whom, and its exit code.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The last line of what it complained of.
fn complaint(output: &Output) -> String {
    let (code, _out, err) = told(output);
    assert_eq!(code, Some(1), "{err}");
    let last = err.lines().last().unwrap_or_default();
    last.strip_prefix("tokenkeep-dev: ")
        .unwrap_or(last)
        .to_owned()
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap_or_default())
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_state_is_checked_measured_carried_away_and_brought_back() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    // While the service runs nobody else touches the state.
    let lock = stack.state().join(broker::store::LOCK_NAME);
    assert_eq!(
        complaint(&store(&stack, &["check"])),
        format!(
            "{} is locked: the service uses this state; stop it first, and start it again when this is done",
            lock.display()
        )
    );
    assert_eq!(stack.stop().await.code(), Some(0));
    let state = stack.state();
    let before = contents(&state);

    let checked = json(&store(&stack, &["check", "--json"]));
    assert_eq!(checked["ok"], true);
    assert!(checked["records"].as_u64() > Some(5), "{checked}");
    assert!(checked["control_leaves"].as_u64() > Some(3), "{checked}");
    assert_eq!(checked["file_bytes"], checked["authentic_bytes"]);
    let (code, said, _) = told(&store(&stack, &["stats"]));
    assert_eq!(code, Some(0));
    let records = format!("records    {}\n", checked["records"]);
    assert!(said.contains(&records), "{said}");
    assert_eq!(contents(&state), before, "nothing was changed");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.tkexport");
    let file = file.to_str().unwrap();
    let (code, said, progress) = told(&store(&stack, &["export", file]));
    assert_eq!(code, Some(0), "{progress}");
    let length = fs::metadata(file).unwrap().len();
    assert_eq!(said, format!("{file} is whole: {length} bytes\n"));
    assert!(progress.contains("(100 %)"), "{progress}");
    assert_eq!(contents(&state), before, "nothing was changed");
    assert_eq!(
        complaint(&store(&stack, &["export", file])),
        format!("{file} is there already: name another file, or move that one away")
    );

    // Where a state is, none is brought.
    let there = state.join(broker::store::FILE_NAME);
    assert_eq!(
        complaint(&store(&stack, &["import", file])),
        format!(
            "{} is there already: a state is brought into an empty directory only; move the one that is there away first",
            there.display()
        )
    );
    // The old one is lost. What was exported serves.
    fs::rename(&state, folder.path().join("old")).unwrap();
    // An import that is interrupted half way.
    let half = folder.path().join("half.tkexport");
    fs::write(
        &half,
        &fs::read(file).unwrap()[..usize::try_from(length).unwrap() - 9],
    )
    .unwrap();
    let half = half.to_str().unwrap();
    assert_eq!(
        complaint(&store(&stack, &["import", half])),
        format!(
            "{half} is not whole: the export was interrupted; run it again where it was made, it goes on where it stopped"
        )
    );
    let imported = json(&store(&stack, &["import", file, "--json"]));
    assert_eq!(imported["ok"], true);
    let names: Vec<String> = contents(&state).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["root.envelope", "store.lock", "store.tk"]);
    let again = json(&store(&stack, &["check", "--json"]));
    for same in ["records", "control_leaves", "issuance_leaves"] {
        assert_eq!(again[same], checked[same], "{same}");
    }
    assert_eq!(again["compactions"], 1);
    stack.restart().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    assert_eq!(stack.grant_state(names::GRANT).await.0, GrantState::Active);
}

#[tokio::test]
async fn damage_is_named_with_its_place() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    let path = stack.state().join(broker::store::FILE_NAME);
    let good = fs::read(&path).unwrap();

    let mut bad = good.clone();
    bad[160] ^= 1;
    fs::write(&path, &bad).unwrap();
    let checked = store(&stack, &["check", "--json"]);
    assert_eq!(checked.status.code(), Some(1));
    let found = json(&checked);
    assert_eq!(found["ok"], false);
    assert_eq!(found["damage"]["offset"], 76);
    assert_eq!(found["damage"]["frame"], 0);
    assert_eq!(found["damage"]["what"], "the frame body is not authentic");
    let said = "the store is corrupt at byte 76: the frame body is not authentic";
    assert_eq!(complaint(&store(&stack, &["stats"])), said);
    let export = stack.logs().join("never.tkexport");
    let export = export.to_str().unwrap();
    assert_eq!(complaint(&store(&stack, &["export", export])), said);
    assert_eq!(fs::read(&path).unwrap(), bad, "nothing was changed");

    let torn = [&good[..], &good[76..99]].concat();
    fs::write(&path, &torn).unwrap();
    let found = json(&store(&stack, &["check", "--json"]));
    assert_eq!(found["ok"], true);
    assert_eq!(found["torn"]["offset"], good.len());
    assert_eq!(found["torn"]["bytes"], 23);
    assert_eq!(fs::read(&path).unwrap(), torn, "nothing was changed");

    fs::remove_file(&path).unwrap();
    assert_eq!(
        complaint(&store(&stack, &["check"])),
        format!(
            "there is no state in {}: store.tk is not there",
            stack.state().display()
        )
    );
}
