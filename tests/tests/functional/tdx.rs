//! A service in a TDX guest: there is no key of the chip, so that keyholders' shares alone open its state.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is not there fails the test"
)]

use std::fs;

use attestation::Platform;
use dev::emulated::measurement;
use dev::{lab, names};
use tests::binary::binary;
use tests::caller::Caller;
use tests::keyholders::without_keyholders;
use tests::process::Process;
use tests::stack::{Blueprint, Stack, sign};
use tests::wait::wait_for;

async fn guest() -> Stack {
    let blueprint = Blueprint {
        platform: Platform::Tdx,
        ..Blueprint::default()
    };
    Stack::with_grant(blueprint).await
}

#[tokio::test]
async fn a_tdx_guest_serves_from_a_state_that_its_keyholders_alone_open() {
    let mut stack = guest().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    // Clients verify Intel's evidence; the enclave wraps its root for nobody but the keyholder.
    let shell = crate::keys::admin(&stack);
    let verified = shell.run(&["--json", "verify"]).await.json();
    assert_eq!(verified["platform"], "tdx", "{verified}");
    let envelope = fs::read(stack.state().join(broker::root::ENVELOPE_NAME)).unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
    let recipients = envelope["header"]["recipients"].as_array().unwrap();
    let kinds: Vec<&str> = recipients
        .iter()
        .map(|recipient| recipient["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["off_chip"]);

    stack.kill().await;
    stack.restart().await;
    assert!(
        stack.log().contains("\"by\":\"off_chip\""),
        "{}",
        stack.log()
    );
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    let audit = fs::read_to_string(stack.files().path(lab::KEYHOLDER).join("audit.log")).unwrap();
    let released: serde_json::Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    assert_eq!(released["operation"], "release");
    assert_eq!(released["refused"], serde_json::Value::Null);
    let image = hex::encode(measurement(names::IMAGE));
    assert_eq!(released["measurement"], image.as_str());

    // Another image gets nothing.
    stack.kill().await;
    let lab = stack.files().dir().to_str().unwrap();
    let arguments = ["serve", "--state", lab, "--image", "another"];
    let mut other = Process::start(&binary("tokenkeep-dev"), &arguments, stack.logs(), "other");
    wait_for("the keyholder refuses it", async || {
        other.stderr().contains("EVIDENCE_REFUSED").then_some(())
    })
    .await;
    other.kill().await;
    // Nor does this one with another share.
    let share = stack.own_share();
    let mut bytes = fs::read(&share).unwrap();
    bytes[0] ^= 1;
    fs::write(&share, &bytes).unwrap();
    let (_, said) = stack.try_restart().await.unwrap_err();
    let wrong =
        "the share of the keyholder tokenkeep-dev is not the one that the envelope was made with";
    assert!(said.contains(wrong), "{said}");
    bytes[0] ^= 1;
    fs::write(&share, &bytes).unwrap();
    stack.restart().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
}

#[tokio::test]
async fn without_anybody_who_could_open_the_state_a_tdx_guest_says_what_to_do() {
    let mut stack = guest().await;
    assert_eq!(stack.stop().await.code(), Some(0));
    let manifest = fs::read_to_string(stack.files().path(lab::MANIFEST)).unwrap();
    let with = |change: &dyn Fn(&str) -> String| {
        sign(stack.files(), |_| {
            change(&manifest.replacen("sequence = 1", "sequence = 2", 1))
        });
    };
    with(&without_keyholders);
    let (status, said) = stack.try_restart().await.unwrap_err();
    assert_eq!(status.code(), Some(1));
    let none = "the manifest names no keyholders, and without their shares the root key does not open: add \
                [keyholders]; `tokenkeep keyholder init` makes one\n";
    assert!(said.ends_with(none), "{said}");

    let with = |change: &dyn Fn(&str) -> String| {
        sign(stack.files(), |_| {
            change(&manifest.replacen("sequence = 1", "sequence = 3", 1))
        });
    };
    with(&|manifest| manifest.replacen("quorum = 1", "quorum = 1\noff_chip = false", 1));
    let (status, said) = stack.try_restart().await.unwrap_err();
    assert_eq!(status.code(), Some(1));
    let nobody =
        "the envelope would have no recipient: allow off_chip, or run where the TEE derives keys\n";
    assert!(said.ends_with(nobody), "{said}");
}
