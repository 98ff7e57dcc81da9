//! State that was damaged, swapped or taken away: the service says what is wrong, ends, and touches nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dev::{lab, names};
use proto::v1::GrantState;
use tests::caller::Caller;
use tests::stack::{Blueprint, Stack, sign};

/// Every file of the state, byte for byte.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

/// Changes one file of the lab for a start that must fail, and puts it back.
async fn refused(stack: &mut Stack, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let good = fs::read(file).unwrap();
    let mut bad = good.clone();
    change(&mut bad);
    assert_ne!(bad, good, "the row changes something");
    fs::write(file, &bad).unwrap();
    let before = contents(&stack.state());
    let (status, text) = stack.try_restart().await.unwrap_err();
    assert_eq!(status.code(), Some(1), "{text}");
    assert_eq!(
        contents(&stack.state()),
        before,
        "nothing was touched: {text}"
    );
    fs::write(file, &good).unwrap();
    let said = text.lines().last().unwrap_or_default();
    said.strip_prefix("tokenkeep-dev: ")
        .unwrap_or(said)
        .to_owned()
}

#[tokio::test]
async fn each_damage_to_the_state_is_named_and_nothing_is_touched() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    assert_eq!(stack.stop().await.code(), Some(0));
    let store = stack.state().join(broker::store::FILE_NAME);
    let envelope = stack.state().join(broker::root::ENVELOPE_NAME);
    let length = fs::metadata(&store).unwrap().len();
    let length = usize::try_from(length).unwrap();
    type Change = Box<dyn FnOnce(&mut Vec<u8>)>;
    let flip = |at: usize| -> Change { Box::new(move |bytes| bytes[at] ^= 1) };
    let cut = |at: usize| -> Change { Box::new(move |bytes| bytes.truncate(at)) };
    let at = |offset: u64, what: &str| format!("the store is corrupt at byte {offset}: {what}");
    let e = envelope.display();
    let unopened =
        format!("{e}: no recipient of the envelope opens with this TEE's key and these shares");
    let unread = format!("{e}: the envelope can't be read: it is damaged or of another format");
    let manifest = "the manifest is not accepted: the manifest's signature is not valid";
    let file = |name: &str| stack.files().path(name);
    let rows: Vec<(&str, PathBuf, Change, String)> = vec![
        (
            "the store's magic",
            store.clone(),
            flip(0),
            at(0, "not a store file"),
        ),
        (
            "the store's header",
            store.clone(),
            flip(40),
            at(0, "the file header is not authentic under this key"),
        ),
        (
            "the first frame's header",
            store.clone(),
            flip(77),
            at(76, "the frame header is not authentic at this place"),
        ),
        (
            "the first frame's body",
            store.clone(),
            flip(160),
            at(76, "the frame body is not authentic"),
        ),
        (
            "half a header",
            store.clone(),
            cut(30),
            at(0, "the file header is incomplete"),
        ),
        (
            "an empty store",
            store.clone(),
            cut(0),
            at(0, "the file header is incomplete"),
        ),
        (
            "another envelope",
            envelope.clone(),
            Box::new(|bytes: &mut Vec<u8>| {
                let field = b"\"sealed_root\": \"";
                let at = bytes
                    .windows(field.len())
                    .position(|part| part == field)
                    .unwrap();
                let place = &mut bytes[at + field.len() + 20];
                *place = if *place == b'A' { b'B' } else { b'A' };
            }),
            unopened.clone(),
        ),
        (
            "half an envelope",
            envelope.clone(),
            cut(50),
            unread.clone(),
        ),
        ("an empty envelope", envelope.clone(), cut(0), unread),
        (
            "another share",
            stack.own_share(),
            flip(0),
            format!(
                "{e}: the share of the keyholder tokenkeep-dev is not the one that the envelope was made with"
            ),
        ),
        ("another chip", file(lab::CHIP), flip(0), unopened),
        (
            "another manifest than was signed",
            file(lab::MANIFEST),
            flip(2),
            format!("{manifest}: the signature does not verify over this file"),
        ),
        (
            "a signature that is cut short",
            file(lab::SIGNATURE),
            cut(20),
            format!(
                "{manifest}: the signature file is not of the form {{alg, public_key, signature}}"
            ),
        ),
    ];
    for (name, file, change, expected) in rows {
        assert_eq!(refused(&mut stack, &file, change).await, expected, "{name}");
    }
    // Wherever a bit of a frame flips, the frame that holds it is named.
    for step in 1..=8 {
        let place = 76 + (length - 77) * step / 8;
        let said = refused(&mut stack, &store, flip(place)).await;
        let (offset, what) = said
            .strip_prefix("the store is corrupt at byte ")
            .and_then(|rest| rest.split_once(": "))
            .unwrap();
        assert!(offset.parse::<usize>().unwrap() <= place, "{place}: {said}");
        let known = [
            "the frame header is not authentic at this place",
            "the frame body is not authentic",
        ];
        assert!(known.contains(&what), "{place}: {said}");
    }
    // All is as it was: it comes up again, and the grant works.
    stack.restart().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    assert_eq!(stack.grant_state(names::GRANT).await.0, GrantState::Active);
}

