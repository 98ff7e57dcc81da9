//! Manifests as their signer makes them, by the command line, and the service that accepts them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;

use dev::lab;
use tests::cli::Shell;
use tests::stack::{Blueprint, Stack};

#[tokio::test]
async fn a_signer_begins_checks_compares_and_signs_manifests() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let shell = Shell::new(&folder.path().join("shell.txt"), &[]);
    let arguments = [
        "manifest",
        "init",
        "--issuer",
        "https://keep.example",
        "--grpc",
        "https://keep.example:8443",
        "--gateway",
        "https://gateway.keep.example",
    ];
    let first = shell.run(&arguments).await.ok();
    assert!(
        first.contains("\nissuer = \"https://keep.example\"\n"),
        "{first}"
    );
    assert!(
        first.contains("\npublic = \"https://keep.example\"\n"),
        "{first}"
    );
    fs::write(path("one.toml"), &first).unwrap();
    assert_eq!(
        shell.run(&["key", "new", &path("signer.key")]).await.code,
        0
    );

    // A risen number and a longer life of tokens.
    let second = first.replacen("sequence = 1", "sequence = 2", 1).replacen(
        "client_per_s = 50",
        "client_per_s = 60",
        1,
    );
    fs::write(path("two.toml"), &second).unwrap();
    let (one, two, key) = (path("one.toml"), path("two.toml"), path("signer.key"));
    let found = shell.run(&["--json", "manifest", "diff", &one, &two]).await;
    assert_eq!(found.code, 1, "{}", found.stderr);
    let found: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["changes"][0]["path"], "rates.client_per_s");
    assert_eq!(found["changes"][0]["effect"], "loosens");
    assert_eq!(
        shell.run(&["manifest", "diff", &two, &two]).await.code,
        1,
        "does not rise"
    );

    let sign = ["manifest", "sign", &two, "--key", &key, "--previous"];
    let same = shell.run(&[&sign[..], &[&two]].concat()).await;
    assert_eq!(same.code, 1);
    assert!(same.stderr.contains("2 does not rise"), "{}", same.stderr);
    assert_eq!(same.stdout, "");
    let signature = shell.run(&[&sign[..], &[&one]].concat()).await.ok();
    fs::write(path("two.sig"), &signature).unwrap();
    let check = [
        "--json",
        "manifest",
        "check",
        &two,
        "--signature",
        &path("two.sig"),
    ];
    let held = shell
        .run(&[&check[..], &["--previous", &one]].concat())
        .await
        .json();
    assert_eq!(held["holds"], true, "{held}");
    let signer = held["signer"].as_str().unwrap().to_owned();
    let held = shell
        .run(&[&check[..], &["--signer", &signer]].concat())
        .await;
    assert_eq!(held.code, 0, "{}", held.stdout);

    // Everything that is wrong, not the first thing alone.
    fs::write(
        path("bad.toml"),
        second.replace("sequence = 2", "sequence = 1") + "\nmore = 1\n[x]\n",
    )
    .unwrap();
    let other = "00".repeat(32);
    let arguments = [
        "--json",
        "manifest",
        "check",
        &path("bad.toml"),
        "--signature",
        &path("two.sig"),
        "--signer",
        &other,
        "--previous",
        &two,
    ];
    let bad = shell.run(&arguments).await;
    assert_eq!(bad.code, 1);
    let bad: serde_json::Value = serde_json::from_str(&bad.stdout).unwrap();
    assert!(bad["faults"].as_array().unwrap().len() >= 3, "{bad}");
    assert_eq!(bad["holds"], false);
}

#[tokio::test]
async fn a_service_starts_by_a_manifest_that_the_command_line_signed() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    stack.kill().await;
    let path = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    let manifest = fs::read_to_string(path(lab::MANIFEST)).unwrap();
    let old = path("old.toml");
    fs::write(&old, &manifest).unwrap();
    let next = manifest.replacen("sequence = 1\n", "sequence = 2\n", 1);
    fs::write(path(lab::MANIFEST), next).unwrap();
    let shell = Shell::new(&stack.logs().join("shell.txt"), &[]);
    let arguments = [
        "manifest",
        "sign",
        &path(lab::MANIFEST),
        "--emulated",
        "--key",
        &path(lab::SIGNER),
        "--previous",
        &old,
    ];
    let signature = shell.run(&arguments).await.ok();
    fs::write(path(lab::SIGNATURE), signature).unwrap();
    stack.restart().await;
    assert_eq!(
        tests::caller::Caller::of(&stack)
            .await
            .contacts()
            .await
            .status,
        200
    );
}
