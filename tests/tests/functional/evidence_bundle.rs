//! Evidence bundles: made over real gRPC by those who may, and checked offline by whoever has the file.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::collections::BTreeSet;
use std::fs;

use dev::{lab, names};
use proto::v1;
use proto::v1::freeze_subject::Subject;
use serde_json::Value;
use tests::caller::refused;
use tests::cli::Shell;
use tests::stack::{Blueprint, Stack};
use tests::witnesses::Witnesses;
use tonic::Code;

use crate::keys::admin;

struct Auditing {
    stack: Stack,
    /// An administrator of the tenant, with the reference values.
    shell: Shell,
    /// An auditor who has the file and the reference values alone.
    offline: Shell,
}

impl Auditing {
    fn over(stack: Stack) -> Self {
        let path = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
        let offline = Shell::new(
            &stack.logs().join("transcript"),
            &[
                ("TOKENKEEP_POLICY", &path(lab::POLICY)),
                ("TOKENKEEP_ALLOW_EMULATED", &path(lab::ROOT)),
            ],
        );
        let shell = admin(&stack);
        Self {
            stack,
            shell,
            offline,
        }
    }

    fn file(&self, name: &str) -> String {
        let path = self.stack.logs().join(name);
        path.to_str().unwrap().to_owned()
    }

    fn file_of_lab(&self, name: &str) -> String {
        let path = self.stack.files().path(name);
        path.to_str().unwrap().to_owned()
    }

    async fn check(&self, file: &str, more: &[&str]) -> (i32, Value) {
        let mut arguments = vec!["--json", "evidence", "check", file];
        arguments.extend(more);
        let ended = self.offline.run(&arguments).await;
        let json = serde_json::from_str(&ended.stdout);
        (ended.code, json.unwrap_or_else(|_| panic!("{ended:?}")))
    }
}