#[tokio::test]
async fn a_store_without_its_envelope_is_not_overwritten() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    let envelope = stack.state().join(broker::root::ENVELOPE_NAME);
    let kept = fs::read(&envelope).unwrap();
    fs::remove_file(&envelope).unwrap();
    let before = contents(&stack.state());
    let (status, text) = stack.try_restart().await.unwrap_err();
    let store = stack.state().join(broker::store::FILE_NAME);
    assert_eq!(
        (status.code(), text.lines().last().unwrap_or_default()),
        (
            Some(1),
            format!(
                "tokenkeep-dev: {} is there but {} is not: put it back, or move the store away to begin with a new identity",
                store.display(),
                envelope.display()
            )
            .as_str()
        )
    );
    assert_eq!(contents(&stack.state()), before);
    fs::write(&envelope, kept).unwrap();
    stack.restart().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
}

#[tokio::test]
async fn a_torn_last_write_is_dropped_and_said() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    let store = stack.state().join(broker::store::FILE_NAME);
    let mut bytes = fs::read(&store).unwrap();
    // What a crash within a write leaves: the beginning of a frame.
    let torn = bytes[76..90].to_vec();
    bytes.extend_from_slice(&torn);
    fs::write(&store, &bytes).unwrap();
    stack.restart().await;
    assert!(
        stack.log().contains("store_torn_write_dropped"),
        "{}",
        stack.log()
    );
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
}

#[tokio::test]
async fn two_services_never_share_a_state() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let lab = stack.files().dir().to_str().unwrap().to_owned();
    let mut second = tests::process::Process::start(
        &tests::binary::binary("tokenkeep-dev"),
        &["serve", "--state", &lab],
        stack.logs(),
        "second",
    );
    let (status, text) = second.ready().await.unwrap_err();
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("is taken: end the program that listens there"),
        "{text}"
    );
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    assert_eq!(stack.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_manifest_of_another_signer_is_refused() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let other = Stack::start(Blueprint::default()).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    // Signed, but by somebody else.
    for file in [lab::MANIFEST, lab::SIGNATURE] {
        fs::copy(other.files().path(file), stack.files().path(file)).unwrap();
    }
    let (status, text) = stack.try_restart().await.unwrap_err();
    assert_eq!(status.code(), Some(1));
    let said = text.lines().last().unwrap_or_default();
    assert!(
        said.starts_with("tokenkeep-dev: the manifest is not accepted: the manifest's signature is not valid: the signer ")
            && said.ends_with(" is not the one bound at launch"),
        "{said}"
    );
    drop(other);
}

#[tokio::test]
async fn a_manifest_with_faults_is_refused_with_all_of_them() {
    let mut stack = Stack::start(Blueprint::default()).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    sign(stack.files(), |manifest| {
        format!(
            "unknown = 1\n{}",
            manifest.replace("[\"operator\"", "[\"king\"")
        )
    });
    let (status, text) = stack.try_restart().await.unwrap_err();
    assert_eq!(status.code(), Some(1));
    assert_eq!(
        text.lines().last().unwrap_or_default(),
        "tokenkeep-dev: the manifest is not accepted: the manifest has 2 fault(s): \
         administrators[0].roles[0]: must be operator, tenant:ID, tenant-security:ID, tenant-auditor:ID or vendor:ID; unknown: unknown field"
    );
}