fn failed(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["outcome"] == "fail")
        .map(|check| check["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_bundle_says_what_the_tenant_has_and_holds_without_the_service() {
    let witnesses = Witnesses::start(3).await;
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    // Each boot has an issuance log of its own.
    assert!(stack.try_issue().await);
    stack.watch(&witnesses, 6).await;
    let mut auditing = Auditing::over(stack);
    assert!(auditing.stack.try_issue().await);
    let frozen = Subject::Grant(names::GRANT.to_owned());
    auditing.stack.freeze(frozen).await;
    let file = auditing.file("bundle.json");
    let nonce = "5a".repeat(32);
    let arguments = [
        "--json",
        "evidence",
        "bundle",
        "--tenant",
        names::TENANT,
        "--out",
        &file,
        "--nonce",
        &nonce,
    ];
    let made = auditing.shell.run(&arguments).await.json();
    assert_eq!(made["nonce"], nonce);
    assert_eq!(made["tenant"], names::TENANT);

    // The service is gone: nothing but the file and the reference values is needed.
    auditing.stack.kill().await;
    let (code, report) = auditing.check(&file, &["--nonce", &nonce]).await;
    assert_eq!(
        (code, &report["verdict"]),
        (0, &"accept".into()),
        "{report}"
    );
    assert_eq!(report["tier"], "emulated");
    assert_eq!(report["tenant"], names::TENANT);
    assert_eq!(
        (&report["grants"], &report["freezes"]),
        (&1.into(), &1.into())
    );
    assert_eq!(report["usable_grants"], 0);
    assert_eq!(report["policy_sha256"], Value::Null);
    assert!(
        report["sbom_components"].as_u64().unwrap() > 100,
        "{report}"
    );
    let logs = report["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 3);
    assert!(
        logs[0]["cosigned_by"].as_array().unwrap().len() >= 2,
        "{report}"
    );
    let text = auditing
        .offline
        .run(&["evidence", "check", &file])
        .await
        .ok();
    assert!(text.starts_with("ACCEPT"), "{text}");

    // Somebody else's nonce, no reference values, no root, a time before it was made.
    let (code, report) = auditing.check(&file, &["--nonce", &"5b".repeat(32)]).await;
    assert_eq!((code, failed(&report)), (1, vec!["bundle_nonce"]));
    let bare = Shell::new(&auditing.stack.logs().join("transcript"), &[]);
    let root = auditing.file_of_lab(lab::ROOT);
    let authentic = ["evidence", "check", &file, "--allow-emulated", &root];
    assert_eq!(bare.run(&authentic).await.code, 3);
    assert_eq!(bare.run(&["evidence", "check", &file]).await.code, 1);
    assert_eq!(bare.run(&["evidence", "check", "/nowhere"]).await.code, 2);

    // Whoever changes what is in it is found out, each part by itself.
    let bundle: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for (number, part) in bundle["parts"].as_array().unwrap().iter().enumerate() {
        names.insert(part["name"].as_str().unwrap().to_owned());
        let mut other = bundle.clone();
        let body = &mut other["parts"][number];
        match body["text"].as_str().map(|text| format!("{text} ")) {
            Some(text) => body["text"] = text.into(),
            None => body["base64"] = "AAAA".into(),
        }
        let changed = auditing.file("changed.json");
        fs::write(&changed, other.to_string()).unwrap();
        let (code, report) = auditing.check(&changed, &[]).await;
        assert_eq!((code, failed(&report)), (1, vec!["bundle_form"]), "{part}");
    }
    for name in [
        "evidence.json",
        "inventory.json",
        "sbom.cdx.json",
        "checkpoint/log/control",
    ] {
        assert!(names.contains(name), "{names:?}");
    }
    // The digests made anew: then the signature is not over them.
    let mut other = bundle.clone();
    let statement = other["statement"].as_str().unwrap();
    let statement = statement.replacen("\"tenant\":\"", "\"tenant\":\"x", 1);
    other["statement"] = statement.into();
    let changed = auditing.file("changed.json");
    fs::write(&changed, other.to_string()).unwrap();
    let (code, report) = auditing.check(&changed, &[]).await;
    assert_eq!(code, 1);
    assert_eq!(failed(&report), ["bundle_signature", "bundle_inventory"]);
}

#[tokio::test]
async fn only_those_who_see_the_tenant_have_a_bundle_of_it() {
    let auditing = Auditing::over(Stack::with_grant(Blueprint::default()).await);
    let admin = auditing.stack.admin().await;
    let client = auditing.stack.client().await;
    let request = |tenant: &str, nonce: &[u8]| v1::MakeEvidenceBundleRequest {
        tenant: tenant.to_owned(),
        nonce: nonce.to_vec(),
    };
    let good = [7; 32];
    let rows = [
        (
            &client,
            request(names::TENANT, &good),
            Code::Unauthenticated,
            "INVALID_CLIENT",
        ),
        (
            &admin,
            request("other", &good),
            Code::PermissionDenied,
            "FORBIDDEN",
        ),
        (
            &admin,
            request("-", &good),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (
            &admin,
            request("", &good),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (
            &admin,
            request(names::TENANT, &[7; 31]),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
    ];
    for (channel, request, code, reason) in rows {
        let found = channel.audit().make_evidence_bundle(request.clone()).await;
        let found = found.map(|_| ()).map_err(refused);
        assert_eq!(found, Err((code, reason.into())), "{request:?}");
    }
    let file = auditing.file("other.json");
    let (code, reason) = auditing
        .shell
        .run(&[
            "--json", "evidence", "bundle", "--tenant", "other", "--out", &file,
        ])
        .await
        .refusal();
    assert_eq!((code, reason.as_str()), (1, "FORBIDDEN"));
    assert!(fs::metadata(&file).is_err(), "nothing is written");
    // A file that is there is not written over.
    let file = auditing.file("bundle.json");
    let arguments = [
        "evidence",
        "bundle",
        "--tenant",
        names::TENANT,
        "--out",
        &file,
    ];
    drop(auditing.shell.run(&arguments).await.ok());
    assert_eq!(auditing.shell.run(&arguments).await.code, 2);
}
